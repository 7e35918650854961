"""`safekey judge RUN`: judge saved completions, without generating.

A verdict is appended as soon as it is known; one that is there is not asked for again unless its judge failed. So the
same command goes on after a stop.
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
from safekey.evals.judges.open import JudgeSpec, judges_for, open_judges, parse_judges
from safekey.evals.judges.verdicts import OpenJudge, judge_completion
from safekey.evals.plan import check_parts
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.progress import EvalProgress
from safekey.evals.request import JudgeSettings, TableOptions
from safekey.evals.summary.summary import Summary
from safekey.schema import Part

_AT_ONCE = 4  # completions in progress for each call that judges may make at a time


def rejudge(
    folder: str,
    specs: Sequence[JudgeSpec] = (),
    settings: JudgeSettings | None = None,
    *,
    parts: Sequence[str] | None = None,
    console: Console | None = None,
    tables: TableOptions | None = None,
) -> tuple[EvalRun, Summary]:
    """Judge a run's completions with these judges, or again with the run's own judges where they failed.

    Args:
        folder: the run folder.
        specs: the judges; (): those of the evaluation.
        settings: how they are asked.
        parts: which parts of a response they see; None: as in the evaluation.
        console: where progress is printed; None: nowhere.
        tables: what the tables show.

    Raises:
        UserError: the folder is no evaluation's, a judge cannot be opened, or there is nothing to judge with.
    """
    run = EvalRun(Path(folder).expanduser())
    run.check_ours()
    resolved = run.resolved
    settings = settings or JudgeSettings()
    specs = tuple(specs) or _own(resolved, run)
    seen = check_parts(list(parts or resolved.get("parts") or ("answer",)))
    run.hold()
    try:
        kinds = {name: find_benchmark(name).scoring for name in resolved.get("tasks", {})}
        wanted: list[str] = sorted({kind for kind in kinds.values() if kind in ("harm", "refusal")})
        if not any(judges_for(specs, kind) for kind in wanted):
            raise UserError(
                f"{run.path}: none of these judges fits its benchmarks, which need: {', '.join(wanted) or 'none'}"
            )
        judges = {kind: open_judges(specs, kind, settings, probe=True) for kind in wanted}
        try:
            _judge_all(run, kinds, judges, seen, settings, console or Console(quiet=True))
        finally:
            for group in judges.values():
                for each in group:
                    each.close()
        return run, finish(run, tables)
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
    judges: Mapping[str, Sequence[OpenJudge]],
    parts: Sequence[Part],
    settings: JudgeSettings,
    console: Console,
) -> None:
    rows = run.rows
    per_row = {name: len(judges.get(kind, ())) * len(parts) for name, kind in kinds.items()}
    goal = sum(per_row.get(row["benchmark"], 0) for row in rows.completions.rows())

    async def work() -> None:
        slots = asyncio.Semaphore(_AT_ONCE * settings.concurrency)

        async def one(row: Mapping[str, Any]) -> None:
            try:
                await judge_completion(row, judges[kinds[row["benchmark"]]], parts, rows.verdicts, again=True)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for row in rows.completions.rows():
                if kinds.get(row["benchmark"]) in judges:
                    await slots.acquire()
                    group.create_task(one(row))

    with EvalProgress(console, rows, 0, goal):
        asyncio.run(work())
