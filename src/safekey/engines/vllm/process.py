"""One process of a server: start it under the guard, wait until it answers, and end it."""

from __future__ import annotations

import contextlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safekey.engines.vllm import guard, keyed
from safekey.engines.vllm.causes import Cause, cause_of, last_message, text_since
from safekey.engines.vllm.command import MIDDLEWARE, ServeCommand
from safekey.errors import UserError
from safekey.run_folder import make_private

_EVERY = 0.2  # seconds between two questions whether it answers
_TELL = 15.0  # seconds between two lines about a start
_SLOW = 5.0  # seconds for one question
_END = guard.GRACE + 7.0  # seconds within which the guard has ended everything

Say = Callable[[str], None]


class EndedError(Exception):
    """The server ended before it answered, or did not answer in time."""

    def __init__(self, cause: Cause, code: int | None, text: str) -> None:
        self.cause, self.code, self.text = cause, code, text
        super().__init__(str(cause))


class ServerProcess:
    """A server and its guard, from start to end.

    Attributes:
        version: what the server says of itself.
    """

    def __init__(self, command: ServeCommand, port: int, key: str, log: Path) -> None:
        """Start it; `wait_until_ready` says whether that worked.

        Args:
            command: what it runs on.
            port: a free one.
            key: what every request to it must hold.
            log: its log, which is added to; its folder is there.

        Raises:
            UserError: the log cannot be written.
        """
        self._port, self._key, self._log = port, key, log
        self.version = ""
        folder = Path(tempfile.mkdtemp(prefix=guard.PREFIX))  # short: sockets' paths have at most 107 bytes; mode 0700
        self._folder = folder
        try:
            shutil.copyfile(Path(keyed.__file__), folder / f"{MIDDLEWARE}.py")
            with _opened(log) as file:
                self._begin = file.tell()
                words = [sys.executable, "-I", "-S", guard.__file__, str(folder), *command.words(port)]
                self._guard = subprocess.Popen(  # noqa: S603 - no shell
                    words, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True, cwd=folder,
                    env=command.environment(key, folder),
                )  # fmt: skip
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def wait_until_ready(self, seconds: float, say: Say, stopped: threading.Event) -> None:
        """Wait until the server answers, and say now and then how far it is.

        Args:
            seconds: how long at most.
            say: takes one line.
            stopped: set when nobody waits any more.

        Raises:
            EndedError: it ended, or did not answer in time; it has ended now.
        """
        began, told = time.monotonic(), 0.0
        while not self._answers():
            gone = time.monotonic() - began
            if self._guard.poll() is not None or stopped.is_set():
                self.stop()
                raise self._ended()
            if gone > seconds:
                self.stop()
                more = "give it more time with --engine-option startup_timeout=SECONDS"
                raise EndedError(Cause(f"it did not answer within {seconds:g} s", more), None, self._said())
            if gone - told >= _TELL:
                told = gone
                say(f"vLLM starts, {gone:.0f} s: {last_message(self._said())}")
            time.sleep(_EVERY)
        self.version = str(self._get("/version").get("version", ""))

    def wait(self) -> EndedError:
        """Wait until the server has ended; return why."""
        self._guard.wait()
        self._sweep()
        return self._ended()

    def ended_within(self, seconds: float) -> EndedError | None:
        """Return why the server ended; None if it still runs after these seconds."""
        try:
            self._guard.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return self.wait()

    def stop(self) -> None:
        """End the server and all its processes; it is over when this returns."""
        with contextlib.suppress(OSError):
            if self._guard.stdin is not None:
                self._guard.stdin.close()  # the guard sees it even if this process is killed now
        try:
            self._guard.wait(_END)
        except subprocess.TimeoutExpired:
            self._guard.kill()
        self._guard.wait()
        self._sweep()

    def _sweep(self) -> None:
        """Kill and delete what a killed guard left: everything in its session, and its folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if (self._guard.returncode or 0) >= 0:
            return
        import psutil  # type: ignore[import-untyped]

        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == self._guard.pid:
                    process.kill()

    def _ended(self) -> EndedError:
        code = self._guard.returncode or 0
        code = code if code >= 0 else 128 - code
        text = self._said()
        return EndedError(cause_of(text, code), code, text)

    def _said(self) -> str:
        return text_since(self._log, self._begin)

    def _answers(self) -> bool:
        """Whether the server is ready, and proves that it has the key; another program on its port does not count."""
        asked = secrets.token_hex(16)
        try:
            reply, _ = self._ask("/health", {keyed.ASKED.decode(): asked})
        except (OSError, http.client.HTTPException):
            return False
        proof = hmac.new(self._key.encode(), asked.encode(), "sha256").hexdigest()
        return reply.status == 200 and hmac.compare_digest(reply.headers.get(keyed.PROOF.decode(), ""), proof)

    def _get(self, path: str) -> dict[str, Any]:
        try:
            _, body = self._ask(path, {"Authorization": f"Bearer {self._key}"})
            found = json.loads(body)
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _ask(self, path: str, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SLOW)  # never through a proxy
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            return reply, reply.read(1 << 16)
        finally:
            connection.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def private_folder(folder: Path) -> Path:
    """Make a folder that only this user can read.

    Raises:
        UserError: it cannot be made.
    """
    try:
        make_private(folder)
        folder.chmod(0o700)  # one that was there before, too
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; give another --output") from error
    return folder


def _opened(log: Path) -> Any:
    """Open a log for adding to it; only this user can read it, and a link is not followed."""
    try:
        number = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(number, 0o600)
    except OSError as error:
        raise UserError(f"{log}: cannot be written: {error.strerror}; move it away") from error
    file = os.fdopen(number, "ab", buffering=0)
    file.seek(0, os.SEEK_END)
    return file
