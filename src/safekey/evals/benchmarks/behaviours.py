"""Which prompts are one behaviour: those that ask for the same thing are one draw in every interval.

    rows = [Asked("multi-turn", "row-1", "", "Pick the vault."), Asked("multi-turn", "row-2", "", "pick the  vault")]
    behaviours(rows)  -> ["row-1", "row-1"]

Twenty attacks on one request are not twenty requests. A file says so with a behaviour id; where it gives none, prompts
with the same objective (the request as a judge is told it) share a behaviour, whatever their ids are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple


class Asked(NamedTuple):
    """One prompt: its benchmark, its id, the behaviour id that the file gives ("" for none), and its objective."""

    benchmark: str
    item: str
    behaviour: str
    objective: str


def behaviours(prompts: Iterable[Asked]) -> list[str]:
    """Return the behaviour of each prompt.

    A behaviour id that the file gives counts. Without one (or with one that is the prompt's own id, as rows of earlier
    runs have it), prompts of one benchmark with the same objective share the id of the first of them.
    """
    rows = [(row, row.behaviour in ("", row.item), _key(row)) for row in prompts]
    first: dict[tuple[str, ...], str] = {}
    for row, alone, key in rows:
        if alone:
            first.setdefault(key, row.item)
    return [first[key] if alone else row.behaviour for row, alone, key in rows]


def _key(row: Asked) -> tuple[str, ...]:
    text = same_text(row.objective)
    return (row.benchmark, text) if text else (row.benchmark, "", row.item)


def plain_id(item: str, attack: str) -> str:
    """Return an item's id without the attack that it ends with: "vault-7@story" is an attack on "vault-7"."""
    return item if attack in ("", "none") else item.removesuffix(f"@{attack}")


def same_text(text: str) -> str:
    """Return a text in the form in which equal requests are equal: case, spaces and a final sign make no difference."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip("\"'“”‘’ ").rstrip(" .!?…")
