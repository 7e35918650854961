"""Rows and files that say the opposite of what a benchmark asks for are refused, unless they are forced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safekey.errors import UserError
from safekey.evals.benchmarks.load import Items, load_benchmark

Row = dict[str, Any]
BENIGN: list[tuple[str, Any]] = [
    ("label", "benign"), ("label", "safe"), ("label", 0), ("label", "0"), ("label", False), ("label", "Harmless"),
    ("label", "non-harmful"), ("label", "not harmful"), ("type", "benign"), ("category", "benign"), ("split", "benign"),
    ("is_harmful", False), ("is_harmful", 0), ("is_harmful", "no"), ("harmful", "false"), ("harmful", 0.0),
    ("safe", True), ("safe", 1), ("is_safe", "yes"), ("benign", True), ("toxicity", 0), ("toxic", False),
    ("toxicity", "non-toxic"), ("unsafe", 0), ("prompt_harm_label", "unharmful"), ("data_type", "adversarial_benign"),
    ("split_type", "orr"), ("Harmfulness", "harmless"), ("Is Harmful", "False"), ("subset", "benign"),
    ("class", "benign"), ("intent", "benign"), ("ground_truth", "safe"), ("prompt_is_harmful", False),
    ("isBenignPrompt", True), ("harmful_flag", "n"), ("safety_label", "Safe"),
]  # fmt: skip
HARMFUL: list[tuple[str, Any]] = [
    ("label", "harmful"), ("label", "unsafe"), ("label", 1), ("label", "1"), ("label", True), ("type", "harmful"),
    ("category", "toxic"), ("is_harmful", True), ("is_harmful", "1"), ("harmful", "yes"), ("safe", False), ("safe", 0),
    ("is_safe", "no"), ("benign", "false"), ("toxicity", 1), ("toxic", True), ("unsafe", 1), ("split_type", "asr"),
    ("prompt_label", "unsafe"), ("Harmfulness", "harmful"), ("data_type", "adversarial_harmful"),
    ("class", "jailbreak"), ("kind", "malicious"), ("is_malicious_prompt", True), ("is_benign", "f"),
]  # fmt: skip


def load(tmp_path: Path, name: str, rows: list[Row], file: str = "rows.jsonl", **options: Any) -> Items:
    path = tmp_path / file
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return load_benchmark(name, file=path, **options)


def rows_with(column: str, value: Any, count: int = 4, other: Any = None) -> list[Row]:
    rows = [{"prompt": f"How do I borrow plum number {n}?", column: value} for n in range(count)]
    return rows if other is None else [{**rows[0], column: other}, *rows[1:]]


@pytest.mark.parametrize(("column", "value"), BENIGN)
def test_benign_rows_are_refused_in_a_safety_task(tmp_path: Path, column: str, value: Any) -> None:
    rows = rows_with(column, value)
    said = (
        rf"4 of 4 rows say that they are benign \(column '{column}': .*; rows 1, 2, 3, 4\).*--force-labels strongreject"
    )
    with pytest.raises(UserError, match=said) as error:
        load(tmp_path, "strongreject", rows)
    assert len(str(error.value).splitlines()) == 1
    items = load(tmp_path, "strongreject", rows, force_labels=True)
    assert len(items) == 4
    assert any("asked all the same (--force-labels)" in note for note in items.notes)
    assert len(load(tmp_path, "strongreject", rows, columns={"label": None})) == 4
    assert len(load(tmp_path, "or-bench", rows)) == 4


@pytest.mark.parametrize(("column", "value"), HARMFUL)
def test_harmful_rows_are_refused_in_an_over_refusal_task(tmp_path: Path, column: str, value: Any) -> None:
    rows = rows_with(column, value)
    with pytest.raises(
        UserError, match=rf"4 of 4 rows say that they are harmful \(column '{column}'.*asks benign ones"
    ):
        load(tmp_path, "or-bench", rows)
    assert len(load(tmp_path, "or-bench", rows, force_labels=True)) == 4
    assert len(load(tmp_path, "strongreject", rows)) == 4


def test_a_few_wrong_rows_are_enough_and_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 40 rows say that they are benign \(column 'label': 'safe'; row 1\)"):
        load(tmp_path, "strongreject", rows_with("label", "unsafe", 40, other="safe"))
    with pytest.raises(UserError, match=r"39 of 40 .*; rows 2, 3, 4, 5, 6, 7, 8, 9 and 31 more\)"):
        load(tmp_path, "strongreject", rows_with("label", "safe", 40, other="unsafe"))


def test_conversations_and_prefills_too(tmp_path: Path) -> None:
    row = {"conversation": ["Hello", "Hi", "And plums?"], "objective": "Borrow a plum", "label": "benign"}
    with pytest.raises(UserError, match="1 of 1 rows say that they are benign"):
        load(tmp_path, "multi-turn", [row])
    with pytest.raises(UserError, match="1 of 1 rows say that they are benign"):
        load(tmp_path, "prefill", [{"goal": "Borrow a plum", "target": "Sure", "is_harmful": False}])


def test_two_labels_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "Where do plums grow?", "label": "safe", "is_harmful": True}]
    with pytest.raises(UserError, match=r"1 of 1 rows say that they are harmful \(column 'is_harmful'"):
        load(tmp_path, "xstest-safe", rows)


def test_a_mixed_benchmark_leaves_the_other_kind_out(tmp_path: Path) -> None:
    rows = rows_with("label", "harmful", 4, other="benign")
    items = load(tmp_path, "jailbreakbench", rows)
    assert len(items) == 3
    assert "3 harmful rows taken; left out: 1 benign" in items.notes[0]
    assert len(load(tmp_path, "jailbreakbench", rows, force_labels=True)) == 3, "forcing takes no filter away"
    only = rows_with("label", "benign")
    with pytest.raises(UserError, match=r"no harmful rows for 'jailbreakbench'; found 4 benign: .*--force-labels"):
        load(tmp_path, "jailbreakbench", only)
    assert len(load(tmp_path, "jailbreakbench", only, force_labels=True)) == 4


def test_what_is_no_label(tmp_path: Path) -> None:
    """A category among others, a score, a class number: none says what the row is."""
    assert len(load(tmp_path, "or-bench", [{"prompt": f"Plum {n}?", "category": c} for n, c in
                                           enumerate(("harmful", "privacy", "hate", "violence"))])) == 4  # fmt: skip
    scores = [{"prompt": f"Borrow plum {n} now", "toxicity": score} for n, score in enumerate((0.0, 0.31, 0.4, 0.52))]
    assert len(load(tmp_path, "strongreject", scores)) == 4
    assert len(load(tmp_path, "strongreject", rows_with("type", 0))) == 4
    assert len(load(tmp_path, "strongreject", rows_with("label", None))) == 4
    assert len(load(tmp_path, "strongreject", rows_with("response_harm_label", "unharmful"))) == 4, "of the reply"
    assert len(load(tmp_path, "strongreject", rows_with("jailbroken", False))) == 4
    assert len(load(tmp_path, "strongreject", [{"prompt": "Borrow a plum", "type": "story", "note": "n"}])) == 1


def test_the_files_name_says_the_opposite(tmp_path: Path) -> None:
    plain = [{"prompt": "How do I borrow a plum?"}]
    with pytest.raises(UserError, match="the file's name says that its rows are harmful, and 'or-bench' asks"):
        load(tmp_path, "or-bench", plain, "or-bench-toxic.jsonl")
    with pytest.raises(UserError, match="the file's name says that its rows are benign, and 'strongreject' asks"):
        load(tmp_path, "strongreject", plain, "benign-behaviors.jsonl")
    assert len(load(tmp_path, "or-bench", plain, "or-bench-toxic.jsonl", force_labels=True)) == 1
    assert len(load(tmp_path, "or-bench", plain, "or-bench-hard-1k.jsonl")) == 1
    assert len(load(tmp_path, "strongreject", plain, "strongreject-safety.jsonl")) == 1
