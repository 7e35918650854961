"""Run jobs side by side, each in a process of its own, so that a crash or a full GPU ends one job only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from safekey.grid.job import INTERRUPTED, USER_ERROR, work
from safekey.grid.request import Task

# Imported once, in the process that all jobs are forked from: on a CPU that saves each of them ten seconds.
_PRELOAD = (
    "safekey.training.command.train",
    "safekey.training.loop.trainer",
    "safekey.evals.evaluate",
    "safekey.engines.local",
)
_EVERY = 0.25  # seconds between two looks at the running jobs
_SPARE = 2 << 30  # bytes of memory that a job takes besides its model
_SMALL = 64 << 20  # bytes of weights
_PER_WEIGHT = 8  # training takes about so many times the bytes of the weights' file


@dataclass
class Ended:
    """How the jobs ended: the exit code of each failed job, and whether the user interrupted.

    Attributes:
        server: the exit code and the reason when a server that jobs share did not start.
        said: why a job failed, where that is known from elsewhere than its log.
        cancelled: the jobs that the user cancelled in Slurm.
        left: how many jobs go on in Slurm although the grid's process ends.
    """

    failed: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    server: tuple[int, str] | None = None
    said: dict[str, str] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    left: int = 0


@dataclass
class _Running:
    task: Task
    process: BaseProcess
    pipe: Connection
    began: float


def threads_each(model: str, at_once: int) -> int:
    """Return a job's threads on a CPU: its share of the cores; a small model is slower with more than one."""
    return 1 if 0 < _weights(model) < _SMALL else max(1, cores() // at_once)


def _weights(model: str) -> int:
    return sum(file.stat().st_size for file in Path(model).glob("*.safetensors")) if Path(model).is_dir() else 0


def room(model: str, gpus: int, processes: int) -> int:
    """Return how many jobs fit on this machine at once: by GPUs, else by cores and memory."""
    if gpus:
        return max(1, gpus // max(1, processes))
    weights = _weights(model)
    fits = psutil.virtual_memory().available // (_SPARE + _PER_WEIGHT * weights) if weights else 1
    return max(1, min(cores(), fits))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    tasks: Sequence[Task],
    at_once: int,
    *,
    gpus: Sequence[Sequence[str]] = (),
    watch: Callable[[Mapping[str, float], Mapping[str, float]], None] = lambda running, ended: None,
    forked: bool = True,
) -> Ended:
    """Run jobs until all are done; after a job that failed with a user's error, no other is started.

    Args:
        tasks: in the order in which they begin.
        at_once: how many at a time.
        gpus: for each place among them, the GPUs it has; empty: no GPU, and processes may be forked.
        watch: called several times a second with the running jobs' seconds, and those of the ended.
        forked: whether processes may be forked where no GPU is used.

    Returns:
        how they ended. After Ctrl-C every job was told to stop, and had stopped.
    """
    context: Any = _context(forked=forked and not gpus)
    waiting, places = list(tasks), list(range(at_once))
    running: dict[int, _Running] = {}
    ended, seconds = Ended(), dict[str, float]()
    try:
        while running or waiting:
            while waiting and places and not hopeless(ended):
                place = places.pop(0)
                task = waiting.pop(0)
                running[place] = _start(context, task, tuple(gpus[place]) if gpus else ())
            if not running:
                break
            watch({str(one.task.job): time.monotonic() - one.began for one in running.values()}, seconds)
            time.sleep(_EVERY)
            for place, one in list(running.items()):
                if one.process.exitcode is None:
                    continue
                code = one.process.exitcode
                name = str(one.task.job)
                _close(one)
                del running[place]
                places.append(place)
                seconds[name] = time.monotonic() - one.began
                if code:
                    ended.failed[name] = code
        watch({}, seconds)
    except KeyboardInterrupt:
        ended.interrupted = True
    finally:
        _stop(running.values())
    ended.interrupted |= INTERRUPTED in ended.failed.values()
    return ended


def deal_gpus(visible: Sequence[str], places: int, each: int) -> tuple[tuple[str, ...], ...]:
    """Return the GPUs of each job that runs at a time.

    A training sees as many GPUs as it has processes: `safekey train` refuses one process that sees two. When more jobs
    run than there are GPUs, jobs share them.
    """
    if not visible:
        return ()
    return tuple(
        tuple(dict.fromkeys(visible[(place * each + number) % len(visible)] for number in range(each)))
        for place in range(places)
    )


def hopeless(ended: Ended) -> bool:
    """Whether no other job may start: the user must mend something first, or has interrupted."""
    return USER_ERROR in ended.failed.values() or INTERRUPTED in ended.failed.values()


def _context(*, forked: bool) -> Any:
    """Return how processes are started: forked from one that has imported everything; spawned when GPUs are used."""
    if not forked or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOAD))
    with _deaf_to_ctrl_c():
        forkserver.ensure_running()
    return context


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Let processes that are started here ignore Ctrl-C from their first moment on: it is this process that ends them.

    A handler of their own would come too late for what they import.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # for some milliseconds, and inherited by what is started
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(context: Any, task: Task, gpus: tuple[str, ...]) -> _Running:
    ours, theirs = context.Pipe(duplex=True)
    process = context.Process(target=work, args=(replace(task, gpus=gpus), theirs), name=str(task.job))
    with nullcontext() if context.get_start_method() == "forkserver" else _deaf_to_ctrl_c():
        process.start()
    theirs.close()  # otherwise the job would not notice when this process is gone
    return _Running(task, process, ours, time.monotonic())


def _close(one: _Running) -> None:
    one.process.join()
    one.process.close()
    one.pipe.close()


def _stop(running: Any) -> None:
    """End the running jobs: on SIGTERM a training saves a checkpoint; a second Ctrl-C kills."""
    left = list(running)
    for one in left:
        with suppress(ValueError):
            one.process.terminate()
    for one in left:
        try:
            _close(one)
        except KeyboardInterrupt:
            one.process.kill()
            _close(one)
