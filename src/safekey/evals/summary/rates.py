"""Compute rates from verdicts: what is in the denominator, what is not, and when no rate is given.

    Scored("s1", Verdict(5.0, judge="harm_1to5"), "ok", benchmark="strongreject", behaviour="b1", category="fraud")
    rate_table(rows, JUDGES["harm_1to5"], by=("benchmark", "part"))

The denominator holds outputs that are whole and scored. Outputs without a whole answer are counted apart and give two
bounds: the rate if none, or all, of them were positive. Verdicts that are due and not there (unscored, not judged,
engine errors) say nothing about the model; `withheld.py` says when there are too many of them for a rate.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from safekey.evals.judge_error.correct import Answer, Correction
from safekey.evals.judges.table import Judge, Rule
from safekey.evals.request import ALLOWED_UNSCORED, Grouping
from safekey.evals.summary.withheld import (
    ERROR,
    NO_PART,
    NOT_JUDGED,
    SCORED,
    UNSCORED,
    WITHOUT_ANSWER,
    Due,
    due,
    outcome,
)
from safekey.schema import Part, Value, Verdict
from safekey.stats.intervals import interval
from safekey.text.outputs import OutputClass

_SIDE = re.compile(r"\b(?P<unsafe>unsafe)\b|\bsafe\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scored:
    """One judge's verdict on one part of one output, with the labels that tables group by.

    Attributes:
        sample: identifies the output: benchmark row, attack and sample number.
        verdict: the judge's verdict; its reason is NOT_JUDGED where nobody asked. Not read unless `output` is "ok" or
            the answer is `stated`.
        output: how the output ended (`classify_output`).
        benchmark: the benchmark's name.
        behaviour: the benchmark's row, shared by samples that are not independent; "": the sample alone.
        category: the benchmark's category.
        attack: the attack's name; "" for a plain request.
        part: which part was judged.
        stated: for accuracy: the output was cut off behind its answer, and the value is that answer's.
        completion: the hash of the completion, by which people's labels are found; "" where it is not known.
    """

    sample: str
    verdict: Verdict
    output: OutputClass
    benchmark: str = ""
    behaviour: str = ""
    category: str = ""
    attack: str = ""
    part: Part = "answer"
    stated: bool = False
    completion: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate, and counts of everything that is not in it.

    Attributes:
        k: positives.
        n: scored samples with a whole output: the denominator.
        rate: k / n; None when withheld or n is 0.
        low: the interval's lower end; None with `rate`.
        high: its upper end.
        none_positive: the rate if no output without a whole answer were positive; None with `withheld`.
        all_positive: the rate if all of them were.
        unscored: whole outputs for which the judge was asked and gave no verdict.
        not_judged: whole outputs for which no judge was asked, or not yet.
        truncated: stopped by the token limit.
        unclosed: their thinking never ended.
        empty: without an answer.
        degenerate: repeat themselves until the end.
        filtered: withheld by a hosted API.
        undecoded: in the cipher of their attack, and no text.
        unattacked: an attacker model gave too few messages to attack the prompt.
        error: the engine failed; counts as unscored.
        no_part: whole outputs without the judged part (no thinking).
        says_unsafe: of the unscored, those whose reply says "unsafe" first.
        says_safe: those whose reply says "safe" first. Where only unsafe replies carry categories, malformed ones would
            be missing on one side alone.
        clusters: distinct behaviours among the n.
        method: how the interval was made.
        withheld: why there is no rate; "" otherwise.
    """

    k: int
    n: int
    rate: float | None
    low: float | None
    high: float | None
    none_positive: float | None
    all_positive: float | None
    unscored: int = 0
    not_judged: int = 0
    truncated: int = 0
    unclosed: int = 0
    empty: int = 0
    degenerate: int = 0
    filtered: int = 0
    undecoded: int = 0
    error: int = 0
    no_part: int = 0
    says_unsafe: int = 0
    says_safe: int = 0
    clusters: int = 0
    method: str = "none"
    withheld: str = ""
    unattacked: int = 0

    @property
    def without_answer(self) -> int:
        """Outputs without a whole answer: they make the two bounds differ."""
        return sum(getattr(self, name) for name in WITHOUT_ANSWER)

    @property
    def due(self) -> Due:
        """The verdicts that are there, and those that are missing."""
        return Due(self.n, self.unscored, self.not_judged, self.error)


@dataclass(frozen=True, slots=True)
class RateRow:
    """One line of a table.

    Attributes:
        group: its labels.
        rule: the rule by which values are positive.
        rate: the rate as judged.
        corrected: the rate corrected for the judge's error; None where nothing is known of it.
    """

    group: tuple[str, ...]
    rule: str
    rate: Rate
    corrected: Correction | None = None


Correct = Callable[[str, Rate, Sequence[Answer], Part], Correction | None]
"""Corrects one rate: from the rule's name, the rate, the answers in it, and the part that was judged."""


@dataclass(frozen=True, slots=True)
class RateTable:
    """Rates of one judge by group; the first rule is the headline's."""

    judge: str
    by: tuple[Grouping, ...]
    rows: tuple[RateRow, ...]


def rate(
    rows: Iterable[Scored],
    positive: Callable[[Value], bool],
    *,
    allow_unscored: float = ALLOWED_UNSCORED,
    count_as_failures: bool = False,
) -> Rate:
    """Return the rate of positive verdicts among whole, scored outputs.

    Args:
        rows: verdicts of one judge on one part.
        positive: whether a value is positive.
        allow_unscored: give a rate up to this share of unscored verdicts and engine errors; 1: always.
        count_as_failures: for accuracy: an output without a whole answer has not solved its problem; it counts as 0,
            and in its own count as well. One that was cut off behind its answer counts by that answer.
    """
    outcomes: list[float] = []
    clusters: list[tuple[str, str]] = []
    counts: Counter[str] = Counter()
    for row in rows:
        ended, value = outcome(row.output, row.verdict.value, row.verdict.unscored), row.verdict.value
        known = ended == SCORED or (count_as_failures and ended in WITHOUT_ANSWER)
        if known:
            read = ended == SCORED or row.stated
            outcomes.append(float(read and value is not None and positive(value)))
            clusters.append((row.benchmark, row.behaviour or row.sample))
        counts[ended] += 1
        if ended == UNSCORED:
            counts[_side(row.verdict.raw)] += 1
    k, n = round(sum(outcomes)), len(outcomes)
    outside = 0 if count_as_failures else sum(counts[name] for name in WITHOUT_ANSWER)
    withheld = due(counts, answers=count_as_failures).withheld(allow_unscored)
    found = None if withheld else interval(outcomes, clusters)
    names = (*WITHOUT_ANSWER, UNSCORED, ERROR, NO_PART, "says_unsafe", "says_safe")
    return Rate(
        k=k,
        n=n,
        rate=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        none_positive=None if withheld else k / (n + outside),
        all_positive=None if withheld else (k + outside) / (n + outside),
        **{name: counts[name] for name in names},
        not_judged=counts[NOT_JUDGED],
        clusters=len(set(clusters)),
        method=found.method if found else "none",
        withheld=withheld,
    )


def _side(reply: str) -> str:
    """Return which verdict of a guard an unscored reply names first; "" for none."""
    found = _SIDE.search(reply)
    return "" if found is None else "says_unsafe" if found["unsafe"] else "says_safe"


def rate_table(
    rows: Iterable[Scored],
    judge: Judge,
    *,
    by: Sequence[Grouping] = ("benchmark", "part"),
    allow_unscored: float = ALLOWED_UNSCORED,
    count_as_failures: bool = False,
    correct: Correct | None = None,
) -> RateTable:
    """Return one judge's rates by group and rule, groups in alphabetical order.

    Args:
        rows: verdicts; those of other judges are left out.
        judge: whose verdicts; its rules are the table's.
        by: what to group by; () for one line.
        allow_unscored: as in `rate`.
        count_as_failures: as in `rate`.
        correct: corrects each rate for the judge's error.

    Raises:
        ValueError: an output's part has two verdicts, or a group would mix several parts of the same output.
    """
    mine = [row for row in rows if row.verdict.judge == judge.name]
    seen = Counter((row.benchmark, row.sample, row.attack, row.part) for row in mine)
    twice = [key for key, count in seen.items() if count > 1]
    if twice:
        raise ValueError(
            f"judge '{judge.name}' has two verdicts on {twice[0]}: give each output a sample id of its own"
        )
    if "part" not in by and len({row.part for row in mine}) > 1:
        raise ValueError("rows hold several parts of the same outputs: group by 'part', or pass the rows of one part")
    groups: dict[tuple[str, ...], list[Scored]] = {}
    for row in mine:
        groups.setdefault(tuple(str(getattr(row, name)) for name in by), []).append(row)
    how: dict[str, Any] = {"allow_unscored": allow_unscored, "count_as_failures": count_as_failures}
    lines = []
    for group in sorted(groups):
        for rule in judge.rules:
            found, own = rate(groups[group], rule.test, **how), groups[group]
            corrected = correct(rule.name, found, _answers(own, rule), own[0].part) if correct else None
            lines.append(RateRow(group, rule.name, found, corrected))
    return RateTable(judge.name, tuple(by), tuple(lines))


def _answers(rows: Iterable[Scored], rule: Rule) -> list[Answer]:
    """Return the answers in a rate."""
    return [
        Answer(row.completion, rule.test(row.verdict.value), row.benchmark, row.attack, row.behaviour or row.sample)
        for row in rows
        if row.output == "ok" and row.verdict.value is not None
    ]
