"""When a rate is withheld: one rule for every verb, `metrics.json`, comparisons and the page.

    due = Due(n=45, not_judged=171)
    due.withheld(0.05)  -> "171 of 216 not judged, more than 5%"
    due.advice()        -> ("not judged yet: run `safekey judge RUN`, it goes on",)

The base is every verdict that is due: completions × judges, without outputs that have no whole answer and without parts
that are empty. What is due and not there says nothing about the model, and it may be any part of the prompts: the first
benchmarks of a judging that was stopped, or just the answers that a guard found unsafe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safekey.evals.judges.table import EMPTY_PART, UNDECODED
from safekey.evals.request import ALLOWED_UNSCORED

NOT_JUDGED = "not judged"
"""The reason of a verdict that was never asked for, or not yet."""

SCORED, NO_PART, UNSCORED, ERROR, LOST = "scored", "no_part", "unscored", "error", "undecoded"
MISSING = (NOT_JUDGED, UNSCORED, ERROR)
"""Why a verdict that is due is not there."""
_ENDS: Mapping[str, str] = {NOT_JUDGED: NOT_JUDGED, EMPTY_PART: NO_PART, UNDECODED: LOST}
"""A verdict's reason for no value → the outcome; any other reason is a judge's failure."""
WITHOUT_ANSWER = ("truncated", "unclosed", "empty", "degenerate", "filtered", LOST, "unattacked")
"""How an output ends that has no whole answer to judge.

LOST: it is in a cipher that cannot be undone; "unattacked": an attacker model gave no whole attack."""


@dataclass(frozen=True, slots=True)
class Due:
    """The verdicts that are due for one rate.

    Attributes:
        n: those that are there.
        unscored: the judge was asked and gave no value.
        not_judged: nobody asked: a judging that was stopped, `--no-judge`, or a judge that was added later.
        error: the engine failed, so there is no output to judge.
    """

    n: int = 0
    unscored: int = 0
    not_judged: int = 0
    error: int = 0

    def __add__(self, other: Due) -> Due:
        return Due(
            self.n + other.n,
            self.unscored + other.unscored,
            self.not_judged + other.not_judged,
            self.error + other.error,
        )

    @property
    def missing(self) -> int:
        """How many are not there."""
        return self.unscored + self.not_judged + self.error

    @property
    def base(self) -> int:
        """How many there should be."""
        return self.n + self.missing

    def withheld(self, allowed: float = ALLOWED_UNSCORED) -> str:
        """Return why no rate is given; "" where one is.

        Args:
            allowed: the largest share of missing verdicts with which a rate is given; 1: always.
        """
        if self.missing > allowed * self.base:
            failed = self.unscored + self.error
            said = "not judged" if not failed else "unscored"
            if failed and self.not_judged:
                said = f"without a verdict ({self.words()})"
            return f"{self.missing} of {self.base} {said}, more than {allowed:.0%}"
        return "" if self.n else "nothing was scored"

    def words(self) -> str:
        """Return what is missing in words: "45 unscored, 126 not judged"."""
        engine = f"{self.error} engine error{'s' if self.error > 1 else ''}"
        parts = {f"{self.unscored} unscored": self.unscored, f"{self.not_judged} not judged": self.not_judged}
        return ", ".join(word for word, count in {**parts, engine: self.error}.items() if count)

    def advice(self) -> tuple[str, ...]:
        """Return what to do about each reason."""
        lines = []
        if self.not_judged:
            lines.append("not judged yet: run `safekey judge RUN`, it goes on")
        if self.unscored:
            lines.append("the judge failed: mend it and run `safekey judge RUN`, it asks again where it failed")
        if self.error:
            lines.append("the engine failed: run the same `safekey eval` command again")
        return tuple(lines)


def outcome(output: str, value: object, reason: str) -> str:
    """Return what became of one verdict: SCORED, NO_PART, one of MISSING, or how the output ended without an answer.

    Args:
        output: how the output ended.
        value: the verdict's value; None for none.
        reason: why it has none.
    """
    if output != "ok":
        return output
    if value is not None:
        return SCORED
    return _ENDS.get(reason, UNSCORED)


def due(counts: Mapping[str, int], *, answers: bool = False) -> Due:
    """Return the verdicts that are due.

    Args:
        counts: how often each `outcome` occurs.
        answers: answers are compared, and an output without a whole answer is a wrong one: it counts as there.
    """
    n = counts.get(SCORED, 0) + (sum(counts.get(name, 0) for name in WITHOUT_ANSWER) if answers else 0)
    return Due(n, counts.get(UNSCORED, 0), counts.get(NOT_JUDGED, 0), counts.get(ERROR, 0))
