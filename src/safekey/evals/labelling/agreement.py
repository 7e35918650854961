"""How far raters agree: the share of equal labels, Cohen's κ, Krippendorff's α with an interval; where they differ.

    agreements(file.rows())  -> [Pair(first="ann", second="ben", both=80, equal=72, kappa=0.71, alpha=0.71, …)]

The numbers are those of the drawn sample, in which the judge's rare verdicts are many; they are not weighted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from safekey.evals.benchmarks.behaviours import same_text
from safekey.stats.agreement import cohen_kappa
from safekey.stats.two_raters import alpha


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
    pairs = list(zip(first, second, strict=True))
    clusters: dict[str, list[int]] = {}
    for name, (a, b) in zip(requests, pairs, strict=True):
        clusters.setdefault(name, [0, 0, 0, 0])[2 * (not a) + (not b)] += 1
    found = alpha((row[0], row[1], row[2], row[3]) for row in clusters.values())
    low, high = found[1:] if found and len(clusters) > 1 else (None, None)
    return Pair(
        one, other, len(shared), sum(a == b for a, b in pairs),
        {f"{a},{b}": pairs.count((a, b)) for a in (1, 0) for b in (1, 0)},
        cohen_kappa(first, second), found and found.value, low, high, len(clusters),
        tuple(str(left[name].get("id") or name) for name, (a, b) in zip(shared, pairs, strict=True) if a != b),
    )  # fmt: skip
