"""Whole grids on the organism: the same ground, the same numbers after kills, one clear word about what failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.folders import real_tokenizer, save
from safekey.cli.app import main
from safekey.comparison.draws import DRAWN
from safekey.grid.folder import GridFolder
from safekey.organism import write_world

pytestmark = pytest.mark.slow
SHORT = ("num_train_epochs=0.3", "logging_steps=1", "save_strategy=steps", "save_steps=4")
SMALL = ("--arms", "base,sft,qsm", "--limit", "6", "--prefill-tokens", "12")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


def words(world: Path, output: Path, *more: str, base: str = "") -> list[str]:
    paths = [f"model_name_or_path={base or world / 'base'}", f"data={world / 'train.jsonl'}", "--data-dir", str(world)]
    return ["grid", "organism", *paths, *SHORT, *SMALL, "--output", str(output), *more]


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "grid"
    assert main(words(world, folder, "--seeds", "2", "--no-report")) == 0
    return folder


def numbers(grid: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((grid / "compare.json").read_text())
    return {key: value for key, value in found.items() if key != "runs"}


def answers(grid: Path) -> dict[str, list[str]]:
    found = {}
    for file in sorted(grid.glob("arms/**/completions.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[str(file.relative_to(grid))] = [f"{row['benchmark']} {row['item']} {row['text']}" for row in rows]
    return found


def log(grid: Path, arm: str, seed: int) -> list[dict[str, Any]]:
    lines = (grid / "arms" / arm / f"seed-{seed}" / "train" / "train_log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_whole_grid(whole: Path, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = numbers(whole)
    assert list(found["verdicts"]) == ["qsm", "base"]
    assert {row["metric"] for row in found["comparisons"]} == {"asr", "orr", "accuracy"}
    assert found["apart"]["comparisons"][0]["metric"] == "asr"
    assert found["ground"].startswith("every arm and seed: the same 2000 rows, 19 steps")
    assert "Prefilling attack, apart" in (whole / "compare.md").read_text()
    # The first step's SFT loss is of the same rows of the same model: only what is learnt besides differs.
    first = {(arm, seed): log(whole, arm, seed)[0]["loss_sft"] for arm in ("sft", "qsm") for seed in (0, 1)}
    assert first["sft", 0] == first["qsm", 0] != first["sft", 1] == first["qsm", 1]
    assert "loss_qsm" in log(whole, "qsm", 0)[0]
    assert "loss_qsm" not in log(whole, "sft", 0)[0]
    capsys.readouterr()
    assert main(words(world, whole, "--seeds", "2", "--json", "--no-report")) == 0  # nothing is left to do
    assert json.loads(capsys.readouterr().out)["verdicts"] == found["verdicts"]


def test_killed_three_times_it_ends_with_the_same_numbers(whole: Path, world: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    command = [sys.executable, "-m", "safekey.cli", *words(world, grid, "--seeds", "2", "--no-report", "--jobs", "1")]

    def some(pattern: str, lines: int) -> Callable[[], bool]:
        return lambda: any(file.read_bytes().count(b"\n") >= lines for file in grid.glob(pattern))

    moments = [
        some("arms/sft/seed-0/train/train_log.jsonl", 6),  # after a checkpoint, within training
        some("arms/sft/seed-0/eval/completions.jsonl", 1),
        some("arms/qsm/seed-1/train/train_log.jsonl", 2),
    ]
    for moment in moments:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        until(moment, child)
        os.kill(child.pid, signal.SIGKILL)  # the parent alone: its jobs have to notice
        child.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    place = grid / "arms" / "sft" / "seed-0"
    assert "going on from" in (place / "log.txt").read_text()  # it did not start anew
    assert len(json.loads((place / "eval" / "run.json").read_text())["starts"]) == 2
    assert answers(grid) == answers(whole)
    assert numbers(grid) == numbers(whole)


def test_a_killed_grid_goes_on_with_the_rows_that_each_seed_drew(world: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    given = ("--seeds", "2", "--jobs", "1", "--rows", "drawn", "--arms", "sft,qsm", "--tasks", "strongreject")
    command = [sys.executable, "-m", "safekey.cli", *words(world, grid, *given)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    place = grid / "arms" / "sft" / "seed-0" / "train"
    until(lambda: any(place.glob("checkpoint-*/safekey_complete.json")), child)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = json.loads((place / "run.json").read_text())["rows"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on from" in (place.parent / "log.txt").read_text()
    rows = {
        (arm, seed): json.loads((grid / "arms" / arm / f"seed-{seed}" / "train" / "run.json").read_text())["rows"]
        for arm in ("sft", "qsm")
        for seed in (0, 1)
    }
    assert before == rows["sft", 0] == rows["qsm", 0] != rows["sft", 1] == rows["qsm", 1]
    assert rows["sft", 0]["trained_on"] == rows["sft", 1]["trained_on"] == 2000
    assert 1200 < rows["sft", 0]["distinct"] < 1330
    found = json.loads((grid / "compare.json").read_text())
    assert "each seed has its own draw" in found["ground"]
    assert DRAWN in found["notes"]
    assert DRAWN in (grid / "compare.md").read_text()
    assert DRAWN in (grid / "report" / "report.html").read_text()
    same = [word for word in words(world, grid, *given) if word not in ("--rows", "drawn")]
    assert main(same) == 2  # the folder holds the other choice


def until(moment: Callable[[], bool], child: subprocess.Popen[bytes], patience: float = 240.0) -> None:
    end = time.monotonic() + patience
    while not moment():
        assert child.poll() is None, f"it ended before it could be killed: {child.communicate()[1]!r}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_ctrl_c_ends_its_jobs_and_says_how_to_go_on(world: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    command = [sys.executable, "-m", "safekey.cli", *words(world, grid, "--seeds", "1", "num_train_epochs=50")]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    place = grid / "arms" / "sft" / "seed-0"
    until((place / "train" / "train_log.jsonl").exists, child)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130
    assert b"of 3 jobs finished; the same command goes on" in said
    assert json.loads((place / "train" / "run.json").read_text())["status"] == "interrupted"
    GridFolder(grid).hold()  # nobody is left


def test_what_failed_is_said_and_the_rest_is_kept(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join((world / "train.jsonl").open().readlines()[:40]))
    paths = words(world, tmp_path / "grid", f"data={tmp_path / 'rows.jsonl'}", "--seeds", "1", "--jobs", "1")
    bad = [*paths, "--arm", "bad=save_strategy=no max_length=9"]
    assert main(bad) == 2
    said = capfd.readouterr().err
    assert said.startswith("safekey: error: bad, seed 0: ")
    assert "3 of 4 jobs are finished" in said
    assert main([*paths, "--no-report"]) == 0  # without the arm that failed, the others are compared


def test_one_override_takes_it_to_a_model_of_another_family(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = save(tmp_path / "qwen3", real_tokenizer("qwen3"))
    assert main(words(world, tmp_path / "grid", "--seeds", "1", "--arms", "base,sft", base=other)) == 0
    assert (tmp_path / "grid" / "report" / "report.html").stat().st_size > 10_000
    assert numbers(tmp_path / "grid")["verdicts"]["base"]["verdict"]
