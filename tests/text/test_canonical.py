import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekey.data import canonical, split_response
from safekey.text.thinking import strip_tags

LITERAL = "<think>\nThe user asks about tea.\n</think>\n\nBoil water."


@pytest.mark.parametrize(
    "text",
    [
        LITERAL,
        "The user asks about tea.\n</think>\n\nBoil water.",  # the template wrote <think>
        "<think>The user asks about tea.</think>Boil water.",
        "\n <think>\n\nThe user asks about tea.\n\n\n</think> Boil water.\n",
    ],
)
def test_every_closed_form_becomes_the_literal(text: str) -> None:
    parts = split_response(text)
    assert parts.state == "closed"
    assert canonical(parts.thinking, parts.answer) == LITERAL


def test_states_without_a_close() -> None:
    assert split_response("<think>\nThe user") == ("The user", "", "unclosed")
    assert split_response("Boil water.") == ("", "Boil water.", "absent")
    assert split_response("The user", opened=True) == ("The user", "", "unclosed")
    assert split_response("") == ("", "", "absent")
    assert split_response("<think>\n\n</think>\n\nYes.") == ("", "Yes.", "closed")


def test_only_the_first_close_counts() -> None:
    assert split_response("a</think>b</think>c") == ("a", "b</think>c", "closed")


@pytest.mark.parametrize("text", ["tea", " <think>tea</think>\n", "<think>\ntea", "tea\n</think>"])
def test_strip_tags(text: str) -> None:
    assert strip_tags(text) == "tea"


PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<thi", "</think", "\n", " ", "a", "\u2028", "é", "\x1c"]))


@given(PIECES.map("".join) | st.text())
def test_canonical_is_idempotent(text: str) -> None:
    parts = split_response(text)
    once = canonical(parts.thinking, parts.answer)
    again = split_response(once)
    assert again == (parts.thinking, parts.answer, "closed")
    assert canonical(again.thinking, again.answer) == once
