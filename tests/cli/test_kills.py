"""SIGKILL three times inside a verb: the same command then leaves what an undisturbed one leaves.

Training (`test_cli_train.py`, `training/loop/test_resume.py`), an evaluation (`evals/test_faults.py`) and a grid
(`grid/test_grid_runs.py`) have tests of their own; here are the export, `judge`, `data segment`, and Ctrl-C.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.endpoint import Endpoint, Handler, running
from evals.saved_runs import arm, write_run
from safekey.cli.app import main

pytestmark = pytest.mark.slow
SMALL = str(Path(__file__).with_name("small.yaml"))
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forked(action: Callable[[], object]) -> int:
    """Do it in a child of this process; return how the child ended, below 0 for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        action()
    finally:
        os._exit(0)


def digest(folder: Path, *left_out: str) -> dict[str, str]:
    """Name → contents of every file; no hidden file may be left but locks and ledgers."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (".lock", *left_out):
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


# ---- train: the export


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from small_model import save_small_model
    from small_world import rows, write_rows

    folder = tmp_path_factory.mktemp("small")
    save_small_model(folder / "base", [f"{row['question']} {row['response']}" for row in rows()], seed=1)
    write_rows(folder / "rows.jsonl")
    return folder


def train(small: Path, run: Path) -> list[str]:
    paths = [f"model_name_or_path={small / 'base'}", f"data={small / 'rows.jsonl'}", f"output_dir={run}"]
    short = ("max_steps=3", "max_length=300", "use_cpu=true", "limit=16", "self_test=false", "eval_fraction=0")
    return ["train", SMALL, *paths, *short, "save_strategy=steps", "save_steps=1"]


def test_three_kills_inside_the_export(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safekey.training.command.folder import RunFolder
    from safekey.training.loop import checkpoint, export
    from safekey.training.loop.persistent import PersistentTrainer

    calm, run = tmp_path / "calm", tmp_path / "killed"
    assert main(train(small, calm)) == 0

    def within(owner: Any, name: str, when: Callable[..., bool], *, after: bool = False) -> Callable[[], None]:
        own = getattr(owner, name)

        def then(*args: Any, **options: Any) -> Any:
            if not after and when(*args):
                kill()
            found = own(*args, **options)
            if after and when(*args):
                kill()
            return found

        def action() -> None:
            monkeypatch.setattr(owner, name, then)
            main(train(small, run))

        return action

    def hidden(*args: Any) -> bool:
        return any(str(word).endswith(".saving-model") for word in args)

    moments = [
        within(export, "save_heads", hidden),  # the weights are written, the heads are not
        within(checkpoint, "commit", lambda final, *_: str(final).endswith("/model")),  # all is written, hidden
        within(Path, "rename", hidden, after=True),  # the model is in its place, and the run not yet finished
        within(RunFolder, "mark", lambda _, status: status == "finished"),
        within(PersistentTrainer, "save_model", lambda _, folder, *rest: hidden(folder), after=True),
    ]
    for moment in moments:
        assert forked(moment) == -signal.SIGKILL
        assert json.loads((run / "run.json").read_text())["status"] == "running"
    assert main(train(small, run)) == 0
    assert digest(run / "model") == digest(calm / "model")
    assert (
        digest(run, "run.json", "train_log.jsonl", "config.yaml").keys()
        == digest(calm, "run.json", "train_log.jsonl", "config.yaml").keys()
    )
    assert not list(run.glob(".saving-*"))


# ---- judge and data segment, killed from outside while a slow endpoint answers


@pytest.fixture
def server() -> Iterator[Endpoint]:
    def slowly(handler: Handler, number: int) -> bool:
        time.sleep(0.05)
        return False

    with running() as endpoint:
        endpoint.fault = slowly
        yield endpoint


def kill_three_times(words: list[str], file: Path, goals: tuple[int, ...]) -> None:
    """Start the command and kill it when a file has so many more lines; at last let it end."""
    command = [sys.executable, "-m", "safekey.cli", *words]
    for goal in goals:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ALONE)
        until = time.monotonic() + 120
        while not file.exists() or file.read_bytes().count(b"\n") < goal:
            assert child.poll() is None, child.communicate()[1].decode()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.005)
        child.kill()
        child.communicate()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ALONE)
    assert done.returncode == 0, done.stderr


def test_three_kills_inside_judge(server: Endpoint, tmp_path: Path) -> None:
    server.message = {"role": "assistant", "content": '{"reason": "It helps.", "class": "full_compliance"}'}
    rows = arm(0, 0, 0, n=60)
    calm, run = (write_run(tmp_path / name, rows) for name in ("calm", "killed"))
    judge = ["--judge", f"refusal_3class={server.url}#tiny", "--judge-concurrency", "2"]
    there = (run / "verdicts.jsonl").read_bytes().count(b"\n")
    assert main(["judge", str(calm), *judge]) == 0
    asked = len(server.bodies)
    kill_three_times(["judge", str(run), *judge], run / "verdicts.jsonl", (there + 8, there + 20, there + 45))
    assert len(server.bodies) - asked <= 60 + 4 + 3 * 2  # four probes, and what was in work at each kill
    assert digest(run, "run.json") == digest(calm, "run.json")


def test_three_kills_inside_segment(server: Endpoint, tmp_path: Path) -> None:
    server.message = {"role": "assistant", "content": '{"understanding": 1, "key_sentence": 2}'}
    texts = [f"The user asks about tea number {n}. That is harmless. Water first." for n in range(60)]
    rows = [{"id": str(n), "question": f"How do I brew tea {n}?", "harmful": False,
             "response": f"<think>\n{text}\n</think>\n\nBoil water."} for n, text in enumerate(texts)]  # fmt: skip
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def words(name: str) -> list[str]:
        (tmp_path / name).mkdir(exist_ok=True)
        asked = ["--annotator-url", server.url, "--annotator-model", "m", "--concurrency", "2"]
        return ["data", "segment", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / name / "out.jsonl"), *asked]

    assert main(words("calm")) == 0
    replies = tmp_path / "killed" / "out.replies.jsonl"
    kill_three_times(words("killed"), replies, (8, 20, 45))
    left_out = ("out.replies.jsonl",)  # in the order of the answers
    assert digest(tmp_path / "killed", *left_out) == digest(tmp_path / "calm", *left_out)
    assert sorted(replies.read_text().splitlines()) == sorted(
        (tmp_path / "calm" / "out.replies.jsonl").read_text().splitlines()
    )


# ---- Ctrl-C


@pytest.mark.parametrize("seconds", [0.2, 3.0, 8.0, 14.0, 25.0])
def test_ctrl_c_ends_the_demo_without_a_traceback(tmp_path: Path, seconds: float) -> None:
    """As a terminal sends it: to every process of the group, at any moment, also while they import."""
    command = [sys.executable, "-m", "safekey.cli", "demo", "--output", str(tmp_path / "demo")]
    child = subprocess.Popen(
        [*command, "--seeds", "1", "--arms", "base,sft"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=ALONE,
    )  # fmt: skip
    time.sleep(seconds)
    os.killpg(child.pid, signal.SIGINT)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 130
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    # Python's tracker of shared resources may add a warning of its own behind our line; nothing else may.
    ours = said[: said.index("resource_tracker")].rpartition("\n")[0] if "resource_tracker" in said else said
    assert ours.strip().splitlines()[-1].startswith("safekey: interrupted")
