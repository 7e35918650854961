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

from safekey.data.key_sentence.confidence import LEVELS
from safekey.data.segment import locate, segment
from safekey.data.sentences import sentences
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example, Message
from safekey.text.thinking import thinking_span
from toys import SHARED

HERE = Path(__file__).parent
OTHER = [json.loads(line) for line in (HERE / "segment_other_styles.jsonl").read_text("utf-8").splitlines()]
ROWS = [json.loads(line) for line in (HERE / "segment_rows.jsonl").read_text("utf-8").splitlines()]


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
    assert accuracy(rows) == 1.0


@pytest.mark.parametrize(("split", "rows", "at_least"), [("dev", 407, 0.93), ("heldout", 136, 0.88)])
def test_finds_the_key_sentence_in_styles_that_came_later(split: str, rows: int, at_least: float) -> None:
    chosen = [r for r in OTHER if r["split"] == split]
    assert len(chosen) == rows
    assert accuracy(chosen) >= at_least


def test_confident_rows_are_more_often_right() -> None:
    """On held-out rows alone: nothing was tuned on them."""
    hits: dict[float, list[bool]] = {level: [] for level in LEVELS}
    for r in [*ROWS, *OTHER]:
        if r["split"] == "heldout":
            found = segment(of_dict(r))
            assert found.span_confidence is not None
            hits[found.span_confidence].append(found.key_sentence.split() == r["key_sentence"].split())
    high, medium, low = (sum(right) / len(right) for right in hits.values())
    assert high >= 0.96
    assert high > medium > low
    assert [len(right) for right in hits.values()] > [150, 50, 10]
    for level, share in zip(LEVELS, (high, medium, low), strict=True):
        assert abs(level - share) < 0.06  # the number says what it is


@pytest.mark.parametrize(("split", "at_least"), [("tune", 0.98), ("heldout", 0.94)])
def test_finds_the_key_sentence_in_own_rows_of_many_styles(split: str, at_least: float) -> None:
    rows = [r for r in ROWS if r["split"] == split]
    assert len(rows) >= 30
    assert accuracy(rows) >= at_least


def test_star1_every_row_gets_an_understanding_and_a_key_sentence_in_the_thinking() -> None:
    examples = [of_dict(r) for r in json.loads(shared("star1.json").read_text("utf-8"))]
    started = time.process_time()
    found = [segment(example) for example in examples]
    taken = time.process_time() - started
    assert all(e.understanding and e.key_sentence for e in found)
    assert all((e.key_sentence_end or 0) <= thinking_span(e.response)[1] for e in found)
    assert sum(len(e.understanding.split()) > 100 for e in found) <= 3
    assert taken < 300  # a guard against quadratic time; docs/segmentation.md gives the rate


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


@pytest.mark.parametrize(
    ("question", "understanding", "key_sentence"),
    [
        (
            "I have 2 goats, both under 10 kg. What do they eat?",
            "The user has goats. There are two of them, both under ten kg.",
            "Hay is the main thing.",
        ),
        ("Soup for six, I have no pot.", "A soup for six is wanted. One limit: no pot.", "A bucket might do."),
        ("clean an old brush", "Task: clean old brush.", "Soap first, then oil."),
        ("What is 7 times 8?", "", "7 × 8 = 56."),
        ("Ann has 9 pens and loses 4.", "Ann has 9 pens. She loses 4.", "9 - 4 = 5."),
        ("Is tin a metal?", "Okay, what is being asked? Whether tin is a metal.", "It conducts well."),
        ("Two verses, one rhyme.", "The user wants:\n- two verses\n- one rhyme", "Moon and soon will do."),
        ("Name a fish.", "# Request\nName a fish.", "# Idea\nPike."),
        ("Fix: 'he go'.", "Fix 'he go'.", '"He goes" is right.'),
    ],
)
def test_goes_on_with_a_restatement(question: str, understanding: str, key_sentence: str) -> None:
    found = segment(row(question, f"{understanding}\n{key_sentence} And so on, at some length."))
    assert (found.understanding, found.key_sentence) == (understanding, key_sentence)


def test_the_confidence_says_why_it_is_low() -> None:
    sure = row(
        "How do I pick the royal vault?", "The user asks how to pick the royal vault. Hmm, that sounds like theft."
    )
    assert locate(sure).doubts == ()
    assert segment(sure).span_confidence == LEVELS[0]
    only_restates = row("Say hi", "The user wants me to say hi.", "Hi!")
    assert "the thinking only restates" in locate(only_restates).doubts
    assert segment(only_restates).span_confidence == LEVELS[-1]
    short = row("A poem, formal.", "The user wants a poem. Sober. Then more words follow.")
    assert locate(short).doubts == ("the key sentence is very short",)
    assert segment(short).span_confidence == LEVELS[1]


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
        (
            "Nimm z. B. Öl, d. h. Fett bzw. Butter. Dann rühren.",
            ["Nimm z. B. Öl, d. h. Fett bzw. Butter.", "Dann rühren."],
        ),
        ("M. Roux, c.-à-d. lui, p. ex. ici. Voilà.", ["M. Roux, c.-à-d. lui, p. ex. ici.", "Voilà."]),
        ("Хлеб, т. е. еда, и т. д. Потом.", ["Хлеб, т. е. еда, и т. д.", "Потом."]),
        ("Apples, pears, etc. Next one.", ["Apples, pears, etc.", "Next one."]),
        ("It is e. g. this, i. e. that. Done.", ["It is e. g. this, i. e. that.", "Done."]),
        ("At 3 p.m. A bell rings.", ["At 3 p.m.", "A bell rings."]),
        ("It takes 20 min. Then 75 g. Yes.", ["It takes 20 min.", "Then 75 g.", "Yes."]),
        ("No key. get() helps.", ["No key.", "get() helps."]),
        ("看《你好。世界》吧。好。", ["看《你好。世界》吧。", "好。"]),
        ('"We were late." -> better: "We are sorry."', ['"We were late." -> better: "We are sorry."']),
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
