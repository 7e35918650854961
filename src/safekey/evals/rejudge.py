"""`safekey judge RUN`: judge saved completions, without generating.

A verdict is appended as soon as it is known; one that is there is not asked for again unless its judge failed. So the
same command goes on after a stop, and so does `safekey judge RUN` without a judge: run.json names the judges that were
added to a run.

    "judging": {"harm_rubric=openai/gpt-4.1": {"parts": ["answer", "thinking"], "status": "running"}}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from safekey.errors import UserError
from safekey.evals.benchmarks.own import scorings_of
from safekey.evals.evaluate import finish, keep_no_texts
from safekey.evals.judge_error.correct import KnownErrors
from safekey.evals.judge_error.fit import check_fit, verdicts_there
from safekey.evals.judge_error.kept import keep_errors
from safekey.evals.judge_error.own_labels import labels_of_runs
from safekey.evals.judge_error.record import load_records
from safekey.evals.judges.open import JudgeSpec, judges_for, open_judges, parse_judges
from safekey.evals.judges.table import JUDGES
from safekey.evals.judges.verdicts import OpenJudge, judge_completion
from safekey.evals.plan import check_parts
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.progress import EvalProgress
from safekey.evals.records.rows import REDACTED
from safekey.evals.request import JudgeSettings, TableOptions
from safekey.evals.summary.summary import Summary
from safekey.schema import Part

Asked = tuple[OpenJudge, tuple[Part, ...]]
"""An open judge, and the parts of a response that it sees."""

_AT_ONCE = 4  # completions in progress for each call that judges may make at a time


def rejudge(
    folder: str,
    specs: Sequence[JudgeSpec] = (),
    settings: JudgeSettings | None = None,
    *,
    parts: Sequence[str] | None = None,
    console: Console | None = None,
    tables: TableOptions | None = None,
    records: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> tuple[EvalRun, Summary]:
    """Judge a run's completions with these judges, or again with the run's own judges where they failed.

    With records or labels and without judges, nobody is asked: the run keeps them, and its rates are made again.

    Args:
        folder: the run folder.
        specs: the judges; (): those of the evaluation.
        settings: how they are asked.
        parts: which parts of a response they see; None: as in the evaluation.
        console: where progress is printed; None: nowhere.
        tables: what the tables show.
        records: files that `safekey judges validate` wrote: rates are corrected for their judges' errors.
        labels: files with people's labels of the run's own answers.

    Raises:
        UserError: the folder is no evaluation's, a judge cannot be opened, there is nothing to judge with, a record is
            of another judge, or labels are about other answers.
    """
    run = EvalRun(Path(folder).expanduser())
    run.check_ours()
    resolved = run.resolved
    settings = settings or JudgeSettings()
    own = check_parts(list(parts or resolved.get("parts") or ("answer",)))
    measured = load_records(records)
    correct_only = bool(records or labels) and not specs
    if not correct_only:
        _check_texts(run)
    run.hold()
    try:
        kinds = scorings_of(resolved)
        check_fit(measured, specs, own, verdicts_there(run.rows.verdicts.rows()))
        found = labels_of_runs(labels, run.rows.completions.rows(), kinds, own) if labels else {}
        if correct_only:
            keep_errors(run.path, KnownErrors(measured, found))
            return run, finish(run, tables)
        asked = dict.fromkeys(specs, own) or _own(resolved, run, own, bool(parts))
        wanted: list[str] = sorted({kind for kind in kinds.values() if kind in ("harm", "refusal")})
        if not any(judges_for(tuple(asked), kind) for kind in wanted):
            raise UserError(
                f"{run.path}: none of these judges fits its benchmarks, which need: {', '.join(wanted) or 'none'}"
            )
        judges: dict[str, list[Asked]] = {kind: [] for kind in wanted}
        try:
            for kind in wanted:
                for spec in judges_for(tuple(asked), kind):
                    judges[kind] += [(judge, asked[spec]) for judge in open_judges([spec], kind, settings, probe=True)]
            _note(run, "running", asked)
            _judge_all(run, kinds, judges, settings, console or Console(quiet=True))
            _note(run, "finished", asked)
        finally:
            for group in judges.values():
                for each, _ in group:
                    each.close()
        keep_errors(run.path, KnownErrors(measured, found))
        summary = finish(run, tables)
        keep_no_texts(run, console or Console(quiet=True), asked=False)
        return run, summary
    finally:
        run.release()


def _check_texts(run: EvalRun) -> None:
    """Refuse to judge texts that are gone."""
    redacted = run.record.get("redacted") or {}
    if redacted.get("status") == "finished" and not redacted.get("with_text"):
        raise UserError(
            f"{run.path}: its texts were dropped (--redact), so there is nothing to judge: evaluate again without it"
        )


def _note(run: EvalRun, status: str, asked: Mapping[JudgeSpec, Sequence[Part]]) -> None:
    """Write into run.json which judges judge this run, and whether they are done."""
    ours = {str(spec): {"parts": list(parts), "status": status} for spec, parts in asked.items()}
    run.note(judging={**(run.record.get("judging") or {}), **ours})


def _own(
    resolved: Mapping[str, Any], run: EvalRun, parts: tuple[Part, ...], named_parts: bool
) -> dict[JudgeSpec, tuple[Part, ...]]:
    """Return the judges of the evaluation, and those that an earlier `safekey judge` added, with the parts they see."""
    judges = resolved.get("judges") or {}
    named = dict.fromkeys([*judges.get("harm", ()), *judges.get("refusal", ())], parts)
    for name, about in (run.record.get("judging") or {}).items():
        named.setdefault(name, parts if named_parts else check_parts(about["parts"]))
    if not named:
        raise UserError(f"{run.path}: was evaluated without a judge: name one with --judge")
    if judges.get("templates") or any(_needs_template(name) for name in named):
        raise UserError(f"{run.path}: its judges need their templates: give --judge and --judge-template again")
    return {spec: named[name] for name in named for spec in parse_judges([name])}


def _needs_template(named: str) -> bool:
    name = named.partition("=")[0]
    return name in JUDGES and bool(JUDGES[name].template_fields)


def _judge_all(
    run: EvalRun,
    kinds: Mapping[str, str],
    judges: Mapping[str, Sequence[Asked]],
    settings: JudgeSettings,
    console: Console,
) -> None:
    rows = run.rows
    per_row = {name: sum(len(parts) for _, parts in judges.get(kind, ())) for name, kind in kinds.items()}
    goal = sum(per_row.get(row["benchmark"], 0) for row in rows.completions.rows())

    async def work() -> None:
        slots = asyncio.Semaphore(_AT_ONCE * settings.concurrency)

        async def one(row: Mapping[str, Any]) -> None:
            try:
                ways = _by_parts(judges[kinds[row["benchmark"]]])
                work = [judge_completion(row, own, parts, rows.verdicts, again=True) for parts, own in ways.items()]
                await asyncio.gather(*work)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for row in rows.completions.rows():
                if kinds.get(row["benchmark"]) in judges and REDACTED not in row:
                    await slots.acquire()
                    group.create_task(one(row))

    with EvalProgress(console, rows, 0, goal):
        asyncio.run(work())


def _by_parts(judges: Sequence[Asked]) -> dict[tuple[Part, ...], list[OpenJudge]]:
    ways: dict[tuple[Part, ...], list[OpenJudge]] = {}
    for judge, parts in judges:
        ways.setdefault(parts, []).append(judge)
    return ways
