"""How each job of a grid stands, for `safekey grid … --status`: read from its folder and, where it runs there, Slurm

Nothing is submitted, started or written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.grid import attempt
from safekey.grid.folder import GridFolder, Job
from safekey.grid.progress import share_done
from safekey.grid.slurm import commands, verdicts
from safekey.grid.slurm.commands import Seen, SilentError
from safekey.grid.slurm.record import FILE, Record

STATES = ("queued", "running", "done", "failed", "cancelled", "stopped", "unknown")
"""queued: in Slurm's queue, or waiting for its turn in a grid that runs. stopped: nothing works on it; the same command
goes on. unknown: Slurm does not answer."""


@dataclass(frozen=True, slots=True)
class JobState:
    """How one job stands.

    Attributes:
        arm: its arm.
        seed: of the training; None for the base.
        state: one of `STATES`.
        detail: how far it is, or why it is so.
        log: what it prints; the file is there once it has begun.
        slurm: the number of its Slurm job; None for a local one.
    """

    arm: str
    seed: int | None
    state: str
    detail: str
    log: str
    slurm: str | None = None

    @property
    def name(self) -> str:
        """Return the job's name, as everywhere."""
        return self.arm if self.seed is None else f"{self.arm}, seed {self.seed}"


def find_grid(recipe: str, output: str | None) -> GridFolder:
    """Return the grid that a command names, by `--output`, by a folder in place of the recipe, or by the recipe.

    Raises:
        UserError: there is none.
    """
    named = Path(recipe)
    if output is None and (named / "grid.yaml").is_file():
        return GridFolder(named)
    folder = GridFolder(Path(output or Path("runs") / f"grid-{named.stem}"))
    if not folder.exists:
        raise UserError(f"{folder.path}: no grid has been started there; --output names another folder")
    return folder


def job_states(folder: GridFolder) -> list[JobState]:
    """Return how each job stands.

    Raises:
        UserError: the folder is no grid's.
    """
    settings = folder.settings
    jobs = folder.jobs(list(settings["arms"]), settings["seeds"])
    record = Record(folder.path)
    if not record.exists or not record.jobs:
        runs = attempt.runs(folder.path)
        return [_local(job, runs) for job in jobs]
    known: Mapping[str, Seen] | None
    try:
        known, why = commands.queue(), ""
    except SilentError as error:
        known, why = None, str(error)
    runs = attempt.runs(folder.path)
    return [_in_slurm(job, record, known, why, runs) for job in jobs]


def cancel(folder: GridFolder) -> dict[str, str]:
    """Cancel the jobs of a grid that wait or run in Slurm; return their numbers by name.

    Raises:
        UserError: the grid has no jobs in Slurm, or Slurm does not answer.
    """
    settings = folder.settings
    record = Record(folder.path)
    if not record.exists:
        raise UserError(f"{folder.path}: its jobs do not run in Slurm; Ctrl-C ends the grid's own process")
    commands.check_installed()
    try:
        known = commands.queue()
        jobs = folder.jobs(list(settings["arms"]), settings["seeds"])
        live = {str(job): number for job in jobs if (number := record.adopt(job, known)) is not None}
        if live:
            commands.cancel(list(live.values()))
    except SilentError as error:
        raise UserError(f"Slurm does not answer: {error}") from None
    return live


def live_in_slurm(folder: GridFolder) -> dict[str, str]:
    """Return the numbers of a grid's jobs that wait or run in Slurm, by name, as far as Slurm can be asked."""
    if not (folder.path / FILE).is_file():
        return {}
    try:
        known = commands.queue()
    except SilentError:
        return {}
    record, settings = Record(folder.path), folder.settings
    jobs = folder.jobs(list(settings["arms"]), settings["seeds"])
    return {str(job): number for job in jobs if (number := record.adopt(job, known)) is not None}


def as_values(folder: GridFolder, states: list[JobState]) -> dict[str, Any]:
    """Return the states as plain JSON values."""
    counts = {state: sum(one.state == state for one in states) for state in STATES}
    return {"folder": str(folder.path), "counts": counts, "jobs": [asdict(one) for one in states]}


def _local(job: Job, runs: bool | None) -> JobState:
    """Return the state of a job of this machine: by its record, and by whether the processes that it names live."""
    state, detail = share_done(job)[1], ""
    last = attempt.read(job.folder)
    if job.done:
        state, detail = "done", ""
    elif last.get("status") == "running" and attempt.alive(last) is not False:
        where = "" if attempt.alive(last) else f", on {last.get('host')}, as last recorded"
        state, detail = "running", f"{state}{where}"
    elif runs and last.get("status") != "ended":
        state, detail = "queued", "waits for its turn"
    else:
        state, detail = _not_running(job, last, runs)
    return JobState(job.arm, job.seed, state, detail, str(job.log))


def _not_running(job: Job, last: Mapping[str, Any], runs: bool | None) -> tuple[str, str]:
    code = last.get("code")
    if last.get("status") == "ended" and isinstance(code, int) and code not in (0, 130):
        return "failed", _last_line(job) or f"ended with exit code {code}"
    if runs:
        return "queued", "waits for its turn"
    if not last:
        return "stopped", "not begun"
    words = "interrupted" if last.get("status") == "ended" else "its process is gone"
    return "stopped", f"{words}; the same command goes on"


def _in_slurm(job: Job, record: Record, known: Mapping[str, Seen] | None, why: str, runs: bool | None) -> JobState:
    number = record.id_of(job) if known is None else record.adopt(job, known) or record.id_of(job)

    def made(state: str, detail: str = "") -> JobState:
        return JobState(job.arm, job.seed, state, detail, str(job.log), number)

    if job.done:
        return made("done")
    if number is None:
        return made("queued", "not submitted yet") if runs else made("stopped", "not submitted")
    if known is None:
        return made("unknown", f"Slurm does not answer: {why}")
    try:
        seen = commands.find(number, dict(known))
    except SilentError as error:
        return made("unknown", f"Slurm does not answer: {error}")
    if seen is not None and seen.live:
        if seen.waits:
            return made("queued", verdicts.blocked(seen.reason) or seen.reason)
        return made("running", f"{share_done(job)[1]}{f', on {seen.node}' if seen.node else ''}")
    noted = record.jobs.get(str(job), {})
    if seen is None and isinstance(noted.get("seen"), dict) and noted.get("id") == number:
        return made(str(noted["seen"].get("state")), str(noted["seen"].get("detail") or _last_line(job)))
    found = verdicts.verdict(job, number, seen)
    if found.again:
        return made("stopped", f"{found.detail}; the same command goes on")
    return made(found.state, found.detail or _last_line(job) or f"ended with exit code {found.code}")


def _last_line(job: Job) -> str:
    """Return the error that a job printed last, if it did."""
    try:
        with job.log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].removeprefix("safekey: error: ")[:200] if lines else ""
