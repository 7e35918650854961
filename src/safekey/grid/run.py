"""`safekey grid`: from an order to trained, attacked and compared arms in one folder.

Every job is the ordinary training and the ordinary evaluation. The grid deals seeds and arms, runs jobs side by side
where there is room, and goes on after a kill: what is finished is not done again, the rest continues where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from safekey.errors import UserError
from safekey.evals.plan import Order as Evaluation
from safekey.evals.run import now, plain_values, versions
from safekey.grid.arms import BASE, OBJECTIVES, REFERENCE, Arm
from safekey.grid.folder import GridFolder, Job
from safekey.grid.job import Task
from safekey.grid.pool import Ended, room, run_jobs, threads_each
from safekey.grid.progress import Display
from safekey.grid.results import Results, results, write_results

if TYPE_CHECKING:
    from safekey.training.launch import Launch

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
_LAST_LINES = 12  # of a failed job's log


@dataclass(frozen=True, kw_only=True)
class GridOrder:
    """A grid as the user asks for it.

    Attributes:
        recipe: what every arm trains, by name or path.
        overrides: `key=value`s for every arm.
        arms: by name, in the order of the tables.
        seeds: of the trainings.
        evaluation: how each model is evaluated; its model and output are the grid's business.
        output: the grid's folder.
        reference: the arm that the others are held against.
        margin: how much worse ORR and reasoning may be, 0–1.
        judges: whose verdicts are compared, where several judged.
        jobs: how many at a time; None: as many as there is room for.
        launch, processes: how each training runs.
    """

    recipe: str
    overrides: Sequence[str] = ()
    arms: Mapping[str, Arm]
    seeds: Sequence[int]
    evaluation: Evaluation
    output: str
    reference: str = REFERENCE
    margin: float = 0.03
    judges: Sequence[str] = ()
    jobs: int | None = None
    launch: Launch = "none"
    processes: int | None = None


@dataclass(frozen=True)
class GridReport:
    """What a grid came to.

    Attributes:
        folder: its folder.
        results: the comparison; None where not enough is finished.
        failed: the jobs that failed, with the last lines of their logs.
        interrupted: whether somebody interrupted.
        done: how many jobs are finished, and how many there are.
    """

    folder: GridFolder
    results: Results | None
    failed: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    done: tuple[int, int] = (0, 0)


def run_grid(order: GridOrder, console: Console) -> GridReport:
    """Run what is not yet done, and compare.

    Raises:
        UserError: something in the order is wrong or missing, or the folder was made with other settings.
    """
    console.print(f"{order.recipe}: {', '.join(order.arms)}; seeds {', '.join(map(str, order.seeds))}", **PLAIN)
    tasks, folder, resolved = prepare(order)  # loads torch: some seconds
    folder.hold()
    try:
        settings = folder.begin(resolved)
        console.print(f"{folder.path}: {len(tasks)} jobs, {sum(t.job.done for t in tasks)} of them finished", **PLAIN)
        ended = _run(order, [replace(task, threads=settings["threads"]) for task in tasks], console)
        jobs = [task.job for task in tasks]
        failed = {str(job): _last_words(job) for job in jobs if str(job) in ended.failed and not ended.interrupted}
        found = None
        if not failed and not ended.interrupted:
            found = results(folder, order.reference, margin=order.margin, judges=order.judges)
        if found is not None:
            write_results(folder, found)
        return GridReport(folder, found, failed, ended.interrupted, (sum(job.done for job in jobs), len(jobs)))
    finally:
        folder.release()


def prepare(order: GridOrder) -> tuple[list[Task], GridFolder, dict[str, Any]]:
    """Check an order and deal its jobs; nothing is written.

    Raises:
        UserError: what is wrong with it.
    """
    from safekey.training.recipe import build_settings, load_recipe

    if not order.seeds or len(set(order.seeds)) < len(order.seeds):
        raise UserError(f"seeds {list(order.seeds)}: expected at least one, and each once")
    if order.reference not in order.arms:
        raise UserError(f"the reference '{order.reference}' is not among the arms ({', '.join(order.arms)})")
    trained = {name: arm for name, arm in order.arms.items() if name != BASE}
    base = _check_arms(order, trained, load_recipe, build_settings)
    folder = GridFolder(Path(order.output))
    resolved = _resolved(order, base)
    folder.check(resolved)
    tasks = [
        Task(
            job=job,
            recipe=order.recipe,
            overrides=(*order.overrides, *order.arms[job.arm].overrides),
            base=base,
            evaluation=_evaluation(order, job),
            launch=order.launch,
            processes=order.processes,
            threads=resolved["threads"],
        )
        for job in folder.jobs(list(order.arms), order.seeds)
    ]
    return tasks, folder, resolved


def _check_arms(
    order: GridOrder, trained: Mapping[str, Arm], load: Callable[..., Any], build: Callable[..., Any]
) -> str:
    """Check that every arm's recipe can be built and that no two are the same; return the model."""
    base = str(load(order.recipe, order.overrides).values.get("model_name_or_path") or "")
    if not base:
        raise UserError(f"{order.recipe}: no model: set model_name_or_path to a folder or hub id")
    seen: dict[str, str] = {}
    for name, arm in trained.items():
        settings = build(load(order.recipe, [*order.overrides, *arm.overrides]), processes=order.processes or 1,
                         elsewhere=order.launch in ("fsdp2", "zero3"))  # fmt: skip
        mine = repr(sorted((key, repr(value)) for key, value in _objective(settings.training).items()))
        if mine in seen and not arm.overrides == trained[seen[mine]].overrides:
            raise UserError(
                f"with this recipe the arms '{seen[mine]}' and '{name}' train the same: leave one out, or change a "
                "weight (an arm keeps the recipe's own weights for the objectives that it does not switch off)"
            )
        seen.setdefault(mine, name)
    return base


def _objective(training: Any) -> dict[str, Any]:
    """Return what arms differ by, where it has an effect."""
    found = dict(training.to_dict())
    for name in OBJECTIVES:
        if not found.get(f"{name}_weight"):
            found.pop(f"{name}_epochs", None)
    if not found.get("head_weight"):
        for name in ("head_theta", "head_pooling", "detach_heads", "head_learning_rate"):
            found.pop(name, None)
    return {key: value for key, value in found.items() if key not in ("output_dir", "run_name", "logging_dir")}


def _evaluation(order: GridOrder, job: Job) -> Evaluation:
    """Return how a job's model is evaluated; a server can serve one model only, so arms need engines of their own."""
    return replace(order.evaluation, model=job.arm, output=str(job.evaluation))


def _resolved(order: GridOrder, base: str) -> dict[str, Any]:
    """Return everything that decides the results, as plain YAML values."""
    given = asdict(order.evaluation)
    for name in ("model", "output"):
        given.pop(name)
    data_dir = given.get("data_dir")
    given["data_dir"] = str(Path(data_dir).expanduser().absolute()) if data_dir else None
    at_once = order.jobs or room(base, _gpus(), order.processes or 1)
    plain: dict[str, Any] = plain_values({
        "recipe": order.recipe,
        "overrides": list(order.overrides),
        "model": base,
        "arms": {name: list(arm.overrides) for name, arm in order.arms.items()},
        "seeds": list(order.seeds),
        "reference": order.reference,
        "margin": order.margin,
        "evaluation": given,
        "launch": order.launch,
        "processes": order.processes,
        "threads": threads_each(base, at_once),
        "versions": {**versions(), "begun": now()},
    })  # fmt: skip
    return plain


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _run(order: GridOrder, tasks: Sequence[Task], console: Console) -> Ended:
    todo = [task for task in tasks if not task.job.done]
    if not todo:
        return Ended()
    gpus = _gpus()
    at_once = min(order.jobs or room(todo[0].base, gpus, order.processes or 1), len(todo))
    display = Display(console, [task.job for task in tasks], at_once)
    with display.shown():
        return run_jobs(todo, at_once, gpus=_deal(gpus, at_once), watch=display)


def _deal(gpus: int, places: int) -> list[tuple[str, ...]]:
    """Deal the visible GPUs to the places; more places than GPUs share them."""
    if not gpus:
        return []
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = visible or [str(number) for number in range(gpus)]
    each = max(1, len(names) // places)
    return [tuple(names[(place * each) % len(names) :][:each]) for place in range(places)]


def _last_words(job: Job) -> str:
    """Return what a failed job said last: its one error, or the end of its log."""
    try:
        lines = job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "it left no log"
    if lines and lines[-1].startswith("safekey: error: "):
        return lines[-1].removeprefix("safekey: error: ")
    return "\n".join(lines[-_LAST_LINES:])


def failure(report: GridReport) -> str:
    """Return one message about the jobs that failed."""
    name, words = next(iter(report.failed.items()))
    more = f" ({len(report.failed) - 1} more failed)" if len(report.failed) > 1 else ""
    return f"{name}{more}: {words}"
