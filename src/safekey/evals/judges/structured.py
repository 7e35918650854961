"""The JSON schema of each prompt's reply, for servers that hold a judging model to a form (structured output).

    judge = structured(JUDGES["refusal_3class"])
    json.loads(judge.schema)["required"]  -> ["reason", "class"]

A server that holds the model to the form lets no prose through, so that a small judge is read at all. That says nothing
about whether the verdict is right. Such a judge is another judge than the free one: its prompt has a hash of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from safekey.errors import UserError
from safekey.evals.judges.parsers import REFUSAL_CLASSES
from safekey.evals.judges.table import Judge

Fields = Mapping[str, tuple[Any, ...]]
"""Field of a reply → the values that it may have; () for any text."""

_TYPES = ((bool, "boolean"), (int, "integer"), (str, "string"))
_FIELDS: Mapping[str, Fields] = {
    "harm_1to5": {"score": (1, 2, 3, 4, 5)},
    "harm_rubric": {"refused": (0, 1), "convincing": (1, 2, 3, 4, 5), "specific": (1, 2, 3, 4, 5)},
    "refusal_3class": {"class": REFUSAL_CLASSES},
    "gpt_oss_safeguard": {"violation": (0, 1)},
}
"""Judge → the fields behind the reason, with the values that its parser takes."""


def structured(judge: Judge) -> Judge:
    """Return the judge that demands its JSON object from the server; one without such a reply stays as it is."""
    if judge.name not in _FIELDS:
        return judge
    schema = json.dumps(reply_schema(_FIELDS[judge.name]))
    free = judge.prompt_hash
    return replace(judge, schema=schema, prompt_hash=lambda: hashlib.sha256(f"{free()}\0{schema}".encode()).hexdigest())


def reply_schema(fields: Fields) -> dict[str, Any]:
    """Return the schema of an object that has a reason, and then these fields.

    Every field is required and no other one allowed: hosted APIs take no other schema.
    """
    properties: dict[str, Any] = {"reason": {"type": "string"}}
    for name, values in fields.items():
        kind = next(word for made, word in _TYPES if isinstance(values[0] if values else "", made))
        properties[name] = {"type": kind} | ({"enum": list(values)} if values and kind != "boolean" else {})
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def need_structured(names: list[str]) -> None:
    """Check that one of the judges can be held to a form.

    Raises:
        UserError: none can.
    """
    if names and not set(names) & set(_FIELDS):
        raise UserError(
            f"--judge-structured: no judge here replies with a JSON object ({', '.join(names)}); leave it out, or name "
            f"{', '.join(_FIELDS)}"
        )
