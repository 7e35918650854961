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
_STOP = r"<\|(?:end|call|return)\|>"
_ROLE = r"<\|start\|>assistant[^<\n]{0,80}"
_CHANNEL = r"<\|channel\|>\s{0,3}(?P<channel>analysis|commentary|final)\b"
_START = rf"(?:{_ROLE})?<\|channel\|>"
# A header stands at the start of the text or after another message: one quoted inside a message does not count.
# `<|message|>` may be missing, and so may the channel, or the whole header behind a stop token.
_HEADER = re.compile(
    rf"(?:\A\s*|{_STOP}\s*)(?:{_ROLE})?{_CHANNEL}"
    r"(?:[^<\n]{0,80}(?:<\|constrain\|>[^<\n]{0,40})?<\|message\|>|(?=\s*[^\s<]))"
    rf"|{_STOP}\s*(?:{_ROLE}<\|message\|>|<\|message\|>|<\|start\|>assistant(?=\s*[A-Z\"'*]))"
    # A text behind a stop token; in "it ends with `<|end|>`, as always" there is none.
    rf"|{_STOP}(?:(?=[^\s<,.;:!?)`'\"”])|[^\S\n]*\n\s*(?=[^\s<])|\s+(?=[^\s<a-z]))"
)
# After the content of a message: its stop token, and perhaps a header that was cut short.
_TAIL = re.compile(
    r"(?:<\|(?:end|call|return)\|>\s*)?(?:<\|start\|>[^<\n]{0,90})?(?:<\|channel\|>[^<\n]{0,90})?(?:<\|[a-z]{0,9}\|?)?\Z"
)
_MARKS = re.compile(rf"\A\s*{_START}|<\|end\|>\s*<\|start\|>assistant|<\|(?:end|call|return)\|>\s*\Z")
# What is left of the channels where an engine dropped the special tokens: "analysisThe user …assistantfinalBoil …".
_BARE = re.compile(r"\A\s*(?P<first>analysis|commentary|final)(?=[A-Z0-9\"'*])")
_BARE_NEXT = re.compile(r"assistant\s?(?P<channel>analysis|commentary|final)")


class ChannelText(NamedTuple):
    """One message: its channel ("" where the prompt has opened it) and the offsets of its content in the text."""

    channel: str
    start: int
    end: int


def is_harmony(text: str) -> bool:
    """Whether a generated text begins with a channel, switches channels, or ends with a stop token."""
    if text.lstrip().startswith("<think>") or ("</think>" in text and "<|channel|>" not in text):
        return False  # another model's text, which ends with <|end|>
    return _MARKS.search(text) is not None or _is_bare(text)


def _is_bare(text: str) -> bool:
    """Whether only the words of the headers are left of gpt-oss's channels."""
    first = _BARE.match(text)
    return first is not None and (first["first"] == "analysis" or _BARE_NEXT.search(text) is not None)


def harmony_messages(text: str) -> list[ChannelText]:
    """Return the messages of a text in order; white space is left in place.

    The channel of a text that is one message without a header is "": the prompt opened it. In other texts a message
    without a header, or without a channel in it, is "final" if it is the last one, else "analysis".
    """
    first = _BARE.match(text) if "<|" not in text and _is_bare(text) else None
    pattern = _HEADER if first is None else _BARE_NEXT
    headers = list(pattern.finditer(text))
    starts = [("", 0) if first is None else (first["first"], first.end("first"))]
    starts += [(header["channel"] or "", header.end()) for header in headers]
    ends = [*(header.start() for header in headers), len(text)]
    if len(starts) > 1 and not text[: headers[0].start()].strip():
        starts, ends = starts[1:], ends[1:]  # the text begins with a header
    elif len(starts) > 1 and not starts[0][0]:
        starts[0] = ("analysis", starts[0][1])
    last = len(starts) - 1
    for place, (channel, start) in enumerate(starts):
        if place and not channel:
            starts[place] = ("final" if place == last else "analysis", start)
    found = []
    for (channel, start), end in zip(starts, ends, strict=True):
        if end == len(text):  # elsewhere the next header begins with the stop token
            tail = _TAIL.search(text, start)
            end = tail.start() if tail else end
        if channel or start < end:  # a message without a channel is one only if it has a text
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
