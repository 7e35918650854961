"""Folds for cross-validation in which a behaviour is never on both sides, and labels shuffled between behaviours."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

FOLDS = 5


def folds_of(behaviours: Sequence[str], positive: Sequence[bool], seed: int = 0, most: int = FOLDS) -> dict[str, int]:
    """Return behaviour → fold; each class is dealt evenly over the folds.

    Args:
        behaviours: of each row.
        positive: the class of each row; a behaviour with both counts by the more frequent one.
        seed: decides the deal.
        most: folds, at most; fewer where a class has fewer behaviours.

    Raises:
        ValueError: a class has fewer than two behaviours.
    """
    majority = _majority(behaviours, positive)
    sides = [sorted(name for name, label in majority.items() if label == side) for side in (True, False)]
    count = min(most, *map(len, sides))
    if count < 2:
        raise ValueError("expected at least two behaviours of each class")
    draw = random.Random(f"folds {seed}")  # noqa: S311 - not a secret
    found: dict[str, int] = {}
    for side in sides:
        draw.shuffle(side)
        for name in side:
            found[name] = len(found) % count
    return found


def shuffled(behaviours: Sequence[str], positive: Sequence[bool], seed: int) -> list[bool]:
    """Return labels without a meaning: those of the behaviours, dealt to other behaviours; rows of one stay alike."""
    majority = _majority(behaviours, positive)
    labels = list(majority.values())
    random.Random(f"shuffle {seed}").shuffle(labels)  # noqa: S311 - not a secret
    dealt = dict(zip(majority, labels, strict=True))
    return [dealt[name] for name in behaviours]


def fold_for(behaviour: str, folds: dict[str, int]) -> int:
    """Return a behaviour's fold; one that no fold holds gets any, always the same."""
    count = max(folds.values()) + 1
    return folds.get(behaviour, random.Random(f"fold of {behaviour}").randrange(count))  # noqa: S311 - not a secret


def _majority(behaviours: Sequence[str], positive: Sequence[bool]) -> dict[str, bool]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, label in zip(behaviours, positive, strict=True):
        counts[name][label] += 1
    return {name: yes > no for name, (no, yes) in counts.items()}
