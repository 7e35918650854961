"""gpt-oss's channels (the harmony format): find them in a text, and translate them to and from think tags.

    <|channel|>analysis<|message|>The user asks for tea.<|end|>
    <|start|>assistant<|channel|>final<|message|>Boil water.<|return|>

(one line) is, with think tags, ``<think>\\nThe user asks for tea.\\n</think>\\n\\nBoil water.`` The prompt ends with
``<|start|>assistant``; the model writes the rest. Engines must keep the special tokens: without them
("analysisThe user … assistantfinalBoil …") a text cannot be told from ordinary prose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from safekey.schema import CLOSE_TAG, OPEN_TAG, THINK_CLOSE, THINK_OPEN
from safekey.text.chat import ChatFormat

FINAL = "<|channel|>final<|message|>"
_SAFE_CLOSE = "</ think>"
_START = r"(?:<\|start\|>assistant[^<\n]{0,80})?<\|channel\|>"
# A header stands at the start of the text or after another message: one quoted inside a message does not count.
_HEADER = re.compile(
    rf"(?:\A\s*|<\|(?:end|call|return)\|>\s*){_START}(?P<channel>analysis|commentary|final)\b"
    r"[^<\n]{0,80}(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>"
)
# After the content of a message: its stop token, and perhaps a header that was cut short.
_TAIL = re.compile(
    r"(?:<\|(?:end|call|return)\|>\s*)?(?:<\|start\|>[^<\n]{0,90})?(?:<\|channel\|>[^<\n]{0,90})?(?:<\|[a-z]{0,9}\|?)?\Z"
)
_MARKS = re.compile(rf"\A\s*{_START}|<\|end\|>\s*<\|start\|>assistant|<\|(?:end|call|return)\|>\s*\Z")


class ChannelText(NamedTuple):
    """One message: its channel ("" where the prompt has opened it) and the offsets of its content in the text."""

    channel: str
    start: int
    end: int


def is_harmony(text: str) -> bool:
    """Whether a generated text begins with a channel, switches channels, or ends with a stop token."""
    if text.lstrip().startswith(OPEN_TAG) or (CLOSE_TAG in text and "<|channel|>" not in text):
        return False  # other models, too, end a turn with <|end|>
    return _MARKS.search(text) is not None


def harmony_messages(text: str) -> list[ChannelText]:
    """Return the messages of a text in order; white space is left in place."""
    headers = list(_HEADER.finditer(text))
    starts = [("", 0), *((header["channel"], header.end()) for header in headers)]
    ends = [*(header.start() for header in headers), len(text)]
    found = []
    for (channel, start), end in zip(starts, ends, strict=True):
        if end == len(text):  # elsewhere the next header begins with the stop token
            tail = _TAIL.search(text, start)
            end = tail.start() if tail else end
        if channel or start < end:  # the text before the first header is a message only if there is any
            found.append(ChannelText(channel, start, end))
    return found


@dataclass(frozen=True, slots=True)
class PrefillPiece:
    """A part of a prefill.

    Attributes:
        text: the text to tokenise.
        counted: whether it is the text of the prefill itself, not a header.
        shown: how a header reads in the record.
        channel: the channel that a header opens.
    """

    text: str
    counted: bool = False
    shown: str = ""
    channel: str = ""


def prefill_pieces(text: str, chat: ChatFormat, *, answer: bool) -> list[PrefillPiece]:
    """Cut a prefill with think tags into channels.

    Args:
        text: the prefill.
        chat: the chat format of a gpt-oss tokenizer.
        answer: the prefill stands at the beginning of the turn; without tags it is the answer.
    """
    if answer and OPEN_TAG not in text and CLOSE_TAG not in text:
        return [PrefillPiece(FINAL, channel="final"), PrefillPiece(text, counted=True)]
    body = text.removeprefix(THINK_OPEN).removeprefix(OPEN_TAG)
    thinking, closed, rest = body.partition(CLOSE_TAG)
    found = [PrefillPiece(chat.opener, channel="analysis")]
    if not closed:
        return [*found, PrefillPiece(thinking, counted=True)]
    found += [PrefillPiece(thinking.removesuffix("\n"), counted=True)] if thinking.strip() else []
    found += [PrefillPiece(chat.closer, shown=THINK_CLOSE, channel="final")]
    rest = rest.removeprefix("\n").removeprefix("\n")
    return [*found, PrefillPiece(rest, counted=True)] if rest else found


def with_think_tags(raw: str, channel: str = "") -> str:
    """Turn what gpt-oss wrote into text with think tags.

    Every channel but "analysis" is the answer, because the user sees it. Thinking without a later channel stays
    unclosed. A ``</think>`` inside the thinking is broken up, so that the text splits where the channels do. Text
    without any channel is returned as it is.

    Args:
        raw: the generated text with its control tokens.
        channel: where generation began: "analysis", "final", or "" for the header of the turn.
    """
    thinking: list[str] = []
    answer: list[str] = []
    found = harmony_messages(raw)
    if not channel and not any(name for name, _, _ in found):
        return raw
    for name, start, end in found:
        if (name or channel) == "analysis" and channel != "final":
            thinking.append(raw[start:end].replace(CLOSE_TAG, _SAFE_CLOSE))
        else:
            answer.append(raw[start:end])
    head, tail = "\n\n".join(thinking), "\n\n".join(answer)
    if not thinking and channel != "analysis":
        return tail
    opened = head if channel == "analysis" else THINK_OPEN + head
    return opened + THINK_CLOSE + tail if answer else opened
