"""`safekey grid`: train, evaluate and compare every arm in one folder.

Every job is an ordinary training and an ordinary evaluation. Jobs run side by side where there is room. After an
interruption the same command continues: finished jobs are not repeated, the others go on from their checkpoint or rows.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.console import Console

from safekey.errors import UserError
from safekey.grid import attempt
from safekey.grid.folder import GridFolder, Job
from safekey.grid.job import USER_ERROR
from safekey.grid.pool import Ended, run_jobs
from safekey.grid.prepare import Prepared, prepare, served
from safekey.grid.progress import Display
from safekey.grid.request import GridRequest, Task
from safekey.grid.results import Results, results, write_results
from safekey.grid.status import live_in_slurm

PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
_LAST_LINES = 12  # of a failed job's log
_ERROR = "safekey: error: "


@dataclass(frozen=True, slots=True)
class Failure:
    """How a job failed: its exit code (below 0: the signal that killed it), and what it printed last."""

    code: int
    said: str


@dataclass(frozen=True)
class GridReport:
    """What a grid did.

    Attributes:
        folder: its folder.
        results: the comparison of what is finished; None where that is not two arms.
        failed: the jobs that failed.
        interrupted: whether somebody interrupted.
        done: how many jobs are finished, and how many there are.
        left: how many jobs go on in Slurm.
        cancelled: the failed jobs that the user cancelled in Slurm.
    """

    folder: GridFolder
    results: Results | None
    failed: Mapping[str, Failure] = field(default_factory=dict)
    interrupted: bool = False
    done: tuple[int, int] = (0, 0)
    left: int = 0
    cancelled: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        ended: dict[str, Any] = {"done": self.done[0], "jobs": self.done[1], "interrupted": self.interrupted}
        ended |= {"in_slurm": self.left} if self.left else {}
        ended |= {"cancelled": list(self.cancelled)} if self.cancelled else {}
        failed = {name: asdict(failure) for name, failure in self.failed.items()}
        return {**ended, "failed": failed, **(self.results.to_dict() if self.results else {})}


def run_grid(request: GridRequest, console: Console) -> GridReport:
    """Run the jobs that are not done, and compare the arms that are.

    Raises:
        UserError: something in the request is wrong or missing, or the folder was made with other settings.
    """
    if request.executor == "slurm":
        from safekey.grid.slurm.submit import check_here

        check_here()
    console.print(f"{request.recipe}: {', '.join(request.arms)}; seeds {', '.join(map(str, request.seeds))}", **PLAIN)
    prepared = prepare(request)  # loads torch: some seconds
    folder, tasks = prepared.folder, prepared.tasks
    folder.hold()
    try:
        _check_executor(request, folder)
        settings = folder.begin(prepared.resolved)
        attempt.sign_in(folder.path)
        console.print(f"{folder.path}: {len(tasks)} jobs, {sum(t.job.done for t in tasks)} of them finished", **PLAIN)
        console.print(prepared.rows, **PLAIN)
        jobs = [task.job for task in tasks]
        before = {str(job): _size(job) for job in jobs}
        ended = _run(prepared, [replace(task, threads=settings["threads"]) for task in tasks], console)
        count = (sum(job.done for job in jobs), len(jobs))
        if ended.interrupted:
            return GridReport(folder, None, {}, True, count, ended.left)
        failed = {
            str(job): _failure(job, ended.failed[str(job)], before[str(job)], ended.said.get(str(job), ""))
            for job in jobs
            if str(job) in ended.failed
        }
        if request.evaluation.redact:
            from safekey.evals.records.redact import drop_texts

            drop_texts(job.evaluation for job in jobs if job.done)
        if ended.server is not None:
            failed = {"evaluation": Failure(*ended.server), **failed}
        how: dict[str, Any] = {"margin": request.margin, "judges": request.judges}
        found = results(folder, request.reference, **how, allow_unscored=request.allow_unscored)
        if found is not None:
            write_results(folder, found)
        return GridReport(folder, found, failed, False, count, cancelled=ended.cancelled)
    finally:
        folder.release()


def _run(prepared: Prepared, tasks: Sequence[Task], console: Console) -> Ended:
    todo = [task for task in tasks if not task.job.done]
    if not todo:
        return Ended()
    display = Display(console, [task.job for task in tasks], prepared.at_once)
    with display.shown():
        if prepared.tasks[0].request.executor == "slurm":
            from safekey.grid.slurm.run import run_on_slurm

            return run_on_slurm(prepared, todo, console, display)
        if served(prepared.tasks[0].request):
            from safekey.grid.serving import run_served

            return run_served(prepared, todo, console, display)
        return run_jobs(todo, prepared.at_once, gpus=prepared.gpus, watch=display)


def _check_executor(request: GridRequest, folder: GridFolder) -> None:
    """Refuse to run jobs here that run in Slurm."""
    live = live_in_slurm(folder) if request.executor == "local" else {}
    if live:
        raise UserError(
            f"{folder.path}: {len(live)} of its jobs wait or run in Slurm ({', '.join(live.values())}): give the "
            "command with --executor slurm, or end them with --cancel"
        )


def _size(job: Job) -> int:
    return job.log.stat().st_size if job.log.is_file() else 0


def _failure(job: Job, code: int, begin: int, known: str) -> Failure:
    """Return what a job printed in this attempt: its one error, or how it was killed and the end of its log."""
    if known:
        return Failure(code, known)
    try:
        with job.log.open("rb") as file:
            file.seek(begin)
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    if code == USER_ERROR and lines and lines[-1].startswith(_ERROR) and "message is above" not in lines[-1]:
        return Failure(code, lines[-1].removeprefix(_ERROR))
    how = f"ended with exit code {code}"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        how = f"was killed ({name}{'; out of memory?' if name == 'SIGKILL' else ''})"
    return Failure(code, "\n".join([how, *lines[-_LAST_LINES:]]))
