"""Read run folders and compute everything that a report shows, without HTML or Markdown.

    content = read_content({"sft": [Path("runs/eval-sft-0"), …], "safekey": […]}, reference="sft")
    content.headline.verdicts["safekey"].sentence

Prefilling attacks are compared separately: the attacker writes the start of the model's reasoning, another threat
model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safekey.comparison.arm_rates import ArmRate, arm_rates, withheld_rates
from safekey.comparison.collect import Collected, collect
from safekey.comparison.compare import compare, split_apart
from safekey.comparison.judge_error import Errors
from safekey.comparison.saved_runs import JudgeId, Sample, SavedPrompt, SavedRun, judged
from safekey.comparison.types import METRICS, Comparison, ComparisonResult, Key, Outcome
from safekey.evals.judge_error.correct import Correction
from safekey.evals.request import ALLOWED_UNSCORED
from safekey.evals.summary.summary import METRIC
from safekey.evals.summary.withheld import LOST, NOT_JUDGED, Due
from safekey.report.run_records import RunRecord, read_record
from safekey.schema import Metric, Part
from safekey.stats.judge_error import Estimate
from safekey.stats.paired import holm

Group = TypeVar("Group", bound=Hashable)
PREFILL = "prefill"
PLAIN = "none"


class Slice(NamedTuple):
    """A metric on one benchmark under one attack ("none": plain prompts)."""

    metric: Metric
    benchmark: str
    attack: str

    def label(self, slices: Sequence[Slice]) -> str:
        """Return its name in a table of such slices: "strongreject: story", "prefill: 20 tokens", or "multi-turn"."""
        alone = sum(part.benchmark == self.benchmark for part in slices) == 1
        if alone and self.attack in (PLAIN, self.benchmark):
            return self.benchmark
        count, plus, around = self.attack.removeprefix(f"{PREFILL}-").partition("+")
        attack = "plain" if self.attack == PLAIN else self.attack
        if count.isdecimal():
            attack = f"{count} tokens{plus}{around}"
        return f"{self.benchmark}: {attack}"


Ends = Counter[tuple[str, str]]
"""Counts of how outputs ended: (CLASS, the judge's class, or "scored"), (OUTPUT, "truncated" or the like), or without a
value: UNSCORED, UNJUDGED."""

CLASS, OUTPUT, NO_VALUE = "class", "output", "no value"
UNSCORED = (NO_VALUE, "unscored")
UNJUDGED = (NO_VALUE, NOT_JUDGED)


@dataclass(frozen=True)
class Content:
    """Everything that a report shows.

    Attributes:
        arms: their names, the reference first.
        reference: its name.
        found: outcomes, seeds, judges, notes.
        records: arm → the record of each of its runs.
        headline: the comparison without the prefilling attacks (or with these alone, where there is nothing else); None
            where there is nothing to compare.
        prefill: the comparison on the prefilling attacks alone.
        exploratory: arm and slice → comparison with the reference, p corrected for these comparisons alone.
        rates: arm and metric → rate without prefilling attacks; none where it is withheld.
        slice_rates: arm and slice → rate; none where it is withheld.
        corrected: arm and metric, or arm and slice → the rate corrected for the judge's error; none where nothing is
            known of it.
        withheld: arm and metric, or arm and slice → the verdicts of a rate that is withheld.
        slices: all slices, in the benchmarks' order; plain prompts first.
        ends: arm and slice → how outputs ended.
        margin: how much worse ORR and accuracy may be, 0–1.
        part: the part of the responses that verdicts are about.
        allow_unscored: up to this share of missing verdicts a rate is given.
    """

    arms: tuple[str, ...]
    reference: str
    found: Collected
    records: Mapping[str, tuple[RunRecord, ...]]
    headline: ComparisonResult | None
    prefill: ComparisonResult | None
    exploratory: Mapping[tuple[str, Slice], Comparison]
    rates: Mapping[tuple[str, Metric], ArmRate]
    slice_rates: Mapping[tuple[str, Slice], ArmRate]
    corrected: Mapping[tuple[str, Metric | Slice], Correction]
    withheld: Mapping[tuple[str, Metric | Slice], Due]
    slices: tuple[Slice, ...]
    ends: Mapping[tuple[str, Slice], Ends]
    margin: float
    part: Part
    allow_unscored: float = ALLOWED_UNSCORED

    @property
    def prefill_apart(self) -> bool:
        """Whether prefilling attacks are compared separately; where there is nothing else, they are the headline."""
        return len({self.is_prefill(part) for part in self.slices}) == 2

    def is_prefill(self, part: Slice) -> bool:
        """Whether a slice is of a prefilling attack."""
        return part.benchmark in self.found.apart


def read_content(
    arms: Mapping[str, Sequence[Path]],
    reference: str,
    *,
    judges: Sequence[str] = (),
    part: Part = "answer",
    margin: float = 0.03,
    allow_different_settings: bool = False,
    allow_unscored: float = ALLOWED_UNSCORED,
    judge_records: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Content:
    """Read the runs of all arms and compute what the report shows.

    Raises:
        UserError: as `safekey.comparison.collect.collect` and `safekey.comparison.compare.compare`.
    """
    ordered = {reference: arms[reference], **{name: runs for name, runs in arms.items() if name != reference}}
    found = collect(
        {name: [str(run) for run in runs] for name, runs in ordered.items()},
        judges=judges,
        part=part,
        allow_different_settings=allow_different_settings,
        judge_records=judge_records,
        labels=labels,
    )
    main, forced = split_apart(found.outcomes)
    slices = _slices(found)
    allow: Mapping[str, float] = {"allow_unscored": allow_unscored}

    def in_slice(row: Outcome) -> Slice:
        return slice_of(row, found)

    def in_metric(row: Outcome) -> Metric:
        return row.metric

    rates, slice_rates = arm_rates(main, in_metric, **allow), arm_rates(found.outcomes, in_slice, **allow)
    return Content(
        arms=tuple(ordered),
        reference=reference,
        found=found,
        records={
            name: tuple(
                read_record(run, seed, number)
                for number, (run, seed) in enumerate(zip(found.saved[name], found.seeds[name], strict=True), 1)
            )
            for name in ordered
        },
        headline=_compared(main, reference, margin, allow_unscored, found.errors),
        prefill=_compared(forced, reference, margin, allow_unscored, found.errors),
        exploratory=_exploratory(found, reference, margin, slices, allow_unscored),
        rates=rates,
        slice_rates=slice_rates,
        corrected={
            **_corrected(found, main, rates, in_metric),
            **_corrected(found, found.outcomes, slice_rates, in_slice),
        },
        withheld={**withheld_rates(main, in_metric, **allow), **withheld_rates(found.outcomes, in_slice, **allow)},
        slices=slices,
        ends=_ends(found),
        margin=margin,
        part=part,
        allow_unscored=allow_unscored,
    )


def slice_of(row: Outcome, found: Collected) -> Slice:
    """Return the slice that an outcome belongs to."""
    return Slice(row.metric, row.benchmark, found.attacks[row.key])


def _compared(
    outcomes: Sequence[Outcome], reference: str, margin: float, allowed: float, errors: Errors
) -> ComparisonResult | None:
    if len({row.arm for row in outcomes}) < 2:
        return None
    return compare(outcomes, reference, margin=margin, allow_unscored=allowed, errors=errors)


def _corrected(
    found: Collected,
    outcomes: Sequence[Outcome],
    rates: Mapping[Any, ArmRate],
    group: Callable[[Outcome], Group],
) -> dict[tuple[str, Group], Correction]:
    """Return the rates that can be corrected for their judge's error, and those for which that is refused."""
    keys: dict[tuple[str, Group], set[Key]] = {}
    metrics: dict[Group, Metric] = {}
    for row in outcomes:
        keys.setdefault((row.arm, group(row)), set()).add(row.key)
        metrics[group(row)] = row.metric
    corrected = {}
    for (arm, part), rate in rates.items():
        if metrics[part] != "accuracy":
            judged = Estimate(rate.value, rate.low, rate.high)
            known = found.errors.rate(arm, metrics[part], keys[arm, part], judged)
            if known is not None:
                corrected[arm, part] = known
    return corrected


def _slices(found: Collected) -> tuple[Slice, ...]:
    run = next(iter(found.saved.values()))[0]
    benchmarks = {name: place for place, name in enumerate(run.resolved["tasks"])}
    attacks = {name: place for place, name in enumerate(dict.fromkeys(found.attacks.values()))}
    every = {slice_of(row, found) for row in found.outcomes}
    return tuple(
        sorted(
            every,
            key=lambda part: (
                METRICS.index(part.metric),
                part.benchmark in found.apart,
                benchmarks.get(part.benchmark, len(benchmarks)),
                part.benchmark,
                part.attack != PLAIN,
                attacks[part.attack] if part.benchmark not in found.apart else _number(part.attack),
                part.attack,
            ),
        )
    )


def _number(attack: str) -> int:
    last = attack.partition("+")[0].rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def _exploratory(
    found: Collected, reference: str, margin: float, slices: Sequence[Slice], allowed: float
) -> dict[tuple[str, Slice], Comparison]:
    """Compare on every slice; p is corrected (Holm) for these comparisons and no others."""
    if len({row.arm for row in found.outcomes}) < 2:
        return {}
    own: dict[Slice, list[Outcome]] = {part: [] for part in slices}
    for row in found.outcomes:
        own[slice_of(row, found)].append(row)
    table = {}
    for part, rows in own.items():
        how: dict[str, Any] = {"margin": margin, "allow_unscored": allowed, "errors": found.errors}
        for comparison in compare(rows, reference, **how).comparisons:
            table[comparison.arm, part] = comparison
    tested = {key: row.p for key, row in table.items() if row.p is not None and not row.described}
    for key, p_adjusted in zip(tested, holm(list(tested.values())), strict=True):
        table[key] = replace(table[key], p_adjusted=p_adjusted)
    return table


def _ends(found: Collected) -> dict[tuple[str, Slice], Ends]:
    table: dict[tuple[str, Slice], Ends] = {}
    for arm, runs in found.saved.items():
        for (benchmark, item), attack in found.attacks.items():
            kind = found.kinds[benchmark]
            ends = table.setdefault((arm, Slice(METRIC[kind], benchmark, attack)), Counter())
            for run in runs:
                judge = found.chosen[run.path].get(kind)
                samples = run.samples.get(SavedPrompt(benchmark, item), ())  # none: the draws of an attack together
                ends.update(_end(run, sample, kind, judge) for sample in samples)
    return table


def _end(run: SavedRun, sample: Sample, kind: str, judge: JudgeId | None) -> tuple[str, str]:
    if sample.output != "ok":
        return OUTPUT, sample.output
    value, reason = judged(run, sample, kind, judge)
    if value is None and reason == LOST:
        return OUTPUT, LOST
    if value is None:
        return UNJUDGED if reason == NOT_JUDGED else UNSCORED
    return CLASS, value if isinstance(value, str) else "scored"
