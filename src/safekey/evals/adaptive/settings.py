"""Which attacks adapt, what they may spend, and the items of a benchmark that they attack.

Adaptive("http://127.0.0.1:8001/v1#attacker", budget=20).shares("crescendo")  -> (10, 10)
adaptive_items(items, ["pair"])  -> one item "vault-7@pair" for each behaviour
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from safekey.errors import UserError
from safekey.evals.benchmarks.behaviours import plain_id
from safekey.evals.benchmarks.items import Item
from safekey.schema import Message, Prompt

BRANCHES: Mapping[str, int] = {"pair": 4, "crescendo": 2}
"""The attacks, and on how many branches each works unless the user says otherwise."""

ATTACK = "adaptive"
"""The key of an item's metadata that names the attack that adapts; an `attack` alone may be a file's own word."""

TURNS, ABOUT = "turns", "adaptive"
"""The fields of a row of completions.jsonl that hold all turns, and what the attack took (without any text)."""


@dataclass(frozen=True, slots=True)
class Adaptive:
    """How the attacks that adapt work; equal for every arm that is compared.

    Attributes:
        attacker: the attacker model, as `--attacker` names it.
        budget: most calls to the target for one prompt, 1 or more.
        branches: on how many branches an attack works; None: the attack's own number.
        seed: decides what the attacker draws, together with item, branch and call.
    """

    attacker: str
    budget: int = 20
    branches: int | None = None
    seed: int = 0

    def shares(self, attack: str) -> tuple[int, ...]:
        """Return the calls to the target that each branch may make; they add up to the budget."""
        count = min(self.branches or BRANCHES[attack], self.budget)
        return tuple(self.budget * (i + 1) // count - self.budget * i // count for i in range(count))

    @property
    def most_misses(self) -> int:
        """How often the attacker may give no message for one prompt before the attack on it ends."""
        return max(5, self.budget // 2)

    def to_dict(self) -> dict[str, Any]:
        """Return every field, for the record."""
        return asdict(self)


def adaptive_items(items: Sequence[Item], attacks: Sequence[str]) -> list[Item]:
    """Return an item for each behaviour and attack, called "ID@attack"; the prompt is the plain request.

    A behaviour's plain prompt is taken where the file has one, else the request as a judge is told it.

    Raises:
        UserError: the file has a row of that id already.
    """
    chosen: dict[str, Item] = {}
    for item in items:
        known = chosen.get(item.behaviour)
        if known is None or (known.attack != "none" and item.attack == "none"):
            chosen[item.behaviour] = item
    taken = {item.id for item in items}
    made = []
    for item in chosen.values():
        name, prompt = plain_id(item.id, item.attack), item.prompt
        if item.attack != "none":
            system = tuple(turn for turn in prompt.messages if turn.role in ("system", "developer"))
            prompt = Prompt((*system, Message("user", item.request)))
        for attack in attacks:
            if (new := f"{name}@{attack}") in taken:
                raise UserError(
                    f"{item.file}: has a row '{new}' of its own, which is what --adaptive {attack} calls its own: "
                    "rename the file's row, or leave the attack out"
                )
            metadata = {**item.metadata, ATTACK: attack}
            made.append(replace(item, id=new, prompt=prompt, attack=attack, metadata=metadata))
    return made
