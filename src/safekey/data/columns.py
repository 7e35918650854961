"""Which columns of a file were read, and which were not: a column that nobody read may have been part of the prompt.

rows.jsonl: 120 of 130 rows used; columns read: question, response; not read: topic (120), tools (3)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_PROMPT_LIKE = frozenset(
    {
        "messages", "conversations", "conversation", "prompt", "question", "query", "instruction", "instructions",
        "input", "system", "system_prompt", "history", "chat_history", "turns", "dialogue", "dialog", "tools",
        "functions", "context", "contexts", "document", "documents", "passage", "background", "image", "images",
        "video", "videos", "audio", "audios",
    }
)  # fmt: skip

_NO_TEXT = frozenset({"tools", "functions", "image", "images", "video", "videos", "audio", "audios"})
_ADVICE = ("name it with --column, or leave those rows out", "it cannot be put into a prompt: leave those rows out")


class Watched(Mapping[str, Any]):
    """A row that remembers which of its columns were read and held a value."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._fields[name]
        if not _is_empty(value):
            self.used.add(name)
        return value

    def peek(self, name: str) -> Any:
        """Return a column's value, or None, without counting it as read."""
        return self._fields.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


@dataclass
class ColumnUse:
    """How the columns of one file were used.

    Attributes:
        rows: rows in the file.
        usable: rows that were used; only these are counted below.
        read: column → rows in which it was read.
        unread: column → rows in which it held a value and was not read.
    """

    rows: int = 0
    usable: int = 0
    read: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)

    def add(self, fields: Mapping[str, Any], used: set[str]) -> None:
        """Count one usable row."""
        self.usable += 1
        self.read.update(name for name in fields if name in used)
        self.unread.update(str(name) for name, value in fields.items() if name not in used and not _is_empty(value))

    def line(self, file: str) -> str:
        """Return what was read of the file, in one line."""
        unread = ", ".join(f"{name} ({count})" for name, count in self.unread.items()) or "none"
        read = ", ".join(self.read) or "none"
        return f"{file}: {self.usable} of {self.rows} rows used; columns read: {read}; not read: {unread}"

    def warnings(self, file: str) -> list[str]:
        """Return a line for each column that was not read and may belong to the prompt."""
        return [
            f"{file}: column '{name}' is not read, and {count} rows hold something in it: if it belongs to the prompt, "
            f"training sees another prompt than the model will get; {_ADVICE[name.lower() in _NO_TEXT]}"
            for name, count in self.unread.items()
            if name.lower() in _PROMPT_LIKE
        ]


def _is_empty(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str | list | tuple | dict) and not value)
