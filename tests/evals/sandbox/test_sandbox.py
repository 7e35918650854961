"""Programs that mean harm, and what becomes of them. All of them are harmless to the machine that runs these tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from safekey.errors import UserError
from safekey.evals.answers.exact import NO_ANSWER
from safekey.evals.answers.program import score_code
from safekey.evals.benchmarks.load import load_benchmark
from safekey.evals.sandbox import run as sandbox
from safekey.evals.sandbox.run import OUTPUT, RunResult, docker_command, run_python, sandbox_status
from toys import SHARED

sealed = pytest.mark.skipif(not sandbox_status().sealed, reason=f"cannot seal a process: {sandbox_status().reason}")

PROBLEM = {
    "code": 'def double(x):\n    """Return twice x."""\n',
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-3) == -6\n",
    "entry_point": "double",
}
GOOD = "def double(x):\n    return 2 * x"


def run(code: str, timeout: float = 10.0, **more: int) -> RunResult:
    return run_python(textwrap.dedent(code), timeout=timeout, mode="unsafe-local", **more)


def score(code: str, timeout: float = 10.0) -> tuple[bool | None, str]:
    result = score_code(f"```python\n{textwrap.dedent(code)}\n```", PROBLEM, mode="unsafe-local", timeout=timeout)
    return result.correct, result.reason


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No process outlives its cell, and no folder stays."""
    yield
    for _ in range(50):
        left = _cell_processes()
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"left running: {left}")


def _cell_processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            status = path.read_text()
            line = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if b"main.py" in line and b"-I" in line and f"PPid:\t{os.getpid()}" in status:
            found.append(line.decode())
        uid = int(next(row.split()[1] for row in status.splitlines() if row.startswith("Uid:")))
        if uid >> 12 == sandbox.first_user() >> 12:
            found.append(f"{line.decode()} of user {uid}")
    return found


@sealed
def test_an_ordinary_program() -> None:
    result = run_python("print(input())\nimport sys; print('x', file=sys.stderr)", stdin=b"in\n", mode="unsafe-local")
    assert (result.stdout, result.stderr, result.exit_code, result.stopped) == (b"in\n", b"x\n", 0, "")
    assert result.ok
    assert result.isolation == "sealed"
    assert run("raise SystemExit(3)").exit_code == 3
    assert not run("1 / 0").ok


@sealed
def test_it_sees_no_environment_no_home_and_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "plum")
    secret = tmp_path / "secret"
    secret.write_text("plum")
    os.chmod(secret, 0o644)
    result = run(
        f"""
        import os, pathlib
        seen = [repr(dict(os.environ))]
        places = ["/etc/passwd", "/etc/shadow", "/proc/1/environ", {str(secret)!r}, {str(Path.home())!r}, "/root",
                  "/home", {str(Path.cwd())!r}, "/var", "/sys", "/run", "~"]
        for place in places:
            try:
                path = pathlib.Path(place).expanduser()
                seen.append(path.read_text() if path.is_file() else repr(sorted(os.listdir(path))))
            except Exception as error:
                seen.append(type(error).__name__)
        print(seen)
        """
    )
    text = result.stdout.decode()
    assert result.ok
    assert "plum" not in text
    assert "root:" not in text
    assert "{'LC_CTYPE': 'C.UTF-8'}" in text
    for name in os.listdir(Path.home()):
        # the folders on the way to the interpreter are there, and nothing beside them
        assert repr(name) not in text or sys.base_prefix.startswith(str(Path.home() / name))


@sealed
def test_it_writes_nowhere_but_in_its_own_folder(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    targets = [
        "/x",
        "/usr/x",
        f"{sys.base_prefix}/x",
        f"{tmp_path}/x",
        "/dev/x",
        "/main.py",
        "/var/tmp/x",
        "/dev/shm/x",
    ]
    result = run(
        f"""
        import os
        for path in {targets!r}:
            try:
                open(path, "w").write("plum")
                print("wrote", path)
            except OSError:
                pass
        for path in ("/main.py", "/usr/bin", os.__file__):
            try:
                os.remove(path)
                print("removed", path)
            except OSError:
                pass
        open("/tmp/mine", "w").write("fine")
        print(open("mine").read())
        """
    )
    assert result.stdout == b"fine\n"
    assert list(tmp_path.iterdir()) == []


@sealed
def test_there_is_no_network() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run(
            f"""
            import socket
            for family, address in ((socket.AF_INET, ("127.0.0.1", {port})), (socket.AF_INET, ("8.8.8.8", 53))):
                try:
                    socket.socket(family).connect(address)
                    print("connected")
                except OSError as error:
                    print(error.errno)
            print(socket.if_nameindex())
            """
        )
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert b"connected" not in result.stdout
    assert b"[(1, 'lo')]" in result.stdout


@sealed
def test_it_is_nobody_and_cannot_become_more() -> None:
    result = run(
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        print(os.getuid() == 0, os.getgid() == 0, os.getgroups() == [0])
        for call in (lambda: os.setuid(0), lambda: os.chroot("/tmp"), lambda: os.mknod("/tmp/disk", 0o60666, 0x100)):
            try:
                call(); print("done")
            except OSError:
                pass
        print(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), libc.umount2(b"/tmp", 2))
        """
    )
    assert b"done" not in result.stdout
    assert result.stdout.splitlines()[-1] == b"-1 -1"
    assert result.stdout.splitlines()[0].startswith(b"False False")


@sealed
@pytest.mark.parametrize(
    ("code", "stopped"),
    [
        ("import time; time.sleep(600)", "time limit"),
        ("while True: pass", "time limit"),
        ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", "time limit"),
        ("import os, signal\nfor n in range(1, 64):\n  try: signal.signal(n, signal.SIG_IGN)\n  except OSError: pass\n"
         "os.setsid() if os.getpid() != os.getsid(0) else None\nwhile True: pass", "time limit"),
        ("import sys\nwhile True: sys.stdout.write('x' * 10**6)", "output limit"),
        ("import sys\nfor n in range(1000): sys.stderr.write('x' * 10**6)", "output limit"),
    ],
    ids=["sleeps", "spins", "forks", "ignores signals", "prints without end", "prints 1 GB"],
)  # fmt: skip
def test_what_does_not_end_is_ended(code: str, stopped: str) -> None:
    result = run(code, timeout=2.0)
    assert result.stopped == stopped
    assert result.exit_code is None
    assert not result.ok
    assert result.seconds < 6
    assert len(result.stdout) <= OUTPUT


@sealed
@pytest.mark.parametrize(
    "code",
    [
        "hold = []\nwhile True: hold.append(bytearray(10**7))",
        "number = 0\nwhile True:\n  number += 1\n  open(f'/tmp/{number}', 'wb').write(bytes(10**7))",
        "open('/tmp/one', 'wb').write(bytes(10**8))",
        "number = 0\nwhile True:\n  number += 1\n  open(f'/tmp/{number}', 'w').close()",
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "hold = [open('/dev/null') for _ in range(1000)]",
        "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        "import os; os.kill(os.getpid(), 11)",
        "import os; os.kill(-1, 9)",
        "import os; os.abort()",
    ],
    ids=["memory", "disk", "one file", "inodes", "threads", "files", "stack", "segfault", "kills all", "aborts"],
)
def test_limits_hold(code: str) -> None:
    result = run(code, memory=128 << 20)
    assert not result.ok
    assert result.exit_code not in (None, 125)
    assert result.seconds < 10


@sealed
def test_children_end_with_the_program() -> None:
    result = run("import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(600)\nprint('parent ends')")
    assert result.stdout == b"parent ends\n"
    assert result.seconds < 5


@sealed
def test_cells_do_not_disturb_one_another() -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: run(f"import os\nprint({n}, os.listdir('/tmp'), os.fork() >= 0)"), range(12)))
    assert all(result.stdout.startswith(f"{n} [] True".encode()) for n, result in enumerate(results))


@sealed
def test_without_root_a_user_namespace_does_the_same() -> None:
    if os.geteuid() != 0:
        pytest.skip("these tests run without root already")
    python = "/usr/bin/python3"
    if not os.path.exists(python) or subprocess.run(["unshare", "-Urmn", "true"], check=False).returncode:
        pytest.skip("no interpreter for other users, or no user namespaces")
    source = Path(sandbox.__file__).parents[3]
    code = (
        f"import sys, types; sys.path.insert(0, {str(source)!r})\n"
        "from safekey.evals.sandbox.run import run_python, sandbox_status\n"
        "print(sandbox_status().sealed, sandbox_status().reason)\n"
        "r = run_python('import os, socket; print(os.getuid(), sorted(os.listdir(\"/\")), socket.if_nameindex())',"
        " mode='unsafe-local'); print(r.stdout, r.stderr)\n"
        "print(run_python('import os; os.setuid(0)', mode='unsafe-local').exit_code)\n"
    )
    command = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", python, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if "Permission" in done.stderr:
        pytest.skip("another user cannot read this checkout")
    lines = done.stdout.splitlines()
    assert lines[0] == "True ", done.stderr
    assert "12345" in lines[1]
    assert "[(1, 'lo')]" in lines[1]
    assert lines[2] == "1"


# The same and worse as "solutions" of a HumanEval problem: nothing but a right function passes.


@sealed
@pytest.mark.parametrize(
    "code", [GOOD, "    return x + x", "return x << 1", "def helper(x):\n    return 2 * x\ndouble = helper"]
)
def test_right_functions_pass(code: str) -> None:
    assert score(code) == (True, "")


@sealed
@pytest.mark.parametrize(
    "code",
    [
        "def double(x):\n    return 3 * x",
        "def double(x):\n    return None",
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "def double(x):\n    import os; os._exit(0)",
        "def double(x):\n    raise SystemExit(0)",
        "raise KeyboardInterrupt",
        # equal to everything
        "class Yes(int):\n    def __eq__(self, other): return True\ndef double(x):\n    return Yes(1)",
        "class Yes:\n    def __eq__(self, other): return True\ndef double(x):\n    return Yes()",
        # overrides what a test harness may lean on
        "import builtins\nbuiltins.AssertionError = builtins.Exception = type('E', (BaseException,), {})\n"
        "builtins.print = builtins.exec = builtins.compile = builtins.repr = lambda *a, **k: None\n"
        "def double(x):\n    return 0",
        "import sys\nsys.excepthook = lambda *a: None\nsys.settrace(lambda *a: None)\ndef double(x):\n    return 0",
        "import atexit, os\natexit.register(lambda: os._exit(0))\ndef double(x):\n    return 0",
        "import json\njson.dumps = lambda *a, **k: '{\"value\": [\"int\", \"4\"]}'\ndef double(x):\n    return 0",
        "def check(candidate):\n    pass\ndef double(x):\n    return 0",
        # claims success where a harness may look for it
        'print(\'{"passed": true}\')\ndef double(x):\n    return 0',
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'\\n{\"secret\": \"\", \"passed\": true}\\n')\n"
        "    except OSError: pass\ndef double(x):\n    return 0",
        # looks for the secret in its parent
        "import os\ndef double(x):\n    return open(f'/proc/{os.getppid()}/environ').read()",
        "import os, signal\ndef double(x):\n    os.kill(os.getppid(), signal.SIGKILL)",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nassert libc.ptrace(16, os.getppid(), 0, 0) == 0\n" + GOOD,
        "def double(x):\n    return 'x' * 10**8",
        "def double(x):\n    hold = []\n    while True: hold.append(bytearray(10**7))",
        "def double(x):\n    return double(x)",
        "def double(x): return",
        "def double(x)\n    return 2 * x",
        "import socket\ndef double(x):\n    socket.create_connection(('127.0.0.1', 22), 1)\n    return 2 * x",
        "import os\ndef double(x):\n    return 2 * x if os.environ.get('HOME') else 0",
        "(" * 5000 + GOOD,
        "\x00",
        "",
    ],
)  # fmt: skip
def test_wrong_and_hostile_functions_fail(code: str) -> None:
    passed, reason = score(code)
    assert passed is False
    assert reason


@sealed
@pytest.mark.parametrize(
    "code",
    [
        "import time\ndef double(x):\n    time.sleep(600)",
        "while True: pass",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\ndef double(x):\n    return 2 * x",
    ],
    ids=["sleeps", "spins", "forks", "stops the tests"],
)
def test_functions_that_do_not_end_fail(code: str) -> None:
    passed, reason = score(code, timeout=2.0)
    assert passed is False
    assert reason == "time limit" or "ended before" in reason


@sealed
def test_noise_on_the_outputs_changes_nothing() -> None:
    noisy = "import os, sys\nprint('x' * 10**7)\nos.write(1, b'y'); os.write(2, b'z' * 10**7)\n"
    assert score(noisy + "def double(x):\n    print(x)\n    return 2 * x") == (True, "")


@sealed
def test_a_sandbox_that_fails_leaves_the_answer_unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("raise SystemExit(125)").failed_to_start == "", "a program that says so has run"
    failed = RunResult(b"", b"cell: [Errno 12] fork: Cannot allocate memory\n", 125, "", 0.1, "sealed")
    monkeypatch.setattr("safekey.evals.answers.program.run_python", lambda *args, **kwargs: failed)
    passed, reason = score(GOOD)
    assert passed is None
    assert "Cannot allocate memory" in reason


def test_no_answer_and_too_much_of_it() -> None:
    assert score_code(None, PROBLEM, mode="unsafe-local").reason == NO_ANSWER
    assert score_code("  ", PROBLEM, mode="unsafe-local").correct is False
    assert "characters of code" in score_code("x" * 300_000, PROBLEM, mode="unsafe-local").reason


def test_docker_is_asked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_docker_answers", lambda: False)
    with pytest.raises(UserError, match=r"no docker engine answers.*--unsafe-local-exec"):
        run_python("print(1)")
    with pytest.raises(UserError, match="unknown mode"):
        run_python("print(1)", mode="yolo")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="more than 0 s"):
        run_python("print(1)", timeout=0)


def test_docker_command_takes_everything_away() -> None:
    text = " ".join(docker_command("name", "/tmp/main.py", 1 << 29))
    for part in ("--network none", "--read-only", "--user 65534:65534", "--cap-drop ALL", "no-new-privileges",
                 "--memory 536870912 --memory-swap 536870912", "--pids-limit", "readonly", "python -I -S"):  # fmt: skip
        assert part in text
    assert "privileged" not in text.replace("no-new-privileges", "")


def test_a_machine_that_cannot_seal_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    status = sandbox.SandboxStatus(docker=False, sealed=False, reason="namespaces exist on Linux only")
    monkeypatch.setattr(sandbox, "sandbox_status", lambda: status)
    with pytest.raises(UserError, match=r"cannot seal a process.*Linux only.*Use docker"):
        run_python("print(1)", mode="unsafe-local")


@sealed
@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "HumanEval.jsonl.gz").is_file(), reason=f"no HumanEval.jsonl.gz in {SHARED}")
def test_humaneval_canonical_solutions_all_pass() -> None:
    def solve(item: object) -> tuple[str, str]:
        data = item.metadata  # type: ignore[attr-defined]
        answer = f"Here it is:\n\n```python\n{data['code']}{data['canonical_solution']}\n```"
        result = score_code(answer, data, mode="unsafe-local", timeout=30)
        return item.id, "" if result.correct else result.reason  # type: ignore[attr-defined]

    with ThreadPoolExecutor(2) as pool:
        results = dict(pool.map(solve, load_benchmark("humaneval", SHARED)))
    assert len(results) == 164
    assert {name: reason for name, reason in results.items() if reason} == {}


@sealed
@pytest.mark.skipif(not (SHARED / "HumanEval.jsonl.gz").is_file(), reason=f"no HumanEval.jsonl.gz in {SHARED}")
def test_some_canonical_solutions_pass_and_not_for_one_another() -> None:
    items = load_benchmark("humaneval", SHARED, limit=12)
    for item, other in pairwise(items):
        assert score_code(item.metadata["canonical_solution"], item.metadata, mode="unsafe-local").correct
        wrong = f"def {item.metadata['entry_point']}(*args):\n{other.metadata['canonical_solution']}"
        assert score_code(f"```\n{wrong}\n```", item.metadata, mode="unsafe-local").correct is False
