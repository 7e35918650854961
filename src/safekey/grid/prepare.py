"""From an order to checked jobs: everything that can be wrong with a grid is wrong here, before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.engines.weights import find, fingerprint
from safekey.errors import UserError
from safekey.evals.plan import make_plan
from safekey.evals.request import EvalRequest
from safekey.grid.arms import BASE, OBJECTIVES, REFERENCE, Arm
from safekey.grid.folder import GridFolder
from safekey.grid.job import Task
from safekey.grid.pool import room, threads_each
from safekey.run_folder import start, without_secrets

if TYPE_CHECKING:
    from safekey.training.command.launch import Launch
    from safekey.training.command.recipe import Recipe

_OWN = ("output_dir", "seed", "run_name")  # of each job, and no part of what arms share


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
        names_harm: MODULE:FUNCTION that says whether U names the request; None: shared words.
        jobs: how many at a time; None: as many as there is room for.
        launch, processes: how each training runs.
    """

    recipe: str
    overrides: Sequence[str] = ()
    arms: Mapping[str, Arm]
    seeds: Sequence[int]
    evaluation: EvalRequest
    output: str
    reference: str = REFERENCE
    margin: float = 0.03
    judges: Sequence[str] = ()
    names_harm: str | None = None
    jobs: int | None = None
    launch: Launch = "none"
    processes: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A checked order.

    Attributes:
        tasks: its jobs, in the order in which they begin.
        folder: where.
        resolved: everything that decides the results, as plain YAML values.
        at_once: how many jobs at a time.
        gpus: for each of these places, its GPUs; empty on a CPU.
    """

    tasks: tuple[Task, ...]
    folder: GridFolder
    resolved: dict[str, Any]
    at_once: int
    gpus: tuple[tuple[str, ...], ...] = field(default=())


def prepare(order: GridOrder) -> Prepared:
    """Check an order and deal its jobs; nothing is written.

    Raises:
        UserError: what is wrong with it.
    """
    from safekey.training.command.recipe import load_recipe

    if not order.seeds or len(set(order.seeds)) < len(order.seeds):
        raise UserError(f"seeds {list(order.seeds)}: expected at least one, and each once")
    if order.reference not in order.arms:
        raise UserError(f"the reference '{order.reference}' is not among the arms ({', '.join(order.arms)})")
    recipe = load_recipe(order.recipe, order.overrides)
    base = str(recipe.values.get("model_name_or_path") or "")
    if not base:
        raise UserError(f"{order.recipe}: no model: set model_name_or_path to a folder or hub id")
    _check_arms(order)
    _check_evaluation(order, base)
    visible = [] if recipe.values.get("use_cpu") else visible_gpus()
    at_once = order.jobs or room(base, len(visible), order.processes or 1)
    folder = GridFolder(Path(order.output))
    resolved = _resolved(order, recipe, base, at_once)
    folder.check(resolved)
    tasks = tuple(
        Task(
            job=job,
            recipe=order.recipe,
            overrides=(*order.overrides, *order.arms[job.arm].overrides),
            base=base,
            evaluation=order.evaluation,
            launch=order.launch,
            processes=order.processes,
            threads=resolved["threads"],
        )
        for job in folder.jobs(list(order.arms), order.seeds)
    )
    at_once = max(1, min(at_once, sum(not task.job.done for task in tasks)))
    return Prepared(tasks, folder, resolved, at_once, deal_gpus(visible, at_once, order.processes or 1))


def _check_arms(order: GridOrder) -> None:
    """Check that every arm's recipe can be built, and that no two train the same."""
    from safekey.training.command.recipe import build_settings, load_recipe

    seen: dict[str, str] = {}
    for name, arm in order.arms.items():
        if name == BASE:
            continue
        recipe = load_recipe(order.recipe, [*order.overrides, *arm.overrides])
        elsewhere = order.launch in ("fsdp2", "zero3")
        settings = build_settings(recipe, processes=order.processes or 1, elsewhere=elsewhere)
        mine = repr(sorted((key, repr(value)) for key, value in _effective(recipe, settings.training).items()))
        if mine in seen:
            raise UserError(
                f"with this recipe the arms '{seen[mine]}' and '{name}' train the same: leave one out, or change a "
                "weight (an arm keeps the recipe's own weights for the objectives that it does not switch off)"
            )
        seen[mine] = name


def _effective(recipe: Recipe, training: Any) -> dict[str, Any]:
    """Return a recipe's values without those that have no effect: of objectives that are off, and of single jobs."""
    found = {key: value for key, value in recipe.values.items() if key not in _OWN}
    for name in OBJECTIVES:
        weight = getattr(training, f"{name}_weight")
        own = {f"{name}_weight": weight, f"{name}_epochs": getattr(training, f"{name}_epochs")}
        found |= own
        if not weight:
            off = [*own, *(key for key in found if key.startswith(f"{name}_"))]
            off += ["detach_heads"] if name == "head" else []
            found = {key: value for key, value in found.items() if key not in off}
    return found


def _check_evaluation(order: GridOrder, base: str) -> None:
    """Check the benchmarks' files, the judges' names and the engine."""
    if order.evaluation.server_url or order.evaluation.engine in ("server", "inspect"):
        raise UserError(
            "a grid evaluates the models that it trains, with the engine 'local': a server would serve one model to "
            "every arm. Train here, serve each run's model, and use `safekey eval` and `safekey compare`"
        )
    make_plan(replace(order.evaluation, model=base))


def _resolved(order: GridOrder, recipe: Recipe, base: str, at_once: int) -> dict[str, Any]:
    given = asdict(order.evaluation)
    for name in ("model", "output"):
        given.pop(name)
    given["data_dir"] = str(Path(given["data_dir"]).expanduser().absolute()) if given["data_dir"] else None
    values = {key: value for key, value in recipe.values.items() if key not in _OWN}
    compared = {"reference": order.reference, "margin": order.margin, "judges": list(order.judges),
                "names_harm": order.names_harm}  # fmt: skip
    plain: dict[str, Any] = without_secrets({
        "recipe": order.recipe,
        "overrides": list(order.overrides),
        "values": values,
        "base_sha256": weights_hash(base),
        "arms": {name: list(arm.overrides) for name, arm in order.arms.items()},
        "seeds": list(order.seeds),
        "evaluation": given,
        "launch": order.launch,
        "processes": order.processes,
        "compare": compared,
        "threads": threads_each(base, at_once),
        "starts": [start()],
    })  # fmt: skip
    return plain


def weights_hash(model: str) -> str | None:
    """Return a hash of a folder's weights, so that a grid notices another base; None for a hub id."""
    if not Path(model).expanduser().is_dir():
        return None
    return fingerprint(find(model))


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def deal_gpus(visible: Sequence[str], places: int, each: int) -> tuple[tuple[str, ...], ...]:
    """Deal GPUs to the jobs that run at a time.

    A training sees as many as it has processes, never more: `safekey train` refuses one process that sees two.
    More places than GPUs share them.
    """
    if not visible:
        return ()
    return tuple(
        tuple(dict.fromkeys(visible[(place * each + number) % len(visible)] for number in range(each)))
        for place in range(places)
    )
