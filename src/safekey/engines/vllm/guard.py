"""Run a server and end it when its owner ends, however that ends. A script: `process.py` starts it by its path.

    python -I -S guard.py FOLDER COMMAND …

Its standard input is a pipe that only the owner holds; its end is the owner's end. Then, or on SIGTERM, the server is
asked to stop, and after some seconds every process that it left is killed and FOLDER, its temporary one, is deleted. It
imports only the standard library, and its exit code is the server's (128 + the number of the signal that killed it).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PREFIX = "safekey-vllm-"
"""How the temporary folder's name begins; no other one is deleted."""
GRACE = 8.0
"""Seconds that the server has to stop by itself."""
_EVERY = 0.2  # seconds between two looks
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # of Linux's prctl


def main(argv: list[str]) -> int:
    """Run the command; return the exit code."""
    folder, command = argv[0], argv[1:]
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is the owner's
    asked = [False]
    signal.signal(signal.SIGTERM, lambda *_: asked.__setitem__(0, True))
    _prctl(_SET_SUBREAPER, 1)
    owner = os.getppid()
    code = 127
    try:
        server = subprocess.Popen(  # noqa: S603 - the command is safekey's
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_die_with_guard,
        )
        code = _wait(server, owner, asked)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        _kill(_left())
        if os.path.basename(folder).startswith(PREFIX):
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _wait(server: subprocess.Popen[bytes], owner: int, asked: list[bool]) -> int:
    while server.poll() is None and not asked[0] and os.getppid() == owner:
        ready, _, _ = select.select([0], [], [], _EVERY)
        if ready and not os.read(0, 64):
            break
    if server.poll() is None:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)
    end = time.monotonic() + 2.0  # its own processes end after it
    while server.poll() is not None and _left(server.pid) and time.monotonic() < end:
        time.sleep(_EVERY)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _left(server: int = 0) -> list[int]:
    """Return the processes of this session, and those that descend from this one, without itself.

    Args:
        server: a child that is waited for elsewhere.
    """
    parents, mine = {}, []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = entry.read_text(errors="replace").rpartition(")")[2].split()
            pid, state, parent, session = int(entry.parent.name), words[0], int(words[1]), int(words[3])
            if state == "Z":
                if parent != os.getpid() or pid == server:
                    continue
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # an orphan that came to us
                continue
            parents[pid] = parent
            if session == os.getpid():
                mine.append(pid)
    found = set(mine)
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid():
            found.add(pid)
    return sorted(found - {os.getpid()})


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _die_with_guard() -> None:
    _prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)


def _prctl(what: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
