"""Slurm's answers, its options, and what they mean: with scripts in Slurm's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grid.slurm.fake import FakeSlurm
from safekey.cli.app import build_parser, main
from safekey.errors import UserError
from safekey.grid import attempt
from safekey.grid.folder import Job
from safekey.grid.request import Task
from safekey.grid.slurm import commands, job, options, submit, verdicts
from safekey.grid.slurm.commands import Seen, SilentError


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    return fake


# ---- options


def test_options_are_those_of_sbatch() -> None:
    found = options.parse(["partition=gpu", "cpus_per_task=4", "--time=1-00:00:00", "exclusive=true", "licenses=a=b,c"])
    assert found == {"partition": "gpu", "cpus-per-task": "4", "time": "1-00:00:00", "exclusive": "true",
                     "licenses": "a=b,c"}  # fmt: skip
    assert options.for_sbatch({**found, "nodes": "1", "overcommit": "false"}) == {**found, "exclusive": True}
    assert (options.cpus(found), options.cpus({})) == (4, 1)
    assert options.margin({}, 7200) == 180
    assert options.margin({}, 60) == 12
    assert options.margin({"signal": "USR2@600"}, 7200) == 600


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("partition", "expected NAME=VALUE"),
        ("partition=", "expected NAME=VALUE"),
        ("comment=a", "the grid sets it"),
        ("mail-user=me\n#SBATCH --wrap=evil", "holds a newline"),
        ("mail-user=me\revil", "holds a newline or another control character"),
        ("p=gpu", "the long name of an sbatch option"),
        ("Partition=gpu", "the long name of an sbatch option"),
        ("partition\nx=gpu", "the long name of an sbatch option"),
        ("array=1-9", "one job for each arm and seed"),
        ("output=/tmp/x", "the grid sets it"),
        ("nodes=2", "one process on one node"),
        ("ntasks-per-node=8", "one process on one node"),
        ("chdir=/tmp", "from the folder in which the grid is started"),
    ],
)
def test_options_that_are_refused(word: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        options.parse([word])


def test_a_recipes_section_may_hold_them(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "extends: organism\ngrid: {executor: slurm, slurm_option: [partition=gpu, time=12:00:00]}\n"
    )
    parse = build_parser().parse_args
    words = ["grid", str(tmp_path / "my.yaml"), "data=x"]
    args = parse(words)
    asked = args.request(args)
    assert (asked.executor, asked.slurm) == ("slurm", {"partition": "gpu", "time": "12:00:00"})
    args = parse([*words, "--executor", "local", "--slurm-option", "mem=1G"])
    asked = args.request(args)
    assert (asked.executor, asked.slurm) == ("local", {"mem": "1G"})


# ---- commands


def test_squeue_and_scontrol_are_read(slurm: FakeSlurm) -> None:
    slurm.queue({"7": "PENDING", "8": "CANCELLED", "9": "COMPLETING"}, {"7": "a|b"}, reason="Resources")
    found = commands.queue()
    assert found["7"] == Seen("7", "PENDING", "Resources", "n1", "a|b")
    assert [(one.live, one.waits) for one in found.values()] == [(True, True), (False, False), (True, False)]
    slurm.knows("12", "OUT_OF_MEMORY", Reason="OutOfMemory", NodeList="(null)")
    assert commands.find("12", found) == Seen("12", "OUT_OF_MEMORY", "OutOfMemory", "", "x")
    assert commands.find("13", found) is None
    (slurm.home / "sacct.out").write_text("13|CANCELLED by 0\n13.batch|CANCELLED\n")
    assert commands.find("13", found) == Seen("13", "CANCELLED")


def test_no_answer_is_no_conclusion(slurm: FakeSlurm) -> None:
    slurm.fails("squeue", "squeue: error: x\nslurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(SilentError, match="Unable to contact slurm controller"):
        commands.queue()
    slurm.answers("squeue")
    (slurm.home / "squeue.out").write_text("slurmctld is being upgraded\n")
    with pytest.raises(SilentError, match="squeue printed"):
        commands.queue()
    slurm.fails("scontrol", "slurm_load_jobs error: Socket timed out on send/recv operation")
    with pytest.raises(SilentError, match="Socket timed out"):
        commands.about("7")


def test_variables_of_the_user_do_not_change_what_is_read(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm.bin / "squeue").write_text(
        '#!/bin/sh\n[ -z "$SQUEUE_PARTITION$SLURM_TIME_FORMAT" ] && echo "1|RUNNING|None|n|x"\n'
    )
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    assert list(commands.queue()) == ["1"]


def test_the_time_that_is_left() -> None:
    begin = datetime.now().replace(microsecond=0)
    fields = {"StartTime": begin.isoformat(), "EndTime": (begin + timedelta(minutes=10)).isoformat()}
    left, limit = commands.time_left(fields) or (0, 0)
    assert 595 < left <= 600
    assert limit == 600
    assert commands.time_left({"StartTime": begin.isoformat(), "EndTime": "Unknown"}) is None


# ---- what became of a job


@pytest.mark.parametrize(
    ("state", "own", "expected", "said"),
    [
        ("CANCELLED", {}, "cancelled", "same command submits it again"),
        ("FAILED", {"code": 143, "state": "CANCELLED"}, "cancelled", ""),
        (None, {"code": 143, "state": "CANCELLED"}, "cancelled", ""),
        ("TIMEOUT", {}, "again", "time in Slurm was up"),
        ("FAILED", {"code": 143, "state": "TIMEOUT"}, "again", "time in Slurm was up"),
        (None, {"code": 143, "state": "PREEMPTED"}, "again", "preempted"),
        ("PREEMPTED", {}, "again", "preempted"),
        ("NODE_FAIL", {}, "again", "node failed"),
        ("BOOT_FAIL", {}, "again", "did not boot"),
        ("OUT_OF_MEMORY", {"code": 1}, "failed", "mem="),
        ("DEADLINE", {}, "failed", "deadline"),
        ("FAILED", {"code": 2}, "failed", ""),
        ("COMPLETED", {}, "failed", "a file system that the nodes share"),
        ("FAILED", {"status": "running"}, "failed", "without a result"),
        (None, {}, "failed", "Slurm has forgotten"),
        ("CANCELLED", {"slurm": "5", "code": 2}, "cancelled", ""),
        ("FAILED", {"slurm": "5", "code": 2}, "failed", "a file system that the nodes share"),
    ],
)
def test_verdicts(state: str | None, own: dict[str, Any], expected: str, said: str, tmp_path: Path) -> None:
    """`own`: what the job recorded; number 5 is an older Slurm job of the same arm and seed."""
    mine = Job("sft", 0, tmp_path)
    if own:
        (tmp_path / attempt.FILE).write_text(json.dumps({"status": "ended", "slurm": "6", **own}))
    found = verdicts.verdict(mine, "6", None if state is None else Seen("6", state))
    assert ("again" if found.again else found.state) == expected
    assert said in found.detail
    assert found.code != 0 or expected == "cancelled"
    mine.evaluation.mkdir()
    (mine.evaluation / "run.json").write_text('{"status": "finished"}')
    assert verdicts.verdict(mine, "6", None if state is None else Seen("6", state)).state == "done"


def test_slurms_own_output_is_quoted_when_a_job_did_not_begin(tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "6_0_log.err").write_text("x\n/opt/python: No such file or directory\n\n")
    found = verdicts.verdict(Job("sft", 0, tmp_path), "6", Seen("6", "FAILED"))
    assert found.detail.endswith("6_0_log.err: /opt/python: No such file or directory")


def test_a_job_that_only_waits_is_not_blocked() -> None:
    assert [
        verdicts.blocked(reason) for reason in ("Resources", "Priority", "BeginTime", "QOSMaxJobsPerUserLimit")
    ] == [""] * 4
    assert verdicts.blocked("PartitionDown") == "its partition is down (PartitionDown)"
    assert "not available" in verdicts.blocked("ReqNodeNotAvail, UnavailableNodes:n1")


# ---- why SIGTERM came


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"JobState": "COMPLETING", "Restarts": "1"}, "REQUEUED"),
        ({"JobState": "COMPLETING", "Restarts": "0", "PreemptTime": "2026-01-01T00:00:00"}, "PREEMPTED"),
        ({"JobState": "COMPLETING", "Restarts": "0"}, "CANCELLED"),
        ({"JobState": "RUNNING", "Restarts": "0"}, "CANCELLED"),
        ({"JobState": "NODE_FAIL", "Restarts": "0"}, "NODE_FAIL"),
    ],
)
def test_why_a_job_was_told_to_stop(fields: dict[str, str], expected: str, slurm: FakeSlurm) -> None:
    state = fields.pop("JobState")
    slurm.knows("6", state, **fields)
    assert job._why("6", 0) == expected


def test_two_slurm_jobs_for_one_job_do_not_meet(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NAME", "safekey-1-sft-0")
    twin = {"5": "safekey-1-sft-0", "6": "safekey-1-sft-0"}
    slurm.queue({"5": "RUNNING", "6": "RUNNING"}, twin)
    assert job._other("6") == "5"
    assert job._other("5") is None
    slurm.queue({"5": "CANCELLED", "6": "RUNNING"}, twin)
    assert job._other("6") is None


# ---- submitting


def task(tmp_path: Path) -> Task:
    return Task(Job("sft", 0, tmp_path / "arms" / "sft" / "seed-0"), SimpleNamespace(), "m")  # type: ignore[arg-type]


def test_a_script_for_sbatch(slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1")  # of an allocation in which the grid runs
    monkeypatch.setenv("SLURM_CONF", "/etc/my.conf")
    given = {"partition": "gpu", "cpus-per-task": "4", "exclusive": "true", "mail-user": "a b"}
    assert submit.submit(task(tmp_path), "safekey-1-sft-0", given) == "41"
    lines = (slurm.home / "script").read_text().splitlines()
    for line in ("--partition=gpu", "--cpus-per-task=4", "--exclusive", "--mail-user='a b'", "--requeue",
                 "--job-name=safekey-1-sft-0"):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    assert not [line for line in lines if "--time" in line or "--wckey" in line], "the cluster's own defaults hold"
    assert [line for line in lines if line.startswith("srun ") and " --cpus-per-task=4 " in line]
    env = (slurm.home / "env").read_text()
    assert "SLURM_MEM_PER_CPU" not in env
    assert "SLURM_CONF=/etc/my.conf" in env
    folder = tmp_path / "arms" / "sft" / "seed-0" / "slurm"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["41_submission.sh", "41_submitted.pkl"]


FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("stderr", "error", "expected"),
    [
        (
            f"sbatch: error: invalid partition specified: nope\n{FAILED}Invalid partition name specified",
            UserError,
            r"Invalid partition name specified \(.*partition=nope; this cluster has main, short",
        ),
        (
            f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            submit.FullError,
            r"^Job violates accounting/QOS policy \(job submit limit",
        ),
        (
            f"sbatch: error: Slurm temporarily unable to accept job\n{FAILED}Resource temporarily unavailable",
            submit.FullError,
            "temporarily unavailable",
        ),
        (
            "sbatch: unrecognized option '--bogus=3'\nTry \"sbatch --help\" for more information",
            UserError,
            "unrecognized option '--bogus=3'",
        ),
        ("sbatch: error: Invalid generic resource (gres) specification", UserError, "gres=gpu:9"),
    ],
)
def test_what_slurm_refuses_is_one_line(
    stderr: str,
    error: type[Exception],
    expected: str,
    slurm: FakeSlurm,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("submitit")
    slurm.fails("sbatch", stderr)
    with pytest.raises(error, match=expected) as raised:
        submit.submit(task(tmp_path), "x", {"partition": "nope", "gres": "gpu:9"})
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""
    assert not list((tmp_path / "arms" / "sft" / "seed-0" / "slurm").iterdir())


def test_nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"Slurm is not installed on this machine .no sbatch, srun"):
        submit.check_here()
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:/bin")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'safekey\[slurm\]'"):
        submit.check_here()


def test_the_grid_says_so_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["grid", "organism", "data=nowhere.jsonl", "--executor", "slurm", "--output", str(tmp_path / "grid")]
    assert main(words) == 2
    assert "Slurm is not installed on this machine" in capsys.readouterr().err
    assert not (tmp_path / "grid").exists()


def test_the_status_needs_no_torch() -> None:
    code = "import safekey.cli.grid, safekey.grid.status, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
