"""`safekey judges import FILE`: a run folder of prompts and answers that somebody else generated."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_json, add_verb, console
from safekey.options import columns
from safekey.schema import JUDGED_KINDS
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.evals.imported.folder import ImportedRun

_MOST_PROBLEMS = 5
_EXAMPLES = """examples:
  safekey judges import xstest_v2_completions_gpt4.csv --output runs/xstest-gpt4       with people's labels
  safekey judges import attack-artifacts/PAIR/black_box/vicuna-13b-v1.5.json           a JailbreakBench artifact
  safekey judges import completions/llama2_7b.json --requests harmbench_behaviors_text_all.csv --attack GCG
  safekey judges import answers.csv --kind harm --column response=output --model r1-7b
  safekey judge runs/import-answers --judge harm_1to5=openai/gpt-4.1

Nothing is generated or judged. docs/judges.md has the layouts, and what is counted how."""


def add_parser(subparsers: Any) -> None:
    """Add `import`."""
    text = "make a run folder of prompts and answers that somebody else generated"
    parser = add_verb(subparsers, "import", text, run_import, _EXAMPLES)
    parser.add_argument(
        "file",
        metavar="FILE",
        help="XSTest's completions, a JailbreakBench artifact, HarmBench's JSON, a run folder or completions.jsonl of "
        "safekey's, or rows of request and response",
    )
    parser.add_argument("--output", metavar="RUN", help="the run folder (default: runs/import-FILE)")
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        help="the rows' benchmark: a published one, or a name of your own (default: the layout's)",
    )
    parser.add_argument("--kind", choices=JUDGED_KINDS, help="what judges look for (default: the benchmark's)")
    parser.add_argument("--model", metavar="NAME", help="the model that answered (default: as the file says)")
    parser.add_argument("--attack", metavar="NAME", default="", help="what the attack is called, where rows do not say")
    parser.add_argument("--requests", metavar="FILE", help="HarmBench: the file with the plain request of each id")
    parser.add_argument("--column", metavar="KEY=NAME", action="append", default=[],
                        help="name of a column: response, label (people's; several by commas), rater, prompt, "
                        "objective, id, category, attack, behaviour; repeatable")  # fmt: skip
    add_json(parser)


def run_import(args: argparse.Namespace) -> int:
    """Import; see `safekey.evals.imported.folder`."""
    out = console(args.json)
    from safekey.evals.imported.folder import import_completions

    made = import_completions(
        args.file, args.output, benchmark=args.benchmark, kind=args.kind, model=args.model, attack=args.attack,
        requests=args.requests, columns=columns(args.column, "--column"),
    )  # fmt: skip
    args.document = _document(made)
    names = ", ".join(f"{name} {n['completions']}" for name, n in made.summary.metrics["outputs"].items())
    done = "was imported before, and stays as it is" if made.again else "is a run folder now"
    out.print(printable(f"{made.run.path}: {done}: answers of {made.model}, read as {made.layout}: {names}"), **PLAIN)
    if made.labels:
        out.print(printable(f"{made.run.path}/labels.jsonl: {made.labels} judgements of people"), **PLAIN)
    for line in made.notes:
        out.print(f"note: {printable(line)}", **PLAIN)
    for line in (*made.warnings, *_problems(made)):
        out.print(f"WARNING: {printable(line)}", style="yellow", **PLAIN)
    out.print(f"judge them: safekey judge {made.run.path} --judge NAME=MODEL", **PLAIN)
    return 0


def _problems(made: ImportedRun) -> list[str]:
    lines = [str(problem) for problem in made.problems[:_MOST_PROBLEMS]]
    more = len(made.problems) - len(lines)
    return [*lines, *([f"+{more} more rows that cannot be used (run.json lists all)"] if more > 0 else [])]


def _document(made: ImportedRun) -> dict[str, Any]:
    return {
        "run": str(made.run.path), "layout": made.layout, "model": made.model, "answers": made.answers,
        "labels": made.labels, "again": made.again, "outputs": made.summary.metrics["outputs"],
        "problems": [str(problem) for problem in made.problems], "notes": list(made.notes),
        "warnings": list(made.warnings),
    }  # fmt: skip
