"""The process of a Slurm job: watch over one job of the grid, stop it before Slurm does, and record how it ended.

The job itself is the local grid's, in a process of its own; so a training has left the GPU when vLLM takes it. Slurm's
SIGTERM (it cancels, preempts or requeues) and the approach of the time limit stop it between two steps, with a
checkpoint. A job whose time is up goes back into Slurm's queue, as long as each run gets further than the one before.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from safekey.grid import attempt
from safekey.grid.job import FAILED
from safekey.grid.pool import Ended, run_jobs
from safekey.grid.progress import clock
from safekey.grid.request import Task
from safekey.grid.slurm import commands
from safekey.grid.slurm.options import margin

TOLD = 143
"""The exit code of a job that Slurm or the user told to stop."""
_LOOK = 240.0  # seconds between two looks at the time limit, which may be changed
_ASK_AGAIN = 10.0  # seconds after a look without an answer
_NEAR = 900.0  # seconds before the limit in which a SIGTERM may be the one that the user's `signal=` option sends


class _Stop:
    """Turns SIGTERM, and the end of the time, into one KeyboardInterrupt in the main thread."""

    def __init__(self, number: str, options: Mapping[str, str]) -> None:
        self.asked = self.late = False
        self._number, self._options = number, options

    def listen(self) -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # submitit's; ignored by what is started here, too
        signal.signal(signal.SIGTERM, self._told)
        threading.Thread(target=self._watch_the_clock, daemon=True).start()

    def _told(self, number: int, frame: Any) -> None:
        if not self.asked:  # a second one would kill what is saving its state
            self.asked = True
            raise KeyboardInterrupt

    def _watch_the_clock(self) -> None:
        said = False
        while True:
            pause = _LOOK
            try:
                left = commands.time_left(commands.show(self._number) or {})
            except commands.SilentError as error:
                print(f"Slurm does not say how much time is left: {error}", flush=True)
                left, pause = None, _ASK_AGAIN
            if left is not None:
                rest = left[0] - margin(self._options, left[1])
                if not said:
                    print(f"in {clock(max(0, rest))} this job stops to save, before its time limit", flush=True)
                    said = True
                if rest <= 0:
                    self.late = True
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                pause = max(0.5, min(rest, _LOOK))
            time.sleep(pause)


def work(task: Task, options: Mapping[str, str]) -> None:
    """Do a job of the grid in this Slurm job, and exit; the function that submitit calls."""
    number, restarts = os.environ["SLURM_JOB_ID"], int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    folder = task.job.folder
    if other := _other(number):
        print(f"the Slurm job {other} works on this already", flush=True)
        sys.exit(FAILED)
    before = attempt.saved(task.job.train, task.job.evaluation)
    stop = _Stop(number, options)
    try:
        stop.listen()
        attempt.begin(folder, slurm=number, restarts=restarts, saved=before)
        ended = _stages(replace(task, watched=True))
    except KeyboardInterrupt:
        ended = Ended(interrupted=True)
    if not stop.asked:
        code = next(iter(ended.failed.values()), 0)
        attempt.end(folder, code)
        sys.exit(code if code >= 0 else FAILED)
    state = "TIMEOUT" if stop.late else _why(number, restarts)
    further = attempt.saved(task.job.train, task.job.evaluation) != before
    attempt.end(folder, TOLD, state=state, further=further)
    if state == "TIMEOUT" and further:
        try:
            commands.requeue(number)
        except commands.SilentError as error:  # --no-requeue, or not allowed: the grid's process submits it again
            print(f"not requeued: {error}", flush=True)
    sys.exit(TOLD)


def _stages(task: Task) -> Ended:
    """Train and evaluate; with vLLM in two processes, so that the first one's memory is free."""
    stages: list[Task] = [task]
    if task.request.evaluation.engine == "vllm":
        stages = [replace(task, stage="evaluate")]
        if not task.job.trained:
            stages.insert(0, replace(task, stage="train"))
    ended = Ended()
    for stage in stages:
        ended = run_jobs([stage], 1, forked=False)
        if ended.failed or ended.interrupted:
            break
    return ended


def _other(number: str) -> str | None:
    """Return an older running job of this user with this one's name: two must not work on one folder.

    Locks on files do not hold across the nodes of every shared file system; Slurm's controller knows all jobs.
    """
    name = os.environ.get("SLURM_JOB_NAME", "")
    try:
        known = commands.queue().values()
    except commands.SilentError:
        return None
    twins = [seen.id for seen in known if seen.name == name and seen.live and not seen.waits]
    return next((twin for twin in twins if int(twin) < int(number)), None) if name else None


def _why(number: str, restarts: int) -> str:
    """Return why SIGTERM came, as a state of Slurm's. While a job ends, Slurm says only that it does: COMPLETING."""
    try:
        fields = commands.show(number) or {}
    except commands.SilentError:
        return ""
    if fields.get("Restarts", "").isdigit() and int(fields["Restarts"]) > restarts:
        return "REQUEUED"
    if fields.get("PreemptTime", "None") not in ("None", "N/A", "(null)"):
        return "PREEMPTED"
    if fields.get("JobState") in commands.ENDED:
        return fields["JobState"]
    left = commands.time_left(fields)
    if fields.get("JobState") == "RUNNING" and left is not None and left[0] < _NEAR:
        return "TIMEOUT"  # the signal that the user's own option asks for before the limit
    return "CANCELLED"
