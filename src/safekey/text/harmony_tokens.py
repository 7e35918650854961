"""gpt-oss's channels, to and from think tags.

What the model writes, and what everything after the engine reads::

    <|channel|>analysis<|message|>We must refuse.<|end|><|start|>assistant<|channel|>final<|message|>I can't help.
    <think>\\nWe must refuse.\\n</think>\\n\\nI can't help.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from safekey.schema import THINK_CLOSE, THINK_OPEN
from safekey.text.canonical import CLOSE_TAG, OPEN_TAG
from safekey.text.chat import ChatFormat

FINAL = "<|channel|>final<|message|>"
_CONTROL = re.compile(r"<\|(start|channel|message|end|return|call|constrain)\|>")
_SAFE_CLOSE = "</ think>"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prefill.

    Attributes:
        text: what is tokenised.
        counted: whether it is the prefill's own words, not the frame around them.
        shown: how a frame reads in the record.
        channel: the channel that a frame opens.
    """

    text: str
    counted: bool = False
    shown: str = ""
    channel: str = ""


def pieces(text: str, chat: ChatFormat, *, answer: bool) -> list[Piece]:
    """Cut a prefill with think tags into harmony's channels.

    Args:
        text: the prefill.
        chat: the chat format of a gpt-oss tokenizer.
        answer: the prefill stands where the turn begins: without tags it is the answer.
    """
    if answer and OPEN_TAG not in text and CLOSE_TAG not in text:
        return [Piece(FINAL, channel="final"), Piece(text, counted=True)]
    body = text.removeprefix(THINK_OPEN).removeprefix(OPEN_TAG)
    thinking, closed, rest = body.partition(CLOSE_TAG)
    found = [Piece(chat.opener, channel="analysis")]
    if not closed:
        return [*found, Piece(thinking, counted=True)]
    found += [Piece(thinking.removesuffix("\n"), counted=True)] if thinking.strip() else []
    found += [Piece(chat.closer, shown=THINK_CLOSE, channel="final")]
    rest = rest.removeprefix("\n").removeprefix("\n")
    return [*found, Piece(rest, counted=True)] if rest else found


def canonical(raw: str, channel: str = "") -> str:
    """Turn what gpt-oss wrote into text with think tags.

    Every channel but "analysis" is the answer: the user sees it. Thinking that was never followed by another channel
    stays unclosed. A ``</think>`` that the model wrote inside its thinking is broken up, so that the text splits where
    the channels do. Text without any channel is returned as it is.

    Args:
        raw: the generated text with its control tokens.
        channel: where generation began: "analysis", "final", or "" for the header of the turn.
    """
    thinking: list[str] = []
    answer: list[str] = []
    for name, text in _messages(raw, channel):
        if name == "analysis" and channel != "final":
            thinking.append(text.replace(CLOSE_TAG, _SAFE_CLOSE))
        else:
            answer.append(text)
    head = "\n\n".join(thinking)
    tail = "\n\n".join(answer)
    if channel == "final" or not (thinking or answer):
        return tail if answer else raw
    if not thinking:
        return tail
    opened = head if channel == "analysis" else THINK_OPEN + head
    return opened + THINK_CLOSE + tail if answer else opened


def _messages(raw: str, channel: str) -> list[tuple[str, str]]:
    """Return (channel, text) of each message, in order."""
    found: list[tuple[str, str]] = []
    current = channel or None  # None: in a header
    header, end = "", 0
    matches = [*_CONTROL.finditer(raw), None]
    for match in matches:
        text = raw[end : match.start() if match else len(raw)]
        if current is not None:
            found.append((current, text))
        else:
            header += text
        if match is None:
            break
        end = match.end()
        control = match.group(1)
        if control == "message":
            current = header.split()[0] if header.split() else "final"
            header = ""
        elif control == "channel":
            current, header = None, ""  # what stood before it is the role
        else:
            current = None
    return found
