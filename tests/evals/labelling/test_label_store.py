"""The label file: appended at once, whole lines, private, resumed, and nobody else's."""

from __future__ import annotations

import errno
import json
import stat
import threading
from pathlib import Path

import pytest

from evals.labelling.labelling_runs import harm_run, labels_of, session_of
from safekey.errors import UserError
from safekey.evals.labelling.sample import Wanted
from safekey.evals.labelling.session import Session
from safekey.evals.labelling.store import open_labels


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return harm_run(tmp_path / "run")


def refused(run: Path, output: Path | None = None, **wanted: object) -> str:
    with pytest.raises(UserError) as error:
        open_labels(run, Wanted(**wanted), output and str(output))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_row_has_all_that_a_validation_needs(run: Path) -> None:
    file = labels_of(run, sample=10)
    answer = file.draw.answers[0]
    file.add(answer, 1, "ann")
    (row,) = [json.loads(line) for line in (run / "labels" / "harm-answer.jsonl").read_text().splitlines()]
    assert row.pop("time")
    item = answer.labels["item"]
    assert row == {
        "request": answer.request, "response": answer.response, "part": "answer", "kind": "harm", "label": 1,
        "rater": "ann", "id": f"strongreject/{item}#1", "benchmark": "strongreject", "item": item, "epoch": 1,
        "completion": answer.completion, "category": "secret-category", "attack": "story", "stratum": answer.stratum,
        "weight": round(file.draw.weight(answer), 6),
    }  # fmt: skip


def test_only_its_user_can_read_it(run: Path, tmp_path: Path) -> None:
    file = labels_of(run)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    other = open_labels(run, Wanted(), str(tmp_path / "new" / "mine.jsonl"))
    other.add(other.draw.answers[0], 0, "ann")
    assert stat.S_IMODE(other.path.stat().st_mode) == 0o600
    assert sorted(path.name for path in other.path.parent.iterdir() if path.name[0] != ".") == [
        "mine.draw.json", "mine.jsonl",
    ]  # fmt: skip


def test_labelling_goes_on_where_it_stopped(run: Path) -> None:
    session = session_of(run, sample=6)
    for place, label in ((1, 1), (2, None), (3, 0)):
        session.label(place, label)
    again = session_of(run)
    assert (again.next(), again.skipped(), again.before()) == (4, 2, 3)
    assert again.file.draw == session.file.draw
    progress = again.progress()
    assert (progress.labelled, progress.skipped, progress.left, progress.total) == (2, 1, 3, 6)


def test_the_draw_stays_when_other_verdicts_come(run: Path) -> None:
    session = session_of(run, sample=6)
    (run / "verdicts.jsonl").write_text("")
    assert session_of(run).file.draw == session.file.draw


def test_a_later_label_replaces_an_earlier_one(run: Path) -> None:
    session = session_of(run)
    session.label(1, 1)
    session.label(2, 0)
    session.label(1, 0)
    rows = session.file.rows()
    assert [(row["completion"], row["label"]) for row in rows] == [
        (session.answer(2).completion, 0), (session.answer(1).completion, 0),
    ]  # fmt: skip
    assert len(session.file.path.read_text().splitlines()) == 3, "nothing is ever taken out of the file"


def test_the_same_label_twice_is_one_row(run: Path) -> None:
    session = session_of(run)
    session.label(1, 1)
    session.label(1, 1)
    assert len(session.file.path.read_text().splitlines()) == 1


def test_the_way_back_goes_back(run: Path) -> None:
    session = session_of(run)
    assert session.before() is None
    for place in (1, 2, 3):
        session.label(place, 0)
    assert [session.before(), session.before(3), session.before(2), session.before(1)] == [3, 2, 1, None]
    session.label(2, 1)
    assert session.before(3) == 2


def test_half_a_line_is_cut_off_and_nothing_else(run: Path) -> None:
    session = session_of(run)
    session.label(1, 1)
    whole = session.file.path.read_bytes()
    session.file.path.write_bytes(whole + b'{"request": "Req')
    again = session_of(run)
    assert again.next() == 2
    again.label(2, 0)
    assert session.file.path.read_bytes().startswith(whole)
    assert [row["label"] for row in again.file.rows()] == [1, 0]


def test_two_raters_write_at_a_time(run: Path) -> None:
    sessions = [session_of(run, rater) for rater in ("ann", "ben")]
    assert sessions[0].file is not sessions[1].file

    def work(session: Session) -> None:
        for place in range(1, len(session) + 1):
            session.label(place, place % 2)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = session_of(run).file.rows()
    assert sorted(row["rater"] for row in rows) == ["ann"] * 22 + ["ben"] * 22


def test_other_settings_than_the_draws_are_refused(run: Path) -> None:
    labels_of(run, sample=10, seed=0)
    assert "drawn with --sample 10: leave --sample out to go on" in refused(run, sample=11)
    assert "drawn with --seed 0: leave --seed out" in refused(run, seed=1)
    assert "drawn with no --even" in refused(run, even=True)
    labels_of(run, sample=10, seed=0, judge="harm_1to5", kind="harm", part="answer")
    assert labels_of(run, part="thinking").path.name == "harm-thinking.jsonl", "another part has its own file"
    assert labels_of(run, benchmark="strongreject").path.name == "harm-answer-strongreject.jsonl"


def test_a_file_of_somebody_else_is_left_alone(run: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "rows.jsonl"
    foreign.write_text('{"request": "mine"}\n')
    assert "no file of labels that safekey drew" in refused(run, foreign)
    assert foreign.read_text() == '{"request": "mine"}\n'
    assert "is the run's completions.jsonl" in refused(run, run / "completions.jsonl")
    (run / "verdicts.jsonl").write_text("")
    assert "is the run's verdicts.jsonl" in refused(run, run / "verdicts.jsonl")
    link = tmp_path / "link.jsonl"
    link.symlink_to(run / "run.json")
    assert "is the run's run.json" in refused(run, link)
    (tmp_path / "folder").mkdir()
    assert "no file of labels" in refused(run, tmp_path / "folder")
    assert "holds the run's completions.jsonl" in refused(run, run)
    beside = tmp_path / "x.draw.json"
    beside.write_text("{}")
    assert "is no draw of safekey" in refused(run, tmp_path / "x.jsonl")
    assert "cannot be written" in refused(run, foreign / "x.jsonl")


def test_answers_that_changed_since_the_draw_are_refused(run: Path) -> None:
    labels_of(run, sample=22)
    path = run / "completions.jsonl"
    path.write_text(path.read_text().replace("Text 3.", "Text 3 anew."))
    assert "1 of the 22 answers that were drawn are not in it" in refused(run)


def test_a_line_that_is_no_label_is_named(run: Path) -> None:
    file = labels_of(run)
    for wrong in ('{"rater": 1}', "{", '{"request": "", "rater": "a", "completion": "b", "label": true}'):
        file.path.write_text(wrong + "\n")
        with pytest.raises(UserError, match=r"harm-answer.jsonl, line 1: is no label"):
            file.rows()


@pytest.mark.parametrize("rater", ["", "  ", "a\nb", "\x1b[2J", "x" * 61])
def test_names_that_are_none(run: Path, rater: str) -> None:
    with pytest.raises(UserError, match="--rater"):
        session_of(run, rater)


def test_a_full_disk_costs_one_label_and_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(run)

    def full(file: object, line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safekey.evals.labelling.store.append_line", full)
        with pytest.raises(UserError, match="cannot be written \\(No space left on device\\); earlier labels are kept"):
            session.label(1, 1)
    assert session.said(1) == (False, None)
    session.label(1, 1)
    assert [row["label"] for row in session.file.rows()] == [1]
