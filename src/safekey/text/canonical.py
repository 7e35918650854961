"""A response's thinking and answer: splitting them, whatever the source's form, and writing the canonical literal.

    "<think>\\nThe user asks for a tea recipe. That is harmless.\\n</think>\\n\\nBoil water, then steep for 3 minutes."

is the canonical form that every loader writes (METHOD.md, "The objective"), so that character offsets mean the same
thing in every file.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from safekey.schema import THINK_CLOSE, THINK_OPEN

OPEN_TAG = THINK_OPEN.strip()
CLOSE_TAG = THINK_CLOSE.strip()

ThinkState = Literal["closed", "unclosed", "absent"]


class SplitResponse(NamedTuple):
    """A response in its two parts, both without surrounding white space.

    Attributes:
        thinking: the text before ``</think>``, without the tags.
        answer: the text after ``</think>``; "" when the thinking was never closed.
        state: "closed": there is a ``</think>``; "unclosed": the thinking was opened and never closed (a truncated
            output: `answer` is "", and the text must not be judged as an answer); "absent": no thinking at all.
    """

    thinking: str
    answer: str
    state: ThinkState


def canonical(thinking: str, answer: str) -> str:
    """Return ``<think>\\n{thinking}\\n</think>\\n\\n{answer}``, both parts stripped.

    `thinking` must not contain ``</think>``; otherwise the result splits at that place.
    """
    return THINK_OPEN + thinking.strip() + THINK_CLOSE + answer.strip()


def split_response(text: str, *, opened: bool = False) -> SplitResponse:
    """Split a response at its first ``</think>``.

    Args:
        text: the response, with ``<think>…</think>`` inside, or with ``</think>`` only, because the chat template had
            already written ``<think>`` into the prompt.
        opened: the prompt ended with an open ``<think>``. Then a text without any tag is unclosed thinking, not an
            answer.
    """
    body = text.strip()
    starts_open = body.startswith(OPEN_TAG)
    if starts_open:
        body = body[len(OPEN_TAG) :]
    thinking, tag, answer = body.partition(CLOSE_TAG)
    if tag:
        return SplitResponse(thinking.strip(), answer.strip(), "closed")
    if starts_open or opened:
        return SplitResponse(thinking.strip(), "", "unclosed")
    return SplitResponse("", body.strip(), "absent")


def strip_tags(thinking: str) -> str:
    """Return the content of a separate thinking field, without the ``<think>`` tags that some sources leave in it."""
    return thinking.strip().removeprefix(OPEN_TAG).removesuffix(CLOSE_TAG).strip()
