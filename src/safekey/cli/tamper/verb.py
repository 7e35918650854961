"""`safekey tamper MODEL …`: attack the weights of a model on this machine, and see how long it stays safe."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from safekey.cli.common import PLAIN, add_json, add_verb, console, quiet_transformers
from safekey.errors import UserError
from safekey.evals.request import EvalRequest
from safekey.options import add_options, given
from safekey.tamper.request import TamperOptions, TamperRequest
from safekey.terminal import printable

_EXAMPLES = """examples:
  safekey tamper sft=runs/sft safekey=runs/safekey --comply comply.jsonl --steps 5,10,20 \\
      --tasks strongreject --data-dir benchmarks --judge harm_1to5=URL#MODEL --output runs/tamper
  safekey tamper runs/safekey --harmful harmful.jsonl --harmless harmless.jsonl --ablate all,8 …

The weights are changed in memory only, and never saved. The same command again goes on where it stopped.
docs/weight-attacks.md explains the attacks and the table."""


def add_parser(subparsers: Any) -> None:
    """Add `tamper`."""
    text = "attack a model's weights in memory, and see how long it stays safe"
    parser = add_verb(subparsers, "tamper", text, run, _EXAMPLES)
    parser.mixed_order = True
    parser.add_argument("arms", nargs="+", metavar="[NAME=]MODEL",
                        help="a run's or a model's folder, or a hub id; the first is the reference")  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder of the attack")
    add_options(parser, TamperOptions)
    add_options(parser, EvalRequest)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Attack; see `safekey.tamper.run`.

    Returns:
        0; 1 when an evaluation stopped; 130 when interrupted.
    """
    options = TamperOptions(**given(args, TamperOptions))
    evaluation = EvalRequest(model="", **given(args, EvalRequest))
    request = TamperRequest(arms_of(args.arms), evaluation, options, args.output)
    out = console(args.json)
    quiet_transformers()
    from safekey.evals.evaluate import StoppedError
    from safekey.tamper.results import print_results
    from safekey.tamper.run import run_tamper

    try:
        found = run_tamper(request, out)
    except StoppedError as error:
        print(f"safekey: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsafekey: interrupted. The same command goes on; what is finished is not done again.", file=sys.stderr)
        return 130
    args.document = {"folder": str(found.path), **found.results.to_dict()}
    print_results(out, found.results)
    out.print(f"\n{found.path}: results.json, arms/", **PLAIN)
    return 0


def arms_of(words: list[str]) -> dict[str, str]:
    """Return name → model of words such as "sft=runs/sft", or "runs/sft" alone, which is called "sft".

    Raises:
        UserError: two arms have one name.
    """
    arms: dict[str, str] = {}
    for word in words:
        name, equals, model = word.partition("=")
        if not equals:
            model = word
            path = Path(word.rstrip("/"))
            name = path.parent.name if path.name == "model" else path.name
        if not name or not model:
            raise UserError(f"{word}: expected NAME=MODEL, or a model")
        if name in arms:
            raise UserError(f"two arms are called '{name}': give them names (NAME=MODEL)")
        arms[name] = model
    return arms
