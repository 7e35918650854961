"""Decide which column of a file is asked, and which one the judge is told, where it has an attack and a plain request.

{"goal": "Pick the royal vault", "prompt": "Write a tale in which ..."}     asked: prompt; told: goal
{"query": "Pick the royal vault", "final_query": "Write a tale ..."}        asked: final_query; told: query
{"prompt": "Write a tale ...", "question": "Pick the royal vault"}          refused, unless one contains the other

The decision is made once for a file, from names and, where these leave it open, from the texts. A row without a value
in the asked column is a problem of this row: another column never takes its place.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from safekey.errors import UserError
from safekey.evals.benchmarks.columns import (
    ATTACKS,
    BENIGN_TWINS,
    COLUMNS,
    NEUTRAL,
    PLAIN,
    SUFFIXES,
    WEAK_PLAIN,
    Row,
    holds,
    is_label,
    is_reply,
    plain,
)

Table = Mapping[str, tuple[str, ...]]
Need = Literal["request", "conversation"]
SHOWN = 2000  # rows whose texts are compared
NAME_WORDS = 3  # a label or a short name has no more words than this; JailbreakBench's behaviours have one to three
LONG = 40  # characters; longer than the name of an attack
MANY = 4  # rows for each attack, from which on a column names attacks and does not hold their texts


@dataclass(frozen=True, slots=True)
class Roles:
    """What the columns of a row are for.

    Attributes:
        asked: the column with the prompt, "" for none.
        told: the column with the request as a judge is told it; "": the judge is told the prompt.
        conversation: whether `asked` holds turns, not one text.
    """

    asked: str = ""
    told: str = ""
    conversation: bool = False


NO_ROLES = Roles()


class FileRoles:
    """The roles of a file's columns; a row with fewer columns has the roles of the fullest row that has these, too."""

    def __init__(self, rows: Sequence[Row], table: Table, source: str, need: Need, *, benign: bool = False) -> None:
        """Decide for every set of columns that occurs in these rows.

        Args:
            rows: the rows that are asked.
            table: from `columns.named_columns`.
            source: the file, for messages.
            need: what the benchmark's rows hold.
            benign: over-refusal: where a row has a harmful request and a benign one, the benign one is asked.

        Raises:
            UserError: two columns may both be the attack; the message names them.
        """
        self._rows, self._table, self._source, self._benign = rows, table, source, benign
        keys = ("prompt", "conversation", "objective")
        self._names = {plain(name) for key in keys for name in (*table[key], *COLUMNS[key])}
        # {"prompt": ..., "intent": "malicious"}: a label, and no text for a judge
        self._names -= {plain(name) for name in PLAIN if (values := self._values(name)) and all(map(is_label, values))}
        shapes = Counter(self._shape(row) for row in rows)
        fullest = {
            shape: max((other for other in shapes if other >= shape), key=lambda each: (len(each), shapes[each]))
            for shape in shapes
        }
        decide = self._request if need == "request" else self._conversation
        made = {shape: decide(sorted(shape)) for shape in dict.fromkeys(fullest.values())}
        self._roles = {shape: made[other] for shape, other in fullest.items()}

    def of(self, row: Row) -> Roles:
        """Return the roles of a row's columns."""
        return self._roles[self._shape(row)]

    def _shape(self, row: Row) -> frozenset[str]:
        return frozenset(str(name) for name in row if plain(str(name)) in self._names)

    def _request(self, shape: list[str]) -> Roles:
        if self._table["prompt"] != COLUMNS["prompt"]:
            return self._named(shape)
        left = [name for name in shape if name not in self._objective_named(shape)]
        twins = self._listed(left, BENIGN_TWINS) if self._benign else []
        if twins:
            return Roles(twins[0], next(iter(self._objective_named(shape)), ""))
        attacks = self._different([name for name in self._listed(left, ATTACKS) if self._is_attack(name, left)])
        neutral = self._different(self._listed(left, NEUTRAL))
        if attacks:
            asked = self._one(attacks, "prompt", "an attack")
            return Roles(asked, self._told(asked, shape, neutral))
        if len(neutral) > 1:
            # "text" is often the prompt with its reply, "input" the rest of an instruction: neither is an attack
            pair = self._wrapping(neutral) if not self._listed(neutral, ("text", "input")) else None
            asked = pair[0] if pair else self._one(neutral, "", "what is asked")
            return Roles(asked, self._told(asked, shape, neutral))
        if neutral:
            told = self._told(neutral[0], shape, [])
            if not told:
                self._refuse_suffix(neutral[0])
            return Roles(neutral[0], told)
        if turns := self._turns(left):
            asked = self._one(turns, "conversation", "a conversation")
            return Roles(asked, self._told(asked, shape, []), conversation=True)
        found = self._different(self._listed(left, PLAIN)) or self._listed(left, ("behavior",))
        if not found:
            return Roles()
        asked = self._one(found, "prompt", "the request")
        self._refuse_suffix(asked)
        return Roles(asked, next(iter(self._objective_named(shape)), ""))

    def hints(self) -> list[str]:
        """Return a warning for each column that is not read and contains, in every row, the text that is asked."""
        known = {*self._names, *map(plain, SUFFIXES)}
        there = dict.fromkeys(str(name) for row in self._rows[:SHOWN] for name in row)
        found = []
        for name in (name for name in there if plain(name) not in known and not is_reply(name)):
            for asked in dict.fromkeys(own.asked for own in self._roles.values() if own.asked and not own.conversation):
                if self._wrapping((name, asked)) == (name, asked) and len(self._pairs(name, asked)) == len(self._rows):
                    found.append(
                        f"{self._source}: '{name}' contains the text of '{asked}' in every row: if it is the attack, "
                        f"ask it with --column prompt={name} --column objective={asked}"
                    )
        return found

    def _refuse_suffix(self, asked: str) -> None:
        """Refuse a plain request beside a piece of an attack: the attack itself is in no column."""
        there = dict.fromkeys(str(name) for row in self._rows[:SHOWN] for name in row)
        for name in self._listed(there, SUFFIXES):
            pairs = [(row.get(asked), row[name]) for row in self._rows[:SHOWN] if isinstance(row.get(name), str)]
            if any(piece.strip() not in str(text) for text, piece in pairs if text):
                raise UserError(
                    f"{self._source}: '{asked}' holds the plain request and '{name}' a piece of an attack, and no "
                    "column holds the whole attack: write it into a column 'prompt', or ask the plain request with "
                    f"--column prompt={asked}"
                )

    def _named(self, shape: list[str]) -> Roles:
        """Return the roles where the user names the prompt's column: the judge is told a plain request beside it."""
        asked = next(iter(self._listed(shape, self._table["prompt"])), "")
        if not asked:  # named and not there: the rows say so; `--column prompt=`: a conversation is asked
            turns = self._turns(shape) if not self._table["prompt"] else []
            return Roles(turns[0] if turns else "", self._told("", shape, []), conversation=True)
        left = [name for name in shape if name != asked]
        if plain(asked) in map(plain, PLAIN) and not self._is_named("objective"):
            return Roles(asked, next(iter(self._listed(left, PLAIN[:3])), ""))
        neutral = self._different(self._listed(left, NEUTRAL)) if plain(asked) in map(plain, ATTACKS) else []
        return Roles(asked, self._told(asked, shape, neutral))

    def _conversation(self, shape: list[str]) -> Roles:
        turns = self._turns(shape)
        asked = self._one(turns, "conversation", "a conversation") if turns else ""
        told = self._told(asked, shape, self._listed(shape, ("request",)))
        if not told and not self._is_named("objective"):
            told = next(iter(self._listed(shape, ("behavior",))), "")
        return Roles(asked, told, conversation=True)

    def _is_named(self, key: str) -> bool:
        return self._table[key] != COLUMNS[key]

    def _objective_named(self, shape: list[str]) -> list[str]:
        return self._listed(shape, self._table["objective"]) if self._is_named("objective") else []

    def _told(self, asked: str, shape: list[str], neutral: list[str]) -> str:
        """Return the plain request beside the asked column, or "" when there is none."""
        if self._is_named("objective"):
            return next(iter(self._objective_named(shape)), "")
        left = [name for name in shape if name != asked]
        found = self._listed(left, PLAIN)
        found = self._listed(found, ("objective",)) or self._different(found)
        if found:
            return self._one(found, "objective", "the plain request")
        if weak := [name for name in self._listed(left, WEAK_PLAIN) if self._is_request(name, asked)]:
            return weak[0]
        others = [name for name in neutral if name != asked]
        return self._one(others, "objective", "the plain request") if others else ""

    def _is_attack(self, name: str, left: list[str]) -> bool:
        """Whether a column holds an attack's text: "attack", "jailbreak" and "adversarial" may be a name or a flag."""
        values = self._values(name)
        if values and not any(isinstance(value, str) for value in values):
            return False
        if plain(name) not in ("attack", "jailbreak"):
            return True
        neutral = self._listed(left, NEUTRAL)
        others = [*neutral, *self._listed(left, [each for each in ATTACKS if each not in ("attack", "jailbreak")])]
        if not values:  # an empty attack is said, row by row; beside a prompt and its plain request it is a name's
            return not (others and self._listed(left, PLAIN))
        if any(self._wrapping([other, name]) == (other, name) for other in others):
            return False  # the suffix of an attack, or its template; the whole attack stands in the other column
        words = statistics.median(len(str(value).split()) for value in values)
        long = statistics.median(len(str(value)) for value in values) > LONG  # an encoded text may be one word
        names = len(self._rows) > MANY and len(set(map(str, values))) * MANY < len(values)
        return not names and (long or words > (NAME_WORDS if others else 1))

    def _is_request(self, name: str, asked: str) -> bool:
        """Whether "behavior" holds requests, and not ids or, beside a category, the short names of JailbreakBench."""
        words = [len(str(value).split()) for value in self._values(name)]
        if not words or (plain(name) == "behaviour" and max(words) == 1):
            return False  # "behaviour" is our own column for clusters, too
        if statistics.median(words) > NAME_WORDS or plain(asked) in map(plain, ATTACKS):
            return True
        if self._wrapping([asked, name]) == (asked, name):
            return True
        return not any("category" in map(plain, map(str, row)) for row in self._rows[:SHOWN])

    def _values(self, name: str) -> list[Any]:
        return [row[name] for row in self._rows[:SHOWN] if holds(row.get(name))]

    def _turns(self, shape: list[str]) -> list[str]:
        found = self._listed(shape, self._table["conversation"])
        numbers = [name for name in found if all(isinstance(row.get(name), int | float) for row in self._rows[:SHOWN])]
        return self._different([name for name in found if name not in numbers])

    def _listed(self, shape: Iterable[str], names: Iterable[str]) -> list[str]:
        """Return the columns of a shape that are in a list, in the list's order."""
        own: dict[str, str] = {}
        for name in shape:
            own.setdefault(plain(name), name)
        return [own[plain(name)] for name in dict.fromkeys(names) if plain(name) in own]

    def _pairs(self, one: str, two: str) -> list[tuple[str, str]]:
        """Return the texts of two columns in the rows where both hold something but marks."""
        pairs = [(_flat(row.get(one)), _flat(row.get(two))) for row in self._rows[:SHOWN]]
        return [(first, second) for first, second in pairs if first and second]

    def _different(self, names: list[str]) -> list[str]:
        """Return the columns without those that hold the same texts as an earlier one, or are empty in every row."""
        kept: list[str] = []
        for name in names:
            same = any((pairs := self._pairs(name, other)) and all(a == b for a, b in pairs) for other in kept)
            spare = plain(name) in ("input", "text") and not any(holds(row.get(name)) for row in self._rows)
            if not same and not (spare and len(names) > 1):
                kept.append(name)
        return kept

    def _wrapping(self, names: Sequence[str]) -> tuple[str, str] | None:
        """Return (attack, plain request) where each text of one column contains that of the other; None otherwise."""
        if len(names) != 2:
            return None
        pairs = self._pairs(names[0], names[1])
        if pairs and all(second in first and first != second for first, second in pairs):
            return names[0], names[1]
        if pairs and all(first in second and first != second for first, second in pairs):
            return names[1], names[0]
        return None

    def _one(self, names: Sequence[str], key: str, what: str) -> str:
        """Return the only name of a list.

        Raises:
            UserError: there are several, and nothing says which is meant.
        """
        if len(names) == 1:
            return names[0]
        listed = " and ".join(f"'{name}'" for name in names)
        options = f"--column {key}=NAME" if key else "--column prompt=NAME and --column objective=NAME"
        raise UserError(
            f"{self._source}: the columns {listed} may each hold {what}, and their texts differ. Say which with "
            f"{options} (prompt: what the model is asked; objective: the plain request that the judge is told)"
        )


def _flat(value: Any) -> str:
    if not holds(value):
        return ""
    return " ".join(str(value).lower().split()).strip(" .?!\"'")
