"""The progress of a grid, read from its run folders while training and evaluation write them."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from safekey.errors import UserError
from safekey.grid.folder import Job
from safekey.run_folder import read_record, read_settings

_TRAINING = 0.6  # share of a job's time that training takes, as a first guess
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def trained_share(run: Path) -> float:
    """Return how much of a training is done, 0–1."""
    record = read_record(run)
    if record.get("status") == "finished":
        return 1.0
    entry = _last_line(run / "train_log.jsonl")
    epochs = (record.get("training_arguments") or {}).get("num_train_epochs")
    if not epochs or "epoch" not in entry:
        return 0.0
    return min(1.0, float(entry["epoch"]) / float(epochs))


def answered(run: Path) -> tuple[int, int]:
    """Return how many completions an evaluation has, and how many there will be (0: not known yet)."""
    record = read_record(run)
    items = record.get("items") or {}
    try:
        tasks = read_settings(run / "resolved.yaml", "evaluation").get("tasks") or {}
    except UserError:  # not written yet
        tasks = {}
    goal = sum(len(items.get(name, ())) * int((task or {}).get("samples") or 1) for name, task in tasks.items())
    if record.get("status") == "finished":
        return goal - int(record.get("unanswered") or 0), goal
    try:
        with (run / "completions.jsonl").open("rb") as file:
            return sum(1 for _ in file), goal
    except OSError:
        return 0, goal


def _last_line(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8192))
            lines = file.read().splitlines()
        found = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return {}
    return found if isinstance(found, dict) else {}


def share_done(job: Job) -> tuple[float, str]:
    """Return how much of a job is done, 0–1, and its stage in words."""
    if job.done:
        return 1.0, "done"
    if job.train is not None and not job.trained:
        share = trained_share(job.train)
        return _TRAINING * share, f"trains {share:.0%}" if share else "begins"
    count, goal = answered(job.evaluation)
    begun = _TRAINING if job.train is not None else 0.0
    share = count / goal if goal else 0.0
    return begun + (1 - begun) * share, f"answers {share:.0%}" if goal else "evaluates"


class Display:
    """A live table of arms and seeds on a terminal; elsewhere a line whenever a job begins a stage or ends."""

    def __init__(self, console: Console, jobs: Sequence[Job], at_once: int) -> None:
        self._console, self._jobs, self._at_once = console, jobs, at_once
        self._began, self._drawn = time.monotonic(), 0.0
        self._stages: dict[str, str] = {}
        self._live: Live | None = None
        self._start = sum(share_done(job)[0] for job in jobs)

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Show the table while the block runs."""
        if not self._console.is_terminal or self._console.quiet:
            yield self
            return
        with Live(console=self._console, refresh_per_second=4, transient=True) as self._live:
            yield self

    def __call__(
        self, running: Mapping[str, float], ended: Mapping[str, float], cancelled: Collection[str] = ()
    ) -> None:
        """Draw the table, or print lines, at most twice a second.

        Args:
            running: name of each job that runs → when it began.
            ended: name of each job that has ended → the seconds that it took.
            cancelled: those among them that the user cancelled.
        """
        now = time.monotonic()
        if now - self._drawn < 0.5 and running:
            return
        self._drawn = now
        states = {job: _state(job, running, ended, cancelled) for job in self._jobs}
        if self._live is not None:
            self._live.update(Group(self._table(states), Text(self._foot(states))))
        else:
            self._lines(states, ended)

    def _foot(self, states: Mapping[Job, _State]) -> str:
        seconds = time.monotonic() - self._began
        total, done = len(self._jobs), sum(state.share for state in states.values())
        words = f"{done / total:.0%} of {total} jobs, {self._at_once} at a time, {clock(seconds)} gone"
        if done - self._start > 0.5:
            words += f", about {clock(seconds * (total - done) / (done - self._start))} left"
        return words

    def _table(self, states: Mapping[Job, _State]) -> Table:
        seeds: list[int | None] = list(dict.fromkeys(job.seed for job in self._jobs if job.seed is not None))
        table = Table(box=None, pad_edge=False, padding=(0, 2))
        table.add_column("arm")
        for seed in seeds or [None]:
            table.add_column("" if seed is None else f"seed {seed}", min_width=12)
        for arm in dict.fromkeys(job.arm for job in self._jobs):
            cells = {job.seed: state.cell for job, state in states.items() if job.arm == arm}
            row = [cells.get(seed, "") for seed in seeds] if None not in cells else [cells[None]]
            table.add_row(escape(arm), *row)
        return table

    def _lines(self, states: Mapping[Job, _State], ended: Mapping[str, float]) -> None:
        for job, state in states.items():
            name = str(job)
            if state.stage not in ("", "begins", self._stages.get(name)):
                took = f" in {clock(ended[name])}" if name in ended else ""
                self._console.print(f"{clock(time.monotonic() - self._began)}  {name}: {state.stage}{took}", **_PLAIN)
                self._stages[name] = state.stage


class _State(NamedTuple):
    share: float
    stage: str  # one word; "" for a job that waits
    cell: str  # of the table, with markup


def _state(job: Job, running: Mapping[str, float], ended: Mapping[str, float], cancelled: Collection[str]) -> _State:
    share, words = share_done(job)
    name = str(job)
    if share == 1.0:
        return _State(share, "done", f"[green]done[/green] {clock(ended[name]) if name in ended else ''}")
    if name in cancelled:
        return _State(share, "cancelled", "[yellow]cancelled[/yellow]")
    if name in ended:
        return _State(share, "failed", "[red]failed[/red]")
    if name in running:
        return _State(share, words.split()[0], words)
    return _State(share, "", "[dim]waits[/dim]")


def clock(seconds: float) -> str:
    """Return "0:42", "12:03" or "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
