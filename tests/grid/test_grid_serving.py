"""A grid with vLLM, a stub in its place: LoRA arms share one server, full models have one each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.vllm.stubs import executable, gone, starts
from grid.test_grid_runs import answers, numbers, until
from safekey.cli.app import main
from safekey.organism import write_world

pytestmark = pytest.mark.slow
SHORT = ("max_steps=2", "save_strategy=no", "logging_steps=1")
LORA = ("use_peft=true", "lora_r=4", "lora_target_modules=all-linear")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUB_SEEN", str(tmp_path / "seen.jsonl"))
    return tmp_path / "seen.jsonl"


def words(world: Path, output: Path, *more: str, vllm: Path) -> list[str]:
    paths = [f"model_name_or_path={world / 'base'}", f"data={world / 'train.jsonl'}", "--data-dir", str(world)]
    small = ("--arms", "base,sft,qsm", "--seeds", "2", "--limit", "4", "--no-report", "--tasks", "strongreject")
    served = ("--engine", "vllm", "--vllm", str(vllm), "--engine-option", "concurrency=2")
    return ["grid", "organism", *paths, *SHORT, *small, *served, "--output", str(output), *more]


def runs(grid: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text())["model"] for file in sorted(grid.glob("arms/**/eval/run.json"))]


def test_lora_arms_share_one_server_and_kills_change_nothing(world: Path, tmp_path: Path, seen: Path) -> None:
    stub, whole = executable(tmp_path / "bin"), tmp_path / "whole"
    assert main(words(world, whole, *LORA, vllm=stub)) == 0
    (start,) = starts(seen)
    at = start["argv"].index("--lora-modules")
    names = [json.loads(word)["name"] for word in start["argv"][at + 1 :] if word.startswith("{")]
    assert names == ["sft, seed 0", "qsm, seed 0", "sft, seed 1", "qsm, seed 1"]
    assert gone(seen)
    assert all(about["shared"] and about["versions"]["vllm"] == "0.32.0" for about in runs(whole))
    assert len({json.dumps(rows) for rows in answers(whole).values()}) == 5, "each model has answers of its own"
    log = whole / "vllm" / "server.log"
    assert log.stat().st_mode & 0o777 == 0o600
    key = start["env"]["VLLM_API_KEY"].encode()
    assert not [path for path in whole.rglob("*") if path.is_file() and key in path.read_bytes()]

    # One adapter served alone gives the same answers.
    alone = tmp_path / "alone"
    run = [
        "eval",
        str(whole / "arms" / "sft" / "seed-1" / "train"),
        "--engine",
        "vllm",
        "--vllm",
        str(stub),
        "--limit",
        "4",
    ]
    options = ("--tasks", "strongreject", "--data-dir", str(world), "--no-judge", "--output", str(alone))
    assert main([*run, *options]) == 0
    mine = [json.loads(line) for line in (alone / "completions.jsonl").read_text().splitlines()]
    assert [f"{row['benchmark']} {row['item']} {row['text']}" for row in mine] == answers(whole)[
        "arms/sft/seed-1/eval/completions.jsonl"
    ]

    # The grid, its server, and a job, each killed once.
    grid = tmp_path / "grid"
    command = [sys.executable, "-m", "safekey.cli", *words(world, grid, *LORA, "--jobs", "1", vllm=stub)]
    slow = os.environ | {"STUB_SLOW": "0.3"}

    def begun(arm: str) -> Callable[[], bool]:
        return lambda: any(file.stat().st_size for file in grid.glob(f"arms/{arm}/**/eval/completions.jsonl"))

    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=slow)
    until(begun("base"), child, 1200)
    child.kill()
    child.wait()
    assert gone(seen)
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=slow)
    until(begun("sft"), child, 1200)
    os.kill(starts(seen)[-1]["pids"][0], signal.SIGKILL)  # the server: it is started again, and the jobs go on
    until(lambda: json.loads((grid / "vllm" / "state.json").read_text())["number"] == 2, child, 1200)
    until(begun("qsm"), child, 1200)
    (job,) = evaluators(child.pid, grid)
    os.kill(job, signal.SIGKILL)
    _, said = child.communicate(timeout=1200)
    assert child.returncode == 1, said
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert gone(seen)
    assert answers(grid) == answers(whole)
    assert numbers(grid) == numbers(whole)


def evaluators(parent: int, grid: Path) -> list[int]:
    """The grid's jobs: they hold their lock files open."""
    import psutil

    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with_lock = [file.path for file in process.open_files() if file.path.endswith(".job-lock")]
        found += [process.pid] if any(path.startswith(str(grid)) for path in with_lock) else []
    return found


def test_full_models_have_a_server_each(world: Path, tmp_path: Path, seen: Path) -> None:
    stub, grid = executable(tmp_path / "bin"), tmp_path / "grid"
    command = words(world, grid, "--arms", "base,sft", "--seeds", "1", vllm=stub)
    # A process of its own: jobs start the servers here, with the environment that this process's first job had.
    done = subprocess.run([sys.executable, "-m", "safekey.cli", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    served = [start["argv"][2] for start in starts(seen)]
    assert served == [str(world / "base"), str(grid / "arms" / "sft" / "seed-0" / "train" / "model")]
    assert not any("--enable-lora" in start["argv"] for start in starts(seen))
    assert not any(about["shared"] for about in runs(grid))
    assert gone(seen)


def test_a_server_that_does_not_start_keeps_what_is_trained(
    world: Path, tmp_path: Path, seen: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stub, grid = executable(tmp_path / "bin"), tmp_path / "grid"
    command = words(world, grid, *LORA, "--arms", "sft,qsm", "--seeds", "1", vllm=stub)
    monkeypatch.setenv("STUB", "cache")
    assert main(command) == 2
    said = capfd.readouterr().err
    assert said.startswith("safekey: error: evaluation: vLLM did not start: To serve at least one request")
    assert "it goes on" in said
    trained = (grid / "arms/sft/seed-0/train/run.json").read_text()
    monkeypatch.setenv("STUB", "")
    assert main([*command, "--engine-option", "max_num_seqs=2"]) == 0
    assert (grid / "arms/sft/seed-0/train/run.json").read_text() == trained, "it was trained again"
    assert gone(seen)


def test_wrong_commands_are_found_before_anything_is_trained(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for more, said in {
        ("--vllm", "/nowhere/vllm"): "there is no such program",
        ("--engine-option", "port=1"): "port: cannot be set",
        ("--engine", "server"): "engine 'local' or 'vllm'",
    }.items():
        command = words(world, tmp_path / "grid", *more, vllm=executable(tmp_path / "bin"))
        if more[0] == "--engine":
            at = command.index("--vllm")
            command = [*command[:at], *command[at + 2 :]]
        assert main(command) == 2
        assert said in capfd.readouterr().err
    assert not (tmp_path / "grid").exists()
