"""Folds for cross-validation in which a behaviour is never on both sides, and labels shuffled between behaviours."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

FOLDS = 5


def folds_of(behaviours: Sequence[str], positive: Sequence[bool], seed: int = 0, most: int = FOLDS) -> dict[str, int]:
    """Return behaviour → fold, dealt so that every fold has both classes, each about as often as the others.

    Args:
        behaviours: of each row.
        positive: the class of each row; a behaviour may have both.
        seed: decides the deal.
        most: folds, at most; fewer where a class occurs in fewer behaviours.

    Raises:
        ValueError: a class occurs in fewer than two behaviours.
    """
    counts = _counts(behaviours, positive)
    count = min(most, sum(no > 0 for no, _ in counts.values()), sum(yes > 0 for _, yes in counts.values()))
    if count < 2:
        raise ValueError("expected each class in at least two behaviours")
    names = sorted(counts)
    random.Random(f"folds {seed}").shuffle(names)  # noqa: S311 - not a secret
    names.sort(key=lambda name: counts[name][1] / sum(counts[name]))  # stable: chance decides among equals
    return {name: place % count for place, name in enumerate(names)}


def shuffled(behaviours: Sequence[str], positive: Sequence[bool], seed: int) -> list[bool]:
    """Return labels without a meaning: each behaviour gets another's share of positive rows.

    Rows of a behaviour stay alike where those of the other are; else the share is dealt to its rows by chance. So there
    is a control also where every behaviour has rows of both classes, as in pairs of requests.
    """
    counts = _counts(behaviours, positive)
    shares = [yes / (no + yes) for no, yes in counts.values()]
    draw = random.Random(f"shuffle {seed}")  # noqa: S311 - not a secret
    draw.shuffle(shares)
    dealt: dict[str, list[bool]] = {}
    for name, share in zip(counts, shares, strict=True):
        rows = sum(counts[name])
        whole, rest = divmod(share * rows, 1)
        yes = int(whole) + (draw.random() < rest)
        dealt[name] = [True] * yes + [False] * (rows - yes)
        draw.shuffle(dealt[name])
    return [dealt[name].pop() for name in behaviours]


def fold_for(behaviour: str, folds: dict[str, int]) -> int:
    """Return a behaviour's fold; one that no fold holds gets any, always the same."""
    count = max(folds.values()) + 1
    return folds.get(behaviour, random.Random(f"fold of {behaviour}").randrange(count))  # noqa: S311 - not a secret


def _counts(behaviours: Sequence[str], positive: Sequence[bool]) -> dict[str, list[int]]:
    """Return behaviour → rows of the negative and of the positive class."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, label in zip(behaviours, positive, strict=True):
        counts[name][label] += 1
    return dict(counts)
