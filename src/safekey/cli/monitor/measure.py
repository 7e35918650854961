"""`safekey monitor eval MODEL --data FILE`: AUROC, TPR at a false-positive rate, calibration; plain and by attack"""

from __future__ import annotations

import argparse
from typing import Any

from safekey.cli.common import PLAIN, add_json, add_verb, console
from safekey.cli.monitor.showing import reading
from safekey.monitor.request import HEADS, MeasureRequest
from safekey.options import add_options, given
from safekey.terminal import printable

_EXAMPLES = """examples:
  safekey monitor eval runs/first --data others.jsonl
  safekey monitor eval runs/first --data runs/eval-first --half second     fitted with --half first
  safekey monitor eval runs/first --data others.jsonl --output alarm.json"""


def add_verb_to(verbs: Any) -> None:
    """Add the verb."""
    text = "measure a monitor on labelled rows that did not calibrate it"
    parser = add_verb(verbs, "eval", text, run_eval, _EXAMPLES)
    parser.add_argument("model", metavar="RUN|MONITOR", help="a run folder with heads, or a monitor's folder")
    add_options(parser, MeasureRequest)
    add_json(parser)


def run_eval(args: argparse.Namespace) -> int:
    """Measure a monitor; see `safekey.monitor.evaluate`."""
    from safekey.cli.monitor.output import Output
    from safekey.monitor.evaluate import evaluate
    from safekey.monitor.tables import measure_table

    request = MeasureRequest(model=args.model, **given(args, MeasureRequest))
    output = Output.at(request.output, {f"data {n}": path for n, path in enumerate(request.data, 1)})
    with reading() as told:
        _, found = evaluate(request, told)
    args.document = found.to_dict()
    output.write_json(args.document)
    out = console(args.json)
    for head in HEADS:
        groups = [group for group in found.groups if group.head == head]
        if groups:
            out.print(measure_table(groups))
    for note in found.notes:
        out.print(printable(f"note: {note}"), **PLAIN)
    return 0
