"""Thinking in the fields and parts of a message, as endpoints and published data write them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safekey.text.messages import PartError, message_thinking, split_parts, thinking_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Plan.", "Plan."),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "Pl"}, {"type": "text", "text": "an."}], "Plan."),
        ([{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "text": "b"}], "a\n\nb"),
        ([{"type": "reasoning.summary", "summary": "a"}, {"type": "reasoning.encrypted", "data": "x"}], "a"),
        ({"type": "thinking", "thinking": "a", "signature": "x"}, "a"),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}, "a"),
        ({"reasoningText": {"text": "a", "signature": "x"}}, "a"),
        ({"effort": "high"}, ""),
        (["a", "b"], "ab"),
    ],
)
def test_texts_of_a_field(value: Any, text: str) -> None:
    assert thinking_text(value) == text


@pytest.mark.parametrize("value", [3, True, [3], {"text": 3}, [[[[[[[[[[["a"]]]]]]]]]]]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(PartError):
        thinking_text(value)


def test_the_first_field_with_a_text_is_read() -> None:
    message = {"reasoning_content": " ", "reasoning": None, "reasoning_details": [{"text": "a"}], "thinking": ""}
    assert message_thinking(message) == ("reasoning_details", "a")
    assert message_thinking({"content": "b"}) == ("", "")


def test_parts() -> None:
    assert split_parts(["a", {"type": "output_text", "text": "b"}, {"type": "refusal", "refusal": "c"}]) == ("abc", "")
    assert split_parts([{"type": "think", "think": "a"}, {"text": "b"}]) == ("b", "a")
    assert split_parts([{"thinking": "a"}, {"text": "b"}]) == ("b", "a")
    for part in ({"type": "image_url", "image_url": "x"}, 3, {"type": "tool_use"}):
        with pytest.raises(PartError):
            split_parts([part])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "thinking", "summary", "data"]), inner, max_size=3)
    ),
)


@given(VALUES)
def test_any_value_is_a_text_or_a_part_error(value: Any) -> None:
    for read in (thinking_text, lambda given: split_parts([given])):
        with contextlib.suppress(PartError):
            assert read(value) is not None
