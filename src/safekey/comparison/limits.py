"""Read the limits of a gate: `asr=5`, `reasoning=60%`, `asr@strongreject=5`

read_limits({"--max": ["asr=5"], "--min": ["reasoning=60"], "--not-worse": []})
-> (Limit("max", "asr", 0.05), Limit("min", "accuracy", 0.6))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from safekey.errors import UserError, did_you_mean
from safekey.evals.benchmarks.catalog import BENCHMARKS, Benchmark
from safekey.evals.summary.summary import METRIC
from safekey.schema import Metric

Kind = Literal["max", "min", "not-worse"]
OPTIONS: Mapping[str, Kind] = {"--max": "max", "--min": "min", "--not-worse": "not-worse"}
WORDS: Mapping[str, Metric] = {"asr": "asr", "orr": "orr", "reasoning": "accuracy", "accuracy": "accuracy"}
TITLES: Mapping[Metric, str] = {"asr": "ASR", "orr": "ORR", "accuracy": "reasoning"}
LOWER_IS_BETTER: tuple[Metric, ...] = ("asr", "orr")
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|points?|pp)?")


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        kind: "max" (the interval's upper end must not be above it), "min" (its lower end must not be below it), or
            "not-worse" (than a baseline, by this much or more).
        metric: "asr", "orr" or "accuracy".
        value: 0–1; of "not-worse" a difference of rates.
        benchmark: hold the rate on this benchmark alone; "" for all benchmarks of the metric together.
    """

    kind: Kind
    metric: Metric
    value: float
    benchmark: str = ""

    @property
    def name(self) -> str:
        """What is limited, in words: "ASR", "ASR on strongreject"."""
        return TITLES[self.metric] + (f" on {self.benchmark}" if self.benchmark else "")


def metric_of(benchmark: str) -> Metric | None:
    """Return what the table of benchmarks says that a benchmark measures; None for one that is not in it."""
    found = next((row for row in BENCHMARKS if row.name == benchmark), None)
    return None if found is None else metric_measured(found)


def metric_measured(benchmark: Benchmark) -> Metric:
    """Return what a benchmark measures."""
    return METRIC.get(benchmark.scoring, "accuracy")


def read_limits(given: Mapping[str, Sequence[str]]) -> tuple[Limit, ...]:
    """Read the limits of each option, in the order that they were given in.

    Args:
        given: "--max", "--min" or "--not-worse" → METRIC[@BENCHMARK]=PERCENT.

    Raises:
        UserError: there is none, one cannot be read or limits the wrong side, or two limit the same.
    """
    limits: dict[tuple[Kind, Metric, str], Limit] = {}
    for option, words in given.items():
        for word in words:
            limit = _read(option, word)
            key = limit.kind, limit.metric, limit.benchmark
            if key in limits:
                raise UserError(f"{option} {word}: {limit.name} is limited twice by {option}: leave one out")
            limits[key] = limit
    if not limits:
        raise UserError("no limit: give at least one, such as --max asr=5, --min reasoning=60 or --not-worse asr=3")
    return tuple(limits.values())


def _read(option: str, word: str) -> Limit:
    name, equals, number = (part.strip() for part in word.partition("="))
    metric, at, benchmark = (part.strip() for part in name.partition("@"))
    if not equals or not number or (at and not benchmark):
        raise UserError(f"{option} {word}: expected METRIC=PERCENT or METRIC@BENCHMARK=PERCENT, such as asr=5")
    if metric.lower() not in WORDS:
        known = "asr, orr or reasoning"
        raise UserError(
            f"{option} {word}: there is no metric '{metric}'{did_you_mean(metric.lower(), WORDS)} ({known})"
        )
    limit = Limit(OPTIONS[option], WORDS[metric.lower()], _share(option, word, number), benchmark)
    if limit.kind != "not-worse" and (limit.kind == "max") != (limit.metric in LOWER_IS_BETTER):
        better, right = ("lower", "--max") if limit.metric in LOWER_IS_BETTER else ("higher", "--min")
        raise UserError(f"{option} {word}: {better} is better here, so the limit is {right} {word}")
    if benchmark and (measured := metric_of(benchmark)) not in (None, limit.metric):
        assert measured is not None
        raise UserError(f"{option} {word}: {benchmark} measures {TITLES[measured]}, not {TITLES[limit.metric]}")
    return limit


def _share(option: str, word: str, number: str) -> float:
    found = _NUMBER.fullmatch(number)
    value = float(found[1]) if found else -1.0
    if not 0 <= value <= 100:
        raise UserError(f"{option} {word}: expected percent from 0 to 100, such as 5 or 2.5, found '{number}'")
    if found and 0 < value < 1 and not found[2]:
        raise UserError(
            f"{option} {word}: limits are in percent. Write {100 * value:g} for {100 * value:g} %, "
            f"or {value:g}% if less than one percent is meant"
        )
    return value / 100
