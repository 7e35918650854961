"""The vote and the agreement of several judges on the same part.

vote([Verdict(5.0), Verdict(4.0), Verdict(None, "judge error: TimeoutError")], positive=at_least(4).test).value  -> 1.0
krippendorff_alpha([[1, 2, None], [1, 2, 3]])  # one row per judge, one column per sample, None: unscored
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from safekey.schema import Value, Verdict

Level = Literal["nominal", "ordinal", "interval"]
Ratings = Sequence[Sequence[Value | None]]
Positive = Callable[[Value], bool]


def vote(
    verdicts: Sequence[Verdict],
    how: Literal["majority", "any", "mean"] = "majority",
    *,
    positive: Positive | Sequence[Positive] | None = None,
) -> Verdict:
    """Return the judges' common verdict.

    "majority": the value that more than half of all judges asked have given; "any": 1.0 if a judge's value is positive;
    0.0 if all have spoken and none is; "mean": the mean of the numbers, if more than half of the judges gave one. An
    unscored verdict is a missing vote, not a vote for the other side: where it could change the result, there is no
    result. Ties are unscored.

    Args:
        verdicts: one per judge, on the same part of the same output.
        how: see above.
        positive: turns values into 1.0 and 0.0 first: one rule, or one for each judge. Needed where the judges do not
            share their values, and for "any".
    """
    rules = [positive] * len(verdicts) if positive is None or callable(positive) else list(positive)
    if len(rules) != len(verdicts):
        raise ValueError(f"expected one rule or one per judge, found {len(rules)} for {len(verdicts)}")
    if how == "any" and positive is None:
        raise ValueError("a vote by 'any' needs a rule for what is positive")
    values = [
        float(rule(verdict.value)) if rule is not None else verdict.value
        for rule, verdict in zip(rules, verdicts, strict=True)
        if verdict.value is not None
    ]
    value, reason = {"majority": _majority, "any": _any, "mean": _mean}[how](values, len(verdicts))
    name = f"{how} of {', '.join(verdict.judge or '?' for verdict in verdicts)}"
    return Verdict(value, unscored="" if value is not None else reason, judge=name)


def _majority(values: Sequence[Value], asked: int) -> tuple[Value | None, str]:
    ((value, count),) = Counter(values).most_common(1) or [("", 0)]
    if 2 * count > asked:
        return value, ""
    return None, f"no majority: {len(values)} of {asked} judges gave a value, at most {count} the same"


def _any(values: Sequence[Value], asked: int) -> tuple[Value | None, str]:
    if 1.0 in values:
        return 1.0, ""
    if values and len(values) == asked:
        return 0.0, ""
    return None, f"none of {len(values)} values is positive, but {asked - len(values)} of {asked} judges gave none"


def _mean(values: Sequence[Value], asked: int) -> tuple[Value | None, str]:
    numbers = [float(value) for value in values if not isinstance(value, str)]
    if len(numbers) == len(values) and 2 * len(numbers) > asked:
        return sum(numbers) / len(numbers), ""
    return None, f"no mean: {len(numbers)} of {asked} judges gave a number"


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of judges.

    Attributes:
        level: how values differ: "nominal", "ordinal" or "interval".
        alpha: Krippendorff's α; None when it is not defined (all values equal, or no sample with two).
        kappa: Cohen's κ, for exactly two judges; None otherwise or when not defined.
        equal: share of pairs of values on the same sample that are equal; None without any.
        samples: samples with at least two values.
        missing: unscored verdicts among all.
    """

    level: Level
    alpha: float | None
    kappa: float | None
    equal: float | None
    samples: int
    missing: int


def agreement(ratings: Ratings, level: Level = "nominal", *, order: Sequence[Value] = ()) -> Agreement:
    """Return how far judges agree; `ratings` and `order` as for `krippendorff_alpha`."""
    units = _units(ratings)
    pairs = [a == b for unit in units for a, b in combinations(unit, 2)]
    return Agreement(
        level=level,
        alpha=krippendorff_alpha(ratings, level, order=order),
        kappa=cohen_kappa(ratings[0], ratings[1]) if len(ratings) == 2 else None,
        equal=sum(pairs) / len(pairs) if pairs else None,
        samples=len(units),
        missing=sum(value is None for judge in ratings for value in judge),
    )


def cohen_kappa(first: Sequence[Value | None], second: Sequence[Value | None]) -> float | None:
    """Return Cohen's κ of two judges, on the samples that both have scored.

    κ = (p_o − p_e) / (1 − p_e), with p_e from each judge's own shares. None when both gave one and the same value
    throughout, or share no sample.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    n = len(pairs)
    if not n:
        return None
    left, right = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(left[value] * right[value] for value in left) / n**2
    observed = sum(a == b for a, b in pairs) / n
    return None if chance == 1 else (observed - chance) / (1 - chance)


def krippendorff_alpha(ratings: Ratings, level: Level = "nominal", *, order: Sequence[Value] = ()) -> float | None:
    """Return Krippendorff's α = 1 − D_o / D_e; None when D_e is 0 (all values equal) or no sample has two values.

    Args:
        ratings: one row per judge, all of one length; one column per sample; None: unscored. Samples with fewer than
            two values do not count (Krippendorff 2011).
        level: the difference of two values: "nominal": 0 or 1; "ordinal": by the ranks between them, as often as they
            occur; "interval": the squared difference of numbers.
        order: for "ordinal": the values from low to high; by default they must be numbers. For "interval": their
            places in it are the numbers.

    Raises:
        ValueError: rows of several lengths; values that are no numbers, or not in `order`, where an order is needed.
    """
    units = _units(ratings)
    totals = Counter(value for unit in units for value in unit)
    n = sum(totals.values())
    values = _sorted(totals, level, order)
    places = {value: place for place, value in enumerate(values)}
    counts = [totals[value] for value in values]
    numbers = [float(order.index(v)) if order else float(v) if level == "interval" else 0.0 for v in values]

    def distance(a: int, b: int) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (numbers[a] - numbers[b]) ** 2
        a, b = min(a, b), max(a, b)
        return (sum(counts[a : b + 1]) - (counts[a] + counts[b]) / 2) ** 2 if a != b else 0.0

    observed = sum(
        2 * distance(places[a], places[b]) / (len(unit) - 1) for unit in units for a, b in combinations(unit, 2)
    )
    expected = sum(2 * counts[a] * counts[b] * distance(a, b) for a, b in combinations(range(len(values)), 2))
    return None if expected == 0 else 1 - (n - 1) * observed / expected


def _units(ratings: Ratings) -> list[list[Value]]:
    """Return the values of each sample that has at least two."""
    if len({len(judge) for judge in ratings}) > 1:
        raise ValueError("expected one value or None per sample from each judge")
    columns = [[value for value in column if value is not None] for column in zip(*ratings, strict=True)]
    return [column for column in columns if len(column) > 1]


def _sorted(found: Counter[Value], level: Level, order: Sequence[Value]) -> list[Value]:
    if order:
        unknown = [value for value in found if value not in order]
        if unknown:
            raise ValueError(f"value {unknown[0]!r} is not in the given order")
        return [value for value in order if value in found]
    if level == "nominal":
        return list(found)
    if any(isinstance(value, str) for value in found):
        raise ValueError(f"level '{level}' needs numbers, or an order of the classes")
    return sorted(found, key=float)
