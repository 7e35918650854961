"""Intervals, rates and tables, agreement and votes, against other implementations and against definitions."""

from __future__ import annotations

import io
import math
import random
from itertools import combinations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_ai.scorer import SampleScore, Score
from inspect_ai.scorer import krippendorff_alpha as theirs
from rich.console import Console
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa, to_table
from statsmodels.stats.proportion import proportion_confint

from safekey.evals.judges.table import EMPTY_PART, JUDGES, at_least, exact
from safekey.evals.summary.rates import Rate, RateTable, Scored, rate, rate_table
from safekey.evals.summary.tables import left_out, render, render_agreement
from safekey.schema import Verdict
from safekey.stats.agreement import agreement, cohen_kappa, krippendorff_alpha, vote
from safekey.stats.intervals import design_effect, interval, mean_pass_at_k, pass_at_k, wilson_interval

HARM = JUDGES["harm_1to5"]

# --- intervals


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_is_statsmodels_and_scipys(level: float) -> None:
    for n in (1, 2, 7, 50, 1000):
        for k in {0, 1, n // 3, n - 1, n}:
            ours = wilson_interval(k, n, level)
            assert ours == pytest.approx(proportion_confint(k, n, 1 - level, method="wilson"), abs=1e-12)
            assert ours == pytest.approx(tuple(binomtest(k, n).proportion_ci(level, "wilson")), abs=1e-12)


def test_wilson_at_the_ends() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 100)[0] == 0.0
    assert wilson_interval(100, 100)[1] == 1.0
    for k, n, level in ((2, 1, 0.95), (-1, 1, 0.95), (0, 1, 1.0), (0, 1, 0.0)):
        with pytest.raises(ValueError, match="expected"):
            wilson_interval(k, n, level)


def test_the_design_effect_is_statsmodels() -> None:
    generator = np.random.default_rng(1)
    for sizes in ([3] * 10, [1, 2, 3, 4, 5, 6], [1] * 12):
        clusters = np.repeat(np.arange(len(sizes)), sizes)
        values = (generator.random(len(clusters)) < 0.3 + 0.4 * (clusters % 2)).astype(float)
        fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": clusters})
        mean, n = values.mean(), len(values)
        ours = design_effect(values.tolist(), clusters.tolist())
        assert ours * mean * (1 - mean) / n == pytest.approx(fit.bse[0] ** 2)


def test_one_sample_per_cluster_is_wilson() -> None:
    assert interval([1, 0, 0, 1], "abcd") == (0.5, *wilson_interval(2, 4), "wilson")


def test_copies_of_a_sample_add_nothing() -> None:
    """Ten identical samples of each of 40 behaviours know what 40 samples know (with t instead of the normal)."""
    values = [float(i % 4 == 0) for i in range(40)]
    once = interval(values, range(40))
    tenfold = interval([v for v in values for _ in range(10)], [i for i in range(40) for _ in range(10)])
    assert tenfold.value == once.value
    assert 1.0 <= (tenfold.high - tenfold.low) / (once.high - once.low) < 1.1


def test_edges_of_the_clustered_interval() -> None:
    assert interval([1, 1, 0], ["a"] * 3)[1:] == (0.0, 1.0, "none")
    zero = interval([0.0] * 20, [i // 5 for i in range(20)])
    assert zero.low == 0.0
    assert zero.high > wilson_interval(0, 4)[1]  # four clusters, and t instead of the normal
    one = interval([1.0] * 20, [i // 5 for i in range(20)])
    assert (one.low, one.high) == pytest.approx((1 - zero.high, 1.0))
    balanced = interval([0, 1] * 10, [i // 2 for i in range(20)])  # no variance between clusters
    assert (balanced.high - balanced.low) >= 0.99 * np.diff(wilson_interval(10, 20))[0]
    assert interval([0.5, 0.5, 0.5], "abc").high < 1.0
    for values, clusters in (([], []), ([1.0], []), ([1.5], ["a"]), ([math.nan], ["a"])):
        with pytest.raises(ValueError, match="expected"):
            interval(values, clusters)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans() | st.floats(0, 1), st.integers(0, 6)), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_intervals_hold_their_estimate(samples: list[tuple[float, int]], level: float) -> None:
    found = interval([float(v) for v, _ in samples], [c for _, c in samples], level)
    assert 0 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= 1


@pytest.mark.parametrize(
    ("groups", "size", "p", "rho"),
    [
        (15, 5, 0.3, 0.3),
        (30, 4, 0.1, 0.5),
        (60, 5, 0.5, 0.2),
        (50, 10, 0.02, 0.3),
        (10, 10, 0.1, 0.6),
        (5, 5, 0.5, 0.3),
    ],
)
def test_clustered_intervals_cover(groups: int, size: int, p: float, rho: float) -> None:
    """2,000 beta-binomial worlds each: at least about 95 % of the intervals hold the truth; the plain Wilson's do not.

    Two of the last three were among the worst of the 360 worlds that the interval was tuned on.
    """
    generator = np.random.default_rng(5)
    a, b = p * (1 / rho - 1), (1 - p) * (1 / rho - 1)
    clusters = np.repeat(np.arange(groups), size).tolist()
    covered = plain = 0
    worlds = 2000
    for _ in range(worlds):
        shares = generator.beta(a, b, groups)
        values = (generator.random((groups, size)) < shares[:, None]).astype(float).ravel()
        found = interval(values.tolist(), clusters)
        covered += found.low <= p <= found.high
        low, high = wilson_interval(int(values.sum()), values.size)
        plain += low <= p <= high
    assert covered / worlds >= 0.935
    assert plain / worlds < 0.92


# --- pass@k


@settings(deadline=None)
@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_success(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_is_unbiased() -> None:
    n, k, p = 8, 3, 0.3
    expected = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(n, c, k) for c in range(n + 1))
    assert expected == pytest.approx(1 - (1 - p) ** k)


def test_pass_at_k_at_the_edges() -> None:
    assert pass_at_k(200, 0, 100) == 0.0
    assert pass_at_k(200, 200, 1) == 1.0
    assert pass_at_k(10_000, 5000, 5000) == pytest.approx(1.0)
    for n, c, k in ((5, 6, 1), (5, -1, 1), (5, 1, 6), (5, 1, 0), (0, 0, 1)):
        with pytest.raises(ValueError, match=r"expected|needs at least"):
            pass_at_k(n, c, k)


def test_pass_at_1_of_single_samples_is_the_plain_rate() -> None:
    counts = [(1, 1)] * 30 + [(1, 0)] * 70
    assert mean_pass_at_k(counts, 1) == (0.3, *wilson_interval(30, 100), "wilson")
    several = mean_pass_at_k([(10, 5)] * 20 + [(10, 0)] * 20, 3)
    assert several.value == pytest.approx(0.5 * pass_at_k(10, 5, 3))
    assert several.low < several.value < several.high


# --- rates


def score(sample: str, value: float | str | None, **fields: object) -> Scored:
    verdict = Verdict(value, unscored="" if value is not None else "the reply is empty", judge="harm_1to5")
    return Scored(**({"sample": sample, "verdict": verdict, "output": "ok"} | fields))  # type: ignore[arg-type]


def rows(harmful: int, harmless: int, unscored: int = 0, **outputs: int) -> list[Scored]:
    values = [5.0] * harmful + [1.0] * harmless + [None] * unscored
    made = [score(f"s{i}", value) for i, value in enumerate(values)]
    # a verdict on a cut-off output must not count, whatever it says
    return made + [score(f"{o}{i}", 5.0, output=o) for o, count in outputs.items() for i in range(count)]


def test_what_is_in_a_rate_and_what_is_not() -> None:
    found = rate(rows(20, 76, 4, truncated=10, unclosed=3, empty=2, degenerate=4, filtered=1), at_least(4).test)
    low, high = wilson_interval(20, 96)
    assert (found.k, found.n, found.rate) == (20, 96, 20 / 96)
    assert (found.low, found.high, found.method, found.clusters) == (low, high, "wilson", 96)
    assert (found.none_positive, found.all_positive) == (20 / 116, 40 / 116)
    counts = (found.unscored, found.truncated, found.unclosed, found.empty, found.degenerate, found.filtered)
    assert counts == (4, 10, 3, 2, 4, 1)
    assert (found.without_answer, found.total) == (20, 120)


@pytest.mark.parametrize(("unscored", "error", "withheld"), [(5, 0, False), (6, 0, True), (3, 3, True), (0, 6, True)])
def test_a_rate_with_too_many_unscored_is_withheld(unscored: int, error: int, withheld: bool) -> None:
    sample = rows(20, 75, unscored, error=error)
    found = rate(sample, at_least(4).test)
    assert (found.rate is None, bool(found.withheld)) == (withheld, withheld)
    assert (found.low is None, found.none_positive is None) == (withheld, withheld)
    assert rate(sample, at_least(4).test, allow_unscored=1).rate == 20 / 95
    if withheld:
        assert found.withheld == "6 of 101 unscored, more than 5 %".replace(" %", "%")


def test_nothing_scored_is_no_rate() -> None:
    assert rate([], at_least(4).test).withheld == "nothing was scored"
    only = rate(rows(0, 0, truncated=3), at_least(4).test)
    assert (only.rate, only.truncated, only.withheld) == (None, 3, "nothing was scored")
    assert rate(rows(0, 0, 3), at_least(4).test, allow_unscored=1).withheld == "nothing was scored"


def test_a_missing_part_is_no_failure_of_the_judge() -> None:
    none = [score(f"t{i}", None, verdict=Verdict(None, EMPTY_PART, judge="harm_1to5")) for i in range(50)]
    found = rate([*rows(1, 9), *none], at_least(4).test)
    assert (found.rate, found.no_part, found.unscored) == (0.1, 50, 0)
    assert found.none_positive == found.all_positive == 0.1


def test_several_samples_of_a_behaviour_are_clustered() -> None:
    sample = [score(f"{b}-{i}", 5.0 if b < 5 else 1.0, behaviour=f"b{b}") for b in range(20) for i in range(4)]
    found = rate(sample, at_least(4).test)
    assert (found.k, found.n, found.clusters, found.method) == (20, 80, 20, "clustered")
    assert found.low is not None
    assert found.low < wilson_interval(20, 80)[0]


def test_for_capability_a_cut_off_output_is_a_failure() -> None:
    found = rate(rows(20, 70, truncated=10), at_least(4).test, count_as_failures=True)
    assert (found.k, found.n, found.rate, found.truncated) == (20, 100, 0.2, 0)


def varied() -> list[Scored]:
    chance = random.Random(2)
    return [
        score(
            f"{i}",
            float(chance.randint(1, 5)),
            benchmark=("jailbreakbench", "strongreject")[i % 2],
            category=("fraud", "a|b", "")[i % 3],
            attack=("", "prefill-20")[i % 2],
            part=part,
            output="truncated" if i % 10 == 0 else "ok",
        )
        for i in range(60)
        for part in ("answer", "thinking")
    ]


def test_tables_by_group_and_threshold() -> None:
    table = rate_table(varied(), HARM)
    assert [(row.group, row.rule) for row in table.rows] == [
        ((benchmark, part), f"≥ {threshold}")
        for benchmark in ("jailbreakbench", "strongreject")
        for part in ("answer", "thinking")
        for threshold in (4, 3, 5)
    ]
    for four, three, five in zip(*[iter(row.rate.k for row in table.rows)] * 3, strict=True):
        assert five <= four <= three
    by_category = rate_table([row for row in varied() if row.part == "answer"], HARM, by=("category",))
    assert sum(row.rate.total for row in by_category.rows if row.rule == "≥ 4") == 60
    (overall, *_) = rate_table([row for row in varied() if row.part == "answer"], HARM, by=()).rows
    assert (overall.group, overall.rate.total) == ((), 60)


def test_tables_refuse_to_count_twice() -> None:
    with pytest.raises(ValueError, match="two verdicts"):
        rate_table([score("a", 1.0), score("a", 5.0)], HARM)
    with pytest.raises(ValueError, match="several parts"):
        rate_table(varied(), HARM, by=("benchmark",))
    others = [score("a", 1.0, verdict=Verdict(1.0, judge="exact")), score("a", 1.0)]
    assert [row.rate.n for row in rate_table(others, HARM).rows] == [1, 1, 1]
    assert rate_table(others, exact(lambda judged: None)).rows[0].rate.k == 1


def test_refusal_tables_show_full_and_partial() -> None:
    judge = JUDGES["refusal_3class"]
    values = ["full_refusal"] * 2 + ["partial_refusal"] * 3 + ["full_compliance"] * 5
    sample = [score(f"{i}", "", verdict=Verdict(value, judge=judge.name)) for i, value in enumerate(values)]
    table = rate_table(sample, judge)
    assert {row.rule: row.rate.rate for row in table.rows} == {"full + partial": 0.5, "full": 0.2, "partial": 0.3}


def shown(table: RateTable) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render("asr", table, 200))
    return console.export_text()


def test_the_table_names_everything_that_is_in_no_rate() -> None:
    counts = {"truncated": 2, "unclosed": 1, "empty": 3, "degenerate": 1, "filtered": 1}
    (line, *_) = rate_table(rows(9, 40, 1, **counts), HARM).rows
    said = "1 unscored, 2 truncated, 1 unclosed, 3 empty, 1 degenerate, 1 filtered"
    assert left_out(line.rate) == said
    text = " ".join(shown(rate_table(rows(9, 40, 1, **counts), HARM)).split())
    assert "judged by harm_1to5" in text
    assert "9/49" in text
    assert f"{said}; with them 15.8 … 29.8 %" in text


def test_the_table_withholds() -> None:
    assert "withheld" in shown(rate_table(rows(5, 5, 5), HARM))
    assert "50.0 %" not in shown(rate_table(rows(5, 5, 5), HARM))
    assert "50.0 %" in shown(rate_table(rows(5, 5, 5), HARM, allow_unscored=1))


def test_tables_take_any_label() -> None:
    sample = [score("a", 5.0, category="[bold]x[/nope]")]
    assert "[bold]x[/nope]" in shown(rate_table(sample, HARM, by=("category",)))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ok", "truncated", "unclosed", "empty", "degenerate", "filtered", "error"]),
            st.none() | st.integers(1, 5),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_every_sample_is_counted_once(samples: list[tuple[str, int | None, int]]) -> None:
    made = [
        score(f"{i}", None if v is None else float(v), output=o, behaviour=f"{b}")
        for i, (o, v, b) in enumerate(samples)
    ]
    found = rate(made, at_least(4).test, allow_unscored=1)
    assert found.total == len(samples)
    assert isinstance(found, Rate)
    if found.rate is not None and found.none_positive is not None and found.all_positive is not None:
        assert found.none_positive <= found.rate <= found.all_positive


# --- agreement and votes

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: four observers, twelve units.
BOOK = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_books(level: str, alpha: float) -> None:
    assert krippendorff_alpha(BOOK, level) == pytest.approx(alpha, abs=0.0006)  # type: ignore[arg-type]


def test_alpha_of_two_judges_by_hand() -> None:
    """The same paper's section A: ten units, two observers, binary: α = 0.095."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    two = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha([one, two]) == pytest.approx(1 - (20 - 1) * 4 / (14 * 6))  # four mismatches, 14 zeros
    assert krippendorff_alpha([one, two]) == pytest.approx(0.095, abs=0.0006)


RATINGS = st.integers(2, 4).flatmap(
    lambda judges: st.lists(
        st.lists(st.none() | st.integers(1, 5), min_size=judges, max_size=judges), min_size=1, max_size=12
    )
)


@settings(deadline=None)
@given(RATINGS, st.sampled_from(["nominal", "ordinal", "interval"]))
def test_alpha_is_inspects(columns: list[list[int | None]], level: str) -> None:
    ours = krippendorff_alpha([list(row) for row in zip(*columns, strict=True)], level)  # type: ignore[arg-type]
    complete = [[v for v in column if v is not None] for column in columns]
    scores = [SampleScore(score=Score(value=column)) for column in complete if len(column) > 1]  # type: ignore[arg-type]
    if ours is not None:
        assert ours == pytest.approx(theirs(level)(scores), abs=1e-9)  # type: ignore[arg-type, operator]


def test_alpha_with_classes_in_order() -> None:
    order = ["full_compliance", "partial_refusal", "full_refusal"]
    words = [[order[i] for i in row] for row in ([0, 1, 2, 2, 0], [0, 2, 2, 1, 0])]
    numbers = [[0, 1, 2, 2, 0], [0, 2, 2, 1, 0]]
    for level in ("ordinal", "interval"):
        assert krippendorff_alpha(words, level, order=order) == krippendorff_alpha(numbers, level)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs numbers"):
        krippendorff_alpha(words, "ordinal")
    with pytest.raises(ValueError, match="not in the given order"):
        krippendorff_alpha(words, "ordinal", order=order[:2])


def test_agreement_that_is_not_defined() -> None:
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None
    assert krippendorff_alpha([[1, None], [None, 1]]) is None
    assert krippendorff_alpha([]) is None
    assert cohen_kappa([1, 1], [1, 1]) is None
    assert cohen_kappa([None], [1]) is None
    with pytest.raises(ValueError, match="one value or None per sample"):
        krippendorff_alpha([[1], [1, 2]])


def test_kappa_is_sklearns_and_statsmodels() -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        a = generator.integers(1, 4, 60)
        b = np.where(generator.random(60) < 0.7, a, generator.integers(1, 4, 60))
        ours = cohen_kappa(a.tolist(), b.tolist())
        assert ours == pytest.approx(cohen_kappa_score(a, b))
        table, _ = to_table(np.column_stack([a, b]))
        assert ours == pytest.approx(cohens_kappa(table).kappa)


def test_agreement_in_words() -> None:
    found = agreement([["safe", "unsafe", None, "safe"], ["safe", "safe", "safe", "safe"]])
    assert (found.samples, found.missing, found.equal) == (3, 1, 2 / 3)
    assert found.kappa == 0.0
    assert "α (nominal)" in render_agreement(found)
    assert agreement(BOOK).kappa is None


def verdicts(*values: float | str | None) -> list[Verdict]:
    return [Verdict(v, unscored="" if v is not None else "x", judge=f"j{i}") for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("how", "values", "expected"),
    [
        ("majority", (5.0,), 5.0),
        ("majority", (5.0, 5.0, 1.0), 5.0),
        ("majority", ("safe", "unsafe", "unsafe"), "unsafe"),
        ("majority", (5.0, 1.0), None),
        ("majority", (5.0, 4.0, 1.0), None),
        ("majority", (5.0, 5.0, 1.0, 1.0), None),
        ("majority", (5.0, None), None),
        ("majority", (5.0, 5.0, None), 5.0),
        ("majority", (5.0, 1.0, None), None),
        ("majority", (None, None), None),
        ("majority", (), None),
        ("any", (1.0, 5.0), 1.0),
        ("any", (1.0, 1.0), 0.0),
        ("any", (None, 5.0), 1.0),
        ("any", (None, 1.0), None),
        ("any", (), None),
        ("mean", (1.0, 4.0), 2.5),
        ("mean", (1.0, 4.0, None), 2.5),
        ("mean", (1.0, None), None),
        ("mean", ("safe", "safe"), None),
        ("mean", (1.0, 1.0, "safe"), None),
        ("mean", (), None),
    ],
)
def test_votes(how: str, values: tuple[float | str | None, ...], expected: float | str | None) -> None:
    found = vote(verdicts(*values), how, positive=at_least(4).test if how == "any" else None)  # type: ignore[arg-type]
    assert found.value == expected
    assert bool(found.unscored) == (expected is None)


def test_judges_of_several_kinds_vote_by_their_own_rules() -> None:
    rules = [HARM.positive, JUDGES["llama_guard"].positive, JUDGES["harm_rubric"].positive]
    assert vote(verdicts(5.0, "safe", 0.75), positive=rules).value == 1.0
    assert vote(verdicts(3.0, "safe", 0.75), positive=rules).value == 0.0
    assert vote(verdicts(3.0, "safe", 0.75), positive=rules).judge == "majority of j0, j1, j2"
    with pytest.raises(ValueError, match="one rule or one per judge"):
        vote(verdicts(1.0), positive=rules)
    with pytest.raises(ValueError, match="needs a rule"):
        vote(verdicts(1.0), "any")
