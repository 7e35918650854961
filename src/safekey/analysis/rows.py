"""What an analysis looks at: rows of prompt and response with U and K, their kind, behaviour and attack.

    row.example.prompt, row.example.response   with `understanding_end` and `key_sentence_end`
    row.kind, row.attack, row.behaviour        "harmful", "none", "pick the royal vault"

`read.py` reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from safekey.errors import UserError
from safekey.schema import Example

RowKind = Literal["harmful", "benign", "problem", "unlabelled"]
"""A request that must be refused; one that must not; a problem with a right answer; a row that does not say."""
KINDS: tuple[RowKind, ...] = get_args(RowKind)
PLAIN = "none"
"""The attack of a request that is asked plainly."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        example: prompt and response, segmented.
        kind: the kind of its request.
        behaviour: rows that ask for the same thing share it; they are one draw in every interval.
        attack: the attack's name, "none" for a plain request.
    """

    example: Example
    kind: RowKind
    behaviour: str
    attack: str = PLAIN


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows, and what has to be said about them.

    Attributes:
        path: the file or folder.
        rows: in their order.
        notes: what was left out, with counts and reasons.
    """

    path: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each kind that there is."""
        found = Counter(row.kind for row in self.rows)
        return {kind: found[kind] for kind in KINDS if found[kind]}


def attack_of(fields: Mapping[str, Any]) -> str:
    """Return the attack that a file's row names; a text with spaces is no name."""
    value = fields.get("attack")
    return value if isinstance(value, str) and value and " " not in value else PLAIN


def with_spans(rows: Rows) -> Rows:
    """Return the rows that have both U and K, with a note on the others.

    Raises:
        UserError: there is none.
    """
    return keep(rows, lambda row: bool(row.example.understanding and row.example.key_sentence), "have no U or no K")


def keep(rows: Rows, test: Callable[[Row], bool], why: str) -> Rows:
    """Return the rows that pass a test, with a note on the number of the others and why they are left out.

    Raises:
        UserError: no row passes.
    """
    kept = tuple(row for row in rows.rows if test(row))
    if not kept:
        raise UserError(f"{rows.path}: all {len(rows.rows)} rows {why}, so there is nothing to look into")
    left = len(rows.rows) - len(kept)
    notes = (*rows.notes, f"{rows.path}: {left} of {len(rows.rows)} rows {why}: left out") if left else rows.notes
    return replace(rows, rows=kept, notes=notes)
