"""How far raters agree: the share of equal labels, Cohen's κ, Krippendorff's α with an interval; where they differ.

    agreements(file.rows())  -> [Pair(first="ann", second="ben", both=80, equal=72, kappa=0.71, alpha=0.71, …)]

The numbers are those of the drawn sample, in which the judge's rare verdicts are many; they are not weighted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from safekey.evals.benchmarks.behaviours import same_text
from safekey.stats.agreement import cohen_kappa, krippendorff_alpha
from safekey.stats.intervals import IMAGINED, design_effect, quantile

_GRID = 20_001  # values of κ that are tried: the interval's ends are right to 0.0001


@dataclass(frozen=True, slots=True)
class Pair:
    """The agreement of two raters on the answers that both have labelled 1 or 0.

    Attributes:
        first: the first rater's name.
        second: the second's.
        both: how many answers both have labelled.
        equal: on how many of them they agree.
        counts: how often (first's label, second's label) came: "1,1", "1,0", "0,1", "0,0".
        kappa: Cohen's κ; None where both gave one and the same label throughout.
        alpha: Krippendorff's α; None likewise.
        low: the lower end of α's 95 % interval; None with `alpha`, or where all answers are of one request.
        high: its upper end.
        requests: different requests among the answers: these are the independent draws of the interval.
        differing: ids of the answers on which they differ.
    """

    first: str
    second: str
    both: int
    equal: int
    counts: Mapping[str, int]
    kappa: float | None
    alpha: float | None
    low: float | None
    high: float | None
    requests: int
    differing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"differing": list(self.differing)}


def agreements(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Return the agreement of each two raters; skipped answers do not count.

    Args:
        rows: of a label file, one for each rater and completion.
    """
    raters: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        said = raters.setdefault(str(row["rater"]), {})
        if row["label"] is not None:
            said[str(row["completion"])] = row
    return [_pair(one, other, raters[one], raters[other]) for one, other in combinations(sorted(raters), 2)]


def _pair(one: str, other: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> Pair:
    shared = sorted(left.keys() & right.keys())
    first, second = ([int(said[name]["label"]) for name in shared] for said in (left, right))
    requests = [same_text(str(left[name]["request"])) for name in shared]
    alpha = krippendorff_alpha([first, second]) if shared else None
    low, high = interval(first, second, requests) if alpha is not None else (None, None)
    pairs = list(zip(first, second, strict=True))
    return Pair(
        one, other, len(shared), sum(a == b for a, b in pairs),
        {f"{a},{b}": pairs.count((a, b)) for a in (1, 0) for b in (1, 0)},
        cohen_kappa(first, second), alpha, low, high, len(set(requests)),
        tuple(str(left[name].get("id") or name) for name, (a, b) in zip(shared, pairs, strict=True) if a != b),
    )  # fmt: skip


def interval(
    first: Sequence[int], second: Sequence[int], clusters: Sequence[str], level: float = 0.95
) -> tuple[float | None, float | None]:
    """Return the interval of Krippendorff's α for two raters and labels of 0 and 1; (None, None) where there is none.

    It holds each α that a test of goodness of fit does not refuse (after Donner & Eliasziw 1992): the expected counts
    of "both 1", "different" and "both 0" follow from the mean label and α. Where raters always agree it has a width.
    Where requests repeat, the number of answers is divided by the design effect of their agreement.

    Args:
        first: one rater's labels.
        second: the other's, on the same answers.
        clusters: the request of each answer.
        level: the interval's confidence level.
    """
    n, groups = len(first), len(set(clusters))
    mean = (sum(first) + sum(second)) / (2 * n) if n else 0.0
    if groups < 2 or mean in (0.0, 1.0):
        return None, None
    equal = [float(a == b) for a, b in zip(first, second, strict=True)]
    count = n if groups == n else n / max(1.0, design_effect(equal, clusters, IMAGINED))
    limit = quantile(1 - level, groups - 1 if groups < n else float("inf")) ** 2
    spread = mean * (1 - mean)
    found = 1 - (1 - sum(equal) / n) / (2 * spread)  # Scott's π: α without its correction for small samples
    least = max(-mean / (1 - mean), -(1 - mean) / mean)
    tried = np.linspace(least, 1.0, _GRID)[1:-1]
    expected = (mean**2 + spread * tried, 2 * spread * (1 - tried), (1 - mean) ** 2 + spread * tried)
    off = spread * (tried - found)
    distance = count * (off**2 / expected[0] + (2 * off) ** 2 / expected[1] + off**2 / expected[2])
    inside = tried[distance <= limit]
    low, high = (float(inside[0]), float(inside[-1])) if len(inside) else (found, found)
    low, high = min(low, found), max(high, found)
    return _corrected(low, n), _corrected(high, n)


def _corrected(value: float, n: int) -> float:
    """Return α for Scott's π of n answers."""
    return 1 - (1 - value) * (2 * n - 1) / (2 * n)
