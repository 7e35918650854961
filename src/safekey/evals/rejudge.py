"""`safekey judge RUN`: verdicts on saved generations, without generating.

Row by row and resumable as everything in a run folder: a verdict is appended as soon as it is known, and one that is
there is not asked for again, unless its judge failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import find_benchmark
from safekey.evals.evaluate import finish
from safekey.evals.judges.open import JudgeSettings, JudgeSpec, Referee, judges_for, open_referees, parse_judges
from safekey.evals.judges.verdicts import judge_completion
from safekey.evals.progress import Watch
from safekey.evals.records.folder import EvalRun
from safekey.evals.summary.rates import ALLOWED_UNSCORED, Grouping
from safekey.evals.summary.summary import Summary, Vote
from safekey.evals.tasks.build import check_parts
from safekey.schema import Part

_AT_ONCE = 4  # completions in work for each call that judges may make at a time


def rejudge(
    folder: str,
    specs: Sequence[JudgeSpec] = (),
    settings: JudgeSettings | None = None,
    *,
    parts: Sequence[str] | None = None,
    console: Console | None = None,
    allow_unscored: float = ALLOWED_UNSCORED,
    voting: Vote | None = None,
    by: Sequence[Grouping] = (),
) -> tuple[EvalRun, Summary]:
    """Judge a run's completions with these judges, or again with its own where they failed.

    Args:
        folder: the run folder.
        specs: the judges; (): those that the evaluation was begun with.
        settings: how they are asked.
        parts: which parts of a response they see; None: as in the evaluation.
        console: where progress goes; None: nowhere.
        allow_unscored: as for `evaluate`.
        voting: as for `evaluate`.
        by: as for `evaluate`.

    Raises:
        UserError: the folder is no evaluation's, a judge cannot be opened, or there is nothing to judge with.
    """
    run = EvalRun(Path(folder).expanduser())
    resolved = run.resolved
    settings = settings or JudgeSettings()
    specs = tuple(specs) or _own(resolved, run)
    seen = check_parts(list(parts or resolved.get("parts") or ("answer",)))
    run.hold()
    try:
        kinds = {name: find_benchmark(name).scoring for name in resolved.get("tasks", {})}
        wanted = sorted({kind for kind in kinds.values() if kind in ("harm", "refusal")})
        if not any(judges_for(specs, kind) for kind in wanted):
            raise UserError(
                f"{run.path}: none of these judges fits its benchmarks, which need: {', '.join(wanted) or 'none'}"
            )
        referees: dict[str, Sequence[Referee]] = {
            kind: open_referees(specs, kind, settings, probe=True) for kind in wanted
        }
        try:
            _judge_all(run, kinds, referees, seen, settings, console or Console(quiet=True))
        finally:
            for each in {id(referee): referee for group in referees.values() for referee in group}.values():
                each.close()
        return run, finish(run, allow_unscored=allow_unscored, voting=voting, by=by)
    finally:
        run.release()


def _own(resolved: Mapping[str, Any], run: EvalRun) -> tuple[JudgeSpec, ...]:
    judges = resolved.get("judges") or {}
    named = list(dict.fromkeys([*judges.get("harm", ()), *judges.get("refusal", ())]))
    if not named:
        raise UserError(f"{run.path}: was evaluated without a judge: name one with --judge")
    if judges.get("templates"):
        raise UserError(f"{run.path}: its judges need their templates: give --judge and --judge-template again")
    return parse_judges(named)


def _judge_all(
    run: EvalRun,
    kinds: Mapping[str, str],
    referees: Mapping[str, Sequence[Referee]],
    parts: Sequence[Part],
    settings: JudgeSettings,
    console: Console,
) -> None:
    rows = run.rows
    per_row = {name: len(referees.get(kind, ())) * len(parts) for name, kind in kinds.items()}
    goal = sum(per_row.get(row["benchmark"], 0) for row in rows.completions.rows())

    async def work() -> None:
        slots = asyncio.Semaphore(_AT_ONCE * settings.concurrency)

        async def one(row: Mapping[str, Any]) -> None:
            try:
                await judge_completion(row, referees[kinds[row["benchmark"]]], parts, rows.verdicts, again=True)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for row in rows.completions.rows():
                if kinds.get(row["benchmark"]) in referees:
                    await slots.acquire()
                    group.create_task(one(row))

    with Watch(console, rows, 0, goal):
        asyncio.run(work())
