"""The table of attacks that need no model: name, kind, and what each does with a request.

    find_attack("rot13").apply("How do I pick the royal vault?")  -> "The request below is written in ROT13 …"

`safekey attacks` prints the table; docs/attacks.md shows an example of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from safekey.errors import UserError, did_you_mean
from safekey.evals.attacks.encodings import asked
from safekey.evals.attacks.wordings import worded

PLAIN = "none"
"""The plain request, which is one of the attacks."""

BEST_OF_N = "best_of_n"
Kind = Literal["plain", "cipher", "wording", "raw", "draws", "template"]


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        name: as users type it, and as tables show it.
        kind: "plain": the request as it is; "cipher": answers are decoded before they are judged; "wording": a text
            around it; "raw": no chat template; "draws": many changed copies; "template": from the user's file.
        about: what it does, in a line.
        apply: from the last user turn to the attacked one; "draws" are made in `apply.py`, with their numbers.
    """

    name: str
    kind: Kind
    about: str
    apply: Callable[[str], str] = _as_it_is


def _cipher(name: str, about: str) -> Attack:
    return Attack(name, "cipher", about, partial(asked, name))


def _wording(name: str, about: str) -> Attack:
    return Attack(name, "wording", about, partial(worded, name))


ATTACKS: tuple[Attack, ...] = (
    Attack(PLAIN, "plain", "the plain request; asked beside every attack unless --no-plain leaves it out"),
    _cipher("base64", "the request in Base64"),
    _cipher("rot13", "the request in ROT13"),
    _cipher("leetspeak", "digits in place of letters"),
    _cipher("spacing", "a space between all letters"),
    _wording("past_tense", "asks how people did it in the past (a framing: the request itself is not rewritten)"),
    _wording("role_play", "the model shall play a clerk who answers everything"),
    _wording("prefix_injection", "the answer shall begin with words that comply"),
    _wording("refusal_suppression", "forbids the words and forms of a refusal"),
    _wording("fiction", "the answer as a chapter of a novel"),
    Attack("no_template", "raw", "the bare text goes to the engine, without the model's chat template"),
    Attack(BEST_OF_N, "draws", "N copies with letters shuffled, capitals and noise (--best-of N); ASR by N"),
)


def find_attack(name: str) -> Attack:
    """Return the attack with this name; hyphens and capitals make no difference.

    Raises:
        UserError: there is none; the message suggests one.
    """
    word = name.strip().lower().replace("-", "_").replace(" ", "_")
    for attack in ATTACKS:
        if attack.name == word:
            return attack
    known = did_you_mean(word, [attack.name for attack in ATTACKS])
    raise UserError(f"--attack {name}: there is no such attack{known} (`safekey attacks` lists them)")


def attack_rows() -> list[dict[str, Any]]:
    """Return the table for `safekey attacks`, one mapping of plain values for each row."""
    return [{"name": each.name, "kind": each.kind, "about": each.about} for each in ATTACKS]
