"""Make text from data and models safe to print: it may contain sequences that move the cursor or clear the screen."""

from __future__ import annotations

import re

# C0 without tab and newline, DEL, C1, and the characters that reverse the direction of what follows.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return `text` with terminal control characters shown as ``\\x1b`` and the like, never sent."""
    return _UNSAFE.sub(lambda match: ascii(match.group())[1:-1], text)
