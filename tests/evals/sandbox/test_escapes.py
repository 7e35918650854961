"""Ways out of the cell: the caller's keys, memory that no limit sees, other processes, the kernel's rarer calls."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from safekey.evals.sandbox import run as sandbox
from safekey.evals.sandbox.run import RunResult, run_python, sandbox_status
from safekey.evals.sandbox.system_calls import filter_program

pytestmark = [
    pytest.mark.skipif(not sandbox_status().sealed, reason=f"cannot seal a process: {sandbox_status().reason}"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks below name system calls of x86-64"),
]
ADD_KEY, KEYCTL = 248, 250
SESSION, USER, USER_SESSION = -3, -4, -5
READ, SEARCH, UNLINK = 11, 10, 9
LIBC = ctypes.CDLL(None, use_errno=True)
HEAD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
def call(*words):
    words = [ctypes.c_long(w) if isinstance(w, int) else w for w in words]
    found = libc.syscall(*words)
    return found if found >= 0 else -ctypes.get_errno()
"""


def run(code: str, timeout: float = 20.0, **more: int) -> RunResult:
    return run_python(HEAD + textwrap.dedent(code), timeout=timeout, mode="unsafe-local", **more)


@pytest.fixture
def unfiltered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell without its filter: what the other walls alone hold."""
    monkeypatch.setattr(sandbox, "filter_program", lambda machine: struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))


@pytest.fixture
def secret() -> Iterator[int]:
    """A key in this process's session keyring."""
    text = ctypes.create_string_buffer(b"plum")
    key = LIBC.syscall(ADD_KEY, b"user", b"safekey-test", text, 4, ctypes.c_int(SESSION))
    if key < 0:
        pytest.skip(f"this kernel takes no keys: {os.strerror(ctypes.get_errno())}")
    yield key
    LIBC.syscall(KEYCTL, UNLINK, key, ctypes.c_int(SESSION))


KEYS = f"""
    buffer = ctypes.create_string_buffer(99)
    print("search", call({KEYCTL}, {SEARCH}, {SESSION}, b"user", b"safekey-test", 0))
    print("read", call({KEYCTL}, {READ}, int(sys.stdin.readline()), buffer, 99), buffer.value)
    print("write", call({ADD_KEY}, b"user", b"safekey-left", ctypes.create_string_buffer(b"pear"), 4, {SESSION}))
"""


def test_the_callers_keys_are_out_of_reach(secret: int) -> None:
    found = run_python(HEAD + textwrap.dedent(KEYS), stdin=f"{secret}\n".encode(), mode="unsafe-local")
    refused = -errno.EPERM
    assert found.stdout.decode().splitlines() == [f"search {refused}", f"read {refused} b''", f"write {refused}"]
    assert LIBC.syscall(KEYCTL, SEARCH, ctypes.c_int(SESSION), b"user", b"safekey-left", 0) == -1


@pytest.mark.usefixtures("unfiltered")
def test_the_keyring_is_the_cells_own_even_without_the_filter(secret: int) -> None:
    found = run_python(HEAD + textwrap.dedent(KEYS), stdin=f"{secret}\n".encode(), mode="unsafe-local")
    search, read, write = found.stdout.decode().splitlines()
    assert search == f"search {-errno.ENOKEY}"
    assert read.startswith("read -")
    assert "plum" not in read
    assert int(write.split()[1]) > 0  # into its own keyring, which ends with it
    assert LIBC.syscall(KEYCTL, SEARCH, ctypes.c_int(SESSION), b"user", b"safekey-left", 0) == -1


HOARDS = {
    "system V": """
        held = 0
        for _ in range(64):
            number = libc.shmget(0, 32 << 20, 0o1777)
            if number < 0: break
            place = libc.shmat(number, None, 0)
            ctypes.memset(place, 1, 32 << 20)
            libc.shmdt(ctypes.c_void_p(place))
            held += 32 << 20
    """,
    "memfd": """
        held = 0
        try:
            for _ in range(16):
                held += os.write(os.memfd_create("x"), bytes(1 << 24))
        except OSError:
            pass
    """,
    "message queues": """
        held = 0
        for _ in range(200):
            number = libc.msgget(0, 0o1777)
            if number < 0: break
            text = ctypes.create_string_buffer(8200)
            text[0] = 1
            while libc.msgsnd(number, text, 8000, 0o4000) == 0: held += 8000
    """,
    "shared mappings": """
        held = 0
        for child in range(6):
            place = libc.mmap(None, 60 << 20, 3, 0x21, -1, 0)
            if place in (None, ctypes.c_void_p(-1).value): break
            ctypes.memset(place, 1, 60 << 20)
            held += 60 << 20
            if os.fork() == 0: import time; time.sleep(5); os._exit(0)
    """,
    "validated shared mappings": """
        place = libc.mmap(None, 60 << 20, 3, 0x23, -1, 0)
        held = 0 if place in (None, ctypes.c_void_p(-1).value) else 60 << 20
    """,
    "POSIX shared memory": """
        held = 0
        try:
            for number in range(16):
                file = os.open(f"/dev/shm/{number}", os.O_RDWR | os.O_CREAT, 0o600)
                held += os.write(file, bytes(1 << 24))
        except OSError:
            pass
    """,
    "pipes": """
        import fcntl
        held = 0
        try:
            while True:
                read, write = os.pipe()
                fcntl.fcntl(write, 1031, 1 << 20)
                os.set_blocking(write, False)
                held += os.write(write, bytes(1 << 20))
        except OSError:
            pass
    """,
    "io_uring and aio": """
        ring = (ctypes.c_char * 120)()
        made = [call(425, 4096, ring), call(206, 1000, ctypes.byref(ctypes.c_ulong(0)))]
        held = 0 if max(made) < 0 else 1 << 30
    """,
    "disk": """
        held, number = 0, 0
        try:
            while True:
                number += 1
                with open(f"/tmp/{number}", "wb") as file: held += file.write(bytes(1 << 22))
        except OSError:
            pass
    """,
}


@pytest.mark.parametrize("way", list(HOARDS))
def test_no_memory_beyond_the_limit(way: str) -> None:
    found = run(f"{textwrap.dedent(HOARDS[way])}\nprint(held)", memory=128 << 20)
    assert found.stdout, found.stderr
    most = {"pipes": 64 << 20, "disk": sandbox.DISK}.get(way, 0)
    assert int(found.stdout.split()[-1]) <= most
    assert found.seconds < 15


@pytest.mark.usefixtures("unfiltered")
@pytest.mark.parametrize("way", ["system V", "memfd"])
def test_the_attacks_are_real_where_there_is_no_filter(way: str) -> None:
    code = textwrap.dedent(HOARDS[way]).replace("range(64)", "range(6)")
    found = run(f"{code}\nprint(held)", memory=128 << 20)
    assert int(found.stdout.split()[-1]) > 128 << 20


def test_the_kernels_rarer_calls_are_forbidden() -> None:
    calls = {
        "ptrace": (101, 16, 1, 0, 0), "process_vm_readv": (310, 1, 0, 0, 0, 0, 0), "bpf": (321, 0, 0, 0),
        "perf_event_open": (298, 0, 0, -1, -1, 0), "userfaultfd": (323, 0), "unshare": (272, 0x10000000),
        "setns": (308, 0, 0), "mount": (165, 0, 0, 0, 0, 0), "open_tree": (428, -100, 0, 0), "keyctl": (250, 0, -3, 1),
        "clone in new namespaces": (56, 0x10000000 | 17, 0, 0, 0, 0), "open_by_handle_at": (304, -100, 0, 0),
        "the second table": (0x40000000 + 39,), "kexec_load": (246, 0, 0, 0, 0), "pidfd_getfd": (438, 0, 0, 0),
    }  # fmt: skip
    found = run(f"for name, words in {calls!r}.items(): print(name, call(*words), sep=': ')\nprint(call(435, 0, 0))")
    *lines, clone3 = found.stdout.decode().splitlines()
    assert lines == [f"{name}: {-errno.EPERM}" for name in calls]
    assert clone3 == str(-errno.ENOSYS)


def test_sockets_lead_nowhere() -> None:
    found = run(
        """
        import socket
        for family, kind in ((40, 1), (17, 3), (38, 5), (16, 3)):  # vsock, raw packets, the kernel's ciphers, netlink
            try:
                socket.socket(family, kind, 15 if family == 16 else 0)
                print("made", family)
            except OSError as error:
                print(error.errno)
        a, b = socket.socketpair()
        a.send(b"fine"); print(b.recv(9))
        print(socket.if_nameindex())
        """
    )
    refused = str(errno.EAFNOSUPPORT)
    assert found.stdout.decode().splitlines() == [refused] * 4 + ["b'fine'", "[(1, 'lo')]"]


def test_a_32_bit_call_ends_the_program() -> None:
    """`int 0x80` takes the 32-bit table, whose numbers mean other calls."""
    found = run(
        """
        import mmap
        page = libc.mmap(None, 4096, 7, 0x22, -1, 0)
        code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20 (getpid); int 0x80; ret
        ctypes.memmove(page, code, len(code))
        print("pid", ctypes.CFUNCTYPE(ctypes.c_int)(page)())
        """
    )
    assert b"pid" not in found.stdout
    assert found.exit_code not in (0, None)


def test_it_sees_and_signals_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEKEY_TEST_SECRET", "plum")
    found = run(
        f"""
        import signal
        seen = []
        for number in [{os.getpid()}, {os.getppid()}, 1, os.getppid()]:
            for name in ("environ", "mem", "maps", "cmdline"):
                try:
                    seen.append(open(f"/proc/{{number}}/{{name}}", "rb").read())
                except OSError:
                    pass
        for number in range(2, 4000):
            if number != os.getpid():
                try:
                    os.kill(number, 0); seen.append(number)
                except OSError:
                    pass
        print(seen)
        """
    )
    assert found.stdout == b"[]\n"
    os.kill(os.getpid(), 0)


def test_forks_threads_and_open_files_are_bounded() -> None:
    found = run(
        """
        import threading, time
        made = 0
        try:
            while True:
                if os.fork() == 0: time.sleep(5); os._exit(0)
                made += 1
        except OSError:
            print(made)
        files = []
        try:
            while True: files.append(open("/dev/null"))
        except OSError:
            print(len(files))
        """
    )
    forks, files = map(int, found.stdout.split())
    assert forks < sandbox.PROCESSES
    assert files < sandbox.OPEN_FILES


def test_limits_cannot_be_raised() -> None:
    found = run(
        """
        import resource
        for name in ("AS", "NPROC", "NOFILE", "FSIZE", "CPU"):
            try:
                resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (resource.RLIM_INFINITY,) * 2)
                print("raised", name)
            except (OSError, ValueError):
                pass
        """
    )
    assert found.stdout == b""
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY or sys.platform != "linux"


def test_ordinary_programs_run_as_before() -> None:
    found = run(
        """
        import concurrent.futures, mmap, subprocess, tempfile, threading, zlib
        with concurrent.futures.ThreadPoolExecutor(2) as pool: print(sum(pool.map(abs, [-1, -2])))
        print(subprocess.run([sys.executable, "-I", "-S", "-c", "print(5)"], capture_output=True).stdout)
        with tempfile.TemporaryFile() as file:
            file.write(bytes(4096)); file.flush()
            print(len(mmap.mmap(file.fileno(), 4096)))
        print(len(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
        print(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)(1))
        """
    )
    assert found.stdout.decode().splitlines() == ["3", "b'5\\n'", "4096", "4096", "2"], found.stderr


def test_filters_of_other_machines(tmp_path: Path) -> None:
    for machine in ("x86_64", "aarch64", "riscv64"):
        program = filter_program(machine)
        assert len(program) % 8 == 0
        assert program[-8:] == struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # what is not named is allowed
    with pytest.raises(ValueError, match="no system-call filter for mips"):
        filter_program("mips")
