"""The grid on a real Slurm: its controller, a node and munge are started here. Slow; skipped where Slurm is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grid.slurm.cluster import cluster, missing
from grid.test_grid_runs import answers
from safekey.cli.app import main
from safekey.organism import write_world

REASON = missing() or ("" if importlib.util.find_spec("submitit") else "submitit is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON)]
SHORT = ("max_steps=16", "logging_steps=1", "save_strategy=steps", "save_steps=2")
SMALL = ("--arms", "sft,qsm", "--seeds", "1", "--limit", "4", "--prefill-tokens", "12", "--no-report")
PATIENCE = 600.0  # seconds, for a machine that does much else


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield {**found, "OMP_NUM_THREADS": "1"}


class Grid:
    """A grid in the cluster; its command is a process of its own."""

    def __init__(self, path: Path, world: Path, environment: dict[str, str], *more: str) -> None:
        self.path, self.environment = path, environment
        paths = [f"model_name_or_path={world / 'base'}", f"data={world / 'train.jsonl'}", "--data-dir", str(world)]
        self.words = ["grid", "organism", *paths, *SHORT, *SMALL, "--output", str(path), *more]

    def start(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "safekey.cli", *self.words, "--executor", "slurm", *more]
        pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self.environment, start_new_session=True, **pipe)

    def call(self, *more: str) -> subprocess.CompletedProcess[str]:
        child = self.start(*more)
        out, err = child.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    def status(self) -> dict[str, dict[str, Any]]:
        done = self.call("--status", "--json")
        if done.returncode:
            return {}  # not begun
        return {one["arm"]: one for one in json.loads(done.stdout)["jobs"]}

    def states(self) -> dict[str, str]:
        return {arm: one["state"] for arm, one in self.status().items()}

    def steps(self, arm: str) -> int:
        log = self.path / "arms" / arm / "seed-0" / "train" / "train_log.jsonl"
        return log.read_text().count("\n") if log.exists() else 0

    def slurm(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def field(self, number: str, name: str) -> str:
        found = re.search(rf"\b{name}=(\S+)", self.slurm("scontrol", "show", "job", "-o", number))
        return found.group(1) if found else ""


def until(moment: Callable[[], object], child: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + PATIENCE
    while not moment():
        assert child is None or child.poll() is None, f"it ended before: {child.communicate() if child else ''}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.5)


def test_two_at_once_one_requeued_one_cancelled_and_the_grid_killed(
    world: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    grid = Grid(tmp_path / "grid", world, environment)
    child = grid.start()
    until(lambda: grid.states() == {"sft": "running", "qsm": "running"}, child)
    first = {arm: one["slurm"] for arm, one in grid.status().items()}
    until(lambda: grid.steps("sft") >= 3 and grid.steps("qsm") >= 3, child)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    grid.slurm("scontrol", "requeue", first["sft"])
    grid.slurm("scancel", first["qsm"])
    until(lambda: grid.states()["qsm"] == "cancelled")
    until(lambda: grid.field(first["sft"], "Restarts") == "1")
    assert grid.states()["sft"] in ("queued", "running"), "it needs no process of the grid"
    time.sleep(5)
    assert grid.states()["qsm"] == "cancelled"

    done = grid.call()
    assert done.returncode == 0, done.stderr
    assert f"sft, seed 0: Slurm job {first['sft']}, " in done.stdout, "attached, not submitted again"
    assert f"qsm, seed 0: Slurm job {first['qsm']}" not in done.stdout
    now = grid.status()
    assert {arm: one["state"] for arm, one in now.items()} == {"sft": "done", "qsm": "done"}
    assert now["sft"]["slurm"] == first["sft"]
    assert now["qsm"]["slurm"] != first["qsm"]
    for arm in ("sft", "qsm"):
        assert "going on from" in (grid.path / "arms" / arm / "seed-0" / "log.txt").read_text()
    assert grid.slurm("squeue", "-h") == ""

    whole = Grid(tmp_path / "whole", world, environment)  # on this machine, undisturbed
    assert main(whole.words) == 0
    assert answers(grid.path) == answers(whole.path)
    verdicts = [json.loads((one.path / "compare.json").read_text())["comparisons"] for one in (grid, whole)]
    assert verdicts[0] == verdicts[1]


def test_a_job_whose_time_is_up_puts_itself_back_into_the_queue(
    world: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    grid = Grid(tmp_path / "grid", world, environment, "max_steps=4000", "--arms", "sft")
    child = grid.start("--slurm-option", "time=3")
    until(lambda: grid.steps("sft") >= 1, child)
    number = grid.status()["sft"]["slurm"]
    os.kill(child.pid, signal.SIGKILL)  # nobody but the job itself can put it back
    child.wait()
    log = grid.path / "arms" / "sft" / "seed-0" / "log.txt"
    until(lambda: "going on from" in log.read_text())
    assert grid.field(number, "Restarts") == "1"
    done = grid.call("--cancel")
    assert (done.returncode, f"sft, seed 0: Slurm job {number} is cancelled" in done.stdout) == (0, True)
    until(lambda: grid.states() == {"sft": "cancelled"})


def test_what_cannot_be_submitted_and_what_cannot_start(
    world: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    grid = Grid(tmp_path / "grid", world, environment)
    done = grid.call("--slurm-option", "partition=nope")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "Invalid partition name specified (--slurm-option partition=nope; this cluster has closed, main" in line
    child = grid.start("--slurm-option", "partition=closed")
    until(lambda: grid.states() == {"sft": "queued", "qsm": "queued"}, child)
    until(lambda: grid.status()["sft"]["detail"] == "its partition is down (PartitionDown)", child)
    time.sleep(8)  # its next look
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "sft, seed 0: Slurm job" in out
    assert "cannot start: its partition is down (PartitionDown)" in out
    assert "0 of 2 jobs finished; 2 go on in Slurm: the same command comes back to them" in err
    other = Grid(grid.path, world, environment)
    assert "2 of its jobs wait or run in Slurm" in _error(other)
    assert grid.call("--cancel").returncode == 0
    until(lambda: grid.states() == {"sft": "cancelled", "qsm": "cancelled"})


def _error(grid: Grid) -> str:
    """Give the command for this machine while jobs are in Slurm."""
    command = [sys.executable, "-m", "safekey.cli", *grid.words]
    done = subprocess.run(command, env=grid.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr
