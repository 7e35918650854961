"""Keep a server running: a free port, a key, a second start after its death, and a state that other processes can read.

A grid owns one `Service` for many jobs. Its jobs are processes of their own; they read its state from `state.json` in
the server's folder, and get its key by pickle, never by a file or an argument::

    {"status": "up", "number": 1, "why": "", "version": "0.32.0", "port": 43121}
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from safekey.engines.vllm.causes import PORT_TAKEN
from safekey.engines.vllm.command import ServeCommand, did_you_mean_option
from safekey.engines.vllm.process import EndedError, Say, ServerProcess, free_port, private_folder
from safekey.errors import UserError
from safekey.run_folder import read_json, write_json

LOG, STATE = "server.log", "state.json"
_PORTS = 4  # tries with another port when somebody took ours
_DYING = 20.0  # seconds in which a server whose engine is dead ends
STARTS = 2
"""How often a server is started: it may die once."""


class VllmError(RuntimeError):
    """A server cannot be started or died for good, for a reason that no option mends; the message is one line."""


@dataclass(frozen=True)
class State:
    """How a server stands.

    Attributes:
        status: "starting", "up", or "down" for good.
        number: which start it is.
        why: why it is down.
        version: vLLM's.
        port: where it listens, on 127.0.0.1.
    """

    status: Literal["starting", "up", "down"] = "starting"
    number: int = 0
    why: str = ""
    version: str = ""
    port: int = 0


class Served(Protocol):
    """A server as its clients see it."""

    @property
    def key(self) -> str:
        """What every request must hold."""
        ...

    @property
    def state(self) -> State:
        """How it stands now."""
        ...


@dataclass(frozen=True)
class Remote:
    """A server that another process of safekey owns.

    Attributes:
        folder: the server's.
        key: its key.
    """

    folder: Path
    key: str = field(repr=False)

    @property
    def state(self) -> State:
        """How it stands, as its owner wrote it."""
        found = read_json(self.folder / STATE)
        known = {name: value for name, value in found.items() if name in State.__dataclass_fields__}
        return State(**known)


class Service:
    """A server of this process, which ends with it.

    Attributes:
        key: what every request must hold.
        folder: of its log and its state.
    """

    def __init__(self, command: ServeCommand, folder: Path, *, startup_timeout: float = 1800.0, say: Say) -> None:
        """Make it; `start` starts it.

        Args:
            command: what it runs on.
            folder: of its log and its state; it is made, for this user only.
            startup_timeout: seconds within which it must answer.
            say: takes lines about its starts.
        """
        self._command, self.folder, self._timeout, self._say = command, folder, startup_timeout, say
        self.key = secrets.token_urlsafe(32)
        self._state = State()
        self._process: ServerProcess | None = None
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / LOG

    @property
    def state(self) -> State:
        """How it stands now."""
        return self._state

    def remote(self) -> Remote:
        """Return what another process needs to use it."""
        return Remote(self.folder, self.key)

    def start(self, probe: Callable[[], None] = lambda: None) -> None:
        """Start the server and wait until it answers.

        Args:
            probe: asks it something; some models are refused by their first request only.

        Raises:
            UserError: it cannot start, for a reason that the user can mend.
            VllmError: for another reason.
        """
        private_folder(self.folder)
        self._say(f"vLLM starts ({self.log})")
        for left in reversed(range(_PORTS)):
            try:
                self._launch(free_port())
                break
            except EndedError as error:
                if left and PORT_TAKEN.search(error.text):
                    continue
                raise self._not_started(error) from None
        assert self._process is not None
        try:
            probe()
        except UserError:
            ended = self._process.ended_within(_DYING)
            if ended is None:
                raise
            raise self._not_started(ended) from None
        self._watcher = threading.Thread(target=self._watch, name="safekey-vllm", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End the server, if it runs; all its processes are gone when this returns."""
        self._stopped.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.stop()
        if self._watcher is not None:
            self._watcher.join()
        if self._state.number:
            self._set(replace(self._state, status="down", why=self._state.why or "it was stopped"))

    def _launch(self, port: int) -> None:
        """Start a process, and wait for it."""
        with self._lock:
            if self._stopped.is_set():
                return
            self._set(replace(self._state, status="starting", number=self._state.number + 1, port=port))
            self._process = process = ServerProcess(self._command, port, self.key, self.log)
        process.wait_until_ready(self._timeout, self._say, self._stopped)
        self._set(replace(self._state, status="up", version=process.version))
        self._say(f"vLLM {process.version} answers")

    def _watch(self) -> None:
        """Start the server again when it dies, as often as it may."""
        starts = 1
        while self._process is not None:
            died = self._process.wait()
            if self._stopped.is_set():
                return
            again = starts < STARTS
            self._set(
                replace(self._state, status="starting" if again else "down", why="" if again else self._died(died))
            )
            if not again:
                self._say(self._died(died))
                return
            self._say(f"vLLM ended: {died.cause.why}; it is started again, and what it has not answered goes on")
            starts += 1
            try:
                self._launch(self._state.port)  # the same address: other processes know it
            except (EndedError, UserError) as error:
                if not self._stopped.is_set():
                    self._set(replace(self._state, status="down", why=f"vLLM ended and did not start again: {error}"))
                return

    def _died(self, ended: EndedError) -> str:
        return f"vLLM ended twice: {ended.cause} (its log: {self.log})"

    def _not_started(self, error: EndedError) -> Exception:
        self._set(replace(self._state, status="down", why=str(error)))
        why = error.cause.why
        hint = did_you_mean_option(self._command.executable, why, OURS)
        said = f"vLLM did not start: {why}{hint}{f'; {error.cause.advice}' if error.cause.advice else ''}"
        mends = bool(error.cause.advice) and "out of memory?" not in error.cause.advice
        return (UserError if mends else VllmError)(f"{said} (its log: {self.log})")

    def _set(self, state: State) -> None:
        self._state = state
        with suppress(OSError):  # nobody but other processes reads it
            write_json(self.folder / STATE, asdict(state))


OURS = ("concurrency", "timeout", "startup_timeout", "max_attempts", "backoff", "tokenizer", "revision", "adapter",
        "trust_remote_code", "chat_template_kwargs", "today")  # fmt: skip
"""The engine's own options, for suggestions; the others go to vLLM."""
