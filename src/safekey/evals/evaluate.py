"""`evaluate`: from an order to a run folder, by Inspect, in a way that a kill at any moment only interrupts.

Inspect runs the tasks and writes its logs; what is finished is decided by the run folder's rows. Every completion and
verdict is appended to them as soon as it is known, and solver and scorers take over what is there. So a task that was
killed is simply run again: its finished samples pass through in milliseconds, without a call to a model or a judge.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log
from inspect_ai.model import Model, get_model
from rich.console import Console

from safekey.errors import UserError
from safekey.evals.benchmarks.training_data import contamination
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.plan import Order, Plan, PlannedTask, check_judges, check_prompts, load_arguments, make_plan
from safekey.evals.progress import Watch
from safekey.evals.records.completions import is_final
from safekey.evals.records.folder import METRICS, EvalRun
from safekey.evals.summary.rates import ALLOWED_UNSCORED, Grouping
from safekey.evals.summary.summary import Summary, Vote, order_rows, summarize
from safekey.evals.summary.tables import left_out_lines
from safekey.evals.tasks.session import close_referees
from safekey.run_folder import write_json
from safekey.terminal import printable

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
GOES_ON = "The same command goes on; what is finished is not done again."


@dataclass(frozen=True)
class Report:
    """What an evaluation came to: its run folder, its numbers, and what should be known about them."""

    run: EvalRun
    summary: Summary
    warnings: tuple[str, ...]
    left_out: Mapping[str, str]


class StoppedError(RuntimeError):
    """The evaluation broke off; the message says why, and that the same command goes on."""


def evaluate(
    order: Order,
    *,
    model: Model | None = None,
    console: Console | None = None,
    allow_unscored: float = ALLOWED_UNSCORED,
    voting: Vote | None = None,
    by: Sequence[Grouping] = (),
) -> Report:
    """Evaluate a model on benchmarks; go on where an earlier call with the same order stopped.

    Args:
        order: what to do.
        model: an Inspect model that is open already, in place of the one that `order.model` names.
        console: where progress and warnings go; None: nowhere.
        allow_unscored: give rates up to this share of unscored verdicts; 1: always.
        voting: how several judges vote, if they do.
        by: what the tables group by besides benchmark and part.

    Raises:
        UserError: something in the order is wrong or missing; nothing has been generated.
        StoppedError: a failure in the midst of it.
        KeyboardInterrupt: interrupted; the run folder is ready to go on.
    """
    console = console or Console(quiet=True)
    plan = make_plan(order)
    run = EvalRun(_folder(order))
    if model is None:
        console.print(f"opening {printable(order.model)}", **PLAIN)
    opened = model or open_model(order)
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
            check_judges(plan)
            overlaps, unknown = contamination(order.model, [task.items for task in plan.tasks])
            warnings = (*_warnings(plan), *(w for each in overlaps.values() if (w := each["warning"])))
            about = {"warnings": warnings, "left_out": plan.left_out, "contamination": overlaps, **_said(plan)}
            run.begin(resolved, {"model": identity, **about})
            for line in (*_notes(plan), *unknown):
                console.print(f"note: {printable(line)}", **PLAIN)
        for line in warnings:
            console.print(f"WARNING: {printable(line)}", style="yellow", **PLAIN)
        if not finished:
            _run(plan, run, opened, console)
        summary = finish(run, allow_unscored=allow_unscored, voting=voting, by=by)
        return Report(run, summary, warnings, plan.left_out)
    finally:
        run.release()
        close_referees()
        if model is None:
            opened.api.close()


def finish(
    run: EvalRun, *, allow_unscored: float = ALLOWED_UNSCORED, voting: Vote | None = None, by: Sequence[Grouping] = ()
) -> Summary:
    """Put the rows in order, write metrics.json, and return the numbers."""
    record = run.record
    items: Mapping[str, Sequence[str]] = record.get("items", {})
    order_rows(run.rows, list(items), items)
    summary = summarize(run.rows, allow_unscored=allow_unscored, voting=voting, by=by)
    about = {name: record.get(name) for name in ("warnings", "left_out", "notes", "contamination")}
    write_json(run.path / METRICS, {"version": 1, **about, **summary.metrics})
    return summary


def open_model(order: Order) -> Model:
    """Open the model under test; a server that is down and weights that are missing are found here.

    Raises:
        UserError: it cannot be opened.
    """
    options = dict(order.engine_options)
    try:
        if order.engine == "inspect":
            return get_model(order.model, memoize=False, **options)
        target, kind = order.model, order.engine
        if order.server_url or order.engine == "server":
            target, kind = _endpoint(order, options), "server"
        model = get_model(f"safekey/{target}", memoize=False, kind=kind, **options)
        assert isinstance(model.api, SafeKeyAPI)
        if kind != "server" and not target.startswith(("http://", "https://")):
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()  # its bars would stand between our lines
        _ = model.api.engine
    except (PrerequisiteError, ImportError) as error:
        raise UserError(" ".join(re.sub(r"\[/?\w+\]", "", str(error)).split())) from error
    return model


def _endpoint(order: Order, options: dict[str, Any]) -> str:
    """Return URL#NAME; a model that is a folder here lends its tokenizer, and the server says its name."""
    if order.model.startswith(("http://", "https://")):
        return order.model
    if not order.server_url:
        raise UserError("--engine server needs the endpoint: --server-url http://HOST:PORT/v1")
    if "#" in order.server_url:
        return order.server_url
    if Path(order.model).expanduser().is_dir():
        options.setdefault("tokenizer", order.model)
        return order.server_url
    return f"{order.server_url}#{order.model}"


def identify(model: Model) -> dict[str, Any]:
    """Return which model answers: for our engines what `describe` says, the hash of the weights included."""
    if isinstance(model.api, SafeKeyAPI):
        return dict(model.api.engine.describe())
    return {"kind": "inspect", "model": str(model), "revision": None, "weights_sha256": None}


def _folder(order: Order) -> Path:
    if order.output:
        return Path(order.output).expanduser()
    name = order.model.rstrip("/")
    path = Path(name)
    name = (
        f"{path.parent.name}-{path.name}" if path.name == "model" or path.name.startswith("checkpoint-") else path.name
    )
    what = "-".join(order.tasks) if order.tasks else str(order.suite)
    return Path("runs") / re.sub(r"[^\w.+-]+", "-", f"eval-{name}-{what}")


def _warnings(plan: Plan) -> tuple[str, ...]:
    """Return what is wrong with rows of the files."""
    lines = [line for task in plan.tasks for line in task.items.describe_problems().splitlines()]
    return tuple(dict.fromkeys(lines))


def _notes(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for task in plan.tasks for note in task.items.notes))


def _said(plan: Plan) -> dict[str, Any]:
    """Return what run.json keeps about the benchmarks."""
    return {
        "items": {task.benchmark.name: [item.id for item in task.items] for task in plan.tasks},
        "sources": {task.benchmark.name: task.items.source for task in plan.tasks},
        "notes": _notes(plan),
        "problems": {task.benchmark.name: [str(p) for p in task.items.problems] for task in plan.tasks},
    }


def _to_do(run: EvalRun, plan: Plan) -> list[PlannedTask]:
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


def _run(plan: Plan, run: EvalRun, model: Model, console: Console) -> None:
    tasks = _to_do(run, plan)
    referees = max((len(plan.judges_of(task)) for task in plan.tasks), default=0)
    verdicts = sum(
        t.completions * max(1, len(plan.judges_of(t)) * len(plan.parts)) for t in plan.tasks if _judged(plan, t)
    )
    logging.getLogger("inspect_ai").setLevel(logging.ERROR)
    connections = model.api.max_connections()
    with Watch(console, run.rows, sum(task.completions for task in plan.tasks), verdicts):
        try:
            logs = inspect_eval(
                [_inspect_task(plan, task, run) for task in tasks],
                model=model,
                log_dir=str(run.logs),
                display="none",
                ctl_server=False,
                log_realtime=False,
                score_display=False,  # nobody sees interim scores, and they are dear
                max_connections=connections,
                # A sample that waits for its judges must not keep the model idle.
                max_samples=connections + 2 * referees * plan.order.judge_settings.concurrency,
            )
        except KeyboardInterrupt:
            run.mark("interrupted")
            raise
        except Exception as error:
            run.mark("failed", reason=str(error)[:500])
            raise
    _settle(run, logs, len(tasks))


def _judged(plan: Plan, task: PlannedTask) -> bool:
    return plan.order.judge or task.benchmark.suite == "reasoning"


def _inspect_task(plan: Plan, task: PlannedTask, run: EvalRun) -> Any:
    from safekey.evals.tasks.registry import TASKS

    order = plan.order
    arguments = load_arguments(task.benchmark.name, order)
    return TASKS[task.benchmark.name](
        **{**arguments, "prefill_tokens": list(order.prefill_tokens)},
        judges=[str(spec) for spec in plan.judges_of(task)],
        templates={spec.name: spec.template for spec in plan.judges_of(task) if spec.template},
        judge_settings=asdict(order.judge_settings),
        parts=list(plan.parts),
        preset=order.preset,
        samples=order.samples,
        temperature=order.temperature,
        top_p=order.top_p,
        max_tokens=order.max_tokens,
        unsafe_local_exec=order.unsafe_local_exec,
        judge=order.judge,
        store=str(run.path),
    )


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
