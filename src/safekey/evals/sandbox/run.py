"""Run an untrusted Python program: in docker, or, when the user allows it, in a sealed local process.

    result = run_python("print(6 * 7)", timeout=5, mode="unsafe-local")
    result.ok, result.stdout         # True, b"42\\n"

"unsafe-local" on Linux is a cell of namespaces (`cell.py`): no network, no files but a read-only Python, no
environment, a user without rights, limits on everything, no shared memory, no keys, and an end to every process in it.
It shares the host's kernel and is no virtual machine: hence its name. docs/benchmarks.md lists the attacks tried on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal

from safekey.errors import UserError
from safekey.evals.sandbox.system_calls import filter_program

Mode = Literal["docker", "unsafe-local"]

CELL = Path(__file__).with_name("cell.py")
CELL_FAILED = 125
DOCKER_IMAGE = "python:3.11-slim"
MEMORY = 512 << 20  # bytes of address space of each process
DISK = 64 << 20  # bytes that can be written, in memory
FILE_SIZE = 16 << 20  # bytes of one file
OUTPUT = 1 << 20  # bytes of each of stdout and stderr that are kept; more ends the program
PROCESSES = 8  # so the whole cell holds at most PROCESSES × memory
OPEN_FILES = 64
FIRST_USER = 0x70000000  # user ids without an account; one for each running cell, because process limits count by user


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a program ended.

    Attributes:
        stdout: what it wrote, at most `OUTPUT` bytes.
        stderr: the same.
        exit_code: its exit status, 128 + N for signal N; None when it was stopped from outside.
        stopped: "" or why it was stopped: "time limit" or "output limit".
        seconds: wall time, with the time to build the cell.
        isolation: how it was run: "docker" or "sealed".
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


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What this machine offers.

    Attributes:
        docker: whether a docker engine answers.
        sealed: whether a local process can be sealed (own file system, no network).
        reason: why it cannot be sealed, "" when it can.
    """

    docker: bool
    sealed: bool
    reason: str


def run_python(
    code: str, *, stdin: bytes = b"", timeout: float = 10.0, memory: int = MEMORY, mode: Mode = "docker"
) -> RunResult:
    """Run a program, and return how it ended; any thread may call it.

    Args:
        code: the program's text; it can import the standard library only.
        stdin: what it can read.
        timeout: seconds of wall time; as many, rounded up, of CPU time for each of its processes.
        memory: bytes of address space of each process (docker: of all of them together).
        mode: "docker", or "unsafe-local", only when the user asks for it.

    Raises:
        UserError: no docker engine answers; or the local process cannot be sealed.
    """
    if timeout <= 0 or memory < 32 << 20:
        raise UserError(f"sandbox: expected more than 0 s and at least 32 MiB, found {timeout} s and {memory} bytes")
    if mode == "docker":
        return _in_docker(code, stdin, timeout, memory)
    if mode != "unsafe-local":
        raise UserError(f"sandbox: unknown mode '{mode}'; expected docker or unsafe-local")
    status = sandbox_status()
    if not status.sealed:
        raise UserError(
            f"sandbox: this machine cannot seal a process ({status.reason}): generated code could read your files and "
            "reach the network. Use docker"
        )
    return _in_cell(code, stdin, timeout, memory)


@cache
def sandbox_status() -> SandboxStatus:
    """Find out what this machine offers, once in a process; it takes about a second."""
    reason = ""
    if sys.platform != "linux":
        reason = "namespaces exist on Linux only"
    else:
        try:
            trial = _in_cell("print('sealed')", b"", 10.0, MEMORY)
        except ValueError as error:  # no filter for this machine
            return SandboxStatus(docker=_docker_answers(), sealed=False, reason=str(error))
        if trial.stdout != b"sealed\n":
            last = trial.stderr.decode("utf-8", "replace").strip().splitlines()
            reason = last[-1] if last else f"exit code {trial.exit_code}"
    return SandboxStatus(docker=_docker_answers(), sealed=not reason, reason=reason)


def need_sandbox(unsafe_local_exec: bool) -> None:
    """Check that generated code can be run here.

    Raises:
        UserError: there is neither docker nor, where it was allowed, a sealed local process.
    """
    status = sandbox_status()
    if unsafe_local_exec and not status.sealed:
        raise UserError(f"humaneval: this machine cannot seal a local process ({status.reason}): use docker")
    if not unsafe_local_exec and not status.docker:
        raise UserError(
            "humaneval runs generated code and no docker engine answers: start docker, or give "
            "--unsafe-local-exec to run it in a sealed local process"
        )


def docker_command(name: str, program: str, memory: int) -> list[str]:
    """Return the command that runs the file `program` in a container without network, rights or writable files.

    It has not been tried with a docker engine yet.
    """
    return [
        *("docker", "run", "--rm", "--interactive", "--init", "--name", name, "--network", "none", "--read-only"),
        *("--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--memory", str(memory), "--memory-swap", str(memory), "--pids-limit", str(PROCESSES + 8), "--cpus", "1"),
        *("--ulimit", f"fsize={FILE_SIZE}", "--ulimit", f"nofile={OPEN_FILES}", "--ulimit", "core=0"),
        *("--tmpfs", f"/tmp:rw,nosuid,nodev,size={DISK},mode=1777", "--workdir", "/tmp"),  # noqa: S108
        *("--mount", f"type=bind,source={program},target=/main.py,readonly"),
        *(DOCKER_IMAGE, "python", "-I", "-S", "-X", "utf8", "/main.py"),
    ]  # fmt: skip


def first_user() -> int:
    """Return the first of the 4096 user ids that this process gives to its cells when it runs as root."""
    return FIRST_USER + os.getpid() % 0x10000 * 0x1000


def _in_docker(code: str, stdin: bytes, timeout: float, memory: int) -> RunResult:
    if not _docker_answers():
        raise UserError(
            "sandbox: no docker engine answers (`docker info`): start it, or, if you accept to run generated code in a "
            "sealed local process, give --unsafe-local-exec"
        )
    name = f"safekey-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="safekey-") as folder:
        program = Path(folder, "main.py")
        program.write_text(code, encoding="utf-8")
        os.chmod(folder, 0o755)  # noqa: S103 - the container's user is another one
        try:
            # The start of client and engine does not count as the program's time.
            return _watch(docker_command(name, str(program), memory), stdin, timeout + 10.0, "docker")
        finally:
            subprocess.run(["docker", "kill", name], capture_output=True, check=False)  # noqa: S603, S607


@cache
def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False


def _in_cell(code: str, stdin: bytes, timeout: float, memory: int) -> RunResult:
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    limits = {"CPU": int(timeout) + 1, "AS": memory, "FSIZE": FILE_SIZE}
    with tempfile.TemporaryDirectory(prefix="safekey-") as folder:
        request = {
            "user": first_user() + secrets.randbelow(0x1000) if os.geteuid() == 0 else None,
            "folder": os.path.realpath(folder),
            "readable": [os.path.realpath(sys.base_prefix)],
            "code": code,
            "filter": filter_program(platform.machine()).hex(),
            "disk": DISK,
            "python": python,
            "command": [python, "-I", "-S", "-X", "utf8", "/main.py"],
            "limits": limits | {"NPROC": PROCESSES, "NOFILE": OPEN_FILES, "CORE": 0},
        }
        file = Path(folder, "request.json")
        file.write_text(json.dumps(request), encoding="utf-8")
        return _watch([python, "-I", "-S", str(CELL), str(file)], stdin, timeout, "sealed", {})


def _watch(
    command: Sequence[str], stdin: bytes, timeout: float, isolation: str, environment: Mapping[str, str] | None = None
) -> RunResult:
    """Start a command in its own session, write its stdin, read its output, and end it when it must end."""
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
    """Write what the pipe takes, and return the rest; nothing is left for a program that has closed its stdin."""
    try:
        return rest[os.write(pipe.fileno(), rest[: 1 << 16]) :] if rest else rest
    except BlockingIOError:
        return rest
    except OSError:
        return rest[:0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program's whole session; a cell's processes end with its first one."""
    if process.poll() is None:
        process.terminate()  # the cell's outer process then ends the cell and waits for it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
