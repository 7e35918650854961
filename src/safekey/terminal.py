"""Make text safe to print: it may hold sequences that move the cursor or clear the screen, or a URL with a password."""

from __future__ import annotations

import re

# C0 without tab and newline, DEL, C1, and the characters that reverse the direction of what follows.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

# A name, or a name and a password, before the host of a URL. In http://host:8000/v1#name@version there is none.
_LOGIN = re.compile(r"(?<=://)(?:[^/\s@#?:]*|[^/\s@#?:]*:(?!\d+[/#?])[^\s@]*)@")
_KEY = re.compile(
    r"(?<=[?&])((?:api[-_]?key|key|access[-_]?token|token|password|secret|sig(?:nature)?)=)[^&#\s]+", re.I
)


def has_login(text: str) -> bool:
    """Whether a text holds a URL with a user's name, a password or a key in it."""
    return "://" in text and (_LOGIN.search(text) is not None or _KEY.search(text) is not None)


def without_login(text: str) -> str:
    """Return `text` with ``***`` in place of the name and password, or the key, of each URL."""
    return _KEY.sub(r"\1***", _LOGIN.sub("***@", text)) if "://" in text else text


def printable(text: str) -> str:
    """Return `text` with terminal control characters shown as ``\\x1b`` and the like, never sent."""
    return _UNSAFE.sub(lambda match: ascii(match.group())[1:-1], text)
