"""Compare two formulas with math-verify, in a worker process that is limited in time and memory."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path

WORKER = Path(__file__).with_name("math_worker.py")
TIMEOUT = 10.0  # seconds for one comparison
START = 60.0  # seconds for a worker to load SymPy
WARM_UP = b'{"gold": "1", "answer": "1"}\n'
TOO_LONG = "not comparable within the time limit"
BROKEN = "not comparable: the comparison ran out of memory or broke off"


class MathChecker:
    """One worker process, started when it is first needed and again after it had to be killed.

    Any thread may call it; calls wait for one another.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def equal(self, gold: str, answer: str) -> tuple[bool | None, str]:
        """Return whether two formulas in LaTeX are equal, and ""; or None, and why they could not be compared."""
        request = json.dumps({"gold": gold, "answer": answer}).encode() + b"\n"
        with self._lock:
            if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
                self._start()
                self._ask(WARM_UP, START)
            line = self._ask(request, self.timeout)
            if line is None or not line.endswith(b"\n"):
                self.close()
                return None, TOO_LONG if line is None else BROKEN
        reply = json.loads(line)
        error = reply.get("error", "")
        return (None, str(error)) if error else (reply["equal"] is True, "")

    def close(self) -> None:
        """End the worker; the next call of `equal` starts another."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _start(self) -> None:
        self.close()
        self._owner = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,  # Ctrl-C goes to the caller, which then ends the worker
        )

    def _ask(self, request: bytes, timeout: float) -> bytes | None:
        """Return the line of the reply; None when the time is up, part of a line when the worker ended."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
        except OSError:
            return b""
        deadline, line = time.monotonic() + timeout, b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                block = os.read(process.stdout.fileno(), 1 << 16)
                if not block:
                    return line
                line += block
        return line


CHECKER = MathChecker()
atexit.register(CHECKER.close)
