"""What became of a job that is no longer in Slurm's queue: from Slurm's word, and from what the job itself recorded."""

from __future__ import annotations

from dataclasses import dataclass

from safekey.grid import attempt
from safekey.grid.folder import Job
from safekey.grid.job import FAILED
from safekey.grid.slurm.commands import Seen

_WORDS = {
    "TIMEOUT": "its time in Slurm was up",
    "PREEMPTED": "another job took its place (preempted)",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "Slurm's deadline for it has passed",
    "OUT_OF_MEMORY": "out of memory: ask for more (--slurm-option mem=…), or lower the batch size",
    "CANCELLED": "cancelled; the same command submits it again",
    "REQUEUED": "put back into the queue",
}
_AGAIN = ("TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
_BLOCKED = {
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is inactive",
    "PartitionTimeLimit": "it asks for more time than its partition allows (--slurm-option time=…)",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows",
    "PartitionConfig": "it asks for more than any node of its partition has (cpus-per-task, mem, gres)",
    "BadConstraints": "no node has what it asks for (constraint, gres, mem)",
    "AccountNotAllowed": "its account may not use this partition (--slurm-option account=…)",
    "QOSNotAllowed": "its QOS may not be used in this partition (--slurm-option qos=…)",
    "InvalidAccount": "there is no such account (--slurm-option account=…)",
    "InvalidQOS": "there is no such QOS (--slurm-option qos=…)",
    "JobHeldUser": "it is held (scontrol release)",
    "JobHeldAdmin": "an administrator holds it",
    "JobLaunchFailure": "it could not be launched",
    "launch failed requeued held": "it could not be launched, and is held (scontrol release)",
    "DependencyNeverSatisfied": "what it depends on has failed",
    "ReservationDeleted": "its reservation was deleted",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job stands that Slurm does not run any more.

    Attributes:
        state: "done", "failed" or "cancelled".
        detail: why, in words; "" where the job's own log says it.
        code: its exit code, where it has one.
        again: the state of Slurm's for which a job is submitted again; "" for none.
        unsure: whether a shared file system may only be late.
    """

    state: str
    detail: str = ""
    code: int = 0
    again: str = ""
    unsure: bool = False


def verdict(job: Job, number: str, seen: Seen | None) -> Verdict:
    """Return what became of a job.

    Args:
        job: of the grid.
        number: of its Slurm job.
        seen: an ended state, from Slurm; None: Slurm has forgotten the job.
    """
    if job.done:
        return Verdict("done")
    own = attempt.read(job.folder)
    own = own if str(own.get("slurm")) == number else {}
    state = seen.state if seen is not None else ""
    told = str(own.get("state") or "")
    if state in ("", "FAILED", "COMPLETED") and told in _WORDS and told != "REQUEUED":
        state = told  # the job's own word: it knew why it stopped
    if state == "CANCELLED":
        return Verdict("cancelled", _WORDS[state])
    if state in _AGAIN:
        return Verdict("failed", _WORDS[state], FAILED, again=state)
    if state in _WORDS:
        return Verdict("failed", _WORDS[state], FAILED)
    code = own.get("code") if own.get("status") == "ended" else None
    if isinstance(code, int) and code:
        return Verdict("failed", "", code)
    if not state:
        words = "Slurm has forgotten how it ended, and it left no result; the same command goes on"
        return Verdict("failed", words, FAILED, unsure=True)
    return Verdict("failed", _without_a_word(job, number, began=bool(own)), FAILED, unsure=True)


def blocked(reason: str) -> str:
    """Return in words why a waiting job will not start by itself; "" when it only has to wait (Resources, Priority)."""
    if reason in _BLOCKED:
        return f"{_BLOCKED[reason]} ({reason})"
    if reason.startswith("ReqNodeNotAvail"):
        return f"the nodes that it asks for are not available ({reason[:80]})"
    return ""


def _without_a_word(job: Job, number: str, *, began: bool) -> str:
    """Return what Slurm's own output says of a job that ended before or without a word of ours."""
    folder = job.folder / "slurm"
    for name in (f"{number}_0_log.err", f"{number}_0_log.out"):
        try:
            with (folder / name).open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - 4096))
                lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        except OSError:
            continue
        if lines:
            return f"it ended without a result; the last line of {folder / name}: {lines[-1][:200]}"
    if began:
        return "it ended without a result"
    return f"Slurm says that it ran, but {folder} has nothing of it: is it on a file system that the nodes share?"
