"""Run an untrusted Python program: in docker, or, when the user says so, in a sealed local process.

    result = run_python("print(6 * 7)", timeout=5, memory=512 << 20, mode="unsafe-local")
    result.ok, result.stdout         # True, b"42\\n"

"unsafe-local" on Linux is a cell of namespaces (`cell.py`): no network, no files but a read-only Python, no
environment, a user that owns nothing, limits on everything, and an end to every process in it. It shares the host's
kernel and is no virtual machine: hence its name. docs/benchmarks.md lists what it was tried against.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from safekey.errors import UserError
from safekey.evals.sandbox.supervise import RunResult, watch

Mode = Literal["docker", "unsafe-local"]

CELL = Path(__file__).with_name("cell.py")
DOCKER_IMAGE = "python:3.11-slim"
MEMORY = 512 << 20  # bytes of address space of each process
DISK = 64 << 20  # bytes that can be written, in memory
FILE_SIZE = 16 << 20  # bytes of one file
PROCESSES = 8  # so the whole cell holds at most PROCESSES × memory
OPEN_FILES = 64
FIRST_USER = 0x70000000  # user ids that no account has; one for each running cell, as limits on processes count by user


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What this machine offers.

    Attributes:
        docker: whether a docker engine answers.
        sealed: whether a local process can be sealed (own file system, no network).
        reason: why it cannot, "" when it can.
    """

    docker: bool
    sealed: bool
    reason: str


def run_python(
    code: str,
    *,
    stdin: bytes = b"",
    timeout: float = 10.0,
    memory: int = MEMORY,
    mode: Mode = "docker",
    require_sealed: bool = True,
) -> RunResult:
    """Run a program, and return how it ended; it can be called from any thread.

    Args:
        code: the program's text; it sees only the standard library.
        stdin: what it can read.
        timeout: seconds of wall time; as many, rounded up, of CPU time for each of its processes.
        memory: bytes of address space of each process (docker: of all of them together).
        mode: "docker", or "unsafe-local", which only an explicit wish of the user may choose.
        require_sealed: refuse "unsafe-local" where network and files cannot be taken away. False runs it with the
            limits alone: it can then read what the user can, and reach the network.

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
    if not status.sealed and require_sealed:
        raise UserError(
            f"sandbox: this machine cannot seal a process ({status.reason}): generated code could read your files and "
            "reach the network. Use docker"
        )
    return _in_cell(code, stdin, timeout, memory, sealed=status.sealed)


@cache
def sandbox_status() -> SandboxStatus:
    """Find out, once a process, what this machine offers; it takes about a second."""
    reason = ""
    if sys.platform != "linux":
        reason = "namespaces exist on Linux only"
    else:
        trial = _in_cell("print('sealed')", b"", 10.0, MEMORY, sealed=True)
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


def docker_command(name: str, program: str, memory: int, image: str = DOCKER_IMAGE) -> list[str]:
    """Return the command that runs the file `program` in a container without network, rights or writable files.

    Not tried here: the machine this was written on has no docker engine.
    """
    return [
        *("docker", "run", "--rm", "--interactive", "--init", "--name", name, "--network", "none", "--read-only"),
        *("--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--memory", str(memory), "--memory-swap", str(memory), "--pids-limit", str(PROCESSES + 8), "--cpus", "1"),
        *("--ulimit", f"fsize={FILE_SIZE}", "--ulimit", f"nofile={OPEN_FILES}", "--ulimit", "core=0"),
        *("--tmpfs", f"/tmp:rw,nosuid,nodev,size={DISK},mode=1777", "--workdir", "/tmp"),  # noqa: S108
        *("--mount", f"type=bind,source={program},target=/main.py,readonly"),
        *(image, "python", "-I", "-S", "-X", "utf8", "/main.py"),
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
            # The client's start and the engine's are not the program's time.
            return watch(docker_command(name, str(program), memory), stdin, timeout + 10.0, "docker")
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


def _in_cell(code: str, stdin: bytes, timeout: float, memory: int, *, sealed: bool) -> RunResult:
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    root = os.geteuid() == 0
    user = first_user() + secrets.randbelow(0x1000) if root else None
    with tempfile.TemporaryDirectory(prefix="safekey-") as folder:
        program = "/main.py" if sealed else f"{folder}/main.py"
        if not sealed:
            Path(program).write_text(code, encoding="utf-8")
            if user is not None:
                os.chown(folder, user, user)
        order = {
            "sealed": sealed,
            "user": user,
            "folder": os.path.realpath(folder),
            "readable": [os.path.realpath(sys.base_prefix)],
            "code": code,
            "disk": DISK,
            "python": python,
            "command": [python, "-I", "-S", "-X", "utf8", program],
            "limits": _limits(timeout, memory),
        }
        paper = Path(folder, "order.json")
        paper.write_text(json.dumps(order), encoding="utf-8")
        command = [python, "-I", "-S", str(CELL), str(paper)]
        result = watch(command, stdin, timeout, "sealed" if sealed else "limits only", {})
        if not sealed and user is not None:
            _kill_user(user)
        return result


def _limits(timeout: float, memory: int) -> dict[str, int]:
    return {
        "CPU": int(timeout) + 1,
        "AS": memory,
        "FSIZE": FILE_SIZE,
        "NPROC": PROCESSES,
        "NOFILE": OPEN_FILES,
        "CORE": 0,
    }


def _kill_user(user: int) -> None:
    """Kill what has left the session, when there was no cell to end: everything that runs as this user."""
    code = f"import os; os.setresuid({user}, {user}, {user}); os.kill(-1, 9)"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False, capture_output=True)  # noqa: S603
