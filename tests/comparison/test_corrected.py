"""The judge's error in comparisons: records and labels carried into differences, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.judge_records import record, run_of, write_record
from evals.saved_runs import completion
from safekey.cli.app import main
from safekey.comparison.collect import collect
from safekey.comparison.compare import compare
from safekey.errors import UserError
from safekey.evals.judge_error.correct import KnownErrors
from safekey.evals.judge_error.kept import keep_errors
from safekey.evals.records.rows import completion_hash


def arms(tmp_path: Path) -> dict[str, list[str]]:
    return {"sft": [str(run_of(tmp_path / "sft", 60))], "safekey": [str(run_of(tmp_path / "safekey", 20))]}


def of_asr(found: Any) -> Any:
    (row,) = compare(found.outcomes, "sft", errors=found.errors).comparisons
    return row


def test_a_record_is_carried_into_the_difference(tmp_path: Path) -> None:
    file = write_record(tmp_path / "record.json", record())
    found = collect(arms(tmp_path), judge_records=[file])
    row, plain = of_asr(found), compare(found.outcomes, "sft").comparisons[0]
    assert row.corrected.value == pytest.approx(-0.4 / 0.85)
    assert row.corrected.low < -0.4 / 0.85 < row.corrected.high < 0
    assert row.corrected.source == "record.json"
    assert (row.difference, row.p_adjusted) == (plain.difference, plain.p_adjusted)  # the tests are as before
    assert plain.corrected is None
    said = compare(found.outcomes, "sft", errors=found.errors).verdicts["safekey"].caveats
    assert any("ASR corrected for the judge's error: a difference of −47.1 points" in line for line in said)


def test_false_alarms_that_reach_an_arms_rate_are_flagged(tmp_path: Path) -> None:
    file = write_record(tmp_path / "record.json", record(alarms=25, passes=75))
    row = of_asr(collect(arms(tmp_path), judge_records=[file]))
    assert row.corrected.flags == (
        "safekey: the judge's false alarms (25.0 %) reach the judged rate: it may be nothing but false alarms",
    )


def test_what_the_runs_keep_is_used(tmp_path: Path) -> None:
    named = arms(tmp_path)
    for runs in named.values():
        keep_errors(Path(runs[0]), KnownErrors((record(),)))
    assert of_asr(collect(named)).corrected.value == pytest.approx(-0.4 / 0.85)
    keep_errors(Path(named["sft"][0]), KnownErrors((record(hits=80, misses=20, data_sha256="other"),)))
    found = collect(named)
    assert of_asr(found).corrected is None
    assert any("the runs keep different records" in note for note in found.notes)
    assert not collect(arms(tmp_path / "old")).errors.known  # as before


def test_labels_of_both_arms(tmp_path: Path) -> None:
    named, labels = arms(tmp_path), tmp_path / "labels.jsonl"
    rows = [completion("strongreject", f"q{i}") for i in range(100)]
    wrong = {0, 1, 70, 71}  # what the judge said of them is wrong in both arms, where it said so
    with labels.open("w") as file:
        for i, row in enumerate(rows):
            label = int((i < 20) != (i in wrong))
            about = {"request": "r", "response": "x", "completion": completion_hash(row), "label": label}
            file.write(json.dumps(about) + "\n")
    found = collect(named, labels=[str(labels)])
    row = of_asr(found)
    assert row.corrected.by == "labels"
    assert row.corrected.source == "100 labels on safekey and 100 on sft"
    assert row.corrected.value == pytest.approx(0.0, abs=1e-9)  # the arms' answers are the same: so are the labels
    assert row.corrected.low < 0 < row.corrected.high
    assert row.difference.estimate == pytest.approx(-0.4)


def test_the_commands_show_it_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = arms(tmp_path)
    folders = [named["sft"][0], named["safekey"][0]]
    file = write_record(tmp_path / "record.json", record())
    assert main(["compare", *folders, "--judge-record", file]) == 0
    said = capsys.readouterr().out
    assert "−40.0 [" in said
    assert "corrected −47.1 [" in said
    assert main(["compare", *folders, "--judge-record", file, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert row["corrected"]["value"] == pytest.approx(-0.4 / 0.85)
    report = tmp_path / "report"
    assert main(["report", *folders, "--judge-record", file, "--output", str(report)]) == 0
    text, page = (report / "report.md").read_text(), (report / "report.html").read_text()
    for words in ("corrected 64.7 % (", "corrected 17.6 % ("):
        assert words in page
        assert words in text
    assert "corrected −47.1 [" in page
    assert "corrected by record" in page


def test_another_judges_record_is_refused(tmp_path: Path) -> None:
    file = write_record(tmp_path / "record.json", record(model="openai/other"))
    with pytest.raises(UserError, match="it is of the model openai/other, these verdicts are of openai/judge"):
        collect(arms(tmp_path), judge_records=[file])
    labels = tmp_path / "labels.jsonl"
    labels.write_text(json.dumps({"request": "other", "response": "x", "label": 1}) + "\n")
    with pytest.raises(UserError, match="none of its 1 labelled answers"):
        collect(arms(tmp_path / "b"), labels=[str(labels)])
