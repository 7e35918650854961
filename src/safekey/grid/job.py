"""The process of one job: train one arm with one seed, evaluate it, and report by the exit code how it ended.

Both steps call the functions of `safekey train` and `safekey eval` on ordinary run folders, so a killed job continues
from its checkpoint or its rows. A job ends when the process that started it is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from safekey.errors import UserError
from safekey.grid import attempt
from safekey.grid.request import Task
from safekey.run_folder import make_private
from safekey.run_folder.records import NO_LOCKS, file_lock

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from safekey.evals.request import EvalRequest

USER_ERROR, FAILED, INTERRUPTED = 2, 1, 130
_PATIENCE = 60.0  # seconds that a job whose parent is gone has for its last step and checkpoint


def work(task: Task, parent: Connection) -> None:
    """Do a job and exit; the target of the grid's processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends its jobs with SIGTERM
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if task.stage != "evaluate":
        os.environ["OMP_NUM_THREADS"] = str(task.threads)  # of workers that a launch starts
    if task.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(task.gpus)
    threading.Thread(target=_outlive, args=(parent, task.request.launch == "none"), daemon=True).start()
    make_private(task.job.folder)
    with task.job.log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        with _alone(task.job.folder):
            if not task.watched:
                attempt.begin(task.job.folder)
            code = _guarded(task)
            if not task.watched:
                attempt.end(task.job.folder, code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no waiting for threads that libraries left behind


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process works on the job: one of a killed grid may still write there."""
    lock = file_lock(folder / ".job-lock")
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def _outlive(parent: Connection, alone: bool) -> None:
    """End this process when the parent is gone: two grids must not work on one folder.

    A job that has launched workers waits until they have saved: its locks protect their folders.
    """
    with suppress(EOFError, OSError):
        parent.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    if alone:
        time.sleep(_PATIENCE)
        os._exit(FAILED)


def _guarded(task: Task) -> int:
    try:
        return run(task)
    except UserError as error:
        print(f"safekey: error: {' '.join(str(error).splitlines())}", flush=True)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return FAILED


def run(task: Task) -> int:
    """Train and evaluate in this process; return 0, or how it ended.

    Generations that a server did not answer end in FAILED: the same grid command asks for them again. Those that the
    engine cannot answer would be the same tomorrow; they are counted, and the job is done.
    """
    import torch
    from rich.console import Console

    torch.set_num_threads(task.threads)
    console = Console(width=120, no_color=True)
    job, asked = task.job, task.request
    if job.done:
        return 0
    if not job.trained:
        from safekey.training.command.train import TrainRequest, execute

        training = TrainRequest(asked.recipe, task.overrides, launch=asked.launch, processes=asked.processes)
        if code := execute(training, console):
            return code
    if task.stage == "train":
        return 0
    from safekey.evals.evaluate import StoppedError, evaluate
    from safekey.evals.summary.tables import failed_lines

    model = task.base if job.train is None else str(job.train)
    request = replace(asked.evaluation, model=model, output=str(job.evaluation))
    try:
        found = evaluate(request, model=_shared_model(task, request), console=console)
    except StoppedError as error:
        print(f"safekey: {error}", flush=True)
        return FAILED
    failed = found.summary.metrics["failed"]
    for line in failed_lines(failed):
        print(f"safekey: {line}", flush=True)
    return FAILED if failed["asked_again"] else 0


def _shared_model(task: Task, request: EvalRequest) -> Model | None:
    """Return the model that the grid's server of many serves for this job; None where the job opens its own."""
    if task.served is None:
        return None
    from safekey.engines.vllm.engine import VllmEngine
    from safekey.evals.model_api.opening import served_model

    engine = VllmEngine(request.model, **{"vllm": request.vllm, **request.engine_options})
    engine.use(task.served, task.served_as)
    return served_model(request.model, engine)
