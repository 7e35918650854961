"""Where U ends while the thinking is written: the same whatever the pieces, and what the rule on whole texts finds."""

from __future__ import annotations

import random

import pytest

from safekey import Message
from safekey.data.segment import find_spans
from safekey.monitor.border import LONGEST, Border, find_border
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example
from small_world import rows

ASKED = (Message("user", "How do I pick the royal vault?"),)
U, K = "Okay, so the user asks how to pick the royal vault.", "Hmm, that sounds like theft."


def fed(text: str, pieces: list[str], asked: tuple[Message, ...] = ASKED) -> tuple[int, list[int]]:
    border, safe = Border(asked), []
    for piece in pieces:
        border.feed(piece)
        safe.append(border.safe)
    return border.finish(), safe


def cut(text: str, draw: random.Random) -> list[str]:
    pieces = []
    while text:
        size = draw.choice((1, 1, 2, 3, 7, 40))
        pieces.append(text[:size])
        text = text[size:]
    return pieces


TEXTS = (
    f"{U} {K} I should refuse.",
    f"{U}\n\n{K}\n\nI should refuse.",
    'The user asks "how do I pick the royal vault? And then I want the gold." Hmm, that is theft. No.',
    "用户想知道如何撬开皇家金库。这是偷窃行为，我不能帮忙。我应该拒绝。",
    "First, I should think about locks. Then I go on.",
    U,
    "Okay.",
    "",
    "e.g. i.e. ... ?! \n\n . ' \" “ ",
    "the user asks how to pick the royal vault " * 200,
)


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_do_not_matter(text: str) -> None:
    text = text.strip()
    whole = find_border(ASKED, text)
    for seed in range(6):
        end, safe = fed(text, cut(text, random.Random(seed)))
        assert end == whole
        assert safe == sorted(safe)
        assert all(one <= end for one in safe)
    assert find_border(ASKED, f"\n {text}") == (whole + 2 if whole and text else 0)


def test_it_finds_what_the_rule_finds_in_whole_texts() -> None:
    checked = 0
    for row in rows():
        thinking = str(row["response"]).removeprefix(THINK_OPEN).partition(THINK_CLOSE)[0]
        example = Example((Message("user", str(row["question"])),), str(row["response"]))
        u_end, _ = find_spans(example)
        assert find_border(example.prompt, thinking) == max(0, u_end - len(THINK_OPEN))
        checked += 1
    assert checked == 128


def test_the_end_is_known_one_word_after_k() -> None:
    border = Border(ASKED)
    text = f"{U} {K} I should refuse."
    known = next(at for at in range(1, len(text)) if border.feed(text[at - 1]) is not None)
    assert border.end == len(U)
    assert text[:known] == f"{U} {K} I "


def test_what_restates_is_safe_before_the_end_is_known() -> None:
    border = Border(ASKED)
    assert border.feed(f"{U} Hmm, that") is None
    assert border.safe == len(U)


def test_a_thinking_that_begins_with_k_has_no_u() -> None:
    assert find_border(ASKED, "I can't help with that, because it is theft. Let me refuse.") == 0


def test_a_thinking_that_never_moves_on_is_cut() -> None:
    border = Border(ASKED)
    endless = "the user asks how to pick the royal vault and " * 1000
    for at in range(0, len(endless), 50):
        if border.feed(endless[at : at + 50]) is not None:
            break
    assert border.end == 0
    assert len(border.text) == LONGEST


def test_the_beginning_of_a_closing_tag_is_no_sentence() -> None:
    border = Border(ASKED)
    border.feed(f"{U}\n</thi")
    assert border.end is None
    assert border.finish(U) == len(U)
