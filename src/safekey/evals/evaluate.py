"""`evaluate`: from a request to a finished run folder, with Inspect; a killed evaluation goes on where it stopped.

Inspect runs the tasks and writes its logs; the run folder's rows say what is finished. Every completion and verdict is
appended to them as soon as it is known, and solver and scorers take over what is there. So a task that was killed is
run again: its finished samples pass through in milliseconds, without a call to a model or a judge.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log
from inspect_ai.model import Model, get_model
from rich.console import Console

from safekey.errors import UserError
from safekey.evals.benchmarks.contamination import contamination
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.plan import TASK_OPTIONS, EvalPlan, PlannedTask, check_prompts, make_plan
from safekey.evals.records.folder import METRICS, EvalRun
from safekey.evals.records.progress import EvalProgress
from safekey.evals.records.rows import is_final
from safekey.evals.request import EvalRequest, TableOptions
from safekey.evals.summary.summary import Summary, summarize
from safekey.evals.summary.tables import left_out_lines
from safekey.evals.tasks.registry import build_task, tagged
from safekey.evals.tasks.sample import close_judges, shared_judges
from safekey.run_folder import write_json
from safekey.terminal import printable

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
GOES_ON = "The same command goes on; what is finished is not done again."


@dataclass(frozen=True)
class EvalResult:
    """A finished evaluation: its run folder, its numbers, warnings about them, and benchmarks that were not run."""

    run: EvalRun
    summary: Summary
    warnings: tuple[str, ...]
    left_out: Mapping[str, str]


class StoppedError(RuntimeError):
    """The evaluation broke off; the message says why, and that the same command goes on."""


def evaluate(
    request: EvalRequest,
    *,
    model: Model | None = None,
    console: Console | None = None,
    tables: TableOptions | None = None,
) -> EvalResult:
    """Evaluate a model on benchmarks; go on where an earlier call with the same request stopped.

    Args:
        request: what to do.
        model: an Inspect model that is open already, in place of the one that `request.model` names.
        console: where progress and warnings are printed; None: nowhere.
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
    run.check(resolved)
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
            overlaps, unknown = contamination(request.model, [task.items for task in plan.tasks])
            warnings = (*_warnings(plan), *(w for each in overlaps.values() if (w := each["warning"])))
            about = {"warnings": warnings, "left_out": plan.left_out, "contamination": overlaps, **_said(plan)}
            run.begin(resolved, {"model": identity, **about})
            for line in (*_notes(plan), *unknown):
                console.print(f"note: {printable(line)}", **PLAIN)
        for line in warnings:
            console.print(f"WARNING: {printable(line)}", style="yellow", **PLAIN)
        if not finished:
            _run(plan, run, opened, console)
        return EvalResult(run, finish(run, tables), warnings, plan.left_out)
    finally:
        run.release()
        close_judges()
        if model is None:
            opened.api.close()


def finish(run: EvalRun, tables: TableOptions | None = None) -> Summary:
    """Put the rows in order, write metrics.json, and return the numbers."""
    record = run.record
    items: Mapping[str, Sequence[str]] = record.get("items", {})
    run.rows.put_in_order(list(items), items)
    summary = summarize(run.rows, tables)
    about = {name: record.get(name) for name in ("warnings", "left_out", "notes", "contamination")}
    write_json(run.path / METRICS, {"version": 1, **about, **summary.metrics})
    return summary


def open_model(request: EvalRequest) -> Model:
    """Open the model under test; a server that is down and weights that are missing are found here.

    Raises:
        UserError: it cannot be opened.
    """
    options = dict(request.engine_options)
    try:
        if request.engine == "inspect":
            return get_model(request.model, memoize=False, **options)
        target, kind = request.model, request.engine
        if request.server_url or request.engine == "server":
            target, kind = _endpoint(request, options), "server"
        model = get_model(f"safekey/{target}", memoize=False, kind=kind, **options)
        assert isinstance(model.api, SafeKeyAPI)
        if kind != "server" and not target.startswith(("http://", "https://")):
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()  # its bars would stand between our lines
        _ = model.api.engine
    except (PrerequisiteError, ImportError) as error:
        raise UserError(" ".join(re.sub(r"\[/?\w+\]", "", str(error)).split())) from error
    return model


def _endpoint(request: EvalRequest, options: dict[str, Any]) -> str:
    """Return URL#NAME; a model that is a folder here lends its tokenizer, and the server says its name."""
    if request.model.startswith(("http://", "https://")):
        return request.model
    if not request.server_url:
        raise UserError("--engine server needs the endpoint: --server-url http://HOST:PORT/v1")
    if "#" in request.server_url:
        return request.server_url
    if Path(request.model).expanduser().is_dir():
        options.setdefault("tokenizer", request.model)
        return request.server_url
    return f"{request.server_url}#{request.model}"


def identify(model: Model) -> dict[str, Any]:
    """Return which model answers: for our engines what `describe` says, the hash of the weights included."""
    if isinstance(model.api, SafeKeyAPI):
        return dict(model.api.engine.describe())
    return {"kind": "inspect", "model": str(model), "revision": None, "weights_sha256": None}


def _folder(request: EvalRequest) -> Path:
    if request.output:
        return Path(request.output).expanduser()
    name = request.model.rstrip("/")
    path = Path(name)
    name = (
        f"{path.parent.name}-{path.name}" if path.name == "model" or path.name.startswith("checkpoint-") else path.name
    )
    what = "-".join(request.tasks) if request.tasks else str(request.suite)
    return Path("runs") / re.sub(r"[^\w.+-]+", "-", f"eval-{name}-{what}")


def _warnings(plan: EvalPlan) -> tuple[str, ...]:
    """Return what is wrong with rows of the files."""
    lines = [line for task in plan.tasks for line in task.items.describe_problems().splitlines()]
    return tuple(dict.fromkeys(lines))


def _notes(plan: EvalPlan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for task in plan.tasks for note in task.items.notes))


def _said(plan: EvalPlan) -> dict[str, Any]:
    """Return what run.json keeps about the benchmarks."""
    return {
        "items": {task.benchmark.name: [item.id for item in task.items] for task in plan.tasks},
        "sources": {task.benchmark.name: task.items.source for task in plan.tasks},
        "notes": _notes(plan),
        "problems": {task.benchmark.name: [str(p) for p in task.items.problems] for task in plan.tasks},
    }


def _to_do(run: EvalRun, plan: EvalPlan) -> list[PlannedTask]:
    """Return the tasks that lack a completion or a whole log."""
    logged = {log.eval.task.removeprefix("safekey/") for log in _logs(run) if log.status == "success"}
    completions = run.rows.completions
    missing = []
    for task in plan.tasks:
        name = task.benchmark.name
        keys = [(name, item.id, epoch) for item in task.items for epoch in range(1, task.samples + 1)]
        rows = (completions.get(key) for key in keys)
        if name not in logged or not all(row is not None and is_final(row) for row in rows):
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
                [tagged(build_task(task, str(run.path)), _options(task, plan.request, run)) for task in tasks],
                model=model,
                log_dir=str(run.logs),
                display="none",
                ctl_server=False,
                log_realtime=False,
                score_display=False,  # nobody sees interim scores, and they are slow
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


def _options(task: PlannedTask, request: EvalRequest, run: EvalRun) -> dict[str, Any]:
    """Return the `-T` options with which `inspect eval-retry` builds the task again: those that are not the default."""
    name = task.benchmark.name
    asked = {each.name: getattr(request, each.name) for each in fields(request) if each.name in TASK_OPTIONS}
    usual = {each.name: getattr(EvalRequest(model=""), each.name) for each in fields(request)}
    options = {key: value for key, value in asked.items() if value != usual[key]}
    options |= {"judges": [str(spec) for spec in task.judges], "store": str(run.path)}
    for one, several in (("file", "files"), ("revision", "revisions")):
        given = options.pop(several, {})
        if name in given:
            options = {key: value for key, value in options.items() if key != "data_dir"} | {one: given[name]}
    options["templates"] = {spec.name: spec.template for spec in task.judges if spec.template}
    plain: dict[str, Any] = json.loads(json.dumps(options, default=asdict))
    return {key: value for key, value in plain.items() if value not in ([], {})}


def _settle(run: EvalRun, logs: Sequence[EvalLog], tasks: int) -> None:
    """Record how it ended, and remove the logs of earlier attempts: the new ones hold all their samples."""
    broken = next((log for log in logs if log.status not in ("success", "cancelled")), None)
    if broken is not None:
        reason = (broken.error.message if broken.error else broken.status).strip()
        run.mark("failed", reason=reason[:500])
        raise StoppedError(f"{broken.eval.task}: {reason[:300]}. {GOES_ON}")
    # After Ctrl-C, Inspect leaves tasks out of what it returns, and raises nothing.
    if len(logs) < tasks or any(log.status != "success" for log in logs):
        run.mark("interrupted")
        raise KeyboardInterrupt
    newest = {log.eval.task: Path(log.location).name for log in logs}
    for info in list_eval_logs(str(run.logs)):
        name = Path(info.name).name
        if (
            info.task.replace("_", "-") in {t.replace("/", "-").replace("_", "-") for t in newest}
            and name not in newest.values()
        ):
            Path(run.logs, name).unlink(missing_ok=True)
    run.mark("finished")


def _logs(run: EvalRun) -> list[EvalLog]:
    """Return the heads of the folder's logs; a log that a kill left unreadable is none."""
    found = []
    for info in list_eval_logs(str(run.logs)) if run.logs.is_dir() else []:
        try:
            found.append(read_eval_log(info, header_only=True))
        except Exception:  # noqa: S112 - half a zip file raises whatever it raises
            continue
    return found
