"""Run a grid with vLLM: train every job, then evaluate: one server for all adapters of a base, or one for each model.

Training and serving never share a GPU: the first phase trains, the second one evaluates. A server of adapters is the
grid's own; it outlives jobs and ends with the grid. A fully fine-tuned model is served by its job.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from safekey.engines.vllm.adapters import rank_of
from safekey.engines.vllm.command import BASE
from safekey.engines.vllm.engine import VllmEngine
from safekey.engines.vllm.service import Service, VllmError
from safekey.engines.weights import Source, find
from safekey.errors import UserError
from safekey.grid.job import FAILED, USER_ERROR
from safekey.grid.pool import Ended, cores, deal_gpus, hopeless, run_jobs
from safekey.grid.request import Task
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.evals.request import EvalRequest
    from safekey.grid.prepare import Prepared

Watch = Callable[[Mapping[str, float], Mapping[str, float]], None]
SERVER = "vllm"
"""The folder of the shared server's log, in the grid's."""
_MOST = 8  # jobs that ask one server at a time; each is a process with some hundred megabytes


def run_served(prepared: Prepared, tasks: Sequence[Task], console: Console, watch: Watch) -> Ended:
    """Train, then evaluate, the jobs that are not done.

    Returns:
        how they ended; `server` says why a server of many did not start.
    """
    training = [replace(task, stage="train") for task in tasks if not task.job.trained]
    # A job that is trained is not done yet: the display would take it for a failed one.
    ended = run_jobs(training, prepared.at_once, gpus=prepared.gpus, watch=lambda now, _: watch(now, {}))
    if ended.interrupted or hopeless(ended):
        return ended
    ready = [replace(task, stage="evaluate") for task in tasks if task.job.trained]
    shared, alone = _groups(ready)
    try:
        for group in shared:
            if not _stopped(ended):
                _add(ended, _with_one_server(prepared, group, console, watch))
        if alone and not _stopped(ended):
            at_once, gpus = _places(prepared, len(alone))
            _add(ended, run_jobs(alone, at_once, gpus=gpus, watch=watch))
    except KeyboardInterrupt:
        ended.interrupted = True
    return ended


def _groups(tasks: Sequence[Task]) -> tuple[list[list[Task]], list[Task]]:
    """Return the jobs that share a server, by base, and those whose model needs one of its own."""
    sources = {id(task): find(str(task.job.train or task.base)) for task in tasks}
    bases = dict.fromkeys(_place(sources[id(task)]) for task in tasks if sources[id(task)].adapter)
    shared = [[task for task in tasks if _place(sources[id(task)]) == base] for base in bases]
    return shared, [task for task in tasks if _place(sources[id(task)]) not in bases]


def _place(source: Source) -> str:
    return os.path.realpath(source.base) if os.path.isdir(source.base) else source.base


def _with_one_server(prepared: Prepared, tasks: Sequence[Task], console: Console, watch: Watch) -> Ended:
    """Evaluate the adapters of one base, and the base itself, through one server that knows all of them."""
    asked: EvalRequest = tasks[0].request.evaluation
    found = {str(task.job): find(str(task.job.train or task.base)) for task in tasks}
    adapters = {name: os.path.abspath(source.adapter) for name, source in found.items() if source.adapter}
    at_once = min(len(tasks), tasks[0].request.jobs or min(cores(), _MOST))
    options: dict[str, Any] = {"max_loras": min(len(adapters), at_once), **asked.engine_options}
    say = lambda line: console.print(printable(line), markup=False, highlight=False, soft_wrap=True)  # noqa: E731
    service: Service | None = None
    try:
        rank = max(rank_of(adapter) for adapter in adapters.values())
        base = next(source.base for source in found.values())
        engine = VllmEngine(base, **{"vllm": asked.vllm, **options})
        service = Service(
            engine.command(adapters, rank),
            prepared.folder.path / SERVER,
            startup_timeout=engine.startup_timeout,
            say=say,
        )
        started = service
        service.start(probe=lambda: engine.probe(started))
        using = [
            replace(task, served=service.remote(), served_as=str(task.job) if found[str(task.job)].adapter else BASE)
            for task in tasks
        ]
        return run_jobs(using, at_once, watch=watch)
    except (UserError, VllmError) as error:
        code = USER_ERROR if isinstance(error, UserError) else FAILED
        return Ended(server=(code, str(error)))
    finally:
        if service is not None:
            service.stop()


def _places(prepared: Prepared, jobs: int) -> tuple[int, tuple[tuple[str, ...], ...]]:
    """Return how many servers fit side by side, and the GPUs of each; on a CPU one."""
    request = prepared.tasks[0].request
    each = 1
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        with suppress(TypeError, ValueError):
            each *= max(1, int(request.evaluation.engine_options.get(name, 1)))
    if not prepared.visible:
        return 1, ()
    at_once = min(jobs, max(1, len(prepared.visible) // each), request.jobs or jobs)
    return at_once, deal_gpus(prepared.visible, at_once, each)


def _stopped(ended: Ended) -> bool:
    return ended.interrupted or hopeless(ended) or ended.server is not None


def _add(ended: Ended, more: Ended) -> None:
    ended.failed |= more.failed
    ended.interrupted |= more.interrupted
    ended.server = ended.server or more.server
