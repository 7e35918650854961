"""Build the cell in which an untrusted program runs. A script: `run.py` starts it by its path, as a process of its own.

It reads a request (JSON, in the file that its argument names), builds the cell around itself, and becomes the program.
It imports only the standard library, because it runs with an empty environment and without site packages.

It works on Linux, as root or with user namespaces. The cell has its own file system of a read-only Python and nothing
else, one writable folder in memory, no network device, no view of other processes, a keyring of its own and a filter of
system calls (`system_calls.py`), and ends with everything in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
KEYCTL_JOIN_SESSION_KEYRING = 1
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin")
DEVICES = ("null", "zero", "urandom", "random")
# Flags that a mount may have locked: a remount inside a user namespace has to repeat them (statvfs's bit → mount's).
LOCKED = {8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}


def main() -> None:
    """Build the cell of a request, and run its program."""
    with open(sys.argv[1], encoding="utf-8") as file:
        request: dict[str, Any] = json.load(file)
    os.unlink(sys.argv[1])
    os.umask(0o022)
    libc = ctypes.CDLL(None, use_errno=True)
    _quiet_signals()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _unshare(libc, request["user"])
    child = os.fork()  # the first process of the new process namespace: when it ends, all in there end
    if child:
        # On SIGTERM, end the cell and wait for it: an orphan would stay a zombie where nobody waits for orphans.
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, signal.SIGKILL))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(128 - code if code < 0 else code)
    _furnish(libc, request)
    for name, value in request["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    _drop(request["user"])
    # A session keyring without the caller's keys. Where the kernel has none, the call fails, and there is none to see.
    libc.syscall(KEYCTL[platform.machine()], KEYCTL_JOIN_SESSION_KEYRING, None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # again: a change of user has undone it
    _filter(libc, bytes.fromhex(request["filter"]))
    # The first process of a namespace ignores most signals and must wait for orphans: the program is its child.
    program = os.fork()
    if program:
        os._exit(_wait(program))
    os.setsid()
    os.execve(request["python"], request["command"], {})  # noqa: S606


def _quiet_signals() -> None:
    """Give the program the default signal handlers: the caller's process may ignore some signals."""
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _wait(program: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _unshare(libc: Any, user: int | None) -> None:
    """Leave the host's namespaces; without root, a user namespace gives the right to."""
    kinds = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    uid, gid = os.getuid(), os.getgid()
    _check(libc.unshare(kinds if user is not None else kinds | CLONE_NEWUSER), "unshare")
    if user is None:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


def _furnish(libc: Any, request: dict[str, Any]) -> None:
    """Make a file system in memory that holds a read-only Python, and make it the root."""
    root: str = request["folder"]
    mount = _mounter(libc)
    mount(None, "/", None, MS_REC | MS_PRIVATE, None)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path in (*SYSTEM, *request["readable"]):
        _borrow(mount, path, root + path)
    os.mkdir(root + "/dev", 0o755)
    for name in DEVICES:
        with open(f"{root}/dev/{name}", "w", encoding="ascii"):
            pass
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, MS_BIND, None)
    with open(root + "/main.py", "w", encoding="utf-8") as file:
        file.write(request["code"])
    os.chmod(root + "/main.py", 0o444)
    work = root + "/tmp"  # noqa: S108
    os.mkdir(work, 0o777)
    mount("tmpfs", work, "tmpfs", MS_NOSUID | MS_NODEV, f"size={request['disk']},nr_inodes=4096,mode=1777")
    mount(None, root, None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    os.chdir(root)
    _check(libc.syscall(PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/tmp")  # noqa: S108


def _borrow(mount: Any, source: str, place: str) -> None:
    """Mount a folder of the host into the cell, read-only; a link stays a link."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), place)
    elif os.path.isdir(source) and not os.path.exists(place):
        os.makedirs(place, 0o755)
        mount(source, place, None, MS_BIND | MS_REC, None)
        kept = sum(flag for bit, flag in LOCKED.items() if os.statvfs(place).f_flag & bit)
        mount(None, place, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | kept, None)


def _mounter(libc: Any) -> Any:
    def encode(text: str | None) -> bytes | None:
        return None if text is None else text.encode()

    def mount(source: str | None, place: str, kind: str | None, flags: int, options: str | None) -> None:
        done = libc.mount(encode(source), encode(place), encode(kind), ctypes.c_ulong(flags), encode(options))
        _check(done, f"mount {place}")

    return mount


def _drop(user: int | None) -> None:
    """Become a user that owns nothing, if this process is root."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


class _Program(ctypes.Structure):
    """The kernel's `sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter(libc: Any, instructions: bytes) -> None:
    """Forbid system calls from here on, to every process of the cell; nothing can take it back."""
    program = _Program(len(instructions) // 8, instructions)
    _check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0), "seccomp")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        # Exit code 125, as docker's own: the cell could not be built, and the program never ran.
        print(f"cell: {error}", file=sys.stderr)
        os._exit(125)
