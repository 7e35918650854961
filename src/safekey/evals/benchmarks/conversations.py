"""Read a whole conversation from one field of a benchmark row.

Three forms are read (CSV files hold them as JSON text)::

    [{"role": "user", "content": "How do vaults work?"}, {"role": "assistant", "content": "They …"}, …]
    [{"from": "human", "value": "How do vaults work?"}, {"from": "gpt", "value": "They …"}, …]
    ["How do vaults work?", "They …", "And the royal one?"]      user and assistant in turn, the user first
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safekey.data.formats import ROLES, RowError
from safekey.schema import Message
from safekey.text.thinking import split_response


def parse_conversation(value: Any, column: str) -> tuple[Message, ...]:
    """Read a conversation in one of the module's three forms; thinking in an assistant turn is separated from its text.

    Raises:
        RowError: it is no conversation, or a turn has an unknown role or no text.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(column, f"not a conversation: text that is not a JSON list: {error}") from error
    if not isinstance(value, list | tuple) or not value:
        raise RowError(column, f"not a conversation: expected a list of turns, found {value!r:.60}")
    return tuple(_turn(turn, index, f"{column}[{index}]") for index, turn in enumerate(value))


def _turn(turn: Any, index: int, where: str) -> Message:
    if isinstance(turn, str):
        role: Any = "user" if index % 2 == 0 else "assistant"
        content: Any = turn
    elif isinstance(turn, Mapping):
        role = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value", turn.get("body", turn.get("text"))))
    else:
        raise RowError(where, f"not a turn: expected text or an object, found {type(turn).__name__}")
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise RowError(where, f"unknown role: {role!r:.60}; expected one of {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise RowError(where, "empty turn: it holds no text")
    role = ROLES[role.lower()]
    parts = split_response(content) if role == "assistant" else None
    if parts is not None and parts.state == "unclosed":
        raise RowError(where, "an earlier turn's thinking is opened and never closed")
    if parts is not None and parts.state == "closed":
        return Message(role, parts.answer, parts.thinking or None)
    return Message(role, content)
