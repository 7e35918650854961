"""Ask Slurm what it knows of a job: squeue, scontrol and, where there is accounting, sacct. No answer is no conclusion.

`squeue` prints one job a line, as it is asked to:

    4711|PENDING|Resources||safekey-3fa9c1d2-sft-0
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from safekey.errors import UserError
from safekey.terminal import printable

PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
ENDED = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"),
    "OUT_OF_MEMORY",
)
"""The states in which a job stays. In any other one it is in the queue, runs, or is about to end or to run again."""
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD", "CONFIGURING")
_SECONDS = 60.0  # that a busy controller may take for an answer
_FORMAT = "%A|%T|%r|%N|%j"
_UNKNOWN = re.compile(r"invalid job id", re.IGNORECASE)


class SilentError(Exception):
    """Slurm did not answer, or not in its usual form: nothing may be concluded."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What Slurm says of a job.

    Attributes:
        id: its number.
        state: such as "RUNNING"; see `ENDED`.
        reason: why it waits, or why it ended; "" for no reason.
        node: where it runs.
        name: of the job.
    """

    id: str
    state: str
    reason: str = ""
    node: str = ""
    name: str = ""

    @property
    def live(self) -> bool:
        """Whether it waits, runs, or is about to."""
        return self.state not in ENDED

    @property
    def waits(self) -> bool:
        """Whether it is in the queue."""
        return self.state in WAITING


def check_installed() -> None:
    """Check that Slurm's commands are here.

    Raises:
        UserError: one is not.
    """
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        raise UserError(
            f"--executor slurm: Slurm is not installed on this machine (no {', '.join(lacking)} on PATH): give the "
            "command on a login node of the cluster, or use --executor local"
        )


def queue() -> dict[str, Seen]:
    """Return all jobs of this user that Slurm still knows, by number: waiting, running, and ended some minutes ago.

    Raises:
        SilentError: squeue failed.
    """
    done = _ask("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", f"--format={_FORMAT}")
    if done.returncode:
        raise SilentError(_words(done))
    found = {}
    for line in done.stdout.splitlines():
        number, *rest = line.strip().split("|", 4)
        if len(rest) != 4 or not number.isdigit():
            raise SilentError(f"squeue printed {line!r:.80}")
        state, reason, node, name = rest
        found[number] = Seen(number, _state(state), "" if reason == "None" else reason, node, name)
    return found


def about(number: str) -> Seen | None:
    """Return what `scontrol show job` says; None when Slurm knows no such job (any more).

    Raises:
        SilentError: scontrol failed for another reason.
    """
    fields = show(number)
    if fields is None:
        return None
    reason = fields.get("Reason", "")
    return Seen(number, _state(fields.get("JobState", "")), "" if reason == "None" else reason,
                fields.get("NodeList", "").replace("(null)", ""), fields.get("JobName", ""))  # fmt: skip


def show(number: str) -> dict[str, str] | None:
    """Return all fields of `scontrol show job`; None when Slurm knows no such job.

    Raises:
        SilentError: scontrol failed for another reason.
    """
    done = _ask("scontrol", "--oneliner", "show", "job", number)
    if done.returncode or not done.stdout.strip():
        if _UNKNOWN.search(done.stderr + done.stdout):
            return None
        raise SilentError(_words(done))
    fields = dict(word.split("=", 1) for word in done.stdout.splitlines()[0].split() if "=" in word)
    if fields.get("JobId") != number or not fields.get("JobState"):
        raise SilentError(f"scontrol printed {done.stdout!r:.80}")
    return fields


def accounted(number: str) -> Seen | None:
    """Return what sacct says of a job; None without accounting, or when it does not know the job."""
    if shutil.which("sacct") is None:
        return None
    try:
        done = _ask("sacct", "-X", "-n", "-P", "-j", number, "-o", "JobID,State")
    except SilentError:
        return None
    lines = [line.split("|") for line in done.stdout.splitlines()] if done.returncode == 0 else []
    last = next((line[1] for line in reversed(lines) if len(line) == 2 and line[0] == number and line[1]), "")
    return Seen(number, _state(last)) if last else None


def find(number: str, known: dict[str, Seen]) -> Seen | None:
    """Return what is known of a job: from `queue`, else by asking for it alone; None when Slurm has forgotten it.

    Raises:
        SilentError: Slurm did not answer.
    """
    return known.get(number) or about(number) or accounted(number)


def time_left(fields: dict[str, str]) -> tuple[float, float] | None:
    """Return the seconds until a running job's time limit, and the limit in seconds; None when it has none."""
    try:
        begin, end = (datetime.fromisoformat(fields[name]) for name in ("StartTime", "EndTime"))
    except (KeyError, ValueError):
        return None
    return (end - datetime.now()).total_seconds(), (end - begin).total_seconds()


def cancel(numbers: Sequence[str]) -> None:
    """Cancel jobs.

    Raises:
        SilentError: scancel failed.
    """
    done = _ask("scancel", *numbers)
    if done.returncode:
        raise SilentError(_words(done))


def requeue(number: str) -> None:
    """Put a running job back into the queue.

    Raises:
        SilentError: Slurm does not allow it.
    """
    done = _ask("scontrol", "requeue", number)
    if done.returncode:
        raise SilentError(_words(done))


def partitions() -> list[str]:
    """Return the partitions' names; empty when Slurm does not say."""
    try:
        done = _ask("sinfo", "--noheader", "--format=%R")
    except SilentError:
        return []
    return sorted(set(done.stdout.split())) if done.returncode == 0 else []


def _ask(*words: str) -> subprocess.CompletedProcess[str]:
    # Variables by which a user changes what the commands print or ask would change what is read here.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("SQUEUE_", "SCANCEL_", "SACCT_"))}
    env.pop("SLURM_TIME_FORMAT", None)
    try:
        return subprocess.run(words, env=env, capture_output=True, text=True, errors="replace", check=False,  # noqa: S603
                              stdin=subprocess.DEVNULL, timeout=_SECONDS)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SilentError(f"{words[0]} did not answer in {_SECONDS:.0f} seconds") from None
    except OSError as error:
        raise SilentError(f"{words[0]}: {error.strerror}") from None


def _words(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return printable(lines[-1][:200]) if lines else f"{done.args[0]} ended with exit code {done.returncode}"


def _state(text: str) -> str:
    """Return "CANCELLED" for sacct's "CANCELLED by 0", and "COMPLETED" for "COMPLETED+"."""
    return text.strip().split(" ")[0].rstrip("+").upper()
