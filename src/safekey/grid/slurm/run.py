"""Run a grid's jobs on a Slurm cluster: submit what is not there yet, and follow it until all jobs have ended.

What a job has reached is read from its run folders; Slurm says whether it waits, runs, or how it was ended. Nothing is
concluded while Slurm does not answer. The jobs do not need this process: the same command comes back to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Console

from safekey.errors import UserError
from safekey.grid import attempt
from safekey.grid.job import FAILED
from safekey.grid.pool import Ended
from safekey.grid.prepare import Prepared
from safekey.grid.request import Task
from safekey.grid.slurm import commands, verdicts
from safekey.grid.slurm.commands import Seen, SilentError
from safekey.grid.slurm.record import Record, digest
from safekey.grid.slurm.submit import FullError, submit
from safekey.run_folder import now
from safekey.terminal import printable

Watch = Callable[[Mapping[str, float], Mapping[str, float], Collection[str]], None]
_EVERY = (2.0, 20.0)  # seconds between two questions to Slurm: at first, and later
_SETTLE = 60.0  # seconds until a shared file system shows what an ended job wrote
_TRY_AGAIN = 60.0  # seconds after Slurm took no more jobs
_SILENT = 3  # questions without an answer before the user is told
_STALLS = 3  # runs in a row that got no further, ended by a node or by preemption, before a job is given up


def run_on_slurm(prepared: Prepared, tasks: Sequence[Task], console: Console, watch: Watch) -> Ended:
    """Run the jobs that are not done.

    Returns:
        how they ended. After Ctrl-C they go on in Slurm; `left` counts them.

    Raises:
        UserError: Slurm refuses the jobs or does not answer, or jobs with other settings are in its queue.
    """
    follower = _Follower(prepared, tasks, console, watch)
    try:
        follower.attach()
        follower.follow()
    except KeyboardInterrupt:
        follower.ended.interrupted = True
        follower.ended.left = len(follower.ids)
    return follower.ended


class _Follower:
    def __init__(self, prepared: Prepared, tasks: Sequence[Task], console: Console, watch: Watch) -> None:
        request = tasks[0].request
        self.ended = Ended()
        self.ids: dict[str, str] = {}  # of the live jobs, by the grid's names
        self._tasks = {str(task.job): task for task in tasks}
        self._waiting = list(self._tasks)
        self._options, self._most = request.slurm, request.jobs or len(tasks)
        self._record = Record(prepared.folder.path)
        self._settings = {name: digest(prepared.resolved, task.job.arm) for name, task in self._tasks.items()}
        self._console, self._watch = console, watch
        self._seconds: dict[str, float] = {}
        self._running: dict[str, float] = {}  # when each was first seen to run
        self._gone: dict[str, float] = {}  # when each was first seen to have ended, without a result yet
        self._blocked: dict[str, str] = {}
        self._silent, self._later = 0, 0.0
        self._stalls: dict[str, int] = {}
        self._took = self._full = False  # whether Slurm took a job of this grid, and whether it takes no more now

    def attach(self) -> None:
        """Find the jobs that an earlier process submitted."""
        try:
            known = commands.queue()
        except SilentError as error:
            raise UserError(f"Slurm does not answer: {error}. Nothing was submitted") from None
        for name, task in self._tasks.items():
            number = self._record.adopt(task.job, known)
            if number is None:
                continue
            before = self._record.jobs.get(name, {})
            if before.get("settings", self._settings[name]) != self._settings[name]:
                raise UserError(
                    f"{name}: its Slurm job {number} has other settings: let it end, or end it (--cancel), or give the "
                    "old settings"
                )
            self.ids[name] = number
            self._took = True
            self._waiting.remove(name)
            self._record.jobs[name] = {"submitted": "", "settings": self._settings[name], **before, "id": number}
            self._say(f"{name}: Slurm job {number}, {known[number].state.lower()}, goes on")
        self._record.write()

    def follow(self) -> None:
        """Submit, and look, until nothing is left."""
        pause = _EVERY[0]
        while True:
            self._submit()
            if not self.ids and not self._waiting:
                break
            self._draw()
            time.sleep(pause)
            pause = min(_EVERY[1], pause * 1.3)
            self._look()
        self._draw()

    # ---- submitting

    def _submit(self) -> None:
        while self._waiting and len(self.ids) < self._most and time.monotonic() >= self._later:
            name = self._waiting[0]
            task = self._tasks[name]
            saved = attempt.saved(task.job.train, task.job.evaluation)
            self._record.write()  # its token is in the job's name: a number that gets lost is found again by it
            try:
                number = submit(task, self._record.name_of(task.job), self._options)
            except FullError as error:
                if not self._took:
                    raise UserError(f"Slurm takes no job now: {error}") from None
                self._later = time.monotonic() + _TRY_AGAIN
                if not self._full:
                    self._say(f"Slurm takes no more jobs now ({error}): {len(self._waiting)} wait here until it does")
                self._full = True
                return
            except UserError as error:
                more = f"; {len(self.ids)} jobs of the grid go on in Slurm (--status, --cancel)" if self.ids else ""
                raise UserError(f"{error}{more}") from None
            self._waiting.pop(0)
            self.ids[name] = number
            self._took, self._full = True, False
            about = {"id": number, "submitted": now(), "settings": self._settings[name], "saved": saved}
            self._record.jobs[name] = {**about, "options": dict(self._options)}
            self._record.write()
            self._say(f"{name}: Slurm job {number}")

    # ---- following

    def _look(self) -> None:
        try:
            known = commands.queue()
            found = {name: commands.find(number, known) for name, number in self.ids.items()}
        except SilentError as error:
            self._silent += 1
            if self._silent == _SILENT:
                self._say(f"Slurm does not answer ({error}); its jobs go on, and so does this command")
            return
        if self._silent >= _SILENT:
            self._say("Slurm answers again")
        self._silent = 0
        for name, seen in found.items():
            self._judge(name, seen)

    def _judge(self, name: str, seen: Seen | None) -> None:
        task = self._tasks[name]
        if seen is not None and seen.live:
            self._gone.pop(name, None)
            if seen.waits:
                self._running.pop(name, None)
                self._tell_if_blocked(name, seen)
            else:
                self._running.setdefault(name, time.monotonic())
            return
        found = verdicts.verdict(task.job, self.ids[name], seen)
        if found.again:
            self._resubmit(name, found)
            return
        first = self._gone.setdefault(name, time.monotonic())
        if found.unsure and time.monotonic() - first < _SETTLE:
            return
        self._end(name, found)

    def _end(self, name: str, found: verdicts.Verdict) -> None:
        number = self.ids.pop(name)
        self._seconds[name] = time.monotonic() - self._running.pop(name, time.monotonic())
        self._record.jobs[name]["seen"] = {"state": found.state, "detail": found.detail}
        self._record.write()
        if found.state == "done":
            return
        self.ended.failed[name] = found.code or FAILED
        if found.detail:
            self.ended.said[name] = f"{found.detail} (Slurm job {number})"
        if found.state == "cancelled":
            self.ended.cancelled.append(name)
        left = len(self.ids) + len(self._waiting)
        others = f"; the other {left} go on" if left else ""
        self._say(f"{name}: {found.state}{f', {found.detail}' if found.detail else ''}{others}")

    def _resubmit(self, name: str, found: verdicts.Verdict) -> None:
        """Submit a job again that Slurm ended; give it up when it gets no further."""
        job = self._tasks[name].job
        before = self._record.jobs[name].get("saved")
        stalled = before is not None and attempt.saved(job.train, job.evaluation) == before
        self._stalls[name] = self._stalls.get(name, 0) + 1 if stalled else 0
        if self._stalls[name] >= (1 if found.again == "TIMEOUT" else _STALLS):
            advice = "give it more time (--slurm-option time=…)" if found.again == "TIMEOUT" else "see its node's state"
            words = f"{found.detail}, and got no further than the run before: {advice}"
            self._end(name, verdicts.Verdict("failed", words, FAILED))
            return
        self._say(f"{name}: {found.detail}; it is submitted again, and goes on from what is saved")
        self.ids.pop(name)
        self._running.pop(name, None)
        self._gone.pop(name, None)
        self._waiting.append(name)

    def _tell_if_blocked(self, name: str, seen: Seen) -> None:
        words = verdicts.blocked(seen.reason)
        if words and self._blocked.get(name) != words:
            self._say(f"{name}: Slurm job {seen.id} cannot start: {words}")
        self._blocked[name] = words

    def _draw(self) -> None:
        at = time.monotonic()
        running = {name: at - began for name, began in self._running.items() if name in self.ids}
        self._watch(running, self._seconds, self.ended.cancelled)

    def _say(self, line: str) -> None:
        plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
        self._console.print(printable(line), **plain)
