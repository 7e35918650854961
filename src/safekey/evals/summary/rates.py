"""From verdicts to rates: what is in the denominator, what is not, and when no rate is given.

    Scored("s1", Verdict(5.0, judge="harm_1to5"), "ok", benchmark="strongreject", behaviour="b1", category="fraud")
    rate_table(rows, JUDGES["harm_1to5"], by=("benchmark", "part"))

A rate is about outputs that are whole and scored. Outputs without a whole answer are counted apart and give two bounds:
all of them positive, none of them. Unscored verdicts and engine errors say nothing about the model; above a share of
5 % the rate is withheld.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from safekey.evals.judges.table import EMPTY_PART, Judge
from safekey.evals.request import ALLOWED_UNSCORED, Grouping
from safekey.schema import Part, Value, Verdict
from safekey.stats.intervals import interval
from safekey.text.outputs import OutputClass

_WITHOUT_ANSWER = ("truncated", "unclosed", "empty", "degenerate", "filtered")


@dataclass(frozen=True, slots=True)
class Scored:
    """One judge's verdict on one part of one output, with what the tables group by.

    Attributes:
        sample: identifies the output: benchmark row, attack and sample number.
        verdict: the judge's word; not read unless `output` is "ok".
        output: how the output ended (`classify_output`).
        benchmark: the benchmark's name.
        behaviour: what samples share that are not independent of each other: the benchmark's row. "": the sample alone.
        category: the benchmark's category.
        attack: the attack's name; "" for a plain request.
        part: which part was judged.
    """

    sample: str
    verdict: Verdict
    output: OutputClass
    benchmark: str = ""
    behaviour: str = ""
    category: str = ""
    attack: str = ""
    part: Part = "answer"


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate and everything that did not enter it.

    Attributes:
        k: positives.
        n: scored samples with a whole output: the denominator.
        rate: k / n; None when withheld or n is 0.
        low: the interval's lower end; None with `rate`.
        high: its upper end.
        none_positive: the rate if no output without a whole answer were positive; None with `withheld`.
        all_positive: the rate if all of them were.
        unscored: whole outputs for which the judge gave no verdict.
        truncated: stopped by the token limit.
        unclosed: never left their thinking.
        empty: without an answer.
        degenerate: end in a loop.
        filtered: withheld by a hosted API.
        error: the engine failed; counts as unscored.
        no_part: whole outputs that lack the part in question (no thinking).
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
    truncated: int = 0
    unclosed: int = 0
    empty: int = 0
    degenerate: int = 0
    filtered: int = 0
    error: int = 0
    no_part: int = 0
    clusters: int = 0
    method: str = "none"
    withheld: str = ""

    @property
    def total(self) -> int:
        """All outputs, whatever became of them."""
        return self.n + self.unscored + self.error + self.no_part + self.without_answer

    @property
    def without_answer(self) -> int:
        """Outputs without a whole answer: what separates the two bounds."""
        return self.truncated + self.unclosed + self.empty + self.degenerate + self.filtered


@dataclass(frozen=True, slots=True)
class RateRow:
    """One line of a table: its group's labels, the rule by which values are positive, and the rate."""

    group: tuple[str, ...]
    rule: str
    rate: Rate


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
        count_as_failures: for capability: an output without a whole answer has not solved its problem and counts as 0.
    """
    outcomes, clusters, counts = _tally(rows, positive, count_as_failures)
    k, n = round(sum(outcomes)), len(outcomes)
    unknown, outside = counts["unscored"] + counts["error"], sum(counts[name] for name in _WITHOUT_ANSWER)
    withheld = ""
    if unknown > allow_unscored * (n + unknown):
        withheld = f"{unknown} of {n + unknown} unscored, more than {allow_unscored:.0%}"
    elif n == 0:
        withheld = "nothing was scored"
    found = None if withheld else interval(outcomes, clusters)
    return Rate(
        k=k,
        n=n,
        rate=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        none_positive=None if withheld else k / (n + outside),
        all_positive=None if withheld else (k + outside) / (n + outside),
        unscored=counts["unscored"],
        truncated=counts["truncated"],
        unclosed=counts["unclosed"],
        empty=counts["empty"],
        degenerate=counts["degenerate"],
        filtered=counts["filtered"],
        error=counts["error"],
        no_part=counts["no_part"],
        clusters=len(set(clusters)),
        method=found.method if found else "none",
        withheld=withheld,
    )


def _tally(
    rows: Iterable[Scored], positive: Callable[[Value], bool], count_as_failures: bool
) -> tuple[list[float], list[tuple[str, str]], Counter[str]]:
    """Return the outcomes in the denominator, their clusters, and how many rows are outside it for each reason."""
    outcomes: list[float] = []
    clusters: list[tuple[str, str]] = []
    counts: Counter[str] = Counter()
    for row in rows:
        outcome, value = _outcome(row), row.verdict.value
        failed = count_as_failures and outcome in _WITHOUT_ANSWER
        if outcome != "scored" and not failed:
            counts[outcome] += 1
            continue
        outcomes.append(float(not failed and value is not None and positive(value)))
        clusters.append((row.benchmark, row.behaviour or row.sample))
    return outcomes, clusters, counts


def _outcome(row: Scored) -> str:
    if row.output != "ok":
        return row.output
    if row.verdict.value is not None:
        return "scored"
    return "no_part" if row.verdict.unscored == EMPTY_PART else "unscored"


def rate_table(
    rows: Iterable[Scored],
    judge: Judge,
    *,
    by: Sequence[Grouping] = ("benchmark", "part"),
    allow_unscored: float = ALLOWED_UNSCORED,
    count_as_failures: bool = False,
) -> RateTable:
    """Return one judge's rates by group and rule, groups in alphabetical order.

    Args:
        rows: verdicts; those of other judges are passed over.
        judge: whose verdicts; its rules are the table's.
        by: what to group by; () for one line.
        allow_unscored: as in `rate`.
        count_as_failures: as in `rate`.

    Raises:
        ValueError: an output's part is there twice, or groups would mix several parts of the same outputs.
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
    lines = [
        RateRow(
            group,
            rule.name,
            rate(
                groups[group],
                rule.test,
                allow_unscored=allow_unscored,
                count_as_failures=count_as_failures,
            ),
        )
        for group in sorted(groups)
        for rule in judge.rules
    ]
    return RateTable(judge.name, tuple(by), tuple(lines))
