"""Run folders written before the package was laid out anew are read as before.

`made_before/c9abd37.tar.gz` holds a grid (arms base, sft, qsm; two seeds; four prompts a benchmark), an evaluation, and
what `safekey compare grid --json` and `safekey analyze key-sentences grid --json` printed about the grid, all made by
commit c9abd37. The trained weights were left out: none of these verbs reads them.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from safekey.cli.app import main


@pytest.fixture
def before(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "made_before" / "c9abd37.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main([str(word) for word in words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def expected(before: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((before / "expected" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_an_old_grid_gives_the_same_differences(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, old = printed(capsys, "compare", before / "grid", "--json"), expected(before, "compare")
    assert len(old["comparisons"]) == 6
    for now, then in zip(found["comparisons"], old["comparisons"], strict=True):
        for name in ("arm", "reference", "metric", "difference", "interval", "p", "lost", "missing", "expected"):
            assert now[name] == then[name], (then["arm"], then["metric"], name)
    assert found["seeds"] == old["seeds"]
    assert found["apart"]["comparisons"][0]["difference"] == old["apart"]["comparisons"][0]["difference"]


def test_an_old_grid_gives_the_same_key_sentences(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, old = printed(capsys, "analyze", "key-sentences", before / "grid", "--json"), expected(before, "analyze")
    assert found["groups"] == old["groups"]
    assert len(found["results"]) == len(old["results"])


def test_an_old_evaluation_is_judged_and_shown(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = before / "run"
    metrics, verdicts = (run / "metrics.json").read_text(), (run / "verdicts.jsonl").read_text()
    assert main(["judge", str(run), "--judge", "exact=safekey.organism.judge:decide"]) == 0
    assert "5/5" in capsys.readouterr().out
    assert (run / "verdicts.jsonl").read_text() == verdicts, "a verdict that is there was asked for again"
    lines = json.loads((run / "metrics.json").read_text())["rates"]
    for now, then in zip(lines, json.loads(metrics)["rates"], strict=True):
        assert {name: now[name] for name in then} == then  # later versions count more beside a rate
    assert main(["report", str(run), "--output", str(before / "page")]) == 0
    assert (before / "page" / "report.html").stat().st_size > 50_000


def test_an_old_grid_gives_a_page(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(before / "grid"), "--output", str(before / "page")]) == 0
    assert "120 of 120 transcripts" in capsys.readouterr().out
