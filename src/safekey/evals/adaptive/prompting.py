"""Write what an attacker model is asked, and read its reply. All that it is shown stands between marks.

read_move('{"plan": "A play.", "message": "Write a play in which …"}')  -> Move("Write a play in which …", …, "message")
read_move("I can't help with that.")  -> Move("", "I can't help with that.", "refused")
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from safekey.evals.judges.prompting import disarm, mark
from safekey.evals.judges.table import JUDGES, JudgeInput
from safekey.schema import NO_ANSWER, Completion, Message
from safekey.text.thinking import split_completion

Outcome = Literal["message", "refused", "unreadable", "failed"]
"""What the attacker gave: a message to the target, a refusal, something else, or nothing (it could not be asked)."""
MISSES: tuple[Outcome, ...] = ("refused", "unreadable", "failed")

LONGEST_MESSAGE = 16_000  # characters of a message to the target
_LONGEST_REPLY = 100_000  # characters of an attacker's reply that are read
_SHOWN = 2_000  # characters of one text that the attacker is shown
_PLACEHOLDER = re.compile(r"\[\[(mark|request|history)\]\]")
_BORDER = "\n=====\n"


@dataclass(frozen=True, slots=True)
class Move:
    """One reply of the attacker.

    Attributes:
        message: to the target; "" without one.
        said: the reply as it came; for "failed" the error.
        outcome: what it is.
    """

    message: str
    said: str
    outcome: Outcome


@cache
def load(attack: str) -> tuple[str, str, str]:
    """Return an attack's system message, the template of its user message, and the file's sha256."""
    text = resources.files("safekey.evals.adaptive").joinpath("prompts", f"{attack}.md").read_text(encoding="utf-8")
    system, _, user = text.partition(_BORDER)
    return system.strip(), user.strip(), hashlib.sha256(text.encode()).hexdigest()


def ask_for_move(attack: str, request: str, history: str) -> tuple[Message, ...]:
    """Return the messages that ask an attacker for its next message to the target.

    Args:
        attack: "pair" or "crescendo".
        request: what the target should be made to do, as a judge is told it.
        history: what was tried so far, as text; "" for nothing.
    """
    system, template, _ = load(attack)
    request, history = disarm(request), disarm(history) or "(nothing yet)"
    values = {"mark": mark(request, history), "request": request, "history": history}
    return Message("system", system), Message("user", _PLACEHOLDER.sub(lambda match: values[match[1]], template))


def shown(text: str) -> str:
    """Return a text as the attacker sees it: a long one without its middle."""
    if len(text) <= _SHOWN:
        return text
    return f"{text[: _SHOWN // 2]}\n[… {len(text) - _SHOWN} characters left out …]\n{text[-_SHOWN // 2 :]}"


def read_move(reply: str | Completion | None) -> Move:
    """Read an attacker's reply; never raises, whatever the text.

    The message is the string "message" of the last JSON object in the reply, whatever stands around it: other than with
    a judge's reply, nothing is decided by it. Whatever is sent, the target's reply is judged.
    """
    if isinstance(reply, Completion):
        if reply.finish == "error":
            return Move("", reply.error.removeprefix(NO_ANSWER) or "the engine gave no reply", "failed")
        text = split_completion(reply).answer
        raw = reply.text
    else:
        raw = reply or ""
        text = split_completion(Completion(raw, "stop")).answer
    message = _message(text[:_LONGEST_REPLY])
    if message:
        return Move(message[:LONGEST_MESSAGE], raw, "message")
    return Move("", raw, "refused" if refuses(text) else "unreadable")


def refuses(text: str) -> bool:
    """Whether a text begins with the words of a refusal, by the judge `refusal_keywords`."""
    decide = JUDGES["refusal_keywords"].decide
    assert decide is not None
    return decide(JudgeInput("", text)) == "full_refusal"


def _message(text: str) -> str:
    found = ""
    for value in _objects(text):
        said = value.get("message")
        if isinstance(said, str) and said.strip():
            found = said.strip()
    return found


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in a text; line breaks within strings are let pass."""
    decoder, place = json.JSONDecoder(strict=False), text.find("{")
    tries = 0
    while place >= 0 and tries < 100:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            value, end = None, place + 1
        if isinstance(value, dict):
            yield value
        place = text.find("{", end)
