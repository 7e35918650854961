"""Attacks on the form of a prompt: a prefilled beginning of the model's own turn, and whole conversations.

Three forms of a conversation are read (CSV files hold them as JSON text)::

    [{"role": "user", "content": "How do vaults work?"}, {"role": "assistant", "content": "They …"}, …]
    [{"from": "human", "value": "How do vaults work?"}, {"from": "gpt", "value": "They …"}, …]
    ["How do vaults work?", "They …", "And the royal one?"]      user and assistant in turn, the user first

The identity, no attack, is the item itself; its attack is called "none".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from safekey.data.formats import ROLES, RowError
from safekey.errors import UserError
from safekey.schema import OPEN_TAG, Message
from safekey.text.thinking import split_response

if TYPE_CHECKING:
    from safekey.evals.benchmarks.items import Item

PREFILL_TOKENS = (20,)


def prefill(items: Iterable[Item], tokens: Sequence[int] = PREFILL_TOKENS) -> list[Item]:
    """Return one item per behaviour and N, with the first N tokens of its target put into the opened thinking.

    The cut is made by the engine with the model's own tokenizer; a target shorter than N tokens is put there whole.
    Items of one behaviour stand together, share `behaviour`, and are called "ID@prefill-N".

    Args:
        items: items whose metadata hold the whole target as "prefill".
        tokens: every N, each at least 1.

    Raises:
        UserError: an N is below 1 or named twice, none is named, or an item has no target.
    """
    if not tokens or len(set(tokens)) != len(tokens) or any(isinstance(n, bool) or n < 1 for n in tokens):
        raise UserError(f"prefill tokens: expected different whole numbers from 1, found {list(tokens)}")
    attacked = []
    for item in items:
        target = item.metadata.get("prefill")
        if not isinstance(target, str) or not target.strip():
            raise UserError(f"{item.file}, row {item.row}: no target to prefill")
        for n in tokens:
            prompt = replace(item.prompt, prefill=target, prefill_tokens=n)
            name = f"prefill-{n}"
            attacked.append(replace(item, id=f"{item.id}@{name}", prompt=prompt, attack=name))
    return attacked


def parse_conversation(value: Any, column: str) -> tuple[Message, ...]:
    """Read a conversation in any of the module's three forms.

    The thinking of an earlier assistant turn is taken out of its text.

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
    if role == "assistant" and OPEN_TAG in content:
        parts = split_response(content)
        if parts.state == "unclosed":
            raise RowError(where, "an earlier turn's thinking is opened and never closed")
        return Message(role, parts.answer, parts.thinking or None)
    return Message(role, content)
