"""Classify how an output ended: complete, truncated, inside the thinking, empty, or in a repetition loop.

Only "ok" outputs have an answer to judge; the others are counted separately (docs/judges.md, "Outputs").
"""

from __future__ import annotations

import re
import zlib
from typing import Literal, get_args

from safekey.schema import NO_ATTACK, Completion
from safekey.text.thinking import Thinking, split_completion

OutputClass = Literal["ok", "truncated", "unclosed", "empty", "degenerate", "filtered", "error", "unattacked"]
OUTPUT_CLASSES: tuple[OutputClass, ...] = get_args(OutputClass)

TAIL = 24_000  # characters at the end of a text that are examined
MIN_LOOP = 600  # characters that a loop must fill: longer than a ruler, a table's border or a refrain
MIN_REPEATS = 5  # times that the cycle must come in a row, the last one perhaps cut off
NEAR_LOOP_TAIL = 4_000  # characters at the end in which loops with a counter are looked for
NEAR_LOOP_NEW = 0.05  # of the runs of five words there, at most so many may be different ones
PROSE = 0.85  # and at least so much of it must be letters and spaces: tables and code repeat for good reasons

_WORD = re.compile(r"[A-Za-zÀ-ɏ]+|[^\W\d_]")  # a word, or one sign of a script that puts no spaces between words


def classify_output(completion: Completion, thinking: Thinking | None = None) -> OutputClass:
    """Return how an output ended; the first of these that holds:

    "unattacked": no output, because an attacker model gave too few messages; "error": no output, because of the engine;
    "filtered": a hosted API withheld it; "degenerate": its end is a
    loop, whether or not the token limit stopped it; "truncated": the token limit stopped it, in the thinking or in
    the answer; "unclosed": it stopped by itself inside the thinking; "empty": nothing but white space follows the
    thinking; "ok".

    Args:
        completion: the result of the engine.
        thinking: its split, if known already.
    """
    if completion.finish == "error":
        return "unattacked" if completion.error.startswith(NO_ATTACK) else "error"
    if completion.finish == "filter":
        return "filtered"
    if is_degenerate(completion.text):
        return "degenerate"
    if completion.finish == "length":
        return "truncated"
    parts = split_completion(completion) if thinking is None else thinking
    if parts.state == "unclosed":
        return "unclosed"
    return "ok" if parts.answer.strip() else "empty"


def is_degenerate(text: str) -> bool:
    """Whether a text ends in a loop.

    A loop is a cycle of any length that comes at least 5 times in a row, to the very end, and fills at least 600
    characters; or 4,000 characters of prose at the end in which, numbers left out, hardly any run of five words is new
    ("Wait, let me check step 17 again."). A list, a table, code or a poem does neither: its lines differ, and what
    repeats exactly is short or comes to an end. A text that was asked to repeat itself is called degenerate, too.
    """
    tail = text[-TAIL:]
    if len(tail) < MIN_LOOP:
        return False
    return _counts_on(text[-NEAR_LOOP_TAIL:]) or _cycles(tail)


def _cycles(tail: str) -> bool:
    raw = tail.encode("utf-8", "replace")
    if len(zlib.compress(raw, 1)) > 0.5 * len(raw):  # five equal rounds compress better: spare the search
        return False
    matches = enumerate(_matches(tail[::-1]))
    return any(period + match >= max(MIN_LOOP, MIN_REPEATS * period) for period, match in matches if period)


def _counts_on(tail: str) -> bool:
    if len(tail) < NEAR_LOOP_TAIL or sum(c.isalpha() or c == " " for c in tail) < PROSE * len(tail):
        return False
    words = _WORD.findall(tail)
    runs = list(zip(*(words[i:] for i in range(5)), strict=False))
    return len(set(runs)) < NEAR_LOOP_NEW * len(runs)


def _matches(text: str) -> list[int]:
    """Return for each offset how many characters from there on equal the text's beginning (the Z function)."""
    size = len(text)
    found = [0] * size
    left = right = 0
    for place in range(1, size):
        match = min(right - place, found[place - left]) if place < right else 0
        while place + match < size and text[match] == text[place + match]:
            match += 1
        if place + match > right:
            left, right = place, place + match
        found[place] = match
    return found
