"""Read a raw row, in any of the usual layouts, as a prompt and a canonical response.

`COLUMNS` is the table of known column names; `columns=` overrides a line of it. Rows in use::

    {"question": "How do I brew tea?", "response": "<think>\\n…\\n</think>\\n\\nBoil …"}
    {"prompt": "How do I brew tea?", "completion": "Boil …", "reasoning_content": "The user asks …"}
    {"messages": [{"role": "user", "content": "How …"}, {"role": "assistant", "content": "…", "thinking": "…"}]}
    {"conversations": [{"from": "human", "value": "How …"}, {"from": "gpt", "value": "<think>…</think>Boil …"}]}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from safekey.data.columns import Watched
from safekey.errors import UserError
from safekey.schema import CLOSE_TAG, Message
from safekey.text.messages import THINKING_FIELDS, PartError, is_thinking, split_parts, thinking_text
from safekey.text.tags import opens_strongly
from safekey.text.thinking import Thinking, canonical, split_response, split_thinking, strip_tags, thinking_in_answer

# Content → the names of its column; the first column with a value is read.
COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "prompt": ("prompt", "question", "query", "instruction", "input"),
    "response": ("response", "completion", "answer", "output"),
    "thinking": THINKING_FIELDS,
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "id": ("id", "uuid"),
    "source": ("source",),
    "understanding_end": ("understanding_end", "summary_end_idx", "key_sentence_start"),
    "key_sentence_end": ("key_sentence_end", "next_sentence_end_idx"),
}
# The keys of a history's entries, the user's first.
_PAIRS = (
    ("user", "assistant"), ("human", "assistant"), ("human", "gpt"), ("user", "bot"), ("prompt", "response"),
    ("question", "answer"), ("query", "response"), ("instruction", "output"), ("input", "output"),
)  # fmt: skip
ROLES = {
    **{role: role for role in ("system", "developer", "user", "assistant", "tool")},
    **{"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "function": "tool"},
}


class RowError(Exception):
    """A row cannot be used. Problems are counted by the fixed phrase before the first colon of `reason`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


class Conversation(NamedTuple):
    """The content of a row: the turns before the response, and the response in canonical form."""

    prompt: tuple[Message, ...]
    response: str


def column_table(
    columns: Mapping[str, str | None] | None, known: Mapping[str, tuple[str, ...]] = COLUMNS
) -> dict[str, tuple[str, ...]]:
    """Return a table of column names with those of the user put in; None or "" as a name: do not look for this column.

    Raises:
        UserError: a key that is not in the table.
    """
    table = dict(known)
    for key, name in (columns or {}).items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(known)}"
            raise UserError(f"columns: unknown key '{key}'; {hint}")
        table[key] = (name,) if name else ()
        if known is COLUMNS and key in ("prompt", "response") and "messages" not in (columns or {}):
            table["messages"] = ()  # naming a prompt column means not to read the messages column
    return table


def pick(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    """Return the first of these columns that holds a value, and the value; ("", None) when none does."""
    for name in names:
        if row.get(name) is not None and row[name] != "":
            return name, row[name]
    return "", None


def read_conversation(
    row: Mapping[str, Any], table: Mapping[str, Sequence[str]], *, answers_alone: bool = False
) -> Conversation:
    """Read a row's prompt and response.

    Args:
        row: the raw row.
        table: from `column_table`.
        answers_alone: take a response without thinking, too, as one whose thinking is empty.

    Raises:
        RowError: the row cannot be used, with the column and the reason.
    """
    thinking_column, thinking = _thinking(row, table["thinking"], "")
    column, value = pick(row, table["messages"])
    if column:
        prompt_column, (turns, last) = column, _turns_with_answer(value, column)
    else:
        column, turns, last = _prompt_and_response(row, table)
        prompt_column = pick(row, table["prompt"])[0]
    if not any(turn.role == "system" for turn in turns):
        system_column, system = pick(row, table["system"])
        if system is not None and not isinstance(system, str):
            raise RowError(system_column, f"not text: expected a string, found {type(system).__name__}")
        turns = [Message("system", system), *turns] if system is not None else turns
    if not turns or turns[-1].role != "user":
        found = f"ends with a turn of '{turns[-1].role}'" if turns else "is empty"
        raise RowError(prompt_column, f"no user turn before the response: the prompt {found}")
    if not turns[-1].content.strip():
        raise RowError(prompt_column, "empty prompt: the last user turn holds no text")
    if last.thinking and thinking and strip_tags(thinking) != strip_tags(last.thinking):
        raise RowError(thinking_column, "two thinkings that differ: one in the last message, one in this column")
    response = _canonical_response(last.content, last.thinking or thinking, column, answers_alone)
    return Conversation(tuple(turns), response)


def _prompt_and_response(
    row: Mapping[str, Any], table: Mapping[str, Sequence[str]]
) -> tuple[str, list[Message], Message]:
    """Read a row with one column for the prompt and one for the response."""
    prompt_column, prompt = pick(row, table["prompt"])
    response_column, response = pick(row, table["response"])
    for what, column in (("prompt", prompt_column), ("response", response_column)):
        if not column:
            empty = [name for name in table[what] if name in row]
            if empty:
                raise RowError(empty[0], f"empty {what}: the column holds no text")
            wanted = ", ".join([*table[what], *table["messages"]])
            raise RowError(what, f"missing {what}: expected one of {wanted}; the row has {', '.join(row) or 'nothing'}")
    turns = _turns(prompt, prompt_column) if _is_turns(prompt) else [Message("user", _text(prompt, prompt_column))]
    # Alpaca's layout: `input` is the material of the instruction.
    context = row.get("input") if prompt_column == "instruction" else None
    if isinstance(context, str) and context.strip():
        turns = [Message("user", f"{turns[-1].content}\n\n{context}")]
    turns = [*_history(row, table["history"]), *turns]
    if _is_turns(response):
        more, last = _turns_with_answer(response, response_column)
        return response_column, [*turns, *more], last
    text, inner = _content(response, response_column)
    return response_column, turns, Message("assistant", text, inner or None)


def _history(row: Mapping[str, Any], names: Sequence[str]) -> list[Message]:
    """Return the turns before the prompt: [user, assistant] pairs (LLaMA-Factory), objects with both, or turns.

    A `history` of another form is left alone; it is then counted as a column that was not read.
    """
    for name in names:
        value = row.peek(name) if isinstance(row, Watched) else row.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):  # CSV has no lists
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                continue
        turns = _history_turns(value)
        if turns:
            row.get(name)  # counts as read
            return [_turn(turn, f"{name}[{index}]", whole=False) for index, turn in enumerate(turns)]
    return []


def _history_turns(value: Any) -> list[Mapping[str, Any]]:
    """Return a history as turns; [] when it is empty or of an unknown form."""
    if not isinstance(value, list | tuple):
        return []
    turns: list[Mapping[str, Any]] = []
    for entry in value:
        if isinstance(entry, Mapping) and ("role" in entry or "from" in entry):
            turns.append(entry)
            continue
        keys = next((keys for keys in _PAIRS if isinstance(entry, Mapping) and set(keys) <= set(entry)), None)
        pair = [entry[key] for key in keys] if keys else entry
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            return []
        turns += [{"role": role, "content": text} for role, text in zip(("user", "assistant"), pair, strict=True)]
    return turns


def _canonical_response(content: str, thinking: str | None, column: str, answers_alone: bool) -> str:
    parts = split_thinking(content, started_inside=False)
    if parts.state == "unclosed":
        raise RowError(column, f"no {CLOSE_TAG}: the thinking is opened and never closed; the output was cut off")
    if parts.state == "absent" and not thinking and not answers_alone:
        raise RowError(column, f"no {CLOSE_TAG}: no thinking in the text, and no column for it; the row cannot be used")
    inner = strip_tags(thinking) if thinking else parts.thinking
    if parts.state == "closed" and inner != parts.thinking:
        raise RowError(column, "two thinkings that differ: one in the text, one in a field of its own")
    if not parts.answer:
        raise RowError(column, f"no answer: nothing follows {CLOSE_TAG}; the output was cut off")
    _check_order(parts, column)
    response = canonical(inner, parts.answer)
    if split_response(response)[:2] != (inner, parts.answer):
        raise RowError(column, f"{CLOSE_TAG} within the thinking field: it would end the thinking early")
    return response


def _check_order(parts: Thinking, column: str) -> None:
    """Refuse a response that thinks late: written as thinking and answer, it would be another response."""
    kinds = [span.kind for span in parts.spans if span.kind != "gap"]
    if parts.state == "closed" and "answer" in kinds and "thinking" in kinds[kinds.index("answer") :]:
        raise RowError(
            column, "late thinking: words to the user stand before it; move it to the start, or drop the row"
        )
    again = thinking_in_answer(parts)
    if again and opens_strongly(again):
        raise RowError(column, f"late thinking: the answer holds {again} again; take that block out, or drop the row")


def _is_turns(value: Any) -> bool:
    """Whether a value is a list of turns, and not one of the parts of a text."""
    if not isinstance(value, list | tuple) or not value or not isinstance(value[0], Mapping):
        return False
    return "role" in value[0] or "from" in value[0] or not ("text" in value[0] or is_thinking(value[0]))


def _turns_with_answer(value: Any, column: str) -> tuple[list[Message], Message]:
    """Split a conversation into the turns before its last assistant turn, and that turn with its thinking."""
    *earlier, last = _turns(value, column, keep_last=True)
    if last.role != "assistant":
        raise RowError(column, f"no response: the conversation ends with a turn of '{last.role}'")
    return earlier, last


def _turns(value: Any, column: str, *, keep_last: bool = False) -> list[Message]:
    if isinstance(value, str):  # CSV has no lists
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            what = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise RowError(column, f"not a conversation: a string that is not a JSON list: {what}") from error
    if not isinstance(value, list | tuple) or not value:
        raise RowError(column, f"not a conversation: expected a list of turns, found {value!r:.60}")
    return [
        _turn(turn, f"{column}[{index}]", whole=keep_last and index == len(value) - 1)
        for index, turn in enumerate(value)
    ]


def _turn(turn: Any, where: str, *, whole: bool) -> Message:
    """Read one turn; the thinking of an earlier assistant turn is taken out of its content."""
    if not isinstance(turn, Mapping):
        raise RowError(where, f"not a turn: expected an object with role and content, found {type(turn).__name__}")
    _, role = pick(turn, ("role", "from"))
    if not isinstance(role, str) or role not in ROLES:
        raise RowError(where, f"unknown role: {role!r:.60}; expected one of {', '.join(ROLES)}")
    if turn.get("tool_calls"):
        raise RowError(where, "tool calls: they cannot be written back into a prompt; leave the row out")
    _, content = pick(turn, ("content", "value"))
    text, inner = _content("" if content is None else content, where)
    if inner and ROLES[role] != "assistant":
        raise RowError(where, f"thinking in a turn of '{role}': only the assistant thinks; leave the row out")
    _, thinking = _thinking(turn, COLUMNS["thinking"], where)
    if inner and thinking and strip_tags(thinking) != inner.strip():
        raise RowError(where, "two thinkings that differ: one in the turn's content, one in a field of its own")
    thinking = thinking or inner or None
    if ROLES[role] != "assistant" or whole:
        return Message(ROLES[role], text, thinking)
    parts = split_response(text)
    if parts.state == "unclosed":
        raise RowError(where, f"no {CLOSE_TAG}: an earlier turn's thinking is opened and never closed")
    if parts.state == "closed":
        return Message("assistant", parts.answer, parts.thinking)
    return Message("assistant", text, strip_tags(thinking) if thinking else None)


def _thinking(row: Mapping[str, Any], names: Sequence[str], where: str) -> tuple[str, str | None]:
    """Return the first thinking column that holds a text, and the text."""
    for name in names:
        value = row.get(name)
        try:
            text = thinking_text(value)
        except PartError as error:
            raise RowError(where or name, f"not text: expected a string, found {error}") from error
        if text.strip():
            return name, text
    return "", None


def _content(value: Any, where: str) -> tuple[str, str]:
    """Return the text and the thinking of a content: a string, or a list of parts (`[{"type": "text", "text": …}]`)."""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, list | tuple):
        try:
            return split_parts(value)
        except PartError as error:
            raise RowError(where, f"not text: {error}; only text can be used") from error
    raise RowError(where, f"not text: expected a string, found {type(value).__name__}")


def _text(value: Any, where: str) -> str:
    return _content(value, where)[0]
