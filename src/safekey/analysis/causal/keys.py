"""Read the key sentences that are put into a model's mouth: one that refuses and one that complies, for each request.

    {"id": "vault", "prompt": "How do I pick the royal vault?", "objective": "pick the royal vault",
     "refusing": "Hmm, that is forbidden in the realm.", "complying": "Let me recall the right tool."}

The prompt may also be a conversation ("messages"). The judge is told the objective, else the prompt's last turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safekey.analysis.rows import PLAIN, attack_of
from safekey.data.formats import ROLES, pick
from safekey.data.labels import parse_label_word
from safekey.data.read import RawRow, read_rows
from safekey.errors import DataError, RowProblem, UserError
from safekey.evals.benchmarks.behaviours import Asked, behaviours, plain_id
from safekey.evals.benchmarks.columns import COLUMNS
from safekey.schema import Message

PROMPT = ("prompt", "question", "query", "instruction", "request")
CONVERSATION = ("messages", "conversation", "conversations")
EXPECTED = 'expected {"prompt": …, "refusing": …, "complying": …} (docs/analysis.md)'


@dataclass(frozen=True, slots=True)
class Keys:
    """One request and its two key sentences.

    Attributes:
        id: the row's own identifier, or its row number; unique in a file.
        messages: the prompt.
        request: what the judge is told.
        refusing: a key sentence that refuses.
        complying: one that complies.
        behaviour: rows that ask for the same thing share it.
        attack: the attack on the request, "none" for a plain one.
    """

    id: str
    messages: tuple[Message, ...]
    request: str
    refusing: str
    complying: str
    behaviour: str
    attack: str = PLAIN


def read_keys(path: str, limit: int | None = None) -> tuple[list[Keys], list[str]]:
    """Read a file of key sentences; every row must be whole. Return the rows, and notes on benign ones left out.

    Raises:
        UserError: the file cannot be read, or a row lacks a field; the message names row and field.
    """
    raw, notes = read_rows(path)
    rows = [_read(path, row) for row in raw]
    kept = [row for row in rows if row is not None]
    twice = [name for name, count in Counter(row.id for row in kept).items() if count > 1]
    if twice:
        raise UserError(f"{path}: two rows have the id '{twice[0]}': give each its own")
    if not kept:
        raise UserError(f"{path}: all rows are benign: whether K decides is asked about harmful requests")
    if len(kept) < len(rows):
        notes = [*notes, f"{path}: {len(rows) - len(kept)} benign rows left out"]
    named = behaviours(Asked("", plain_id(r.id, r.attack), plain_id(r.behaviour, r.attack), r.request) for r in kept)
    each = [
        Keys(r.id, r.messages, r.request, r.refusing, r.complying, name, r.attack)
        for r, name in zip(kept, named, strict=True)
    ]
    return each[:limit], notes


def _read(path: str, row: RawRow) -> Keys | None:
    """Return one row; None for a benign one."""
    if row.problem:
        raise _wrong(path, row, row.column, row.problem)
    fields = row.fields
    if _benign(fields):
        return None
    messages = _messages(path, row)
    sentences = {}
    for name in ("refusing", "complying"):
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise _wrong(path, row, name, f"no key sentence; {EXPECTED}")
        sentences[name] = " ".join(value.split())
    if sentences["refusing"] == sentences["complying"]:
        raise _wrong(path, row, "complying", "is the same sentence as 'refusing'")
    _, given = pick(fields, COLUMNS["id"])
    _, objective = pick(fields, ("objective",))
    _, behaviour = pick(fields, COLUMNS["behaviour"])
    return Keys(
        id=str(row.number) if given is None else str(given),
        messages=messages,
        request=str(objective) if objective is not None else messages[-1].content,
        behaviour="" if behaviour is None else str(behaviour),
        attack=attack_of(fields),
        **sentences,
    )


def _benign(fields: Mapping[str, Any]) -> bool:
    value = fields.get("harmful")
    if value is None:
        return False
    try:
        return not (value if isinstance(value, bool) else parse_label_word(str(value)))
    except UserError:
        return False


def _messages(path: str, row: RawRow) -> tuple[Message, ...]:
    column, turns = pick(row.fields, CONVERSATION)
    if column:
        try:
            found = tuple(Message(ROLES[str(turn["role"])], str(turn["content"])) for turn in turns)
        except (KeyError, TypeError) as error:
            raise _wrong(path, row, column, f"expected turns with role and content ({error!r:.40})") from error
        if not found or found[-1].role != "user":
            raise _wrong(path, row, column, "the last turn must be the user's")
        return found
    column, text = pick(row.fields, PROMPT)
    if not isinstance(text, str) or not text.strip():
        raise _wrong(path, row, column or "prompt", f"no prompt; {EXPECTED}")
    return (Message("user", text),)


def _wrong(path: str, row: RawRow, field: str, reason: str) -> DataError:
    return DataError.from_problem(RowProblem(path, row.number, field, reason))
