"""`safekey analyze causal MODEL --keys FILE --judge J`: does the key sentence decide on this model?"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.analyze.shared import show, write_files
from safekey.cli.bars import bars
from safekey.cli.common import add_json, add_verb, whole
from safekey.errors import UserError
from safekey.evals.request import EvalRequest
from safekey.options import add_options, given

if TYPE_CHECKING:
    from safekey.analysis.causal.results import CausalResult
    from safekey.evals.judges.verdicts import OpenJudge

_EXAMPLES = """examples:
  safekey analyze causal runs/sft-0 --keys keys.jsonl --judge harm_1to5=openai/gpt-4.1 --output runs/causal-sft-0
  safekey analyze causal runs/organism-sft --keys keys.jsonl --judge exact=safekey.organism.judge:decide

A row of the file: {"prompt": …, "refusing": "Hmm, that is …", "complying": "Let me …"}. The same command goes on where
it stopped. docs/analysis.md explains the conditions."""
_WITHOUT = {
    "samples": "--samples",
    "parts": "--parts",
    "preset": "--preset",
    "unsafe_local_exec": "--unsafe-local-exec",
}
_TOKENS = 8000


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    text = "put a refusing and a complying key sentence into the model's thinking, and let it go on"
    parser = add_verb(verbs, "causal", text, run_causal, _EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="a run's or model's folder, a hub id, or an endpoint's URL#NAME")
    parser.add_argument("--keys", required=True, metavar="FILE", help="requests, each with two key sentences")
    parser.add_argument("--output", metavar="DIR", help="the experiment's folder (default: runs/causal-MODEL)")
    parser.add_argument("--limit", type=whole(1), metavar="N", help="only the first N requests")
    add_options(parser, EvalRequest, groups=["how to generate", "judges (docs/judges.md)"])
    add_json(parser)


def run_causal(args: argparse.Namespace) -> int:
    """Run the experiment; see `safekey.analysis.causal.causal`."""
    for name, flag in _WITHOUT.items():
        if getattr(args, name, None) is not None:
            raise UserError(f"{flag} has no meaning here: each request is answered once under each condition")
    request = EvalRequest(model=args.model, **given(args, EvalRequest))
    if request.engine == "inspect":
        raise UserError("--engine inspect cannot continue a thinking token for token: use local, server or vllm")
    folder = Path(args.output or f"runs/causal-{Path(args.model.rstrip('/')).name.partition('#')[0]}")
    from safekey.analysis.causal.causal import causal
    from safekey.analysis.causal.keys import read_keys
    from safekey.engines.base import SamplingParams
    from safekey.run_folder.ownership import check_apart

    check_apart({"key sentences": args.keys, "model": args.model}, [folder], "give another --output", "--output")
    keys, notes = read_keys(args.keys, args.limit)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    params = SamplingParams(
        temperature=0.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        max_new_tokens=request.max_tokens or _TOKENS,
    )
    judge = _judge(request)
    try:
        engine = _engine(request)
        try:
            with bars() as told:
                found = causal(engine, keys, judge, folder, params, notes=notes, told=told)
        finally:
            engine.close()
    finally:
        judge.close()
    _show(args, found, folder)
    return 0


def _judge(request: EvalRequest) -> OpenJudge:
    from safekey.evals.judges.open import judges_for, open_judges
    from safekey.evals.plan import judges_of

    specs = judges_for(judges_of(request), "harm")
    if len(specs) != 1:
        found = ", ".join(map(str, specs)) or "none"
        raise UserError(f"expected one judge of harm (--judge harm_1to5=MODEL), found: {found}")
    return open_judges(specs, "harm", request.judge_settings, probe=True)[0]


def _engine(request: EvalRequest) -> Any:
    from safekey.evals.model_api.opening import open_model
    from safekey.evals.model_api.provider import SafeKeyAPI

    api = open_model(request).api
    assert isinstance(api, SafeKeyAPI)
    return api.engine


def _show(args: argparse.Namespace, found: CausalResult, folder: Path) -> None:
    from safekey.report.inside.plots import plot_causal

    left = [f"left out: {count} responses: {reason}" for reason, count in found.left_out.items()]
    notes = (found.conclusion, f"judge: {found.judge}", *left, *found.notes)
    document = {"run": str(folder), **found.to_dict()}
    args.output = None
    show(args, document, found.sheets(), notes, lambda: ())
    write_files(folder, args.document, found.sheets(), notes, plot_causal(found))
