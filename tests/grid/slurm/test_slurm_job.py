"""The process of a Slurm job: what it records, when it puts itself back into the queue. Scripts stand for Slurm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grid.slurm.fake import FakeSlurm
from safekey.grid import attempt
from safekey.grid.folder import Job
from safekey.grid.pool import Ended
from safekey.grid.request import Task
from safekey.grid.slurm import job


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "6")
    monkeypatch.setenv("SLURM_JOB_NAME", "safekey-1-sft-0")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield fake
    for number, handler in before.items():
        signal.signal(number, handler)


def task(tmp_path: Path, engine: str = "local") -> Task:
    request: Any = SimpleNamespace(evaluation=SimpleNamespace(engine=engine))
    return Task(Job("sft", 0, tmp_path / "sft"), request, "m")


def worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: Callable[[Task], Ended]
) -> tuple[Any, dict[str, Any]]:
    """The exit code, and what the job recorded."""
    monkeypatch.setattr(job, "_stages", stages)
    with pytest.raises(SystemExit) as ended:
        job.work(task(tmp_path), {})
    return ended.value.code, attempt.read(tmp_path / "sft")


def test_a_job_that_ends_records_its_code(slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, record = worked(tmp_path, monkeypatch, lambda one: Ended({"sft, seed 0": 2}))
    assert (code, record["status"], record["code"], record["slurm"]) == (2, "ended", 2, "6")
    code, record = worked(tmp_path, monkeypatch, lambda one: Ended())
    assert (code, record["code"]) == (0, 0)
    code, record = worked(tmp_path, monkeypatch, lambda one: Ended({"sft, seed 0": -9}))
    assert (code, record["code"]) == (1, -9)


def sleeps(seconds: float) -> None:
    """In short steps: a signal must find the main thread in Python."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)


def test_a_cancelled_job_says_so_itself(slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm.knows("6", "COMPLETING", Restarts="0")

    def told(one: Task) -> Ended:
        assert one.watched
        assert attempt.read(tmp_path / "sft")["status"] == "running"
        os.kill(os.getpid(), signal.SIGUSR2)  # submitit's
        os.kill(os.getpid(), signal.SIGTERM)
        sleeps(5)
        return Ended()

    code, record = worked(tmp_path, monkeypatch, told)
    assert (code, record["code"], record["state"]) == (143, 143, "CANCELLED")
    assert not slurm.seen("scontrol")


@pytest.mark.parametrize("further", [True, False])
def test_when_its_time_is_up(
    further: bool, slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now().replace(microsecond=0)
    times = {"StartTime": now - timedelta(minutes=2), "EndTime": now + timedelta(seconds=25)}
    slurm.knows("6", "RUNNING", Restarts="0", **{name: when.isoformat() for name, when in times.items()})

    def trains(one: Task) -> Ended:
        if further:
            (tmp_path / "sft" / "train" / "checkpoint-2").mkdir(parents=True)
        sleeps(20)
        return Ended()

    code, record = worked(tmp_path, monkeypatch, trains)
    assert "this job stops to save, before its time limit" in capsys.readouterr().out
    assert (code, record["state"], record["further"]) == (143, "TIMEOUT", further)
    assert slurm.seen("scontrol") == ("requeue 6\n" if further else "")


def test_a_twin_ends_without_a_word_in_the_others_record(
    slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.queue({"5": "RUNNING", "6": "RUNNING"}, {"5": "safekey-1-sft-0", "6": "safekey-1-sft-0"})
    code, record = worked(tmp_path, monkeypatch, lambda one: Ended())
    assert (code, record) == (1, {})


def test_with_vllm_training_has_left_the_gpu_before_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []

    def runs(tasks: list[Task], at_once: int, *, forked: bool) -> Ended:
        seen.extend((one.stage, forked) for one in tasks)
        return Ended({"x": 1}) if len(seen) > 3 else Ended()

    monkeypatch.setattr(job, "run_jobs", runs)
    job._stages(task(tmp_path))
    job._stages(task(tmp_path, "vllm"))
    assert seen == [("all", False), ("train", False), ("evaluate", False)]
    ended = job._stages(replace(task(tmp_path, "vllm")))
    assert ended.failed
    assert seen[3:] == [("train", False)], "what was not trained is not evaluated"
