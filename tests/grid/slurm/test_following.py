"""The grid follows its Slurm jobs, whatever Slurm does to them; `--status`, `--cancel`. Scripts stand for Slurm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from grid.slurm.fake import FakeSlurm
from safekey.cli.app import main
from safekey.errors import UserError
from safekey.grid import attempt
from safekey.grid.folder import Job
from safekey.grid.pool import Ended
from safekey.grid.request import Task
from safekey.grid.slurm import run
from safekey.grid.slurm.submit import FullError

Step = Callable[[], object]
SETTINGS: dict[str, Any] = {"recipe": "r", "arms": {"sft": [], "qsm": ["x=1"]}, "seeds": [0]}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    for name, value in (("_EVERY", (0.01, 0.01)), ("_SETTLE", 0.3), ("_TRY_AGAIN", 0.05)):
        monkeypatch.setattr(run, name, value)
    return fake


class Grid:
    """A grid of two jobs; `submitted` has their names as they are submitted, from number 1 on."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = home / "grid"
        self.path.mkdir()
        (self.path / "grid.yaml").write_text("recipe: r\narms: {sft: [], qsm: [x=1]}\nseeds: [0]\n")
        self.jobs = {arm: Job(arm, 0, self.path / "arms" / arm / "seed-0") for arm in ("sft", "qsm")}
        self.submitted: list[str] = []
        self.full = 0
        self.names: dict[str, str] = {}
        self.said = ""
        self.shown: list[tuple[str, ...]] = []
        monkeypatch.setattr(run, "submit", self._submit)

    def _submit(self, task: Task, name: str, options: Mapping[str, str]) -> str:
        if self.full:
            self.full -= 1
            raise FullError("job submit limit")
        self.submitted.append(task.job.arm)
        self.names[task.job.arm] = name
        return str(len(self.submitted))

    def follow(self, steps: Sequence[Step], *, resolved: dict[str, Any] = SETTINGS, jobs: int | None = None) -> Ended:
        """Run it; before each look at Slurm one step is done."""
        request = SimpleNamespace(slurm={}, jobs=jobs, executor="slurm")
        tasks = [Task(job, request, "m") for job in self.jobs.values() if not job.done]  # type: ignore[arg-type]
        left = list(steps)

        def watch(running: Mapping[str, float], ended: Mapping[str, float], cancelled: Collection[str]) -> None:
            self.shown.append(tuple(cancelled))
            if left:
                left.pop(0)()

        prepared = SimpleNamespace(folder=SimpleNamespace(path=self.path), resolved=resolved)
        with (self.path / "said").open("a") as out:
            ended = run.run_on_slurm(prepared, tasks, Console(file=out, width=500), watch)  # type: ignore[arg-type]
        self.said = (self.path / "said").read_text()
        assert not left, "it ended too soon"
        return ended

    def finish(self, *arms: str) -> None:
        for arm in arms:
            folder = self.jobs[arm].evaluation
            folder.mkdir(parents=True)
            (folder / "run.json").write_text('{"status": "finished"}')

    def saves(self, arm: str, step: int) -> None:
        (self.jobs[arm].folder / "train" / f"checkpoint-{step}").mkdir(parents=True)

    def records(self, arm: str, number: str, **more: Any) -> None:
        self.jobs[arm].folder.mkdir(parents=True, exist_ok=True)
        record = {"status": "ended", "slurm": number, **more}
        (self.jobs[arm].folder / attempt.FILE).write_text(json.dumps(record))


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    return Grid(tmp_path, monkeypatch)


def together(*steps: Step) -> Step:
    return lambda: [step() for step in steps]


def test_two_jobs_from_the_queue_to_the_end(slurm: FakeSlurm, grid: Grid) -> None:
    ended = grid.follow([
        lambda: slurm.queue({"1": "PENDING", "2": "RUNNING"}),
        lambda: slurm.queue({"1": "RUNNING", "2": "COMPLETING"}),
        together(lambda: slurm.queue({"1": "RUNNING", "2": "COMPLETED"}), lambda: grid.finish("qsm")),
        together(lambda: slurm.queue({}), lambda: grid.finish("sft")),  # forgotten already
    ])  # fmt: skip
    assert ended == Ended()
    assert grid.submitted == ["sft", "qsm"]
    assert json.loads((grid.path / "slurm.json").read_text())["jobs"]["sft, seed 0"]["seen"]["state"] == "done"


def test_what_slurm_ended_goes_on_as_long_as_it_gets_further(slurm: FakeSlurm, grid: Grid) -> None:
    grid.finish("qsm")
    ended = grid.follow([
        together(lambda: slurm.queue({"1": "TIMEOUT"}), lambda: grid.saves("sft", 4)),
        lambda: slurm.queue({"2": "NODE_FAIL"}),  # nothing saved, but that was not its fault
        lambda: slurm.queue({"3": "PREEMPTED"}),
        together(lambda: slurm.queue({"4": "TIMEOUT"}), lambda: grid.saves("sft", 8)),
        lambda: slurm.queue({"5": "TIMEOUT"}),  # a whole time limit without a checkpoint
    ])  # fmt: skip
    assert grid.submitted == ["sft"] * 5
    assert list(ended.failed) == ["sft, seed 0"]
    assert "got no further than the run before: give it more time (--slurm-option time=…)" in ended.said["sft, seed 0"]


def test_a_node_that_fails_again_and_again_ends_it(slurm: FakeSlurm, grid: Grid) -> None:
    grid.finish("qsm")
    ended = grid.follow([lambda number=number: slurm.queue({str(number): "NODE_FAIL"}) for number in (1, 2, 3)])  # type: ignore[misc]
    assert grid.submitted == ["sft"] * 3
    assert "its node failed" in ended.said["sft, seed 0"]


def test_out_of_memory_and_a_users_error(slurm: FakeSlurm, grid: Grid) -> None:
    ended = grid.follow([
        together(lambda: slurm.queue({"1": "OUT_OF_MEMORY", "2": "FAILED"}), lambda: grid.records("qsm", "2", code=2)),
    ])  # fmt: skip
    assert ended.failed == {"sft, seed 0": 1, "qsm, seed 0": 2}
    assert list(ended.said) == ["sft, seed 0"]
    assert "mem=" in ended.said["sft, seed 0"]
    assert "other 1 go on" in grid.said


def test_a_cancelled_job_stays_so_until_the_same_command_is_given_again(
    slurm: FakeSlurm, grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = grid.follow([
        lambda: slurm.queue({"1": "CANCELLED", "2": "RUNNING"}),
        lambda: slurm.queue({"2": "RUNNING"}),
        lambda: slurm.queue({"2": "RUNNING"}),
        together(lambda: slurm.queue({"2": "COMPLETED"}), lambda: grid.finish("qsm")),
    ])  # fmt: skip
    assert ended.cancelled == ["sft, seed 0"]
    assert grid.shown[-1] == ("sft, seed 0",), "the display is not told"
    assert grid.submitted == ["sft", "qsm"]
    slurm.queue({})  # Slurm forgets; the grid does not
    assert {one["arm"]: one["state"] for one in status(grid, capsys)["jobs"]} == {"sft": "cancelled", "qsm": "done"}
    ended = grid.follow([together(lambda: slurm.queue({"3": "COMPLETED"}), lambda: grid.finish("sft"))])
    assert ended == Ended()
    assert grid.submitted == ["sft", "qsm", "sft"]


def test_nothing_is_concluded_while_slurm_is_silent(slurm: FakeSlurm, grid: Grid) -> None:
    grid.finish("qsm")

    def down() -> None:
        slurm.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")

    def half() -> None:
        slurm.queue({})
        slurm.fails("scontrol", "slurm_load_jobs error: Socket timed out")

    def up() -> None:
        slurm.answers("scontrol")
        slurm.queue({"1": "RUNNING"})

    ended = grid.follow([up, down, down, down, down, half, half, up,
                         together(lambda: slurm.queue({"1": "COMPLETED"}), lambda: grid.finish("sft"))])  # fmt: skip
    assert ended == Ended()
    assert grid.submitted == ["sft"]
    assert grid.said.count("Slurm does not answer (slurm_load_jobs error: Unable to contact slurm controller)") == 1
    assert grid.said.count("Slurm answers again") == 1


def test_a_forgotten_job(slurm: FakeSlurm, grid: Grid) -> None:
    """Without accounting: its own record says how it ended; without one nothing is guessed, and nothing repeated."""
    ended = grid.follow(
        [together(lambda: slurm.queue({}), lambda: grid.records("sft", "1", code=143, state="CANCELLED"))]
    )
    assert ended.cancelled == ["sft, seed 0"]
    assert "Slurm has forgotten how it ended" in ended.said["qsm, seed 0"]
    assert grid.submitted == ["sft", "qsm"]


def test_a_late_file_system_is_waited_for(slurm: FakeSlurm, grid: Grid) -> None:
    steps: list[Step] = [lambda: slurm.queue({"1": "COMPLETED", "2": "COMPLETED"})] * 3
    assert grid.follow([*steps, lambda: grid.finish("sft", "qsm")]) == Ended()


def test_ctrl_c_leaves_them_and_the_same_command_comes_back(slurm: FakeSlurm, grid: Grid) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    ended = grid.follow([lambda: slurm.queue({"1": "RUNNING", "2": "PENDING"}), interrupt])
    assert (ended.interrupted, ended.left) == (True, 2)
    with pytest.raises(UserError, match="qsm, seed 0: its Slurm job 2 has other settings"):
        grid.follow([], resolved={**SETTINGS, "arms": {"sft": [], "qsm": ["x=2"]}})
    record = json.loads((grid.path / "slurm.json").read_text())
    del record["jobs"]["qsm, seed 0"]  # the process was killed before it could note the number
    (grid.path / "slurm.json").write_text(json.dumps(record))
    slurm.queue({"1": "RUNNING", "2": "PENDING"}, {"2": grid.names["qsm"]})
    ended = grid.follow([together(lambda: slurm.queue({}), lambda: grid.finish("sft", "qsm"))])
    assert ended == Ended()
    assert grid.submitted == ["sft", "qsm"], "nothing twice"


def test_a_copy_of_the_folder_does_not_take_the_originals_jobs(slurm: FakeSlurm, grid: Grid) -> None:
    first = run.Record(grid.path)
    first.write()
    assert run.Record(grid.path).name_of(grid.jobs["sft"]) == first.name_of(grid.jobs["sft"])
    other = grid.path.with_name("copy")
    other.mkdir()
    (other / "slurm.json").write_bytes((grid.path / "slurm.json").read_bytes())
    assert run.Record(other).name_of(grid.jobs["sft"]) != first.name_of(grid.jobs["sft"])


def test_a_full_queue(slurm: FakeSlurm, grid: Grid) -> None:
    grid.full = 1
    with pytest.raises(UserError, match=r"^Slurm takes no job now: job submit limit$"):
        grid.follow([])
    grid.submitted.clear()

    def limit() -> None:
        slurm.queue({"1": "RUNNING"})
        grid.full = 2

    steps = [limit, together(lambda: slurm.queue({"1": "COMPLETED"}), lambda: grid.finish("sft"))]
    ended = grid.follow(
        [*steps, *[lambda: None] * 3, together(lambda: slurm.queue({}), lambda: grid.finish("qsm"))], jobs=1
    )
    assert ended == Ended()
    assert grid.submitted == ["sft", "qsm"]
    assert grid.said.count("Slurm takes no more jobs now (job submit limit): 1 wait here until it does") == 1


def test_jobs_bounds_how_many_are_in_slurm(slurm: FakeSlurm, grid: Grid) -> None:
    seen: list[int] = []
    ended = grid.follow(
        [
            together(lambda: slurm.queue({"1": "PENDING"}), lambda: seen.append(len(grid.submitted))),
            together(lambda: slurm.queue({"1": "COMPLETED"}), lambda: grid.finish("sft")),
            together(lambda: slurm.queue({"2": "COMPLETED"}), lambda: grid.finish("qsm")),
        ],
        jobs=1,
    )
    assert (ended, seen, grid.submitted) == (Ended(), [1], ["sft", "qsm"])


def test_a_job_that_cannot_start_is_said_once(slurm: FakeSlurm, grid: Grid) -> None:
    grid.finish("qsm")
    waiting: list[Step] = [lambda: slurm.queue({"1": "PENDING"}, reason="PartitionDown")] * 3
    grid.follow([*waiting, together(lambda: slurm.queue({}), lambda: grid.finish("sft"))])
    assert grid.said.count("sft, seed 0: Slurm job 1 cannot start: its partition is down (PartitionDown)") == 1


def test_slurm_does_not_answer_at_first(slurm: FakeSlurm, grid: Grid) -> None:
    slurm.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(UserError, match=r"Unable to contact slurm controller\. Nothing was submitted"):
        grid.follow([])


# ---- --status and --cancel


def status(grid: Grid, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["grid", "my.yaml", "--output", str(grid.path), "--status", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def states(grid: Grid, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    return {one["arm"]: (one["state"], one["detail"]) for one in status(grid, capsys)["jobs"]}


def test_the_status_of_a_grid_in_slurm(slurm: FakeSlurm, grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    grid.follow([interrupt])
    slurm.queue({"1": "PENDING", "2": "RUNNING"}, reason="Resources")
    before = sorted(path.stat().st_mtime_ns for path in grid.path.rglob("*"))
    assert states(grid, capsys) == {"sft": ("queued", "Resources"), "qsm": ("running", "begins, on n1")}
    slurm.queue({"1": "PENDING"}, reason="PartitionDown")
    slurm.knows("2", "OUT_OF_MEMORY")
    found = states(grid, capsys)
    assert found["sft"] == ("queued", "its partition is down (PartitionDown)")
    assert found["qsm"][0] == "failed"
    slurm.queue({"1": "CANCELLED", "2": "TIMEOUT"})
    found = states(grid, capsys)
    assert found["sft"][0] == "cancelled"
    assert found["qsm"] == ("stopped", "its time in Slurm was up; the same command goes on")
    slurm.fails("squeue", "down for maintenance")
    assert states(grid, capsys)["sft"] == ("unknown", "Slurm does not answer: down for maintenance")
    assert sorted(path.stat().st_mtime_ns for path in grid.path.rglob("*")) == before, "nothing is written"
    one = status(grid, capsys)["jobs"][0]
    assert (one["slurm"], one["log"]) == ("1", str(grid.jobs["sft"].log))


def test_cancel(slurm: FakeSlurm, grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["grid", "my.yaml", "--output", str(grid.path), "--cancel"]
    assert main(words) == 2
    assert "its jobs do not run in Slurm" in capsys.readouterr().err

    def interrupt() -> None:
        raise KeyboardInterrupt

    grid.follow([interrupt])
    slurm.queue({"1": "COMPLETED", "2": "RUNNING", "3": "RUNNING"})
    assert main(words) == 0
    assert "qsm, seed 0: Slurm job 2 is cancelled\n1 jobs cancelled" in capsys.readouterr().out
    assert slurm.seen("scancel") == "2\n", "only the grid's own"


def test_the_status_of_a_grid_of_this_machine(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    assert states(grid, capsys) == {"sft": ("stopped", "not begun"), "qsm": ("stopped", "not begun")}
    attempt.sign_in(grid.path)  # this process
    attempt.begin(grid.jobs["sft"].folder)
    assert states(grid, capsys) == {"sft": ("running", "begins"), "qsm": ("queued", "waits for its turn")}
    grid.jobs["sft"].log.write_text("x\nsafekey: error: the disk is full\n")
    attempt.end(grid.jobs["sft"].folder, 2)
    assert states(grid, capsys)["sft"] == ("failed", "the disk is full")
    (grid.path / attempt.PROCESS).write_text(json.dumps({"host": socket.gethostname(), "pid": 1, "created": 1.0}))
    record = json.loads((grid.jobs["sft"].folder / attempt.FILE).read_text())
    gone = {**record, "status": "running", "created": 1.0}
    (grid.jobs["sft"].folder / attempt.FILE).write_text(json.dumps(gone))
    assert states(grid, capsys)["sft"] == ("stopped", "its process is gone; the same command goes on")
    attempt.end(grid.jobs["sft"].folder, 130)
    assert states(grid, capsys)["sft"] == ("stopped", "interrupted; the same command goes on")
    grid.finish("sft", "qsm")
    found = status(grid, capsys)
    assert found["counts"]["done"] == 2
    assert main(["grid", str(grid.path), "--status"]) == 0  # the folder in place of the recipe
    assert "2 jobs: 2 done" in capsys.readouterr().out


def test_no_grid_has_no_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grid", "my.yaml", "--output", str(tmp_path / "none"), "--status"]) == 2
    assert "no grid has been started there" in capsys.readouterr().err
    assert main(["grid", "my.yaml", "--status", "--cancel"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_the_status_is_there_at_once_and_loads_no_torch(grid: Grid) -> None:
    code = (
        "import sys; from safekey.cli.app import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'inspect_ai'} & set(sys.modules); sys.exit(code)"
    )
    words = ["grid", "my.yaml", "--output", str(grid.path), "--status"]
    subprocess.run([sys.executable, "-c", code, *words], check=True)
