"""`safekey monitor score MODEL FILE`: a probability of harm for each row; beside the verdicts of an evaluation"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from safekey.cli.common import PLAIN, add_json, add_verb, console, whole
from safekey.cli.monitor.showing import reading
from safekey.terminal import printable

_EXAMPLES = """examples:
  safekey monitor score runs/first rows.jsonl --output scores.jsonl
  safekey monitor score runs/first runs/eval-first       writes runs/eval-first/monitor: scores beside the verdicts, and
                                                         how many failures the alarm would have caught"""


def add_verb_to(verbs: Any) -> None:
    """Add the verb."""
    text = "score responses of a file, or those of an evaluation beside their verdicts"
    parser = add_verb(verbs, "score", text, run_score, _EXAMPLES)
    parser.add_argument("model", metavar="RUN|MONITOR", help="a run folder with heads, or a monitor's folder")
    parser.add_argument("what", metavar="FILE|RUN", help="rows with thinking, or a finished evaluation's run folder")
    parser.add_argument("--output", metavar="FILE", help="of a file's rows: write the scores as JSONL")
    parser.add_argument("--judge", metavar="NAME", action="append", default=[],
                        help="of an evaluation, where several judged: NAME or NAME=MODEL; repeatable")  # fmt: skip
    parser.add_argument("--part", choices=("answer", "thinking", "whole"), default="answer",
                        help="the part of a response that the verdicts are about (default answer)")  # fmt: skip
    parser.add_argument("--other-model", action="store_true",
                        help="take an evaluation of another model; its texts are read by the monitor's")  # fmt: skip
    parser.add_argument("--device", help="cuda, mps or cpu (default: the best there is)")
    parser.add_argument("--dtype", default="float32", help="of the model (default float32)")
    parser.add_argument("--batch-size", type=whole(1), default=16, metavar="N",
                        help="rows in a forward pass (default 16)")  # fmt: skip
    add_json(parser)


def run_score(args: argparse.Namespace) -> int:
    """Score rows; see `safekey.monitor.monitor` and `safekey.monitor.runs`."""
    from safekey.monitor.rows import is_evaluation

    return _evaluation(args) if is_evaluation(args.what) else _file(args)


def _load(args: argparse.Namespace) -> Any:
    from safekey.monitor.monitor import Monitor

    return Monitor.load(args.model, device=args.device, dtype=args.dtype, batch_size=args.batch_size)


def _evaluation(args: argparse.Namespace) -> int:
    from safekey.errors import UserError
    from safekey.monitor.monitor import card_of
    from safekey.monitor.runs import open_evaluation, score_evaluation
    from safekey.monitor.tables import beside_sentence, beside_table

    if args.output:
        raise UserError("--output: the scores of an evaluation go beside its verdicts; leave it out")
    opened = open_evaluation(
        card_of(args.model), args.what, judges=args.judge, part=args.part, other_model=args.other_model
    )
    with reading() as told:
        found = score_evaluation(_load(args), opened, told)
    args.document = found.to_dict()
    out = console(args.json)
    out.print(beside_table(found))
    for note in found.notes:
        out.print(printable(f"note: {note}"), **PLAIN)
    out.print(beside_sentence(found), **PLAIN)
    out.print(printable(f"{found.folder}: scores.jsonl and summary.json"), **PLAIN)
    return 0


def _file(args: argparse.Namespace) -> int:
    from safekey.cli.monitor.output import Output
    from safekey.monitor.fit import readable
    from safekey.monitor.rows import read_rows

    output = Output.at(args.output, {"file": args.what})
    rows, notes = read_rows(args.what)
    with reading() as told:
        monitor = _load(args)
        rows, readings, problems = readable(monitor.loaded, rows)
        scores = monitor.score_readings(readings, [row.end for row in rows], told)
    lines = [
        {"id": row.id, "attack": row.attack, "harmful": row.harmful, **asdict(score)}
        for row, score in zip(rows, scores, strict=True)
    ]
    output.write_lines(lines)
    args.document = {"version": 1, "scores": lines, "notes": [*notes, *problems]}
    out = console(args.json)
    for line in lines if not args.output else ():
        harm = "–" if line["harm"] is None else f"{line['harm']:.4f}"
        out.print(printable(f"{harm}  {'flagged' if line['flagged'] else '       '}  {line['id']}"), **PLAIN)
    for note in (*notes, *problems):
        out.print(printable(f"note: {note}"), **PLAIN)
    flagged = sum(bool(line["flagged"]) for line in lines)
    word = "no threshold: `safekey monitor fit` sets one" if monitor.card is None else f"{flagged} flagged"
    out.print(f"{len(lines)} rows, {word}", **PLAIN)
    return 0
