"""`safekey judges validate FILE --judge J`: how often a judge is wrong, against answers that people labelled."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from safekey.cli.bars import progress
from safekey.cli.common import PLAIN, add_json, add_verb, console, whole
from safekey.errors import UserError
from safekey.evals.request import JUDGES_GROUP, EvalRequest
from safekey.options import add_options, columns, given
from safekey.schema import JUDGED_KINDS

if TYPE_CHECKING:
    from safekey.evals.judge_error.validate import Validated

_EXAMPLES = """examples:
  safekey judges validate labels.jsonl --judge harm_1to5=openai/gpt-4.1 --output runs/harm-judge.json
  safekey judges validate xstest_v2_completions_gpt4.csv --judge refusal_keywords
  safekey judges validate violence.csv --threshold 0.5 --judge llama_guard=http://127.0.0.1:8000/v1#guard
  safekey eval … --judge harm_1to5=openai/gpt-4.1 --judge-record runs/harm-judge.json

The record holds counts, not texts. The verdicts are kept beside it: the same command goes on where it stopped.
docs/judges.md, "How often a judge is wrong", says which layouts are read and what the numbers mean."""


def add_parser(subparsers: Any) -> None:
    """Add `validate`."""
    text = "measure a judge on answers that people labelled: sensitivity, specificity, agreement"
    parser = add_verb(subparsers, "validate", text, run_validate, _EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", help="labelled answers: JSONL, JSON, CSV, TSV or Parquet")
    add_options(parser, EvalRequest, groups=[JUDGES_GROUP])
    parser.add_argument("--part", choices=("answer", "thinking", "whole"), default="answer",
                        help="the part of an answer that the labelled texts are (default answer)")  # fmt: skip
    parser.add_argument("--kind", choices=JUDGED_KINDS, help="what the judge `exact` judges")
    parser.add_argument("--column", metavar="KEY=NAME", action="append", default=[],
                        help="name of a column: request, response, label, rater, category, …; repeatable")  # fmt: skip
    parser.add_argument("--threshold", metavar="GRADE", type=float,
                        help="the least grade that counts as positive, where people gave grades")  # fmt: skip
    parser.add_argument("--benchmark", metavar="NAME", default="",
                        help="the benchmark that the requests come from, where the file does not say it")  # fmt: skip
    parser.add_argument("--confusions", metavar="N", type=whole(0), default=5,
                        help="show N answers that the judge got wrong, each way (default 5)")  # fmt: skip
    parser.add_argument("--output", metavar="RECORD", help="the record's file (default: runs/judge-JUDGE-FILE.json)")
    add_json(parser)


def run_validate(args: argparse.Namespace) -> int:
    """Measure a judge; see `safekey.evals.judge_error.validate`."""
    request = EvalRequest(model="", **given(args, EvalRequest))
    named = columns(args.column, "--column")
    from safekey.evals.judge_error.tables import print_validation
    from safekey.evals.judge_error.validate import validate
    from safekey.evals.plan import judges_of

    specs = judges_of(request)
    if len(specs) != 1:
        found = ", ".join(map(str, specs)) or "none"
        raise UserError(f"name one judge to measure with --judge NAME[=MODEL]; found {found}")
    with progress("asking") as told:
        done = validate(
            args.files, specs[0], request.judge_settings, kind=args.kind, part=args.part, columns=named,
            threshold=args.threshold, benchmark=args.benchmark, output=args.output, progress=told,
        )  # fmt: skip
    args.document = _document(done, args.confusions)
    out = console(args.json)
    print_validation(out, done, args.confusions)
    out.print(f"\n{done.path}: the record; {done.verdicts}: the verdicts", **PLAIN)
    return 0


def _document(done: Validated, most: int) -> dict[str, Any]:
    from safekey.evals.judge_error.tables import conclusion, short

    measured = done.measured
    wrong = {"missed": measured.missed, "false_alarms": measured.alarms}
    texts = {
        name: [{"id": row.id, "request": short(row.request, 200), "response": short(row.response, 200)} for row in some]
        for name, some in ((name, rows[:most]) for name, rows in wrong.items())
    }
    return {**measured.record.document, "file": str(done.path), "conclusion": conclusion(done), "wrong": texts}
