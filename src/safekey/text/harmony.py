"""gpt-oss's channels (the harmony format) in raw decoded text, special tokens kept.

    <|channel|>analysis<|message|>The user asks for tea.<|end|>
    <|start|>assistant<|channel|>final<|message|>Boil water.<|return|>

(one line). The prompt ends with ``<|start|>assistant``; the model writes the rest. A text decoded without its special
tokens ("analysisThe user … assistantfinalBoil …") cannot be told from ordinary prose and is not recognised: engines
must keep them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_START = r"(?:<\|start\|>assistant[^<\n]{0,80})?<\|channel\|>"
# A message begins where the text does or where another one has ended, so that a header that a message quotes is none.
_HEADER = re.compile(
    rf"(?:\A\s*|<\|(?:end|call|return)\|>\s*){_START}(?P<channel>analysis|commentary|final)\b"
    r"[^<\n]{0,80}(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>"
)
# What may stand after a message's content: its stop token, and the beginning of a header that was cut short.
_TAIL = re.compile(
    r"(?:<\|(?:end|call|return)\|>\s*)?(?:<\|start\|>[^<\n]{0,90})?(?:<\|channel\|>[^<\n]{0,90})?(?:<\|?[a-z]{0,9}\|?)?\Z"
)
_MARKS = re.compile(rf"\A\s*{_START}|<\|end\|>\s*<\|start\|>assistant|<\|(?:end|call|return)\|>\s*\Z")


class ChannelText(NamedTuple):
    """The content of one message: its channel ("" where the prompt had opened it) and its offsets in the text."""

    channel: str
    start: int
    end: int


def is_harmony(text: str) -> bool:
    """Whether a generated text has harmony's form: begins with a channel, switches it, or ends with a stop token."""
    return not text.lstrip().startswith("<think>") and _MARKS.search(text) is not None


def harmony_messages(text: str) -> list[ChannelText]:
    """Return the messages of a text in harmony's form, in order; white space is left in place."""
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
