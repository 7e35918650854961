"""Check a grid and list its jobs: all validation happens here, before anything is trained."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.engines import check_options
from safekey.engines.vllm.command import find_executable
from safekey.engines.weights import find, fingerprint
from safekey.errors import UserError
from safekey.evals.benchmarks.own import own_benchmarks
from safekey.evals.plan import make_plan
from safekey.grid.arms import BASE, OBJECTIVES
from safekey.grid.folder import GridFolder
from safekey.grid.pool import deal_gpus, room, threads_each
from safekey.grid.request import GridRequest, Task
from safekey.grid.slurm.options import cpus
from safekey.run_folder import start, without_secrets

if TYPE_CHECKING:
    from safekey.training.command.recipe import Recipe

_OWN = ("output_dir", "seed", "run_name")  # set for each job; not compared between arms
_ROWS = ("rows", "rows_share")


@dataclass(frozen=True)
class Prepared:
    """A checked request.

    Attributes:
        tasks: its jobs, in the order in which they begin.
        folder: where.
        resolved: everything that decides the results, as plain YAML values.
        at_once: how many jobs at a time.
        gpus: the GPUs of each of the jobs at a time; empty on a CPU.
        rows: what each seed trains on, in words.
        visible: all GPUs that there are.
    """

    tasks: tuple[Task, ...]
    folder: GridFolder
    resolved: dict[str, Any]
    at_once: int
    gpus: tuple[tuple[str, ...], ...] = field(default=())
    rows: str = ""
    visible: tuple[str, ...] = field(default=())


def prepare(request: GridRequest) -> Prepared:
    """Check a request and list its jobs. Nothing is written.

    Raises:
        UserError: what is wrong with it.
    """
    from safekey.training.command.recipe import load_recipe

    if not request.seeds or len(set(request.seeds)) < len(request.seeds):
        raise UserError(f"seeds {list(request.seeds)}: expected at least one, and each once")
    if request.reference not in request.arms:
        raise UserError(f"the reference '{request.reference}' is not among the arms ({', '.join(request.arms)})")
    recipe = load_recipe(request.recipe, request.shared)
    base = str(recipe.values.get("model_name_or_path") or "")
    if not base:
        raise UserError(f"{request.recipe}: no model: set model_name_or_path to a folder or hub id")
    rows = _check_rows(request, recipe)
    _check_arms(request)
    _check_evaluation(request, base)
    visible = [] if recipe.values.get("use_cpu") else visible_gpus()
    on_slurm = request.executor == "slurm"
    at_once = request.jobs or (10_000 if on_slurm else room(base, len(visible), request.processes or 1))
    folder = GridFolder(Path(request.output))
    resolved = _resolved(request, recipe, base, at_once)
    folder.check(resolved)
    tasks = tuple(
        Task(job, request, base, threads=resolved["threads"]) for job in folder.jobs(list(request.arms), request.seeds)
    )
    at_once = max(1, min(at_once, sum(not task.job.done for task in tasks)))
    gpus = deal_gpus(visible, at_once, request.processes or 1)
    every = tuple(visible_gpus() if served(request) else visible)
    return Prepared(tasks, folder, resolved, at_once, gpus, rows, every)


def _check_rows(request: GridRequest, recipe: Recipe) -> str:
    """Check how each seed gets its rows, and return that in words.

    Raises:
        UserError: `data` names the seed although the seeds shall train on the same rows, or a seed's file is missing.
    """
    from safekey.training.command import draw
    from safekey.training.command.rows import data_sources

    data, values = recipe.values.get("data"), recipe.values
    seeded, share = draw.is_seeded(data), values.get("rows_share")
    if values.get("rows", "same") == "same":
        if seeded:
            raise UserError(f"data names {draw.PLACE}, so that each seed trains on other rows: add --rows drawn")
        return "every seed trains on the same rows"
    sources = data_sources(data, recipe.where("data"))
    for path in [source.path for source in sources if draw.is_seeded(source.path)]:
        for seed in request.seeds:
            if not Path(own := draw.with_seed(path, seed)).exists():
                raise UserError(f"{own}: no such file: data names {draw.PLACE}, and seed {seed} has no rows")
    if share is not None:
        how = f"{share:.10g} of the rows, each once"
    else:
        how = "the file that names the seed" if seeded else "a bootstrap of the rows"
    return f"each seed trains on its own draw ({how}), the same for every arm"


def _check_arms(request: GridRequest) -> None:
    """Check that every arm's recipe can be built, and that no two train the same."""
    from safekey.training.command.recipe import build_settings, load_recipe

    seen: dict[str, str] = {}
    for name, arm in request.arms.items():
        if name == BASE:
            continue
        recipe = load_recipe(request.recipe, [*request.shared, *arm.overrides])
        elsewhere = request.launch in ("fsdp2", "zero3") or request.executor == "slurm"  # a node has what this has not
        settings = build_settings(recipe, processes=request.processes or 1, elsewhere=elsewhere)
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


def _check_evaluation(request: GridRequest, base: str) -> None:
    """Check the benchmarks' files, the judges' names and the engine."""
    if request.evaluation.server_url or request.evaluation.engine in ("server", "inspect"):
        raise UserError(
            "a grid evaluates the models that it trains, with the engine 'local' or 'vllm': a server would serve one "
            "model to every arm; --engine vllm starts one that serves them all"
        )
    make_plan(replace(request.evaluation, model=base))
    check_options(base, "vllm" if served(request) else "local", request.evaluation.engine_options)
    if served(request):
        find_executable(request.evaluation.vllm)


def served(request: GridRequest) -> bool:
    """Whether vLLM generates."""
    return request.evaluation.engine == "vllm"


def _resolved(request: GridRequest, recipe: Recipe, base: str, at_once: int) -> dict[str, Any]:
    given = asdict(request.evaluation)
    for name in ("model", "output", "redact"):  # none of them changes a number
        given.pop(name)
    given["benchmarks"] = {name: f"{one.benchmark.own}:{Path(one.path).absolute()}"
                           for name, one in own_benchmarks(request.evaluation.benchmarks).items()}  # fmt: skip
    if not given["benchmarks"]:
        del given["benchmarks"]  # grids of earlier versions have no such key
    given["data_dir"] = str(Path(given["data_dir"]).expanduser().absolute()) if given["data_dir"] else None
    values = {key: value for key, value in recipe.values.items() if key not in (*_OWN, *_ROWS)}
    compared = {"reference": request.reference, "margin": request.margin, "judges": list(request.judges),
                "allow_unscored": request.allow_unscored, "names_harm": request.names_harm}  # fmt: skip
    plain: dict[str, Any] = without_secrets({
        "recipe": request.recipe,
        "overrides": list(request.overrides),
        "values": values,
        "rows": recipe.values.get("rows", "same"),
        "rows_share": recipe.values.get("rows_share"),
        "base_sha256": fingerprint(find(base)) if Path(base).expanduser().is_dir() else None,  # a hub id has none
        "arms": {name: list(arm.overrides) for name, arm in request.arms.items()},
        "seeds": list(request.seeds),
        "evaluation": given,
        "launch": request.launch,
        "processes": request.processes,
        "compare": compared,
        "threads": cpus(request.slurm) if request.executor == "slurm" else threads_each(base, at_once),
        "starts": [start()],
    })  # fmt: skip
    return plain


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]
