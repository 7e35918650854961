"""The records of a comparison: one outcome, one compared metric, one arm's verdict, and the whole result.

One outcome::

    Outcome(arm="safekey", seed=2, item="vault-07/story", metric="asr", value=1.0, cluster="vault-07", …)
    Outcome(arm="sft", seed=2, item="vault-07/story", metric="asr", value=None, unscored="truncated", …)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from safekey.evals.judge_error.correct import Correction
from safekey.evals.summary.withheld import MISSING, UNSCORED, WITHOUT_ANSWER, Due, due
from safekey.schema import Metric
from safekey.stats.difference import Difference
from safekey.stats.power import Needed

METRICS: tuple[Metric, ...] = get_args(Metric)
Seed = int | str | None
Key = tuple[str, str]  # benchmark, item
Bounds = tuple[float, float]
NO_PART = "no such part"

APART = ("prefill",)
"""Benchmarks compared separately: the attacker writes the start of the model's reasoning, another threat model."""

ALPHA = 0.05
"""The family-wise error rate, and 1 minus the level of the intervals."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one run of an arm on one prompt.

    Attributes:
        arm: the arm's name.
        item: the prompt's identifier, unique within its benchmark.
        metric: "asr" (attack success, 1 is bad), "orr" (over-refusal, 1 is bad) or "accuracy" (reasoning, 1 is good).
        value: 0–1 (a rubric's score, or a prompt's pass@k over its samples, may lie between); None: unscored.
        seed: the training run; None for a model that was not trained with seeds, such as the base.
        cluster: the behaviour that the prompt belongs to, when several attacks share one; "": a behaviour of its own.
        benchmark: the benchmark that the prompt comes from.
        unscored: why there is no value.
        untrained: whether the arm is the model that training started from: it is described, not tested.
        due: the verdicts behind it, one for each completion; None: one, which `value` and `unscored` are about.
        apart: whether the benchmark prefills: it is compared separately (`compare.split_apart`).
    """

    arm: str
    item: str
    metric: Metric
    value: float | None
    seed: Seed = None
    cluster: str = ""
    benchmark: str = ""
    unscored: str = ""
    untrained: bool = False
    due: Due | None = None
    apart: bool = False

    @property
    def verdicts(self) -> Due:
        """The verdicts that are there, and those that are missing although they are due."""
        if self.due is not None:
            return self.due
        if self.value is not None:
            return Due(n=1)
        if self.unscored in (*WITHOUT_ANSWER, NO_PART):
            return Due()
        found = {self.unscored: 1} if self.unscored in MISSING else {UNSCORED: 1}
        return due(found)

    @property
    def key(self) -> Key:
        """Benchmark and item, by which outcomes of two arms are paired."""
        return self.benchmark, self.item


def is_apart(row: Outcome) -> bool:
    """Whether an outcome is of a prefilling attack: of `APART`, or of a benchmark of the user's own of this kind."""
    return row.apart or row.benchmark in APART


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One arm and the reference on one metric.

    Attributes:
        arm: the arm's name.
        reference: the reference's name.
        metric: "asr", "orr" or "accuracy".
        benchmark: "" for all benchmarks of the metric together, else one of them.
        difference: the estimate; None when no pair could be compared, and then the next seven are None, too.
        interval: its 95 % interval, for this comparison alone.
        simultaneous: Bonferroni's interval: the intervals of all corrected comparisons hold together with 95 %. Where
            Holm's test rejects and this interval still contains 0, it ends at 0: the test establishes the sign alone.
        margin_interval: the interval whose edge is compared with the margin, corrected for the number of arms.
        p: two-sided p for "no difference", uncorrected.
        p_adjusted: Holm's, over all corrected comparisons. This and the other corrected values (`simultaneous`,
            `margin_interval`, `minimal`, `needed`) are None for an untrained arm.
        minimal: the smallest true difference found with 80 % power at the corrected level; None also when there is
            none.
        needed: the size at which the observed difference would be found with 80 % power.
        lost: pairs without a value, by side and reason; a pair that lacks both sides counts twice.
        missing: how many pairs were lost.
        expected: how many there would have been.
        bounds: the least and the greatest difference that any values in place of the missing ones would give.
        left_out: seeds that only one of the two arms has.
        withheld: why there is no difference although there are pairs: too many verdicts of a side are missing (the rule
            is `evals.summary.withheld`); "" otherwise.
        corrected: the difference corrected for the judge's error, with an interval that carries both uncertainties;
            None where nothing is known of the judge's error.
    """

    arm: str
    reference: str
    metric: Metric
    benchmark: str
    difference: Difference | None = None
    interval: Bounds | None = None
    simultaneous: Bounds | None = None
    margin_interval: Bounds | None = None
    p: float | None = None
    p_adjusted: float | None = None
    minimal: float | None = None
    needed: Needed | None = None
    lost: Mapping[str, int]
    missing: int
    expected: int
    bounds: Bounds
    left_out: tuple[Seed, ...]
    withheld: str = ""
    corrected: Correction | None = None

    @property
    def described(self) -> bool:
        """Whether the difference is described only: the arm is untrained, and no correction counts it."""
        return self.p is not None and self.p_adjusted is None

    @property
    def established(self) -> bool:
        """Whether the difference is established after correction."""
        return self.p_adjusted is not None and self.p_adjusted <= ALPHA


VerdictClass = Literal[
    "better",  # ASR lower, corrected; over-refusal and accuracy not worse by more than the margin
    "lower-asr-cost-open",  # ASR lower, but the margin is not shown to hold for both others
    "trade-off",  # one metric demonstrably better, another demonstrably worse
    "worse",  # something demonstrably worse, nothing better
    "other-gain",  # over-refusal or accuracy better, no difference in ASR established, nothing worse
    "not-established",  # no difference established at this size
    "untrained",  # the arm is the model that training started from: described, not tested
    "not-comparable",  # no pair of attack outcomes
]


@dataclass(frozen=True, slots=True)
class ArmVerdict:
    """The conclusion about one arm.

    Attributes:
        arm: the arm's name.
        reference: the reference's name.
        verdict: the class, for machines.
        sentence: the class in words, with the numbers that it rests on.
        scope: what the sentence is about: these checkpoints, or the methods over training seeds.
        caveats: what a reader should know besides: pairs lost, few behaviours, seeds left out.
    """

    arm: str
    reference: str
    verdict: VerdictClass
    sentence: str
    scope: str
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """All arms compared with one reference.

    Attributes:
        reference: its name.
        comparisons: one for each arm and metric, and for each benchmark when asked for.
        verdicts: by arm, in the arms' order.
        alpha: the family-wise error rate, and 1 − the intervals' level.
        margin: how much worse over-refusal or accuracy may be, 0–1.
        family: the number of comparisons that p was corrected for; those of an untrained arm are not among them.
    """

    reference: str
    comparisons: tuple[Comparison, ...]
    verdicts: Mapping[str, ArmVerdict]
    alpha: float
    margin: float
    family: int


@dataclass(frozen=True, slots=True)
class Discordance:
    """A prompt on which two arms differ.

    Attributes:
        item: the prompt's identifier.
        benchmark: where it comes from.
        cluster: its behaviour.
        arm_mean: the arm's outcome, averaged over its runs.
        reference_mean: the reference's.
        runs: how many pairs of runs (or runs, when seeds do not match) it was averaged over.
    """

    item: str
    benchmark: str
    cluster: str
    arm_mean: float
    reference_mean: float
    runs: int


@dataclass(frozen=True, slots=True)
class Discordances:
    """The prompts on which two arms differ, most informative first, in both directions."""

    arm_higher: tuple[Discordance, ...] = ()
    arm_lower: tuple[Discordance, ...] = ()
