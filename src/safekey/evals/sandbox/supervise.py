"""Watch a program that may not end, may print without end, and may leave others behind: fed, read, ended in time."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

OUTPUT = 1 << 20  # bytes of each of stdout and stderr that are kept; more ends the program
CELL_FAILED = 125


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a program ended.

    Attributes:
        stdout: at most `OUTPUT` bytes of what it wrote.
        stderr: the same.
        exit_code: its exit status, 128 + N for signal N; None when it was stopped from outside.
        stopped: "" or why it was stopped: "time limit" or "output limit".
        seconds: wall time, the building of the cell included.
        isolation: how it was run: "docker", "sealed" or "limits only".
    """

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    stopped: str
    seconds: float
    isolation: str

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.exit_code == 0 and not self.stopped

    @property
    def failed_to_start(self) -> str:
        """Why the program never ran, "" when it did."""
        text = self.stderr.decode("utf-8", "replace").strip()
        cell = self.exit_code == CELL_FAILED and text.startswith("cell:")
        docker = self.isolation == "docker" and self.exit_code in (CELL_FAILED, 126, 127)
        return text[-300:] or f"exit code {self.exit_code}" if cell or docker else ""


def watch(
    command: Sequence[str], stdin: bytes, timeout: float, isolation: str, environment: Mapping[str, str] | None = None
) -> RunResult:
    """Start a command in its own session, feed it, read it, and end it when it must end."""
    start = time.monotonic()
    process = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        start_new_session=True,
    )  # fmt: skip
    try:
        stdout, stderr, stopped = _exchange(process, stdin, start + timeout)
        if not stopped:
            try:
                process.wait(max(0.0, start + timeout - time.monotonic()))
            except subprocess.TimeoutExpired:
                stopped = "time limit"
    finally:
        _end(process)
    code = None if stopped else process.returncode
    if code is not None and code < 0:
        code = 128 - code
    return RunResult(stdout, stderr, code, stopped, time.monotonic() - start, isolation)


def _exchange(process: subprocess.Popen[bytes], stdin: bytes, deadline: float) -> tuple[bytes, bytes, str]:
    """Write `stdin` and read both outputs until they close, the deadline passes, or one is too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    kept = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    rest = memoryview(stdin)
    stopped = ""
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            selector.register(stream, selectors.EVENT_READ)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map() and not stopped:
            left = deadline - time.monotonic()
            if left <= 0:
                stopped = "time limit"
                break
            for key, _ in selector.select(left):
                if key.fileobj is process.stdin:
                    rest = _feed(process.stdin, rest)
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                block = os.read(key.fd, 1 << 16)
                kept[key.fd] += block
                if not block:
                    selector.unregister(key.fileobj)
                elif len(kept[key.fd]) > OUTPUT:
                    stopped = "output limit"
    stdout, stderr = (bytes(data[:OUTPUT]) for data in kept.values())
    return stdout, stderr, stopped


def _feed(pipe: IO[bytes], rest: memoryview) -> memoryview:
    """Write what the pipe takes, and return what is left; nothing is left for a program that has closed it."""
    try:
        return rest[os.write(pipe.fileno(), rest[: 1 << 16]) :] if rest else rest
    except BlockingIOError:
        return rest
    except OSError:
        return rest[:0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program's whole session; its cell's processes end with the cell's first one."""
    if process.poll() is None:
        process.terminate()  # the cell's outer process then ends the cell, and collects it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
