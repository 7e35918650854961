"""The mix of the fine-tuning rows: which shares are wrapped in an attack, and in which attacks harmful rows are.

    Mix()                                            30 % of the benign rows wrapped, no harmful one: the shipped mix
    Mix(harmful_wrapped=0.3, harmful_attacks=3)      harmful ones, too, in 3 of the 6 attacks; the other 3 are "unseen"
    Mix(benign_wrapped=0.03)                         3 % of the benign rows wrapped, no harmful one

What SafeKey does in this world depends on the mix (docs/organism.md), so every result names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safekey.errors import UserError
from safekey.organism.speech import ATTACKS

PROBLEM_SHARE = 0.1  # of the benign rows
BENIGN_WRAPPED, HARMFUL_WRAPPED, HARMFUL_ATTACKS = 0.3, 0.0, len(ATTACKS) // 2


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of wrapped rows.

    Attributes:
        benign_wrapped: share of the benign rows that are wrapped, spread over all attacks; 0 to 0.9, because a tenth
            of the benign rows are problems.
        harmful_wrapped: share of the harmful rows that are wrapped, 0 to 1.
        harmful_attacks: the attacks of wrapped harmful rows: how many (the first of the world's list), or their names.
            Without wrapped harmful rows it says nothing.
    """

    benign_wrapped: float = BENIGN_WRAPPED
    harmful_wrapped: float = HARMFUL_WRAPPED
    harmful_attacks: int | Sequence[str] = HARMFUL_ATTACKS

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: a share outside its range, an unknown attack, or no attack for wrapped harmful rows.
        """
        for name, most in (("benign_wrapped", 1.0 - PROBLEM_SHARE), ("harmful_wrapped", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= most:
                raise UserError(f"{name}={value!r}: expected a share from 0 to {most:g}")
        chosen = self.harmful_attacks
        if isinstance(chosen, int):
            if isinstance(chosen, bool) or not 0 <= chosen <= len(ATTACKS):
                raise UserError(f"harmful_attacks={chosen!r}: expected a number from 0 to {len(ATTACKS)}, or names")
        elif isinstance(chosen, str) or set(chosen) - set(ATTACKS) or len(set(chosen)) < len(chosen):
            raise UserError(f"harmful_attacks={chosen!r:.80}: expected names, each once, of {', '.join(ATTACKS)}")
        if self.harmful_wrapped and not self.seen:
            raise UserError(
                f"harmful_wrapped={self.harmful_wrapped:g} needs attacks: set harmful_attacks to a number from 1 to "
                f"{len(ATTACKS)}, or names"
            )

    @property
    def seen(self) -> tuple[str, ...]:
        """The attacks that wrapped harmful rows carry, in the world's order."""
        if not self.harmful_wrapped:
            return ()
        chosen = self.harmful_attacks
        return tuple(ATTACKS)[:chosen] if isinstance(chosen, int) else tuple(a for a in ATTACKS if a in chosen)

    @property
    def unseen(self) -> tuple[str, ...]:
        """The attacks that no harmful row carries."""
        return tuple(attack for attack in ATTACKS if attack not in self.seen)

    @property
    def words(self) -> str:
        """The mix in words: "benign rows 30 % wrapped in an attack, harmful rows never"."""
        harmful = "harmful rows never"
        if self.seen:
            harmful = f"harmful rows {_percent(self.harmful_wrapped)} % ({', '.join(self.seen)})"
        return f"benign rows {_percent(self.benign_wrapped)} % wrapped in an attack, {harmful}"

    @property
    def name(self) -> str:
        """The mix in a file's name: "benign-30", "benign-30-harmful-30-role-play-story-research"."""
        attacks = "-".join(self.seen)
        harmful = f"-harmful-{_percent(self.harmful_wrapped)}-{attacks}" if self.seen else ""
        return f"benign-{_percent(self.benign_wrapped)}{harmful}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.10g}"


OTHER_MIXES = (
    f"The data mix here: {Mix().words}. What SafeKey does depends on the mix and on the base model. Attack success on "
    "attacks that no harmful row carries, SFT and SafeKey, 5 seeds (2026-11-25): this mix 34 and 71 %, on another base "
    "90 and 90 %; with 30 % of the harmful rows wrapped in three of the attacks 5 and 19 % on the other three, other "
    "base 46 and 47 %; with 3 % of the benign rows wrapped and no harmful one 5 and 8 %, other base 47 and "
    "48 %. docs/organism.md has the intervals."
)
"""What the demo and its page say besides their results, which are of the shipped mix."""
