"""The experiment from its arguments to its result: is the key sentence decisive on this model?

    keys, notes = read_keys("keys.jsonl")
    found = causal(open_engine("runs/sft-0"), keys, judge, Path("runs/causal-sft-0"))
    print(found.conclusion)

docs/analysis.md explains the conditions and how far the conclusion goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safekey.analysis.causal.conditions import NATURAL, Own
from safekey.analysis.causal.keys import Keys
from safekey.analysis.causal.predictors import predictors
from safekey.analysis.causal.results import CausalResult, causal_result
from safekey.analysis.causal.run import Told, own_of, run_causal
from safekey.engines.base import Engine, SamplingParams
from safekey.evals.judges.verdicts import OpenJudge
from safekey.evals.records.rows import Row


def causal(
    engine: Engine, keys: Sequence[Keys], judge: OpenJudge, folder: Path, params: SamplingParams | None = None,
    *, notes: Sequence[str] = (), told: Told = lambda what, done, total: None,
) -> CausalResult:  # fmt: skip
    """Run the experiment, or what is left of it, and return its numbers.

    Args:
        engine: continues prefills exactly.
        keys: the requests and their key sentences.
        judge: an open judge of harm.
        folder: the experiment's folder; the same call goes on where it stopped.
        params: how the model is decoded; None: greedy.
        notes: of the file.
        told: is told the progress.

    Raises:
        UserError: as `run_causal`.
    """
    rows, verdicts = run_causal(engine, keys, judge, params or SamplingParams(), folder, told)
    own = own_of(keys, rows)
    outcomes = {key: _outcome(row, judge) for key, row in verdicts.items()}
    seen = [
        (parts, bool(value), each.behaviour)
        for each in keys
        if isinstance(parts := own.get(each.id), Own) and isinstance(value := outcomes.get((each.id, NATURAL)), float)
    ]
    tokenizer = getattr(getattr(engine, "chat", None), "tokenizer", None)
    told_from = predictors([o for o, _, _ in seen], [u for _, u, _ in seen], [b for _, _, b in seen], tokenizer)
    about = engine.describe()
    return causal_result(keys, own, outcomes, model=about, judge=judge.judge.name, predicted=told_from, notes=notes)


def _outcome(row: Mapping[str, object] | Row, judge: OpenJudge) -> float | str:
    value = row["value"]
    if isinstance(value, float | int | str) and value is not None:
        return float(judge.judge.positive(value))
    return str(row["unscored"])
