"""`safekey judges label RUN`: label a drawn sample of a run's answers, blind, on a local page or in the terminal."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_json, add_verb, console, whole
from safekey.errors import UserError
from safekey.schema import JUDGED_KINDS
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.evals.labelling.session import Session
    from safekey.evals.labelling.store import LabelFile

_EXAMPLES = """examples:
  safekey judges label runs/eval-r1-7b-safety --kind harm                 on a page: open the link that is printed
  safekey judges label runs/eval-r1-7b-safety --kind harm --terminal      in this terminal
  safekey judges label runs/eval-r1-7b-safety --kind harm --rater ben     a second rater, the same answers
  safekey judges label runs/eval-r1-7b-safety --kind harm --agreement     how far the raters agree

The same command again goes on where it stopped; each label is saved at once. docs/judges.md says how answers are
drawn."""


def add_parser(subparsers: Any) -> None:
    """Add `judges label`."""
    text = "label a drawn sample of a run's answers, without seeing what the judge said"
    parser = add_verb(subparsers, "label", text, run_label, _EXAMPLES)
    parser.add_argument("run_folder", metavar="RUN", help="the run folder of a finished evaluation")
    parser.add_argument("--rater", metavar="NAME", default="rater1", help="who labels (default rater1)")
    parser.add_argument("--terminal", action="store_true", help="label in this terminal, not on a page")
    parser.add_argument("--port", type=whole(0), default=0, metavar="N", help="of the page (default: a free one)")
    parser.add_argument("--agreement", action="store_true", help="say how far the raters agree, and stop")
    text = "the label file (default: RUN/labels/KIND-PART.jsonl); the draw is kept beside it"
    parser.add_argument("--output", metavar="FILE", help=text)
    draw = parser.add_argument_group("what is drawn (docs/judges.md)")
    draw.add_argument("--kind", choices=JUDGED_KINDS, help="answers of these benchmarks (default: the only kind)")
    draw.add_argument("--part", choices=("answer", "thinking", "whole"), help="the part to label (default answer)")
    draw.add_argument("--benchmark", metavar="NAME", help="only answers of this benchmark")
    draw.add_argument("--sample", type=whole(1), metavar="N", help="how many answers (default 100)")
    draw.add_argument("--seed", type=whole(0), metavar="N", help="another seed draws other answers (default 0)")
    text = "whose verdicts make the strata, where several judged: NAME or NAME=MODEL"
    draw.add_argument("--judge", metavar="NAME", help=text)
    text = "draw evenly, without strata: few answers of the judge's rarer verdict"
    draw.add_argument("--even", action="store_true", default=None, help=text)
    add_json(parser)


def run_label(args: argparse.Namespace) -> int:
    """Label; see `safekey.evals.labelling`."""
    from safekey.evals.labelling.sample import Wanted
    from safekey.evals.labelling.session import Session
    from safekey.evals.labelling.store import open_labels

    names = ("kind", "part", "benchmark", "sample", "seed", "judge", "even")
    wanted = Wanted(**{name: getattr(args, name) for name in names})
    out = console(args.json)
    file = open_labels(args.run_folder, wanted, args.output, new=not args.agreement)
    if args.agreement:
        return _agreement(args, out, file)
    session = Session(file, args.rater)
    if args.terminal:
        _in_terminal(session)
    else:
        _on_a_page(session, args.port, out)
    return _end(args, out, session)


def _in_terminal(session: Session) -> None:
    import sys

    from safekey.evals.labelling.terminal import label_in_terminal

    try:
        label_in_terminal(session, out=sys.stdout)  # with --json this is stderr
    except KeyboardInterrupt:
        print()


def _on_a_page(session: Session, port: int, out: Console) -> None:
    from safekey.evals.labelling.server import LabelServer, serve

    server = LabelServer(session, port)
    total, left = len(session), session.progress().left
    said = f"{session.rater}: {left} of {total} answers to label. Open this link in a browser on this machine:"
    out.print(printable(said), **PLAIN)
    out.print(f"\n  {server.url}\n\nCtrl-C ends it; every label is saved at once.", **PLAIN)
    serve(server)
    out.print()


def _end(args: argparse.Namespace, out: Console, session: Session) -> int:
    """Say how far the rater is, and what others said of the same answers."""
    from safekey.evals.labelling.agreement import agreements
    from safekey.evals.labelling.wording import agreement_lines

    progress, file = session.progress(), session.file
    rest = "; the same command goes on" if progress.left else ""
    said = (
        f"{session.rater}: {progress.labelled} of {progress.total} labelled, {progress.skipped} skipped, "
        f"{progress.left} left{rest}: {file.path}"
    )
    out.print(printable(said), **PLAIN)
    pairs = [pair for pair in agreements(file.rows()) if session.rater in (pair.first, pair.second)]
    if not progress.left:
        for line in agreement_lines(pairs):
            out.print(line, **PLAIN)
    counts = {"labelled": progress.labelled, "skipped": progress.skipped, "left": progress.left}
    shown = [pair.to_dict() for pair in pairs] if not progress.left else []
    where = {"labels": str(file.path), "draw": str(file.draw_path)}  # its strata are not for the rater's eyes
    args.document = {**where, "rater": session.rater, **counts, "agreement": shown}
    return 0


def _agreement(args: argparse.Namespace, out: Console, file: LabelFile) -> int:
    """Print the agreement of each two raters, and the answers on which they differ."""
    from safekey.evals.labelling.agreement import agreements
    from safekey.evals.labelling.store import settings
    from safekey.evals.labelling.wording import agreement_lines, differing_lines

    pairs = agreements(file.rows())
    if not pairs:
        raise UserError(f"{file.path}: agreement needs two raters (--rater NAME), and there are labels of fewer")
    for line in (*agreement_lines(pairs), *differing_lines(pairs)):
        out.print(line, **PLAIN)
    if not file.draw.even:
        out.print("These are numbers of the drawn sample: the judge's rarer verdicts are many in it.", **PLAIN)
    shown = [pair.to_dict() for pair in pairs]
    args.document = {"labels": str(file.path), "agreement": shown, "draw": settings(file.draw)}
    return 0
