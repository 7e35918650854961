"""What solvers and scorers of one process share: the run folder's rows and the judges, opened once.

Inspect builds a task's scorer again for every `inspect score` and `eval-retry`, from arguments that it can write into a
log. So scorers hold names, and this module holds what the names stand for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekey.evals.judges.judge import Judge
from safekey.evals.judges.open import JudgeSettings, JudgeSpec, Referee, judges_for, open_referees, parse_judges
from safekey.evals.judges.verdicts import check_answer, judge_completion, verdict_key
from safekey.evals.records.completions import completion_key
from safekey.evals.records.row_store import Row, RowStore

COMPLETIONS = "completions.jsonl"
VERDICTS = "verdicts.jsonl"
RESOLVED = "resolved.yaml"


@dataclass(frozen=True)
class Rows:
    """A run folder's two files of rows."""

    completions: RowStore
    verdicts: RowStore

    def close(self) -> None:
        """Close both."""
        self.completions.close()
        self.verdicts.close()


_open: dict[str, Rows] = {}


def open_rows(folder: str | None) -> Rows | None:
    """Return a run folder's rows; None for no folder, or one that is no run's (any more: a log may outlive it)."""
    if folder is None:
        return None
    if folder not in _open:
        if not (Path(folder) / RESOLVED).is_file():
            return None
        home = Path(folder)
        _open[folder] = Rows(RowStore(home / COMPLETIONS, completion_key), RowStore(home / VERDICTS, verdict_key))
    return _open[folder]


def close_rows(folder: str) -> None:
    """Close a run folder's rows."""
    rows = _open.pop(folder, None)
    if rows is not None:
        rows.close()


_referees: dict[tuple[tuple[JudgeSpec, ...], str, JudgeSettings], tuple[Referee, ...]] = {}


def shared_referees(specs: tuple[JudgeSpec, ...], kind: str, settings: JudgeSettings) -> tuple[Referee, ...]:
    """Return the judges of one kind; the first call opens them and finds out whether they answer.

    Raises:
        UserError: one has no key or does not answer.
    """
    key = (specs, kind, settings)
    if key not in _referees:
        _referees[key] = open_referees(specs, kind, settings, probe=True)
    return _referees[key]


def close_referees() -> None:
    """Close all judges."""
    while _referees:
        _, opened = _referees.popitem()
        for referee in opened:
            referee.close()


@dataclass
class Bench:
    """The judges of one task, opened when the first sample needs them."""

    kind: str
    judges: Sequence[str] = ()
    parts: Sequence[str] = ()
    templates: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    store: str | None = None
    _opened: tuple[Referee, ...] | None = field(default=None, repr=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    def __post_init__(self) -> None:
        self.judges, self.parts = tuple(self.judges), tuple(self.parts)  # lists, in a log's arguments

    @property
    def specs(self) -> tuple[JudgeSpec, ...]:
        """The judges as the user named them."""
        return judges_for(parse_judges(self.judges, templates=self.templates), self.kind)

    async def referees(self) -> tuple[Referee, ...]:
        """Return the judges; they are opened, and asked whether they are there, by the first call.

        Raises:
            UserError: one does not answer.
        """
        if self._opened is None:
            async with self._lock:
                settings = JudgeSettings(**self.settings)
                self._opened = await asyncio.to_thread(shared_referees, self.specs, self.kind, settings)
        return self._opened

    def judge_named(self, name: str) -> Judge:
        """Return one of these judges."""
        if self._opened is None:
            raise RuntimeError("the judges are opened by the first verdict")
        return next(referee.judge for referee in self._opened if referee.judge.name == name)

    async def judge(self, row: Row) -> list[Row]:
        """Judge one completion."""
        rows = open_rows(self.store)
        known = rows.verdicts if rows else None
        parts: Sequence[Any] = self.parts
        return await judge_completion(row, await self.referees(), parts, known)

    async def check(self, row: Row, kind: str, unsafe_local_exec: bool) -> Row:
        """Hold one answer against the truth."""
        rows = open_rows(self.store)
        return await check_answer(row, kind, rows.verdicts if rows else None, unsafe_local_exec=unsafe_local_exec)
