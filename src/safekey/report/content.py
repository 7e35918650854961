"""Everything that a report shows, read from run folders and computed once; nothing here knows HTML or Markdown.

    material = gather({"sft": [Path("runs/eval-sft-0"), …], "safekey": […]}, reference="sft")
    material.headline.verdicts["safekey"].sentence

Prefilling attacks are kept apart from the headline: who prefills holds the model's own pen, which is another threat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from safekey.comparison.arm_rates import ArmRate, arm_rates
from safekey.comparison.collect import Collected, collect, judged
from safekey.comparison.compare import APART, Comparison, Report, compare, split_apart
from safekey.comparison.pairing import METRICS, Metric, Outcome
from safekey.comparison.saved_runs import Prompt
from safekey.evals.summary.summary import METRIC
from safekey.report.run_records import RunRecord, read_record
from safekey.schema import Part
from safekey.stats.paired import holm

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
        count = self.attack.removeprefix(f"{PREFILL}-")
        attack = f"{count} tokens" if count.isdecimal() else "plain" if self.attack == PLAIN else self.attack
        return f"{self.benchmark}: {attack}"


@dataclass(frozen=True)
class Ends:
    """How the outputs of one arm ended on one slice.

    Attributes:
        classes: the judge's classes with their counts, where it gives classes; whole outputs only.
        outputs: outputs that are not whole, by how they ended ("truncated", "unclosed", …).
        unscored: whole outputs that the judge gave no value.
        total: all outputs.
    """

    classes: Mapping[str, int]
    outputs: Mapping[str, int]
    unscored: int
    total: int


@dataclass(frozen=True)
class Material:
    """What a report shows.

    Attributes:
        arms: their names, the reference first.
        reference: its name.
        found: outcomes, seeds, judges, notes.
        records: arm → what is known of each of its runs.
        headline: all but the prefilling attacks (or these, where there is nothing else) against the reference; None
            where there is nothing to compare.
        prefill: the prefilling attacks alone.
        exploratory: arm and slice → difference to the reference, p corrected over these.
        rates: arm and metric → rate without prefilling attacks.
        prefill_rates: arm and "asr" → rate under prefilling attacks.
        slice_rates: arm and slice → rate.
        slices: all slices, in the benchmarks' order; plain prompts first.
        ends: arm and slice → how outputs ended.
        margin: how much worse ORR and accuracy may be, 0–1.
        part: the part of the responses that verdicts are about.
    """

    arms: tuple[str, ...]
    reference: str
    found: Collected
    records: Mapping[str, tuple[RunRecord, ...]]
    headline: Report | None
    prefill: Report | None
    exploratory: Mapping[tuple[str, Slice], Comparison]
    rates: Mapping[tuple[str, Metric], ArmRate]
    prefill_rates: Mapping[tuple[str, Metric], ArmRate]
    slice_rates: Mapping[tuple[str, Slice], ArmRate]
    slices: tuple[Slice, ...]
    ends: Mapping[tuple[str, Slice], Ends]
    margin: float
    part: Part

    @property
    def prefill_apart(self) -> bool:
        """Whether prefilling attacks are compared on their own; where nothing else was asked, they are the headline."""
        return len({part.benchmark in APART for part in self.slices}) == 2


def gather(
    arms: Mapping[str, Sequence[Path]],
    reference: str,
    *,
    judges: Sequence[str] = (),
    part: Part = "answer",
    margin: float = 0.03,
    allow_different_settings: bool = False,
) -> Material:
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
    )
    main, forced = split_apart(found.outcomes)
    slices = _slices(found)
    return Material(
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
        headline=_compared(main, reference, margin),
        prefill=_compared(forced, reference, margin),
        exploratory=_exploratory(found, reference, margin, slices),
        rates=arm_rates(main, lambda row: row.metric),
        prefill_rates=arm_rates(forced, lambda row: row.metric),
        slice_rates=arm_rates(found.outcomes, lambda row: slice_of(row, found)),
        slices=slices,
        ends=_ends(found),
        margin=margin,
        part=part,
    )


def slice_of(row: Outcome, found: Collected) -> Slice:
    """Return the slice that an outcome belongs to."""
    return Slice(row.metric, row.benchmark, found.attacks[row.key])


def _compared(outcomes: Sequence[Outcome], reference: str, margin: float) -> Report | None:
    if len({row.arm for row in outcomes}) < 2:
        return None
    return compare(outcomes, reference, margin=margin)


def _slices(found: Collected) -> tuple[Slice, ...]:
    run = next(iter(found.saved.values()))[0]
    benchmarks = {name: place for place, name in enumerate(run.resolved["tasks"])}
    attacks = {name: place for place, name in enumerate(dict.fromkeys(found.attacks.values()))}
    every = {slice_of(row, found) for row in found.outcomes}
    order = {metric: place for place, metric in enumerate(METRICS)}
    return tuple(
        sorted(
            every,
            key=lambda part: (
                order[part.metric],
                part.benchmark == PREFILL,
                benchmarks.get(part.benchmark, len(benchmarks)),
                part.benchmark,
                part.attack != PLAIN,
                attacks[part.attack] if part.benchmark != PREFILL else _number(part.attack),
                part.attack,
            ),
        )
    )


def _number(attack: str) -> int:
    last = attack.rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def _exploratory(
    found: Collected, reference: str, margin: float, slices: Sequence[Slice]
) -> dict[tuple[str, Slice], Comparison]:
    """Compare on every slice; p is Holm's over all of them and over nothing else."""
    names = {part: f"{number}" for number, part in enumerate(slices)}
    rows = [replace(row, benchmark=names[slice_of(row, found)]) for row in found.outcomes]
    if len({row.arm for row in rows}) < 2:
        return {}
    table = {}
    for part in slices:
        own = [row for row in rows if row.benchmark == names[part]]
        for comparison in compare(own, reference, margin=margin).comparisons:
            table[comparison.arm, part] = comparison
    tested = [key for key, comparison in table.items() if comparison.p is not None]
    adjusted = holm([comparison.p for comparison in table.values() if comparison.p is not None])
    for key, p_adjusted in zip(tested, adjusted, strict=True):
        table[key] = replace(table[key], p_adjusted=p_adjusted)
    return table


def _ends(found: Collected) -> dict[tuple[str, Slice], Ends]:
    classes: dict[tuple[str, Slice], Counter[str]] = {}
    outputs: dict[tuple[str, Slice], Counter[str]] = {}
    unscored: Counter[tuple[str, Slice]] = Counter()
    totals: Counter[tuple[str, Slice]] = Counter()
    for arm, runs in found.saved.items():
        for run in runs:
            for (benchmark, item), attack in found.attacks.items():
                kind = found.kinds[benchmark]
                key = arm, Slice(METRIC[kind], benchmark, attack)
                classes.setdefault(key, Counter())
                outputs.setdefault(key, Counter())
                for sample in run.samples[Prompt(benchmark, item)]:
                    totals[key] += 1
                    if sample.output != "ok":
                        outputs[key][sample.output] += 1
                        continue
                    value, _ = judged(run, sample, kind, found.chosen[run.path].get(kind))
                    unscored[key] += value is None
                    if isinstance(value, str):
                        classes[key][value] += 1
    return {key: Ends(dict(classes[key]), dict(outputs[key]), unscored[key], totals[key]) for key in sorted(totals)}
