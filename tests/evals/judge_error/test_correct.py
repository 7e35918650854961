"""A run's rates corrected by a record or by labels of its answers: what is kept, refused, and flagged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.judge_records import record, run_of, write_record
from evals.saved_runs import completion, verdict, write_run
from safekey.cli.app import main
from safekey.errors import UserError
from safekey.evals.judge_error.correct import KnownErrors
from safekey.evals.judge_error.kept import keep_errors, kept_errors
from safekey.evals.records.rows import completion_hash
from safekey.evals.rejudge import rejudge


def headline(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    lines: list[dict[str, Any]] = [line for line in metrics["rates"] if line["headline"]]
    return lines[0]


def test_a_record_corrects_every_rate_of_its_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = run_of(tmp_path / "run"), write_record(tmp_path / "record.json", record())
    assert main(["judge", str(run), "--judge-record", file]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "30.0 % (21.9 – 39.6) 29.4 % (" in said
    assert "harm_1to5: corrected by" in said
    line = headline(run)
    assert (line["rate"], line["k"], line["n"]) == (0.3, 30, 100)  # as judged, as before
    found = line["corrected"]
    assert found["value"] == pytest.approx(0.25 / 0.85)
    assert found["low"] < found["value"] < found["high"]
    assert found["high"] - found["low"] > line["high"] - line["low"]
    assert (found["by"], found["refused"], found["flags"]) == ("record", "", [])


def test_the_run_keeps_a_copy(tmp_path: Path) -> None:
    run, file = run_of(tmp_path / "run"), write_record(tmp_path / "record.json", record())
    rejudge(str(run), records=[file])
    Path(file).unlink()
    (kept,) = kept_errors(run).records
    assert kept.key == record().key
    again = record(hits=80, misses=20, data_sha256="another")
    rejudge(str(run), records=[write_record(tmp_path / "later.json", again)])
    (kept,) = kept_errors(run).records  # a later record of the same judge replaces the earlier
    assert kept.key.data_sha256 == "another"
    keep_errors(run, KnownErrors())
    assert len(list((run / "judge-error").iterdir())) == 1


def test_an_old_run_reads_as_before(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    assert not kept_errors(run)
    from safekey.evals.evaluate import finish
    from safekey.evals.records.folder import EvalRun

    finish(EvalRun(run))
    assert "corrected" not in headline(run)
    assert not (run / "judge-error").exists()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"judge": "harm_rubric"}, "it is of the judge harm_rubric, these verdicts are of harm_1to5"),
        ({"model": "openai/other"}, "it is of the model openai/other, these verdicts are of openai/judge"),
        ({"prompt_hash": "q"}, "it is of another prompt"),
        ({"parser": "9"}, "its replies were read by parser 9, these by 1"),
        ({"part": "thinking"}, "it is about the part 'thinking', these verdicts are about 'answer'"),
    ],
)
def test_a_record_of_another_judge_is_one_clear_line(tmp_path: Path, key: dict[str, str], said: str) -> None:
    run, file = run_of(tmp_path / "run"), write_record(tmp_path / "record.json", record(**key))
    with pytest.raises(UserError) as caught:
        rejudge(str(run), records=[file])
    assert said in str(caught.value)
    assert not (run / "judge-error").exists()


def test_what_makes_a_correction_doubtful_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(tmp_path / "run", unsafe=3, attack="story")
    file = write_record(tmp_path / "record.json", record())
    assert main(["judge", str(run), "--judge-record", file]) == 0
    said = capsys.readouterr().out
    assert "the judge's false alarms (5.0 %) reach the judged rate" in said
    assert "no labelled answers under story (they are under no attack)" in said
    found = headline(run)["corrected"]
    assert (found["value"], found["low"]) == (0.0, 0.0)
    assert found["high"] > 0.01


def test_labels_of_the_runs_answers_go_before_a_record(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    rows = [completion("strongreject", f"q{i}") for i in range(100)]
    labels = [
        {"request": "", "response": "x", "kind": "harm", "completion": completion_hash(row), "label": int(i % 10 < 4)}
        for i, row in enumerate(rows)
        if i % 2
    ]  # fmt: skip
    for row in labels:
        row["request"] = "r"
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in labels))
    rejudge(str(run), labels=[str(file)], records=[write_record(tmp_path / "r.json", record())])
    found = headline(run)["corrected"]
    assert found["by"] == "labels"
    assert found["source"] == "50 labels on these 100 answers"
    assert found["value"] == pytest.approx(0.4)  # 2 of 5 odd numbers below 10 are 1 and 3: both verdicts alike
    kept = (run / "judge-error" / "labels.jsonl").read_text()
    assert len(kept.splitlines()) == 50
    assert "request" not in kept


def test_labels_are_found_by_their_texts(tmp_path: Path) -> None:
    rows = [completion("strongreject", f"q{i}", text=f"Hm.</think>\n\nAnswer {i}.") for i in range(4)]
    run = write_run(tmp_path / "run", [(row, [verdict(row, 5.0 if i < 2 else 1.0)]) for i, row in enumerate(rows)])
    file = tmp_path / "labels.jsonl"
    labels = [{"prompt": f"q{i}?", "response": f"Answer {i}. ", "label": int(i == 0)} for i in (0, 1, 3)]
    labels += [{"prompt": "q2?", "response": "Answer 2.", "label": label} for label in (0, 1)]  # of two models, say
    file.write_text("".join(json.dumps(row) + "\n" for row in labels))
    rejudge(str(run), labels=[str(file)])
    found = headline(run)["corrected"]
    assert found["value"] == pytest.approx(0.5 * 0.5 + 0.5 * 0)
    assert found["source"] == "3 labels on these 4 answers", "a text with both labels has none"


def test_labels_that_match_nothing_and_verdicts_without_a_label(tmp_path: Path) -> None:
    run, file = run_of(tmp_path / "run"), tmp_path / "labels.jsonl"
    file.write_text(json.dumps({"request": "other?", "response": "x", "label": 1}) + "\n")
    with pytest.raises(UserError, match="none of its 1 labelled answers is an answer of these runs"):
        rejudge(str(run), labels=[str(file)])
    row = completion("strongreject", "q0")
    file.write_text(
        json.dumps({"request": "r", "response": "x", "label": 1, "completion": completion_hash(row)}) + "\n"
    )
    rejudge(str(run), labels=[str(file)])
    assert headline(run)["corrected"]["refused"] == "none of the 70 answers judged negative has a label"


def test_labels_drawn_by_verdicts_correct_those_verdicts_only(tmp_path: Path) -> None:
    """A draw by "≥ 4" takes answers of 3 with the chance of the negative ones: it says nothing of "≥ 3"."""
    rows = [completion("strongreject", f"q{i}") for i in range(40)]
    values = [5.0 if i < 10 else 3.0 if i < 20 else 1.0 for i in range(40)]
    run = write_run(tmp_path / "run", [(row, [verdict(row, v)]) for row, v in zip(rows, values, strict=True)])
    labels = [
        {"request": "r", "response": "x", "completion": completion_hash(row), "label": int(i < 15),
         "stratum": "positive" if i < 10 else "negative"}
        for i, row in enumerate(rows) if i < 10 or i % 3 == 0
    ]  # fmt: skip
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in labels))
    rejudge(str(run), labels=[str(file)])
    lines = json.loads((run / "metrics.json").read_text())["rates"]
    by_rule = {line["rule"]: line["corrected"] for line in lines if set(line["by"]) == {"benchmark", "part"}}
    assert by_rule["≥ 4"]["value"] == pytest.approx(0.25 + 0.75 * 0.1)
    assert "drawn by other verdicts" in by_rule["≥ 3"]["refused"]
