"""Show on stderr how far long work is: bars on a terminal, and a line from time to time in a file or a pipe

with bars() as told:
    told("4-deliberate", 90, 200)     # what is done, how many, of how many
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safekey.cli.common import PLAIN, console

if TYPE_CHECKING:
    from rich.console import Console

Told = Callable[[str, int, int], None]
EVERY = 30.0  # seconds between two lines where there is no terminal


@contextmanager
def bars() -> Iterator[Told]:
    """Show several bars; gives a function that is told what is done, how many, and of how many.

    Nothing is shown before something is done: a command that is refused prints its one line only.
    """
    out = console(as_json=True)
    with _bars(out) if out.is_terminal else _lines(out) as told:
        yield told


@contextmanager
def progress(word: str) -> Iterator[Callable[[int, int], None]]:
    """Show one bar; gives a function that is told how many of how many are done."""
    with bars() as told:
        yield lambda done, total: told(word, done, total)


@contextmanager
def _bars(out: Console) -> Iterator[Told]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=out)
    tasks: dict[str, TaskID] = {}

    def told(what: str, done: int, total: int) -> None:
        if not tasks:
            shown.start()
        if what not in tasks:
            tasks[what] = shown.add_task(what, total=total)
        shown.update(tasks[what], completed=done, total=total)

    try:
        yield told
    finally:
        if tasks:
            shown.stop()


@contextmanager
def _lines(out: Console) -> Iterator[Told]:
    """Print where the work stands now and then, also while nothing comes of it, and each thing once it is done."""
    first: dict[str, tuple[float, int]] = {}  # what → when it began, and with how many
    now: dict[str, tuple[int, int]] = {}
    over = threading.Event()

    def say(what: str, left: str = "") -> None:
        done, total = now[what]
        out.print(f"{what}: {done:,} of {total:,}{left}", **PLAIN)

    def told(what: str, done: int, total: int) -> None:
        begun = first.setdefault(what, (time.monotonic(), done))
        finished = begun[1] < done == total and now.get(what) != (done, total)
        now[what] = done, total
        if finished:
            say(what)

    def tick() -> None:
        from safekey.evals.records.progress import time_left

        while not over.wait(EVERY):
            for what, (done, total) in list(now.items()):
                if done < total:
                    since, begun = first[what]
                    say(what, time_left({what: begun}, {what: done}, {what: total}, time.monotonic() - since))

    thread = threading.Thread(target=tick, name="safekey-lines", daemon=True)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join(5)
