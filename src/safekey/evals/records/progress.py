"""Progress of an evaluation: how many completions and verdicts there are, and how much time is left.

It counts the run folder's rows from time to time, so that nothing in the evaluation has to report to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from safekey.evals.records.rows import RunRows

EVERY = 30.0  # seconds between two lines where the output is no terminal


class EvalProgress:
    """A context manager that shows progress while its block runs."""

    def __init__(self, console: Console, rows: RunRows, completions: int, verdicts: int) -> None:
        """Prepare.

        Args:
            console: where to.
            rows: what is counted.
            completions: how many there will be.
            verdicts: how many there will be.
        """
        self._console, self._rows = console, rows
        self._goals = {"generated": completions, "judged": verdicts}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="safekey-progress", daemon=True)

    def __enter__(self) -> EvalProgress:
        if not self._console.quiet:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _counts(self) -> dict[str, int]:
        return {"generated": len(self._rows.completions), "judged": len(self._rows.verdicts)}

    def _work(self) -> None:
        if self._console.is_terminal:
            self._show_bars()
        else:
            self._print_lines()

    def _show_bars(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            counts = self._counts()
            tasks = {
                name: bars.add_task(name, total=goal, completed=counts[name])
                for name, goal in self._goals.items()
                if goal
            }
            while not self._stop.wait(0.5):
                for name, count in self._counts().items():
                    if name in tasks:
                        bars.update(tasks[name], completed=count)

    def _print_lines(self) -> None:
        start, before = time.monotonic(), self._counts()
        while not self._stop.wait(EVERY):
            counts = self._counts()
            words = ", ".join(f"{name} {counts[name]} of {goal}" for name, goal in self._goals.items() if goal)
            left = time_left(before, counts, self._goals, time.monotonic() - start)
            self._console.print(f"{words}{left}", markup=False, highlight=False)


def time_left(before: Mapping[str, int], now: Mapping[str, int], goals: Mapping[str, int], seconds: float) -> str:
    """Return ", about 3 min left" from what was done in so many seconds; "" when nothing was."""
    longest = 0.0
    for name, goal in goals.items():
        done = now[name] - before[name]
        if goal > now[name]:
            if not done:
                return ""
            longest = max(longest, (goal - now[name]) * seconds / done)
    if not longest:
        return ""
    return f", about {longest / 60:.0f} min left" if longest >= 90 else f", about {longest:.0f} s left"
