"""What the verbs share: parsing with suggestions, the console, options that mean the same everywhere, and arms."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from safekey.errors import UserError, did_you_mean
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.grid.folder import GridFolder

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
"""For `console.print` of text that is no markup and must not be wrapped."""
_PIPED_WIDTH = 1000  # columns of a table that goes to a file or a pipe: it is never wrapped


def console(as_json: bool = False) -> Console:
    """Return the console that a verb prints to: stdout, or stderr when `--json` keeps stdout for the document."""
    from rich.console import Console

    found = Console(stderr=as_json)
    if not found.is_terminal:
        found.width = _PIPED_WIDTH
    return found


def quiet_transformers() -> None:
    """Keep transformers' bars and notes of reading weights away from our lines."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one `UserError` with a suggestion; its verbs have parsers of this class, too."""

    mixed_order = False
    """Whether options may stand between the positional words, which argparse does not allow by itself."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; a word that nobody knows is an error of the verb that it was given to."""
        words = list(sys.argv[1:] if args is None else args)
        found, unknown = super().parse_known_args(self._options_first(words) if self.mixed_order else words, namespace)
        if unknown:
            option = next((word for word in unknown if word.startswith("-")), "").partition("=")[0]
            known = did_you_mean(option, self._option_string_actions)
            self.error(f"there is no option {option}{known}" if option else f"unexpected: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line as a `UserError`."""
        raise UserError(f"{message} (`{self.prog} --help`)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), known)
            raise argparse.ArgumentError(action, f"there is no '{value}'{hint} (choose from {', '.join(known)})")

    def _options_first(self, words: Sequence[str]) -> list[str]:
        """Return the words with options before the positional ones; what follows "--" stays where it is."""
        cut = words.index("--") if "--" in words else len(words)
        options: list[str] = []
        rest: list[str] = []
        pending = False  # the option before waits for its value
        for word in words[:cut]:
            is_option = word.startswith("-")
            (options if is_option or pending else rest).append(word)
            action = self._option_string_actions.get(word)
            pending = is_option and action is not None and action.nargs is None
        return [*options, *rest, *words[cut:]]


def add_verb(
    subparsers: Any, name: str, text: str, run: Callable[[argparse.Namespace], int], epilog: str | None = None
) -> Parser:
    """Add a verb.

    Args:
        subparsers: of the command or the group of verbs.
        name: the verb.
        text: what it does; the list of verbs and its own help say it.
        run: from the parsed arguments to the exit code. With `--json` it sets `document` on the arguments.
        epilog: examples.
    """
    parser: Parser = subparsers.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def add_json(parser: Any) -> None:
    """Add `--json`, which means the same for every verb; see `safekey.cli.app.main`."""
    parser.add_argument("--json", action="store_true",
                        help="print the result as one JSON document on stdout, everything else on stderr")  # fmt: skip


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add what names arms (`arms_of` and `grid_of` read them), and whose verdicts about which part count."""
    parser.add_argument(
        "runs",
        metavar="RUN|GRID",
        nargs="*",
        help="run folders of `safekey eval`, each an arm of its own; or the folder of one grid",
    )
    parser.add_argument("--arm", metavar="NAME=RUN,RUN", action="append", default=[],
                        help="an arm with several runs, one for each training seed; repeatable")  # fmt: skip
    parser.add_argument(
        "--judge",
        metavar="NAME",
        action="append",
        default=[],
        help="use this judge's verdicts where several judged: NAME or NAME=MODEL; repeatable",
    )
    parser.add_argument("--part", choices=("answer", "thinking", "whole"), default="answer",
                        help="the part of a response that the verdicts are about (default answer)")  # fmt: skip


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add `--labels`."""
    parser.add_argument("--labels", metavar="FILE", action="append", default=[],
                        help="people's labels of some of the runs' answers: rates are shown corrected by them as well; "
                             "repeatable")  # fmt: skip


def add_judge_error(parser: argparse.ArgumentParser) -> None:
    """Add what is known of the judges' errors; what a run keeps of it is used without these options."""
    parser.add_argument(
        "--judge-record",
        metavar="FILE",
        action="append",
        default=[],
        help="what `safekey judges validate` found of a judge: rates and differences are shown corrected as well; "
        "repeatable",
    )
    add_labels(parser)


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Add how arms are compared."""
    parser.add_argument(
        "--reference",
        metavar="RUN|NAME",
        help="the arm that the others are compared with (default: the first, or the grid's)",
    )
    parser.add_argument("--margin", type=points, metavar="POINTS",
                        help="how much worse ORR and reasoning accuracy may be (default 3, or the grid's)")  # fmt: skip
    parser.add_argument("--allow-different-settings", action="store_true",
                        help="compare runs with different decoding settings; the output says so")  # fmt: skip
    add_allow_unscored(parser)


def add_allow_unscored(parser: Any) -> None:
    """Add `--allow-unscored`; not given, it is None."""
    parser.add_argument(
        "--allow-unscored",
        metavar="SHARE",
        type=share,
        nargs="?",
        const=1.0,
        help="give rates with more than 5 %% of the verdicts missing (up to SHARE; without SHARE: always)",
    )


def points(text: str) -> float:
    """Read percentage points as a share, 0–1."""
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected points from 0 to 100, found {value:g}")
    return value / 100


def share(text: str) -> float:
    """Read a share, 0–1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, found {value:g}")
    return value


def whole(least: int) -> Callable[[str], int]:
    """Return the reader of a whole number that is at least `least`."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a number from {least}, found {value}")
        return value

    return number


def grid_of(runs: Sequence[str], named: Sequence[str] = ()) -> GridFolder | None:
    """Return the grid whose folder is all that was given; None otherwise."""
    if len(runs) != 1 or named:
        return None
    from safekey.grid.folder import GridFolder

    grid = GridFolder(Path(runs[0]))
    return grid if grid.exists else None


def arms_of(
    runs: Sequence[str], named: Sequence[str], reference: str | None = None, *, least: int = 1, to: str = "compare"
) -> tuple[dict[str, tuple[str, ...]], str]:
    """Return the arms' run folders by name, and the reference's name; names are safe to print.

    Args:
        runs: folders, each an arm of its own.
        named: NAME=RUN,RUN.
        reference: a name, or a folder, which may be one more; None: the first arm.
        least: how many arms there must be.
        to: what is done with them, for the message.

    Raises:
        UserError: too few arms, two of one name, or an unknown reference.
    """
    groups: list[tuple[str, tuple[str, ...]]] = []
    if reference is not None and _is_folder(reference, [*runs, *_said(named)]):
        runs = [reference, *runs]
    last = [_last(run) for run in runs]
    for run, name in zip(runs, last, strict=True):
        groups.append((name if last.count(name) == 1 else str(Path(run)), (run,)))
    for word in named:
        name, equals, folders = word.partition("=")
        split = tuple(folder.strip() for folder in folders.split(",") if folder.strip())
        if not equals or not name.strip() or not split:
            raise UserError(f"--arm {word}: expected NAME=RUN,RUN,…")
        groups.append((name.strip(), split))
    arms = {printable(name): group for name, group in groups}
    if len(arms) < len(groups) or len({Path(run).expanduser().resolve() for run in runs}) < len(runs):
        names = [name for name, _ in groups]
        twice = next((name for name in names if names.count(name) > 1), last[0] if last else names[0])
        raise UserError(f"two arms are called '{twice}', or a run is given twice: give other names (--arm NAME=RUN)")
    if len(arms) < least:
        some = "two runs, or two arms" if least > 1 else "one run, or one arm"
        raise UserError(f"nothing to {to}: give at least {some} (--arm NAME=RUN,RUN,…)")
    if reference is None:
        return arms, next(iter(arms))
    for name, group in arms.items():
        if reference == name or [Path(reference)] == [Path(folder) for folder in group]:
            return arms, name
    raise UserError(f"--reference {reference}: neither a run folder nor an arm; there are: {', '.join(arms)}")


def _said(named: Sequence[str]) -> list[str]:
    """Return every name and folder that --arm options hold."""
    return [text.strip() for word in named for text in word.replace("=", ",").split(",")]


def _is_folder(reference: str, others: Sequence[str]) -> bool:
    """Whether the reference is one more run folder, not one of the arms."""
    known = {name for other in others for name in (other, _last(other), str(Path(other)))}
    return not {reference, str(Path(reference))} & known and Path(reference).expanduser().is_dir()


def _last(run: str) -> str:
    return Path(run).expanduser().resolve().name or run
