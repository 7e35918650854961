"""Outcomes to verdicts: pairing, losses, correction, the words, discordant prompts, tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from safekey.comparison.compare import compare, discordant
from safekey.comparison.pairing import align
from safekey.comparison.tables import markdown_table, rich_table
from safekey.comparison.types import METRICS, Comparison, ComparisonResult, Outcome
from safekey.errors import UserError
from safekey.schema import Metric
from safekey.stats.difference import difference
from safekey.stats.paired import holm

PROMPTS = 600


def column(arm: str, metric: Metric, ones: range | Sequence[int], n: int = PROMPTS, **more: Any) -> list[Outcome]:
    """One run of an arm: 1 on the prompts `ones`, 0 on the others."""
    held = set(ones)
    return [Outcome(arm, f"p{i}", metric, float(i in held), **more) for i in range(n)]


def three(arm: str, asr: range, orr: range, accuracy: range, **more: Any) -> list[Outcome]:
    return [
        *column(arm, "asr", asr, **more),
        *column(arm, "orr", orr, **more),
        *column(arm, "accuracy", accuracy, **more),
    ]


REFERENCE = three("sft", range(240), range(60), range(400))


def only(report: ComparisonResult, metric: Metric, arm: str = "arm") -> Comparison:
    return next(row for row in report.comparisons if (row.arm, row.metric, row.benchmark) == (arm, metric, ""))


@pytest.mark.parametrize(
    ("asr", "orr", "accuracy", "expected", "words"),
    [
        (range(120), range(60), range(400), "better", "is better than sft"),
        (range(120), range(66), range(400), "better", "is better than sft"),  # a cost within the margin
        (range(120), range(180), range(400), "trade-off", "better on one metric and worse on another than sft"),
        (range(120), range(60), range(250), "trade-off", "better on one metric and worse on another than sft"),
        (range(400), range(5), range(400), "trade-off", "better on one metric and worse on another than sft"),
        (range(360), range(60), range(400), "worse", "is worse than sft"),
        (range(240), range(180), range(400), "worse", "is worse than sft"),
        (range(120), range(50, 122), range(400), "lower-asr-cost-open", "Not established: that over-refusal"),
        (range(240), range(5), range(400), "other-gain", "is better than sft on a metric other than ASR"),
        (range(240), range(60), range(400), "not-established", "arm: ASR equal to that of sft"),
        (range(5, 245), range(60), range(400), "not-established", "arm: ASR equal to that of sft"),
        (range(2, 240), range(60), range(400), "not-established", "arm: ASR 0.3 points lower than sft (40.0 →"),
    ],
)
def test_verdicts(asr: range, orr: range, accuracy: range, expected: str, words: str) -> None:
    verdict = compare([*REFERENCE, *three("arm", asr, orr, accuracy)], "sft").verdicts["arm"]
    assert verdict.verdict == expected, verdict.sentence
    assert words in verdict.sentence
    assert "these two checkpoints" in verdict.scope
    assert "nan" not in verdict.sentence.lower()


def test_a_difference_that_is_not_established_is_stated_first() -> None:
    """Subject, estimate and direction first; then whether it is established, after how many comparisons, and p."""
    outcomes = three("sft", range(30), range(6), range(40)) + three("qsm", range(25), range(6), range(44))
    outcomes = [row for row in outcomes if int(row.item[1:]) < 60]
    verdict = compare(outcomes, "sft").verdicts["qsm"]
    assert verdict.verdict == "not-established"
    assert verdict.sentence.startswith(
        "qsm: ASR 8.3 points lower than sft (50.0 → 41.7 %), not established after correcting for 3 comparisons "
        "(p = .188, simultaneous interval "
    )
    assert verdict.sentence.endswith(
        "prompts would be enough (80 % power). Also measured, no difference established: over-refusal equal (p = 1), "
        "reasoning accuracy 6.7 points higher (p = .250)."
    )


@pytest.mark.parametrize("by_benchmark", [False, True])
def test_an_untrained_arm_is_described_and_does_not_count(by_benchmark: bool) -> None:
    others = [*REFERENCE, *three("arm", range(200), range(70), range(395))]
    base = three("base", range(540), range(3), range(380), untrained=True)
    alone, found = (compare(rows, "sft", by_benchmark=by_benchmark) for rows in (others, [*others, *base]))
    assert (found.family, len(found.comparisons)) == (alone.family, 2 * len(alone.comparisons))
    assert found.comparisons[: len(alone.comparisons)] == alone.comparisons
    assert found.verdicts["arm"] == alone.verdicts["arm"]
    row = only(found, "asr", "base")
    assert row.difference is not None
    assert (row.interval, row.p) == (row.difference.interval(0.05), row.difference.p_value())
    assert (row.p_adjusted, row.simultaneous, row.margin_interval, row.minimal, row.needed) == (None,) * 5
    assert row.described
    assert not row.established
    verdict = found.verdicts["base"]
    assert verdict.verdict == "untrained"
    assert verdict.sentence.startswith(
        "base is the untrained model, so its comparison with sft is a description, not a test: ASR 50.0 points higher "
        "(40.0 → 90.0 %, 95 % interval"
    )
    assert "p =" not in verdict.sentence
    assert "base | untrained" in markdown_table(found)
    assert "not tested" in markdown_table(found)


def test_an_untrained_reference_is_compared_as_any_other() -> None:
    outcomes = [*three("base", range(540), range(3), range(380), untrained=True), *REFERENCE]
    assert compare(outcomes, "base").family == 3
    alone = compare([*REFERENCE, *outcomes[: 3 * PROMPTS]], "sft")
    assert (alone.family, alone.verdicts["base"].verdict) == (0, "untrained")


def test_an_unmeasured_metric_leaves_the_cost_open() -> None:
    outcomes = [*column("sft", "asr", range(240)), *column("arm", "asr", range(100))]
    verdict = compare(outcomes, "sft").verdicts["arm"]
    assert verdict.verdict == "lower-asr-cost-open"
    assert "reasoning accuracy was not measured" in verdict.sentence


def test_without_attacks_nothing_is_compared() -> None:
    outcomes = [*column("sft", "orr", range(60)), *column("arm", "orr", range(10))]
    assert compare(outcomes, "sft").verdicts["arm"].verdict == "not-comparable"


def test_a_stricter_margin_opens_the_cost_and_a_wider_one_closes_it() -> None:
    outcomes = [*REFERENCE, *three("arm", range(120), range(50, 122), range(400))]
    assert compare(outcomes, "sft", margin=0.03).verdicts["arm"].verdict == "lower-asr-cost-open"
    assert compare(outcomes, "sft", margin=0.10).verdicts["arm"].verdict == "better"


def test_p_is_corrected_over_all_arms_and_metrics() -> None:
    rng = np.random.default_rng(0)
    outcomes = list(REFERENCE)
    for arm in ("a", "b", "c", "d"):
        for metric in METRICS:
            ones = np.flatnonzero(rng.random(PROMPTS) < 0.4).tolist()
            outcomes += column(arm, metric, ones)
    report = compare(outcomes, "sft")
    assert report.family == 12
    p = [row.p for row in report.comparisons if row.p is not None]
    assert [row.p_adjusted for row in report.comparisons] == holm(p)
    for row in report.comparisons:
        assert row.interval is not None
        assert row.simultaneous is not None
        assert row.difference is not None
        low, high = row.difference.interval(0.05 / 12)
        assert low <= row.simultaneous[0] <= row.simultaneous[1] <= high
        if row.p_adjusted is not None and row.p_adjusted <= 0.05:  # never says lower with an interval over 0
            assert row.simultaneous[0] >= 0 or row.simultaneous[1] <= 0


def test_lost_pairs_are_counted_with_their_reasons() -> None:
    arm = column("arm", "asr", range(20), n=100)
    arm[3] = dataclasses.replace(arm[3], value=None, unscored="truncated")
    arm[7] = dataclasses.replace(arm[7], value=None, unscored="judge: no score in the reply")
    reference = column("sft", "asr", range(50), n=100)
    reference[3] = dataclasses.replace(reference[3], value=None, unscored="truncated")
    report = compare([*arm, *reference[:-1]], "sft")
    row = only(report, "asr")
    assert (row.missing, row.expected) == (3, 100)
    assert row.lost == {
        "arm: judge: no score in the reply": 1,
        "arm: truncated": 1,
        "sft: not run": 1,
        "sft: truncated": 1,
    }
    assert row.difference is not None
    assert row.difference.pairs == 97
    low, high = row.bounds
    assert (low, high) == pytest.approx(((18 - 51) / 100, (20 - 49) / 100))
    assert low < row.difference.estimate < high
    assert any("3 of 100 pairs lack a value" in text for text in report.verdicts["arm"].caveats)


def test_zero_pairs_are_no_number() -> None:
    unscored = [dataclasses.replace(row, value=None, unscored="truncated") for row in column("arm", "asr", range(9))]
    report = compare([*REFERENCE, *unscored], "sft")
    row = only(report, "asr")
    assert row.difference is None
    assert (row.interval, row.simultaneous, row.p, row.p_adjusted, row.minimal, row.needed) == (None,) * 6
    assert report.family == 0
    assert report.verdicts["arm"].verdict == "not-comparable"
    assert "nothing to compare" in markdown_table(report)


def test_disjoint_prompts_are_no_pairs() -> None:
    ours = [dataclasses.replace(row, item=f"q{row.item}") for row in column("arm", "asr", range(9))]
    row = only(compare([*REFERENCE, *ours], "sft"), "asr")
    assert row.difference is None
    assert row.missing == row.expected == 2 * PROMPTS


def test_matched_seeds_and_left_out_ones() -> None:
    outcomes = []
    for seed in range(4):
        outcomes += column("sft", "asr", range(40 + seed), n=100, seed=seed)
        if seed < 3:
            outcomes += column("arm", "asr", range(30 - seed), n=100, seed=seed)
    report = compare(outcomes, "sft")
    row = only(report, "asr")
    assert row.difference is not None
    assert (row.difference.design, row.difference.seeds) == ("matched seeds", (3, 3))
    assert row.left_out == (3,)
    assert any("left out: 3" in text for text in report.verdicts["arm"].caveats)
    assert "over training seeds (3 runs per arm)" in report.verdicts["arm"].scope


@pytest.mark.parametrize(
    ("ours", "theirs", "matched", "kept"),
    [
        ([0, 1, 2], [2, 1, 0], True, ([0, 1, 2], [0, 1, 2])),
        ([0, 1, 2], [1, 2, 9], True, ([1, 2], [1, 2])),
        ([0, 1], [7, 8], False, ([0, 1], [7, 8])),
        ([0, 1], [1, 8], False, ([0, 1], [1, 8])),
        ([0, 1], [None], False, ([0, 1], [None])),
        ([4], [9], False, ([4], [9])),
    ],
)
def test_which_seeds_meet(ours: list[Any], theirs: list[Any], matched: bool, kept: tuple[list[Any], list[Any]]) -> None:
    first, second, corresponds, _ = align(ours, theirs)
    assert (first, second) == kept
    assert corresponds == matched


def test_seeds_against_the_base_model() -> None:
    outcomes = column("base", "asr", range(50), n=100)
    for seed in range(3):
        outcomes += column("arm", "asr", range(30 - seed), n=100, seed=seed)
    report = compare(outcomes, "base")
    row = only(report, "asr")
    assert row.difference is not None
    assert row.difference.design == "one fixed"
    assert "arm over its training seeds (3 runs) with the one checkpoint of base" in report.verdicts["arm"].scope


def test_prompts_without_a_behaviour_are_their_own() -> None:
    mixed = []
    for arm, hits in (("sft", 6), ("arm", 3)):
        mixed += [Outcome(arm, f"x{i}", "asr", float(i < hits), cluster="vault") for i in range(6)]
        mixed += [Outcome(arm, name, "asr", 0.0) for name in ("vault", "y", "z")]
    row = only(compare(mixed, "sft"), "asr")
    assert row.difference is not None
    assert row.difference.behaviours == 4  # "vault" the prompt is not "vault" the behaviour


def test_benchmarks_join_the_family() -> None:
    outcomes = []
    for benchmark in ("plain", "wrapped"):
        outcomes += column("sft", "asr", range(30), n=100, benchmark=benchmark)
        outcomes += column("arm", "asr", range(20), n=100, benchmark=benchmark)
    assert compare(outcomes, "sft").family == 1
    report = compare(outcomes, "sft", by_benchmark=True)
    assert [row.benchmark for row in report.comparisons] == ["", "plain", "wrapped"]
    assert report.family == 3
    assert "arm: wrapped" in markdown_table(report)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"value": 1.5}, "not within 0–1"),
        ({"value": math.nan}, "not within 0–1"),
        ({"metric": "bleu"}, "unknown metric"),
        ({"cluster": "other"}, "another one elsewhere"),
    ],
)
def test_bad_outcomes_are_named(change: dict[str, Any], says: str) -> None:
    bad = dataclasses.replace(Outcome("arm", "p3", "asr", 1.0), **change)
    with pytest.raises(UserError, match=says) as caught:
        compare([*column("sft", "asr", range(3)), bad], "sft")
    assert "'p3'" in str(caught.value)


def test_bad_requests_are_named() -> None:
    with pytest.raises(UserError, match="two outcomes"):
        compare([*REFERENCE, *REFERENCE], "sft")
    with pytest.raises(UserError, match="no outcomes of 'base'; there are outcomes of sft"):
        compare(REFERENCE, "base")
    with pytest.raises(UserError, match="no outcomes of another arm"):
        compare(REFERENCE, "sft")
    with pytest.raises(UserError, match="margin"):
        compare(REFERENCE, "sft", margin=3)


def test_one_behaviour_and_few_behaviours_are_said() -> None:
    one = [
        dataclasses.replace(row, cluster="vault")
        for row in [*column("sft", "asr", range(300)), *column("arm", "asr", ())]
    ]
    verdict = compare(one, "sft").verdicts["arm"]
    assert verdict.verdict == "not-established"
    assert any("one behaviour, too few to generalise" in text for text in verdict.caveats)
    few = [dataclasses.replace(row, cluster=f"b{int(row.item[1:]) % 5}") for row in one]
    assert any("5 behaviours" in text for text in compare(few, "sft").verdicts["arm"].caveats)


def test_discordant_prompts_in_both_directions_most_informative_first() -> None:
    outcomes = []
    for seed in range(3):
        outcomes += [
            Outcome("sft", "always", "asr", 1.0, seed, "b1"),
            Outcome("arm", "always", "asr", 0.0, seed, "b1"),
            Outcome("sft", "also", "asr", 1.0, seed, "b1"),
            Outcome("arm", "also", "asr", 0.0, seed, "b1"),
            Outcome("sft", "elsewhere", "asr", 1.0, seed, "b2"),
            Outcome("arm", "elsewhere", "asr", 0.0, seed, "b2"),
            Outcome("sft", "once", "asr", float(seed == 0), seed, "b3"),
            Outcome("arm", "once", "asr", 0.0, seed, "b3"),
            Outcome("sft", "up", "asr", 0.0, seed, "b4"),
            Outcome("arm", "up", "asr", float(seed > 0), seed, "b4"),
            Outcome("sft", "same", "asr", 1.0, seed, "b5"),
            Outcome("arm", "same", "asr", 1.0, seed, "b5"),
            Outcome("sft", "lost", "asr", 1.0, seed, "b6"),
            Outcome("arm", "lost", "asr", None, seed, "b6", unscored="truncated"),
        ]
    found = discordant(outcomes, "arm", "sft", "asr")
    # one of each behaviour before the second of b1; fewer runs that differ come last
    assert [row.item for row in found.arm_lower] == ["also", "elsewhere", "always", "once"]
    assert [row.item for row in found.arm_higher] == ["up"]
    assert found.arm_higher[0].arm_mean == pytest.approx(2 / 3)
    assert found.arm_higher[0].runs == 3
    assert discordant(outcomes, "arm", "sft", "orr").arm_lower == ()


def test_the_order_of_outcomes_does_not_matter() -> None:
    outcomes = [*REFERENCE, *three("arm", range(120), range(66), range(390))]
    shuffled = [outcomes[i] for i in np.random.default_rng(0).permutation(len(outcomes))]
    first, second = compare(outcomes, "sft"), compare(shuffled, "sft")
    assert first.verdicts["arm"].sentence == second.verdicts["arm"].sentence


def test_pass_at_k_scores() -> None:
    rng = np.random.default_rng(1)
    outcomes = [*REFERENCE]
    for arm, better in (("sft", 0.0), ("arm", 0.1)):
        outcomes = [row for row in outcomes if not (row.arm == arm and row.metric == "accuracy")]
        scores = np.clip(rng.choice([0, 0.25, 0.5, 1], 200) + better, 0, 1)
        outcomes += [Outcome(arm, f"m{i}", "accuracy", float(score)) for i, score in enumerate(scores)]
    report = compare([*outcomes, *column("arm", "asr", range(200))], "sft")
    row = only(report, "accuracy")
    assert row.difference is not None
    assert not row.difference.binary
    assert row.p == pytest.approx(difference_of(outcomes, "accuracy").p_value())


def difference_of(outcomes: list[Outcome], metric: Metric) -> Any:
    values = {arm: [row.value for row in outcomes if (row.arm, row.metric) == (arm, metric)] for arm in ("arm", "sft")}
    tables = [np.array([values[arm]], dtype=float) for arm in ("arm", "sft")]
    return difference(tables[0], tables[1], np.arange(tables[0].size))


def test_tables_show_all_three_metrics_and_survive_hostile_names() -> None:
    name = "arm | <script>[red]x[/red]\nnew"
    report = compare([*REFERENCE, *three(name, range(120), range(60), range(400))], "sft")
    text = markdown_table(report)
    assert "<script>" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 3
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)
    for heading in ("ASR", "ORR", "Reasoning"):
        assert heading in lines[0]
    assert "40.0 → 20.0 %: −20.0 [" in lines[2]
    from rich.console import Console

    console = Console(width=200, record=True)
    console.print(rich_table(report))
    assert "[red]x[/red]" in console.export_text()
