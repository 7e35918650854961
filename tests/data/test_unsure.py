"""Which rows the rule is unsure of, and how the confidence travels with a row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from safekey.data import load_examples, segment, write_jsonl
from safekey.data.unsure import unsure_of, unsure_rows
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example, Message

SURE = "The user asks how to brew tea. Hmm, that sounds harmless to me."
UNSURE = "The user asks how to brew tea. Sober. Some more words follow here."


def row(thinking: str, number: int = 1) -> Example:
    response = f"{THINK_OPEN}{thinking}{THINK_CLOSE}Boil water."
    return Example((Message("user", "How do I brew tea?"),), response, id=str(number), file="rows.jsonl", row=number)


def test_names_the_unsure_rows_in_order_and_says_why() -> None:
    found = unsure_rows([row(UNSURE, 1), row(SURE, 2), row(UNSURE, 3), row("", 4)])
    assert [unsure.example.row for unsure in found] == [1, 3]
    assert str(found[0]) == 'rows.jsonl, row 1 (id 1): 0.88, the key sentence is very short: "Sober."'
    assert found[0].to_dict()["doubts"] == ["the key sentence is very short"]


def test_offsets_that_others_found_are_never_unsure() -> None:
    by_rule = segment(row(UNSURE))
    assert unsure_of(by_rule) is not None
    for source in ("given", "annotator"):
        assert unsure_of(replace(by_rule, span_source=source, span_confidence=None)) is None
    assert unsure_of(replace(by_rule, span_source="given"), anew=True) is not None


def test_a_row_says_so_when_the_rule_has_changed_since() -> None:
    old = replace(segment(row(SURE)), key_sentence_end=20, understanding_end=12, span_confidence=0.5)
    unsure = unsure_of(old)
    assert unsure is not None
    assert unsure.confidence == 0.5
    assert unsure.doubts == ("the rule finds another key sentence today",)


def test_the_confidence_is_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    written = [segment(row(UNSURE, 1)), segment(row(SURE, 2))]
    write_jsonl(written, path)
    again = load_examples(path, label="benign")
    assert [example.span_confidence for example in again] == [example.span_confidence for example in written]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["span_confidence"] for line in lines] == [0.88, 0.97]
    for line in lines:
        del line["span_confidence"]  # a row from before
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [example.span_confidence for example in load_examples(path, label="benign")] == [None, None]
    assert len(unsure_rows(load_examples(path, label="benign"))) == 1


@pytest.mark.parametrize("value", [None, True, "high", 2, -1, float("nan"), [0.5]])
def test_a_confidence_that_is_none_is_not_read(tmp_path: Path, value: object) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl([segment(row(SURE))], path)
    line = json.loads(path.read_text())
    path.write_text(json.dumps(line | {"span_confidence": value}) + "\n")
    (example,) = load_examples(path, label="benign")
    assert example.span_confidence is None
