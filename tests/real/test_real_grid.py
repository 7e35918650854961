"""A whole grid of a real model on the real vLLM: two LoRA arms, two seeds, 24 rows; the kills change nothing.

Takes some ten minutes on a CPU. The same within Slurm, where it is installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from grid.slurm.cluster import cluster, missing
from real.served import MARKS, MODEL, VLLM, cpu_settings, same_up_to_ties
from safekey.evals.records.rows import completion_in
from small_world import rows

pytestmark = MARKS
PATIENCE = 1500.0
TRAINING = (
    "use_peft=true", "lora_r=4", "lora_target_modules=all-linear", "learning_rate=2e-3", "warmup_steps=0",
    "max_length=192", "batch_size=4", "per_device_train_batch_size=4", "max_steps=6",
    "save_strategy=steps", "save_steps=2", "use_cpu=true", "eval_fraction=0", "logging_steps=1", "qsm_epochs=-1",
)  # fmt: skip
ASKED = ("--max-tokens", "64", "--judge", "refusal_keywords", "--tasks", "xstest-safe", "--no-report")


@pytest.fixture(scope="module", autouse=True)
def cpu() -> Iterator[None]:
    with cpu_settings():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training rows, and eight benign questions."""
    folder = tmp_path_factory.mktemp("world")
    made = list(rows())
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made[:24]), encoding="utf-8")
    asked = [{"id": f"q{i}", "prompt": row["question"], "label": "safe"} for i, row in enumerate(made[24:32])]
    (folder / "xstest_safe.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    return folder


def command(world: Path, output: Path, *more: str, seeds: int = 2) -> list[str]:
    served = ("--engine", "vllm", "--vllm", VLLM, "--engine-option", "max_model_len=1024")
    served += ("--engine-option", "enforce_eager=true", "--engine-option", "concurrency=2")
    words = ["grid", "base", f"model_name_or_path={MODEL}", f"data={world / 'rows.jsonl'}", "--data-dir", str(world)]
    words += [*TRAINING, "--arms", "sft,qsm", "--seeds", str(seeds), *ASKED, *served, "--output", str(output), *more]
    return [sys.executable, "-m", "safekey.cli", *words]


def saved(grid: Path) -> dict[str, dict[str, Any]]:
    """Run folder of each evaluation → its completions by item."""
    found = {}
    for file in sorted(grid.glob("arms/**/completions.jsonl")):
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found[str(file.parent.parent.relative_to(grid))] = {row["item"]: row for row in lines}
    return found


def check_equal(grid: Path, whole: Path) -> int:
    """Check that two grids have the same weights, answers up to ties, and rates within one answer."""
    mine, theirs = saved(grid), saved(whole)
    assert mine.keys() == theirs.keys()
    differ = 0
    for place, own in mine.items():
        other = theirs[place]
        assert own.keys() == other.keys()
        assert len(own) == 8
        weights = [each / place / "train" / "model" / "adapter_model.safetensors" for each in (grid, whole)]
        assert weights[0].read_bytes() == weights[1].read_bytes(), f"{place}: other weights"
        pair = [[completion_in(each[item]) for item in sorted(own)] for each in (own, other)]
        differ += same_up_to_ties(pair[0], pair[1], str(grid / place / "train" / "model"))
        rates = [_refused(each / place / "eval") for each in (grid, whole)]
        assert abs(rates[0] - rates[1]) <= 1
    return differ


def _refused(run: Path) -> int:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return next(int(line["k"]) for line in metrics["rates"] if line["by"].get("part") == "answer" and line["headline"])


def until(moment: Callable[[], object], child: subprocess.Popen[Any] | None = None) -> None:
    end = time.monotonic() + PATIENCE
    while not moment():
        assert child is None or child.poll() is None, "it ended before"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)


def lines(grid: Path, pattern: str) -> int:
    return sum(file.read_bytes().count(b"\n") for file in grid.glob(pattern))


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "grid"
    done = subprocess.run(command(world, folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_one_server_for_all_arms_and_three_kills_change_nothing(world: Path, whole: Path, tmp_path: Path) -> None:
    answers = saved(whole)
    assert sorted(answers) == ["arms/qsm/seed-0", "arms/qsm/seed-1", "arms/sft/seed-0", "arms/sft/seed-1"]
    assert len({json.dumps([row["text"] for row in each.values()]) for each in answers.values()}) == 4
    assert all(json.loads((whole / place / "eval/run.json").read_text())["model"]["shared"] for place in answers)

    grid = tmp_path / "grid"
    words = command(world, grid, "--jobs", "1")
    log = (tmp_path / "log").open("wb")
    child = subprocess.Popen(words, stdout=log, stderr=log)
    until(lambda: lines(grid, "arms/qsm/seed-0/train/train_log.jsonl") >= 3, child)  # the grid, in its second training
    ours = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.wait()
    assert not psutil.wait_procs(ours, timeout=60)[1], "processes are left"

    child = subprocess.Popen(words, stdout=log, stderr=log)
    until(lambda: lines(grid, "arms/*/seed-*/eval/completions.jsonl") >= 2, child)
    servers = [each for each in psutil.Process(child.pid).children(recursive=True) if "EngineCore" in each.name()]
    assert servers, "no server runs"
    os.kill(servers[0].pid, signal.SIGKILL)  # the server: it is started again, and the jobs go on
    until(lambda: json.loads((grid / "vllm" / "state.json").read_text())["number"] == 2, child)
    until(lambda: lines(grid, "arms/*/seed-*/eval/completions.jsonl") >= 11, child)
    (job,) = jobs(child.pid)
    os.kill(job, signal.SIGKILL)
    assert child.wait(PATIENCE) == 1

    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    differ = check_equal(grid, whole)
    print(f"{differ} of 32 answers differ; all of these at ties")


def jobs(parent: int) -> list[int]:
    """The grid's jobs: they hold their lock files open."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        held = [file.path for file in process.open_files() if file.path.endswith(".job-lock")]
        found += [process.pid] if held else []
    return found


@pytest.mark.skipif(bool(missing()), reason=missing() or "Slurm")
def test_within_slurm_one_job_requeued_while_it_is_evaluated(world: Path, whole: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid"
    with cluster(tmp_path / "slurm") as environment:
        own = {**environment, "OMP_NUM_THREADS": "1"}
        words = command(world, grid, "--executor", "slurm", "--slurm-option", "cpus-per-task=1", seeds=1)
        log = (tmp_path / "log").open("wb")
        child = subprocess.Popen(words, env=own, stdout=log, stderr=log)
        until(lambda: lines(grid, "arms/sft/seed-0/train/train_log.jsonl") >= 1, child)
        said = subprocess.run(
            [*words, "--status", "--json"], env=own, capture_output=True, text=True, check=True
        ).stdout
        number = next(one["slurm"] for one in json.loads(said)["jobs"] if one["arm"] == "sft")
        until(lambda: lines(grid, "arms/sft/seed-0/eval/completions.jsonl") >= 1, child)
        subprocess.run(["scontrol", "requeue", number], env=own, check=True)
        assert child.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
        left = [each for each in psutil.process_iter(["cmdline"]) if str(grid) in " ".join(each.info["cmdline"] or ())]
        assert not left, "processes are left"
    found = saved(grid)
    assert sorted(found) == ["arms/qsm/seed-0", "arms/sft/seed-0"]
    for place, own_rows in found.items():
        pair = [[completion_in(each[item]) for item in sorted(own_rows)] for each in (own_rows, saved(whole)[place])]
        same_up_to_ties(pair[0], pair[1], str(grid / place / "train" / "model"))
