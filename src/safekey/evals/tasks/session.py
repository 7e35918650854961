"""The judges of a task: named in its arguments, opened once in a process.

Inspect builds a task's scorer again for every `inspect score` and `eval-retry`, from arguments that it can write into a
log. So solver and scorers hold names, and this module holds the open judges that the names stand for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from safekey.evals.judges.open import JudgeSpec, judges_for, open_judges, parse_judges
from safekey.evals.judges.table import Judge
from safekey.evals.judges.verdicts import OpenJudge, judge_completion
from safekey.evals.records.rows import Row, open_rows
from safekey.evals.request import JudgeSettings

_opened: dict[tuple[tuple[JudgeSpec, ...], str, JudgeSettings], tuple[OpenJudge, ...]] = {}


def shared_judges(specs: tuple[JudgeSpec, ...], kind: str, settings: JudgeSettings) -> tuple[OpenJudge, ...]:
    """Return the judges of one kind; the first call opens them and finds out whether they answer.

    Raises:
        UserError: one has no key or does not answer.
    """
    key = (specs, kind, settings)
    if key not in _opened:
        _opened[key] = open_judges(specs, kind, settings, probe=True)
    return _opened[key]


def close_judges() -> None:
    """Close all judges."""
    while _opened:
        _, judges = _opened.popitem()
        for judge in judges:
            judge.close()


@dataclass
class TaskJudges:
    """The judges of one task, opened when the first sample needs them; the fields are those of the scorer `judged`."""

    kind: str
    judges: Sequence[str]
    parts: Sequence[Any]
    templates: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    store: str | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _found: tuple[OpenJudge, ...] = field(default=(), repr=False)

    async def opened(self) -> tuple[OpenJudge, ...]:
        """Return the judges; the first call opens them and asks each whether it is there.

        Raises:
            UserError: one does not answer.
        """
        async with self._lock:
            if not self._found:
                specs = judges_for(parse_judges(tuple(self.judges), templates=self.templates), self.kind)
                settings = JudgeSettings(**self.settings)
                self._found = await asyncio.to_thread(shared_judges, specs, self.kind, settings)
        return self._found

    def judge_named(self, name: str) -> Judge:
        """Return one of these judges, after the first verdict."""
        return next(each.judge for each in self._found if each.judge.name == name)

    async def judge(self, row: Row) -> list[Row]:
        """Judge one completion."""
        rows = open_rows(self.store)
        return await judge_completion(row, await self.opened(), self.parts, rows.verdicts if rows else None)
