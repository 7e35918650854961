"""The rule that finds U and K: its invariants on any text, and its accuracy on labelled rows."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example as with_example
from hypothesis import given, settings
from hypothesis import strategies as st

from safekey.data.segment import segment
from safekey.data.sentences import sentences
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example, Message
from safekey.text.thinking import thinking_span
from toys import SHARED

ROWS = [json.loads(line) for line in (Path(__file__).parent / "segment_rows.jsonl").read_text("utf-8").splitlines()]


def row(question: str, thinking: str, answer: str = "Done.") -> Example:
    response = f"{THINK_OPEN}{thinking.strip()}{THINK_CLOSE}{answer.strip()}"
    return Example(prompt=(Message("user", question),), response=response)


def of_dict(fields: dict[str, str]) -> Example:
    return Example(prompt=(Message("user", fields["question"]),), response=fields["response"], id=str(fields["id"]))


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here: shared data is not part of the repository")
    return path


def accuracy(rows: list[dict[str, str]]) -> float:
    found = [" ".join(segment(of_dict(r)).key_sentence.split()) == " ".join(r["key_sentence"].split()) for r in rows]
    return sum(found) / len(found)


# --- accuracy ---------------------------------------------------------------------------------------------------------


def test_finds_the_key_sentence_in_hand_labelled_star1_rows() -> None:
    rows = [json.loads(line) for line in shared("key_sentence_labels.jsonl").read_text("utf-8").splitlines()]
    assert accuracy(rows) >= 0.96
    assert accuracy([r for r in rows if not r["ambiguous"]]) >= 0.97


@pytest.mark.parametrize(("split", "at_least"), [("tune", 0.95), ("heldout", 0.92)])
def test_finds_the_key_sentence_in_own_rows_of_many_styles(split: str, at_least: float) -> None:
    rows = [r for r in ROWS if r["split"] == split]
    assert len(rows) >= 30
    assert accuracy(rows) >= at_least


def test_star1_every_row_gets_an_understanding_and_a_key_sentence_in_the_thinking() -> None:
    examples = [of_dict(r) for r in json.loads(shared("star1.json").read_text("utf-8"))]
    started = time.perf_counter()
    found = [segment(example) for example in examples]
    rate = len(found) / (time.perf_counter() - started)
    assert all(e.understanding and e.key_sentence for e in found)
    assert all((e.key_sentence_end or 0) <= thinking_span(e.response)[1] for e in found)
    assert sum(len(e.understanding.split()) > 100 for e in found) <= 3
    assert rate > 25  # a guard; docs/segmentation.md gives the rate


# --- the contract -----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80), st.text(max_size=300), st.text(max_size=80), st.booleans())
@with_example("", "", "", True)
@with_example("q", "...", "", True)
@with_example("q", 'The user asks "a. b', '"', False)
def test_any_text_gives_ordered_offsets(question: str, thinking: str, answer: str, canonical: bool) -> None:
    example = row(question, thinking, answer)
    if not canonical:
        example = replace(example, response=thinking + answer)
    found = segment(example)
    u_end, k_end = found.understanding_end, found.key_sentence_end
    assert u_end is not None
    assert k_end is not None
    start, end = thinking_span(example.response)
    assert start <= u_end <= end
    assert u_end <= k_end <= len(example.response)
    assert found.span_source == "rule"
    for stop in {u_end, k_end} - {start}:
        assert not example.response[stop - 1].isspace()
    assert segment(example) == found  # deterministic
    assert segment(found) == found  # idempotent
    assert segment(found, overwrite=True) == found
    if k_end > end:  # K outside the thinking: only when there is nothing left in it
        assert not example.response[u_end:end].strip()


def test_given_spans_are_kept_unless_overwritten() -> None:
    given_spans = replace(
        row("q", "The user asks q. Hmm, odd."), understanding_end=9, key_sentence_end=12, span_source="given"
    )
    assert segment(given_spans) == given_spans
    assert segment(given_spans, overwrite=True).span_source == "rule"


def test_no_restatement_gives_an_empty_understanding() -> None:
    found = segment(row("How do I steal the orb?", "That sounds like theft. I should refuse."))
    assert found.understanding_end == len(THINK_OPEN)
    assert found.understanding == ""
    assert found.key_sentence == "That sounds like theft."


def test_only_a_restatement_puts_the_key_sentence_in_the_answer() -> None:
    found = segment(row("Say hi", "The user wants me to say hi.", "Hi! How are you?"))
    assert found.understanding == "The user wants me to say hi."
    assert found.response[found.understanding_end : found.key_sentence_end] == THINK_CLOSE + "Hi!"


@pytest.mark.parametrize("response", ["<think>\n\n</think>\n\nHello.", "", "<think>\n", "<think>\n \n</think>\n\n"])
def test_no_thinking_gives_two_empty_spans(response: str) -> None:
    found = segment(Example(prompt=(), response=response))
    assert found.understanding == found.key_sentence == ""


def test_a_bare_interjection_belongs_to_the_key_sentence_after_it() -> None:
    found = segment(row("Pick the vault", "The user wants to pick the vault. Hmm. That is theft. No."))
    assert found.key_sentence == "Hmm. That is theft."


@pytest.mark.parametrize("unit", ["a ", '"', "“", "Hmm. ", "\n", ". ", "`", "The user asks. ", "用户问。", "x" * 50])
def test_100k_characters_take_linear_time(unit: str) -> None:
    example = row(unit * 2000, unit * (100_000 // len(unit)), unit)
    started = time.perf_counter()
    segment(example)
    assert time.perf_counter() - started < 30  # a guard against quadratic time, not a timing


# --- sentences --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He asks, "how big are they?" I need to go.', ['He asks, "how big are they?"', "I need to go."]),
        ('"Will you?" she asked. No.', ['"Will you?" she asked.', "No."]),
        ('She said "A. B. C." Then left.', ['She said "A. B. C."', "Then left."]),
        ("See e.g. this, i.e. that, and Dr. Who. Yes.", ["See e.g. this, i.e. that, and Dr. Who.", "Yes."]),
        ("A U.S. President. In the U.S. I know.", ["A U.S. President.", "In the U.S.", "I know."]),
        ("No. 5 costs 2.50 at No. 6. No. Yes.", ["No. 5 costs 2.50 at No. 6.", "No.", "Yes."]),
        ("Go to https://x.example/?a=1.2&b. Then stop.", ["Go to https://x.example/?a=1.2&b.", "Then stop."]),
        ("Hmm... that is odd. Wait… What?", ["Hmm... that is odd.", "Wait…", "What?"]),
        ("Items:\n1. one\n2. two\n- three", ["Items:", "1. one", "2. two", "- three"]),
        ("A line that\nwraps here.\n\nnew one", ["A line that\nwraps here.", "new one"]),
        ("用户问：“怎么做？”首先，看。好！", ["用户问：“怎么做？”", "首先，看。", "好！"]),
        ("「はい。」と言った。次に。", ["「はい。」と言った。", "次に。"]),
        ("यह ठीक है। अब देखें।", ["यह ठीक है।", "अब देखें।"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("Use `a. B` here. Done 😄. Next!", ["Use `a. B` here.", "Done 😄.", "Next!"]),
        ("A stray \" mark. Two's fine.", ['A stray " mark.', "Two's fine."]),
        ("Head\n---\nBody.", ["Head\n---", "Body."]),
        ("", []),
        ("...", ["..."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from(list('ab A.!?…"“”`\n。「」1-é ')), max_size=120))
def test_sentences_cover_all_that_is_visible_in_order(text: str) -> None:
    spans = list(sentences(text))
    assert all(start < end for start, end in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())
