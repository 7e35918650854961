"""The terminal view: one answer at a time, long ones by the screen, one key for each label."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from safekey.evals.labelling.session import Session
from safekey.evals.labelling.wording import TOLD, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS = {"1": 1, "0": 0, "s": None}
_BAR = "│ "
_LEAST_LINES = 5  # of text on one screen
_AROUND = 5  # lines of a screen that are no text of the answer
TOO_SOON = 0.4  # seconds, as on the page: nobody reads an answer so fast
QUIT = ("q", "\x03", "\x04", "")  # q, Ctrl-C, Ctrl-D, the end of the input


def label_in_terminal(session: Session, read: Callable[[], str] | None = None, out: TextIO | None = None) -> None:
    """Show answer after answer until all are labelled, or the rater ends it.

    Args:
        session: the rater's.
        read: returns the next key, or "" for no more; None: from the terminal, or a line at a time from a pipe.
        out: where to print; None: stdout.

    Raises:
        UserError: the label file cannot be written.
    """
    out = out or sys.stdout
    with _reader(read) as key:
        print(_introduction(session), file=out)
        place = session.next()
        while True:
            if place is None:
                place = _at_the_end(session, key, out)
                if place is None:
                    return
            pressed = _ask(session, place, key, out)
            if pressed in QUIT:
                return
            if pressed == "u":
                place = session.before(place) or place
                continue
            session.label(place, _KEYS[pressed])
            print(f"  {place}: {session.in_words(_KEYS[pressed])}", file=out)
            place = session.next()


def _introduction(session: Session) -> str:
    words = session.wording
    lines = [
        words.question,
        f"  1  {words.yes}: {words.yes_means}",
        f"  0  {words.no}: {words.no_means}",
        "  s  skip    u  back to the one before    space  more of a long text    q  end",
        "",
        *textwrap.wrap(TOLD, _width()),
    ]
    return "\n".join(textwrap.fill(line, _width(), subsequent_indent="     ") for line in lines)


def _ask(session: Session, place: int, key: Callable[[], str], out: TextIO) -> str:
    """Show one answer, a screen at a time, and return the key that ends it: 1, 0, s, u, or one of QUIT."""
    answer, (been, label) = session.answer(place), session.said(place)
    part = session.file.draw.part
    lines = ["", "[request]", *_wrapped(answer.request), "", f"[{part}]", *_wrapped(answer.response)]
    before = f", you said: {session.in_words(label)}" if been else ""
    progress = session.progress()
    print(f"\n{'=' * min(_width(), 60)}\nAnswer {place} of {progress.total} ({progress.left} left){before}", file=out)
    at = 0
    while True:
        shown = max(_LEAST_LINES, shutil.get_terminal_size().lines - _AROUND)
        if at < len(lines):
            print("\n".join(lines[at : at + shown]), file=out)
            at += shown
        more = len(lines) - at
        words = session.wording
        ask = f"1 {words.yes}   0 {words.no}   s skip   u back   q end"
        print(f"-- {f'space: {more} more lines   ' if more > 0 else ''}{ask}", file=out, flush=True)
        pressed = key()
        while pressed not in (*_KEYS, "u", *QUIT) and not (pressed in (" ", "\n", "\r") and more > 0):
            pressed = key()
        if pressed not in (" ", "\n", "\r"):
            return pressed


def _at_the_end(session: Session, key: Callable[[], str], out: TextIO) -> int | None:
    """Say that all is done; return a place to go back to, or None to end."""
    progress, skipped = session.progress(), session.skipped()
    again = "   s: the skipped ones again" if skipped else ""
    print(
        f"\nAll {progress.total} answers are done: {progress.labelled} labelled, {progress.skipped} skipped.", file=out
    )
    print(f"-- u back{again}   q end", file=out, flush=True)
    while (pressed := key()) not in QUIT:
        if pressed == "u" and session.before():
            return session.before()
        if pressed == "s" and skipped:
            return skipped
    return None


def _wrapped(text: str) -> list[str]:
    """Return a text as lines that fit the terminal, safe to print; the bar at each tells them from what is not text."""
    from rich.console import Console
    from rich.text import Text

    width = _width() - len(_BAR)
    lines = Text(plain(text).expandtabs(4)).wrap(Console(width=width, quiet=True), width, no_wrap=False)
    return [_BAR + line.plain.rstrip() for line in lines]


def _width() -> int:
    return max(20, shutil.get_terminal_size().columns)


@contextmanager
def _reader(read: Callable[[], str] | None) -> Iterator[Callable[[], str]]:
    """Give a function that reads one key: at once from a terminal, the first letter of a line from anything else."""
    if read is not None:
        yield read
        return
    if not sys.stdin.isatty():
        yield _first_letter
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield lambda: _one_key(number)
    finally:
        with suppress(termios.error):
            termios.tcsetattr(number, termios.TCSADRAIN, before)


def _one_key(number: int) -> str:
    """Wait for one key. A label that comes too soon was meant for the answer before; arrow keys are passed over."""
    import termios

    termios.tcflush(number, termios.TCIFLUSH)
    begin = time.monotonic()
    while True:
        pressed = os.read(number, 64).decode("utf-8", "replace").lower()
        if len(pressed) <= 1 and not (pressed in _KEYS and time.monotonic() - begin < TOO_SOON):
            return pressed


def _first_letter() -> str:
    line = sys.stdin.readline()
    return (line.strip()[:1].lower() or " ") if line else ""
