"""`safekey report`: arms from folders or a grid, what it prints, and one line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from report.worlds import one_run, two_arms
from safekey.cli import report as cli_report
from safekey.cli.app import main

SRC = Path(cli_report.__file__).parents[1]


def run(*words: str) -> int:
    return main(["report", *words])


def test_runs_are_arms_and_the_first_is_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = one_run(tmp_path / "a"), one_run(tmp_path / "b")
    assert run(str(a), str(b), "--output", str(tmp_path / "out"), "--title", "Mine") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "b: not-established"
    assert said[-1].startswith(f"{tmp_path}/out/report.html: ")
    assert said[-1].endswith("80 of 80 transcripts")
    assert "<h1>Mine</h1>" in (tmp_path / "out" / "report.html").read_text()


def test_a_grid_is_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_arms(tmp_path, seeds=2)
    grid = {"recipe": "r", "arms": {"safekey": ["qmm_weight=0.2"], "sft": ["qmm_weight=0"]}, "seeds": [0, 1, 7],
            "compare": {"reference": "sft"}, "note": "of mine"}  # fmt: skip
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    assert run(str(tmp_path), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["verdicts"]) == {"safekey"}
    assert said["html"] == str(tmp_path / "report" / "report.html")
    assert said["bytes"][said["html"]] == Path(said["html"]).stat().st_size < 5_000_000
    assert said["transcripts"] == {"shown": 800, "total": 800}
    page = Path(said["html"]).read_text()
    assert "note: of mine" in page
    assert "not finished, and left out: safekey, seed 7; sft, seed 7" in page
    assert run(str(tmp_path), "--reference", "safekey", "--output", str(tmp_path / "other"), "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["verdicts"]) == {"sft"}


def test_arms_with_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = two_arms(tmp_path, seeds=2)
    words = [word for name in arms for word in ("--arm", f"{name}={','.join(map(str, arms[name]))}")]
    assert run(*words, "--reference", "safekey", "--output", str(tmp_path / "out"), "--margin", "50") == 0
    assert capsys.readouterr().out.startswith("sft: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give at least one run, or one arm"),
        (["nowhere"], "there is no such folder"),
        (["nowhere", "--margin", "101"], "expected points from 0 to 100"),
        (["nowhere", "--arm", "x"], "expected NAME=RUN,RUN"),
        (["nowhere", "--reference", "y"], "neither a run folder nor an arm"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_nobody_imports_the_report_but_commands() -> None:
    for path in SRC.rglob("*.py"):
        if "safekey.report" in path.read_text(encoding="utf-8"):
            name = path.relative_to(SRC).as_posix()
            assert name.startswith(
                ("report/", "sharing/", "cli/report", "cli/analyze", "cli/grid", "cli/demo", "grid", "organism/demo")
            ), name
