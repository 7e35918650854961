"""Submit a job of the grid to Slurm, by submitit; say in one line why Slurm refuses one."""

from __future__ import annotations

import importlib.util
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path

from safekey.errors import UserError
from safekey.grid.request import Task
from safekey.grid.slurm import commands
from safekey.grid.slurm.job import work
from safekey.grid.slurm.options import FLAG, for_sbatch
from safekey.terminal import printable

FOLDER = "slurm"
"""Slurm's own output and submitit's files, in the folder of each job."""
_LATER = re.compile(
    r"limit|temporarily unable|temporarily unavailable|unable to contact|not responding|timed out|busy", re.IGNORECASE
)
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_EXIT_ERROR")
_NOISE = re.compile(r"^(sbatch: )?(error: )?(Try |Batch job submission failed: *$)")


class FullError(Exception):
    """Slurm takes no more jobs now; it may later."""


def check_here() -> None:
    """Check that jobs can be submitted from this machine.

    Raises:
        UserError: Slurm's commands, or submitit, are not installed.
    """
    commands.check_installed()
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--executor slurm: submitit is not installed: pip install 'safekey[slurm]'")


def submit(task: Task, name: str, options: Mapping[str, str]) -> str:
    """Submit a job; return its number.

    Args:
        task: a job of the grid.
        name: of the Slurm job.
        options: of sbatch.

    Raises:
        UserError: Slurm refuses it for good.
        FullError: Slurm refuses it for now.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    folder = task.job.folder / FOLDER
    if "%" in str(folder):
        raise UserError(f"{folder}: Slurm reads % in a file's name as a pattern: give another --output, without %")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # it holds the request as a pickle, which whoever can write there could replace
    executor = SlurmExecutor(folder=folder)
    flags = for_sbatch(options)
    extra = {} if "no-requeue" in flags else {"requeue": True}
    cpus = [f"--cpus-per-task={flags['cpus-per-task']}"] if "cpus-per-task" in flags else []  # srun does not inherit it
    # Not given, `time` and `wckey` are the cluster's own; submitit would say 5 minutes.
    executor.update_parameters(
        job_name=name, time=None, wckey=None, srun_args=cpus, additional_parameters={**extra, **flags}
    )
    try:
        with _outside_of_a_job(), redirect_stderr(io.StringIO()):  # submitit prints what sbatch says, too
            return str(executor.submit(work, task, dict(options)).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        text = str(error)
    finally:
        _tidy(folder)
    words = _reason(text)
    if _LATER.search(text):
        raise FullError(words)
    raise UserError(f"Slurm refuses the job: {words}{_advice(text, options)}")


@contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hide the variables of an allocation in which the grid may run: sbatch and srun would take them for the job's."""
    hidden = {
        key: os.environ.pop(key)
        for key in list(os.environ)
        if key.startswith(("SLURM_", "SLURMD_", "SUBMITIT_")) and key not in _KEPT
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def _tidy(folder: Path) -> None:
    """Remove the scripts and requests of submissions that failed, and links to those that did not."""
    for path in (*folder.glob(".submission_file_*"), *folder.glob("[0-9a-f]" * 32 + ".pkl")):
        with suppress(OSError):
            path.unlink()


def _reason(text: str) -> str:
    """Return Slurm's reason: what stands behind "submission failed", else the first line."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    last = next((line for line in reversed(lines) if "submission failed:" in line), lines[0] if lines else "no reason")
    return printable(re.sub(r"^(sbatch: )?(error: )?(Batch job submission failed: )?", "", last))[:300]


def _advice(text: str, options: Mapping[str, str]) -> str:
    if "artition" in text:
        there = commands.partitions()
        known = f"; this cluster has {', '.join(there)}" if there else ""
        return f" ({FLAG} partition={options.get('partition', '…')}{known})"
    for name, words in (("account", "account"), ("qos", "qos"), ("gres", "generic resource"), ("time", "time limit")):
        if words in text.lower():
            return f" ({FLAG} {name}={options.get(name, '…')})"
    return f" ({FLAG} {' '.join(f'{name}={value}' for name, value in options.items())})" if options else ""
