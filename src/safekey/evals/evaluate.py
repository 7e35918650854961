"""Run an evaluation with Inspect, from a request to a finished run folder; a killed one goes on where it stopped.

Inspect runs the tasks and writes its logs. Every completion and verdict is appended to the run folder's rows as soon as
it is known, and solver and scorers use the rows that are there. So a killed task is run again, and its finished samples
take milliseconds, without a call to a model or a judge.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log
from inspect_ai.model import Model
from rich.console import Console

from safekey.engines.vllm.engine import VllmEngine
from safekey.engines.vllm.service import VllmError
from safekey.errors import UserError
from safekey.evals.adaptive.attacker import shared_attacker
from safekey.evals.benchmarks.contamination import contamination
from safekey.evals.benchmarks.own import benchmarks_of
from safekey.evals.judge_error.correct import KnownErrors
from safekey.evals.judge_error.kept import keep_errors, kept_errors
from safekey.evals.model_api.opening import identify, open_model
from safekey.evals.model_api.prompt_check import check_prompts
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.plan import EvalPlan, PlannedTask, make_plan
from safekey.evals.records.folder import JUDGE_ERROR, METRICS, SERVER, EvalRun
from safekey.evals.records.progress import EvalProgress
from safekey.evals.records.rows import is_final
from safekey.evals.request import EvalRequest, TableOptions
from safekey.evals.summary.summary import Summary, summarize
from safekey.evals.summary.tables import left_out_lines
from safekey.evals.tasks.registry import saved_task
from safekey.evals.tasks.sample import close_judges, shared_judges
from safekey.run_folder import write_json
from safekey.terminal import printable

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
GOES_ON = "The same command goes on; what is finished is not done again."


@dataclass(frozen=True)
class EvalResult:
    """A finished evaluation: run folder, numbers, warnings, and the benchmarks that were not run, with reasons."""

    run: EvalRun
    summary: Summary
    warnings: tuple[str, ...]
    left_out: Mapping[str, str]


class StoppedError(RuntimeError):
    """The evaluation stopped early; the message says why, and that the same command goes on."""


def evaluate(
    request: EvalRequest,
    *,
    model: Model | None = None,
    console: Console | None = None,
    progress: Console | None = None,
    tables: TableOptions | None = None,
) -> EvalResult:
    """Evaluate a model on benchmarks; go on where an earlier call with the same request stopped.

    Args:
        request: the options.
        model: an open model of Inspect's, instead of the one that `request.model` names.
        console: where notes, warnings and progress are printed; None: nowhere.
        progress: where progress is printed instead.
        tables: what the tables show.

    Raises:
        UserError: something in the request is wrong or missing; nothing has been generated.
        StoppedError: a failure after generation began.
        KeyboardInterrupt: interrupted; the run folder is ready to go on.
    """
    console = console or Console(quiet=True)
    plan = make_plan(request)
    run = EvalRun(_folder(request))
    if model is None:
        console.print(f"opening {printable(request.model)}", **PLAIN)
    opened = model or open_model(request)
    identity = identify(opened)
    plan = check_prompts(plan, opened)
    resolved = plan.resolved(identity)
    run.check(resolved, _inputs(plan))
    for line in left_out_lines(plan.left_out):
        console.print(line, style="bold yellow", **PLAIN)
    run.hold()
    try:
        finished = run.record.get("status") == "finished" and not _to_do(run, plan)
        if finished:
            console.print(f"{run.path}: this run is finished; its numbers again", **PLAIN)
            warnings = tuple(run.record.get("warnings", ()))
        else:
            for task in plan.tasks:  # opens every judge and asks each judging model one question
                if task.judges:
                    shared_judges(task.judges, task.benchmark.scoring, request.judge_settings)
                if task.adaptive:
                    shared_attacker(task.adaptive.attacker, request.judge_settings)
            overlaps, unknown = contamination(request.model, [task.items for task in plan.tasks])
            warnings = (*_warnings(plan), *(w for each in overlaps.values() if (w := each["warning"])))
            about = {
                "warnings": warnings,
                "left_out": plan.left_out,
                "contamination": overlaps,
                **_about_benchmarks(plan),
            }
            run.begin(resolved, {"model": identity, **about})
            for line in plan.read:
                console.print(printable(line), **PLAIN)
            for line in (*_notes(plan), *unknown):
                console.print(f"note: {printable(line)}", **PLAIN)
        if plan.records:
            keep_errors(run.path, KnownErrors(plan.records))
        for line in warnings:
            console.print(f"WARNING: {printable(line)}", style="yellow", **PLAIN)
        if not finished:
            _start(opened, run, console)
            try:
                _run(plan, run, opened, progress or console)
            finally:
                _note_server(opened, run)
        summary = finish(run, tables)
        keep_no_texts(run, console, asked=request.redact)
        for line in summary.doubts:
            console.print(f"WARNING: {printable(line)}", style="yellow", **PLAIN)
        return EvalResult(run, summary, (*warnings, *summary.doubts), plan.left_out)
    finally:
        run.release()
        close_judges()
        if model is None:
            opened.api.close()


def _start(model: Model, run: EvalRun, console: Console) -> None:
    """Start the engine's server, if it has one; its log lies in the run folder.

    Raises:
        UserError: it does not start, for a reason that the user can mend.
        StoppedError: for another reason.
    """
    engine = model.api.engine if isinstance(model.api, SafeKeyAPI) else None
    if not isinstance(engine, VllmEngine):
        return
    try:
        engine.start(run.path / SERVER, lambda line: console.print(printable(line), **PLAIN))
    except KeyboardInterrupt:
        run.mark("interrupted")
        raise
    except (UserError, VllmError) as error:
        run.mark("failed", reason=str(error)[:500])
        if isinstance(error, UserError):
            raise
        raise StoppedError(f"{error}. {GOES_ON}") from error
    _note_server(model, run)


def _note_server(model: Model, run: EvalRun) -> None:
    """Record what is known of a server only since it runs: its version, its context, how often it was started."""
    if isinstance(model.api, SafeKeyAPI) and isinstance(model.api.engine, VllmEngine):
        run.note(model=identify(model))


def finish(run: EvalRun, tables: TableOptions | None = None) -> Summary:
    """Put the rows in order, write metrics.json, and return the numbers."""
    record = run.record
    items: Mapping[str, Sequence[str]] = record.get("items", {})
    run.rows.put_in_order(list(items), items)
    known = kept_errors(run.path) if (run.path / JUDGE_ERROR).is_dir() else None
    summary = summarize(run.rows, tables, known, benchmarks_of(run.resolved))
    about = {name: record.get(name) for name in ("warnings", "left_out", "notes", "contamination")}
    about["warnings"] = [*(about["warnings"] or ()), *summary.doubts]
    write_json(run.path / METRICS, {"version": 1, **about, **summary.metrics})
    return summary


def keep_no_texts(run: EvalRun, console: Console, *, asked: bool) -> None:
    """Drop a finished run's texts if the user asks for it now, or did so before.

    Args:
        run: the run, held by this process, with its metrics written.
        console: where it is said.
        asked: whether the user asks for it.
    """
    before = run.record.get("redacted") or {}
    if not (asked or before) or (before.get("status") == "finished" and not before.get("with_text")):
        return
    from safekey.evals.records.redact import redact

    left = redact(run)
    console.print(f"{run.path}: texts dropped; hashes, verdicts and classes are kept", **PLAIN)
    if left:
        console.print(
            f"WARNING: {left} completions keep their texts, because their verdict or generation failed: "
            f"`safekey judge {run.path}` asks a judge again, the same command a model", style="yellow", **PLAIN,
        )  # fmt: skip


def _folder(request: EvalRequest) -> Path:
    if request.output:
        return Path(request.output).expanduser()
    path = Path(request.model.rstrip("/"))
    inner = path.name == "model" or path.name.startswith("checkpoint-")
    name = f"{path.parent.name}-{path.name}" if inner else path.name
    what = "-".join(
        dict.fromkeys([*(request.tasks or ([request.suite] if request.suite else [])), *request.benchmarks])
    )
    return Path("runs") / re.sub(r"[^\w.+-]+", "-", f"eval-{name}-{what}")


def _inputs(plan: EvalPlan) -> dict[str, str]:
    """Return the files that the evaluation reads: what the user calls each → its path."""
    files = {f"file of {task.benchmark.name}": task.items.source for task in plan.tasks}
    templates = {f"template of {name}": path for name, path in plan.request.templates.items()}
    if plan.request.attack_templates:
        templates["--attack-templates"] = plan.request.attack_templates
    records = {f"record {path}": path for path in plan.request.judge_records}
    return {"model": plan.request.model, **files, **templates, **records}


def _warnings(plan: EvalPlan) -> tuple[str, ...]:
    """Return what makes the files' numbers doubtful, and the problems with their rows."""
    lines = [line for task in plan.tasks for line in task.items.warnings]
    lines += [line for task in plan.tasks for line in task.items.describe_problems().splitlines()]
    return tuple(dict.fromkeys(lines))


def _notes(plan: EvalPlan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for task in plan.tasks for note in task.items.notes))


def _about_benchmarks(plan: EvalPlan) -> dict[str, Any]:
    """Return the benchmarks' entries of run.json."""
    return {
        "items": {task.benchmark.name: [item.id for item in task.items] for task in plan.tasks},
        "sources": {task.benchmark.name: task.items.source for task in plan.tasks},
        "read": {task.benchmark.name: task.items.reading.to_dict() for task in plan.tasks},
        "notes": _notes(plan),
        "problems": {task.benchmark.name: [str(p) for p in task.items.problems] for task in plan.tasks},
    }


def _to_do(run: EvalRun, plan: EvalPlan) -> list[PlannedTask]:
    """Return the tasks without all their completions or without a complete log."""
    logged = {log.eval.task.removeprefix("safekey/") for log in _logs(run) if log.status == "success"}
    completions = run.rows.completions
    redacted = bool(run.record.get("redacted"))  # its logs are gone
    missing = []
    for task in plan.tasks:
        name = task.benchmark.name
        keys = [(name, item.id, epoch) for item in task.items for epoch in range(1, task.samples + 1)]
        rows = (completions.get(key) for key in keys)
        if not (redacted or name in logged) or not all(row is not None and is_final(row) for row in rows):
            missing.append(task)
    return missing


def _run(plan: EvalPlan, run: EvalRun, model: Model, console: Console) -> None:
    tasks = _to_do(run, plan)
    judges = max((len(task.judges) for task in plan.tasks), default=0)
    completions, verdicts = sum(task.completions for task in plan.tasks), sum(task.verdicts for task in plan.tasks)
    logging.getLogger("inspect_ai").setLevel(logging.ERROR)
    connections = model.api.max_connections()
    with EvalProgress(console, run.rows, completions, verdicts):
        try:
            logs = inspect_eval(
                [saved_task(task, plan.request, str(run.path)) for task in tasks],
                model=model,
                log_dir=str(run.logs),
                display="none",
                ctl_server=False,
                log_realtime=False,
                score_display=False,  # interim scores are slow, and are not shown
                max_connections=connections,
                # A sample that waits for its judges must not keep the model idle.
                max_samples=connections + 2 * judges * plan.request.judge_settings.concurrency,
            )
        except KeyboardInterrupt:
            run.mark("interrupted")
            raise
        except Exception as error:
            run.mark("failed", reason=str(error)[:500])
            raise
    _settle(run, logs, len(tasks))


def _settle(run: EvalRun, logs: Sequence[EvalLog], tasks: int) -> None:
    """Record how the run ended, and remove the logs of earlier attempts: the new logs hold all their samples."""
    broken = next((log for log in logs if log.status not in ("success", "cancelled")), None)
    if broken is not None:
        reason = (broken.error.message if broken.error else broken.status).strip()
        run.mark("failed", reason=reason[:500])
        raise StoppedError(f"{broken.eval.task}: {reason[:300]}. {GOES_ON}")
    # After Ctrl-C, Inspect leaves tasks out of what it returns, and raises nothing.
    if len(logs) < tasks or any(log.status != "success" for log in logs):
        run.mark("interrupted")
        raise KeyboardInterrupt
    done = {log.eval.task.replace("/", "-").replace("_", "-") for log in logs}
    newest = {Path(log.location).name for log in logs}
    for info in list_eval_logs(str(run.logs)):
        name = Path(info.name).name
        if info.task.replace("_", "-") in done and name not in newest:
            Path(run.logs, name).unlink(missing_ok=True)
    run.mark("finished", unanswered=sum(not is_final(row) for row in run.rows.completions.rows()))


def _logs(run: EvalRun) -> list[EvalLog]:
    """Return the headers of the folder's logs, without logs that a kill left unreadable."""
    found = []
    for info in list_eval_logs(str(run.logs)) if run.logs.is_dir() else []:
        try:
            found.append(read_eval_log(info, header_only=True))
        except Exception:  # noqa: S112 - half a zip file raises many kinds of errors
            continue
    return found
