"""What one process of the grid does: train one arm with one seed, evaluate it, and say how it ended by its exit code.

Both steps are the ordinary commands' own functions on ordinary run folders, so a job that was killed goes on from its
checkpoint or its rows. A job ends by itself when the process that started it is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, TYPE_CHECKING

from safekey.errors import UserError
from safekey.grid.folder import Job

if TYPE_CHECKING:
    from safekey.evals.plan import Order as Evaluation
    from safekey.training.command.launch import Launch

USER_ERROR, FAILED, INTERRUPTED = 2, 1, 130
_PATIENCE = 60.0  # seconds that a job whose parent is gone has for its last step and checkpoint


@dataclass(frozen=True, slots=True)
class Task:
    """One job and everything it needs.

    Attributes:
        job: arm, seed and folder.
        recipe: the recipe.
        overrides: on the recipe: the user's, the arm's, seed and folder.
        base: the model before training.
        evaluation: how models are evaluated.
        launch, processes: how it trains.
        threads: torch's, on a CPU.
        gpus: which GPUs it sees; empty: all.
    """

    job: Job
    recipe: str
    overrides: tuple[str, ...]
    base: str
    evaluation: Evaluation
    launch: Launch = "none"
    processes: int | None = None
    threads: int = 1
    gpus: tuple[str, ...] = ()


def work(task: Task, parent: Connection) -> None:
    """Do a job and exit; the target of the grid's processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends its jobs with SIGTERM
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ["OMP_NUM_THREADS"] = str(task.threads)  # of workers that a launch starts
    if task.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(task.gpus)
    threading.Thread(target=_outlive, args=(parent, task.launch == "none"), daemon=True).start()
    task.job.folder.mkdir(parents=True, exist_ok=True)
    with task.job.log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        with _alone(task.job.folder):
            code = _guarded(task)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no waiting for threads that libraries left behind


def _outlive(parent: Connection, alone: bool) -> None:
    """End this process when the parent is gone: two grids must not work on one folder.

    A job that has launched workers waits for them, however long they take to save: its locks are theirs, too.
    """
    with suppress(EOFError, OSError):
        parent.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    if alone:
        time.sleep(_PATIENCE)
        os._exit(FAILED)


@contextmanager
def _alone(folder: Path) -> Iterator[IO[str]]:
    """Wait for a process of a killed grid that still writes here."""
    with (folder / ".job-lock").open("w") as lock:
        with suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


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
    """Train and evaluate in this process; return 0, or how it ended."""
    import torch
    from rich.console import Console

    torch.set_num_threads(task.threads)
    console = Console(width=120, no_color=True)
    job = task.job
    if job.done:
        return 0
    if not job.trained:
        from safekey.training.command.train import TrainRequest, execute

        request = TrainRequest(task.recipe, _train_overrides(task), launch=task.launch, processes=task.processes)
        if code := execute(request, console):
            return code
    from safekey.evals.evaluate import StoppedError, evaluate

    model = task.base if job.train is None else str(job.train)
    try:
        evaluate(replace(task.evaluation, model=model, output=str(job.evaluation)), console=console)
    except StoppedError as error:
        print(f"safekey: {error}", flush=True)
        return FAILED
    return 0


def _train_overrides(task: Task) -> Sequence[str]:
    return (*task.overrides, f"seed={task.job.seed}", f"output_dir={task.job.train}")
