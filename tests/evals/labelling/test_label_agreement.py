"""How far raters agree, with an interval."""

from __future__ import annotations

import pytest

from safekey.evals.labelling.agreement import agreements
from safekey.evals.labelling.wording import agreement_lines, differing_lines
from safekey.stats.two_raters import alpha


def rows(rater: str, labels: str, requests: list[str] | None = None) -> list[dict[str, object]]:
    """One row for each sign: 1, 0, "s" (skipped), "." (not seen)."""
    return [
        {"rater": rater, "completion": f"c{place}", "id": f"id-{place}",
         "request": requests[place] if requests else f"r{place}", "label": None if sign == "s" else int(sign)}
        for place, sign in enumerate(labels) if sign != "."
    ]  # fmt: skip


def test_counts_and_differences() -> None:
    (pair,) = agreements([*rows("ben", "1100s1."), *rows("ann", "10101.1")])
    assert (pair.first, pair.second, pair.both, pair.equal) == ("ann", "ben", 4, 2)
    assert pair.counts == {"1,1": 1, "1,0": 1, "0,1": 1, "0,0": 1}
    assert pair.differing == ("id-1", "id-2")
    assert pair.kappa == pytest.approx(0.0)
    assert pair.alpha == pytest.approx(0.125)
    assert "ann and ben: the same label on 2 of 4 answers; Cohen's κ 0.00" in agreement_lines([pair])[0]
    assert differing_lines([pair]) == ["ann and ben differ on: id-1, id-2"]


def test_one_label_only_is_no_proof_of_agreement() -> None:
    (pair,) = agreements([*rows("ann", "0000"), *rows("ben", "0000")])
    assert (pair.kappa, pair.alpha, pair.low, pair.high) == (None, None, None, None)
    assert "not defined" in agreement_lines([pair])[0]


def test_each_two_of_three_raters_and_raters_without_a_common_answer() -> None:
    pairs = agreements([*rows("a", "10.."), *rows("b", "..10"), *rows("c", "1010")])
    assert [(pair.first, pair.second, pair.both) for pair in pairs] == [("a", "b", 0), ("a", "c", 2), ("b", "c", 2)]
    assert "no answer that both have labelled" in agreement_lines(pairs)[0]
    assert agreements(rows("a", "11")) == []


def test_the_interval_is_that_of_the_requests() -> None:
    requests = ["r0", "R0 ", "r0", "r1", "r1", "r1"]  # one request in two spellings
    (pair,) = agreements([*rows("ann", "110010", requests), *rows("ben", "110110", requests)])
    found = alpha([(2, 0, 0, 1), (1, 0, 1, 1)])
    assert found is not None
    assert (pair.alpha, pair.low, pair.high) == found
    assert pair.requests == 2
    assert f"({found.low:.2f} to {found.high:.2f})" in agreement_lines([pair])[0]


def test_no_interval_without_two_requests() -> None:
    (pair,) = agreements([*rows("ann", "101", ["r"] * 3), *rows("ben", "110", ["r"] * 3)])
    assert pair.alpha is not None
    assert (pair.low, pair.high) == (None, None)
