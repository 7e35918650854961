"""The report's tables, which the page and the Markdown document share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safekey.comparison.arm_rates import ArmRate
from safekey.comparison.conclusion import counted
from safekey.comparison.tables import HEADINGS, caption, cell, change
from safekey.comparison.types import METRICS, Comparison, ComparisonResult
from safekey.evals.judge_error.correct import Correction
from safekey.evals.summary.withheld import Due
from safekey.report.content import CLASS, NO_VALUE, OUTPUT, UNSCORED, Content, Ends, Slice
from safekey.report.wording import verdict_title
from safekey.schema import Metric

MOST_SLICES = 200  # rows of one table
MOST_SLICE_TABLES = 60
TITLES: Mapping[Metric, str] = {"asr": "Attack success", "orr": "Over-refusal", "accuracy": "Reasoning"}
NOT_THERE = "–"
FEW_SEEDS = (
    " With few training seeds these intervals are conservative: in simulations with three seeds they covered the true "
    "rate in 97 to 99 % of cases."
)
CORRECTED = (
    " Corrected: the rate if people had judged, with an interval that holds the judge's error as well; the notes say "
    "by what it was corrected, and what is doubtful (†)."
)
_ORDER = ("unsafe", "cautious", "refused", "full_compliance", "partial_refusal", "full_refusal", "garbage")


@dataclass(frozen=True)
class Cell:
    """A table's cell: a first line, smaller ones below, and whether the difference in it is established."""

    text: str
    more: tuple[str, ...] = ()
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row is its heading.

    Attributes:
        name: for links.
        caption: its heading.
        head: the columns' headings.
        rows: the cells.
        shares: for each row the shares of its classes (0–1) for a bar; empty for none.
        note: a text below it.
        flat: whether a cell's further lines stand beside the first one.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shares: tuple[tuple[float, ...], ...] = ()
    note: str = ""
    flat: bool = False


def percent(rate: ArmRate | None, withheld: Due | None = None, corrected: Correction | None = None) -> Cell:
    """Return a rate and its interval, as judged and corrected; of a rate that is withheld, what is missing."""
    if withheld is not None:
        return Cell("withheld", (f"{withheld.words()}, of {withheld.base:,}",))
    if rate is None:
        return Cell(NOT_THERE)
    judged = f"{100 * rate.low:.1f} – {100 * rate.high:.1f}"
    return Cell(f"{100 * rate.value:.1f} %", (judged, *_truth(corrected)))


def _truth(found: Correction | None) -> tuple[str, ...]:
    """Return a corrected rate with its interval in one line; () where nothing is known of the judge's error."""
    if found is None:
        return ()
    if (made := found.estimate) is None:
        return ("corrected: refused",)
    interval = f"{100 * made.low:.1f} – {100 * made.high:.1f}"
    return (f"corrected {100 * made.value:.1f} % ({interval}){' †' if found.flags else ''}",)


def main_table(content: Content) -> Table:
    """Return each arm's verdict and its three rates, prefilling attacks left out where there is anything else."""
    only = not content.prefill_apart and any(content.is_prefill(part) for part in content.slices)
    rows = []
    for arm in content.arms:
        word = "reference" if arm == content.reference else NOT_THERE
        if content.headline and arm in content.headline.verdicts:
            word = verdict_title(content.headline, arm)
        runs = len(content.records[arm])
        rates = (
            percent(content.rates.get((arm, m)), content.withheld.get((arm, m)), content.corrected.get((arm, m)))
            for m in METRICS
        )
        rows.append((Cell(arm, (f"{runs} run{'s' if runs > 1 else ''}",)), Cell(word), *rates))
    return Table(
        "main",
        f"Rates of each arm{' under prefilling' if only else ''}, with 95 % intervals",
        ("arm", "verdict", *HEADINGS.values()),
        tuple(rows),
        note="Each interval is for one arm alone, over training seeds and behaviours. Those of two arms may overlap "
        "although their difference is established: the verdicts compare the arms prompt by prompt."
        + (FEW_SEEDS if any(len(runs) > 1 for runs in content.records.values()) else "")
        + (CORRECTED if content.corrected else ""),
    )


def difference_table(result: ComparisonResult, name: str, where: str = "") -> Table:
    """Return the differences from the reference that the verdicts rest on, or those of `where`."""
    found = {(row.arm, row.metric): row for row in result.comparisons}
    measured = [metric for metric in METRICS if any(metric == row.metric for row in result.comparisons)]
    rows = tuple(
        (Cell(arm), *(_difference_cell(found.get((arm, metric))) for metric in measured)) for arm in result.verdicts
    )
    head = (f"compared with {result.reference}", *(HEADINGS[metric] for metric in measured))
    return Table(name, f"Differences from {result.reference} {where}".strip(), head, rows, note=caption(result))


def _difference_cell(row: Comparison | None) -> Cell:
    rates, colon, rest = cell(row).partition(": ")
    return Cell(rates, (rest,), row.established) if row is not None and colon else Cell(rates)


def slice_table(content: Content, metric: Metric, prefill: bool = False) -> Table | None:
    """Return rates on every benchmark and attack, and differences from the reference, marked as exploratory."""
    slices = [part for part in content.slices if part.metric == metric and content.is_prefill(part) == prefill]
    if not slices:
        return None
    rows = []
    for part in slices[:MOST_SLICES]:
        cells = []
        for arm in content.arms:
            key = arm, part
            rate = percent(content.slice_rates.get(key), content.withheld.get(key), content.corrected.get(key))
            compared = content.exploratory.get((arm, part))
            shown = compared is not None and compared.established
            cells.append(Cell(rate.text, (*rate.more, *change(compared)), shown))
        rows.append((Cell(part.label(slices)), *cells))
    family = sum(row.p_adjusted is not None for row in content.exploratory.values())
    name = "under prefilling" if prefill else "by benchmark and attack"
    note = (
        f"Exploratory. Below each rate and its interval: difference from {content.reference} in points [95 % interval "
        f"of each alone], p corrected (Holm) for the {counted(family)} of these tables; bold with ● where p ≤ .05."
        if family
        else ""
    )
    if len(slices) > MOST_SLICES:
        note += f" The first {MOST_SLICES} of {len(slices)} rows."
    return Table(f"{metric}-{'prefill' if prefill else 'slices'}", f"{TITLES[metric]} {name}", ("", *content.arms),
                 tuple(rows), note=note)  # fmt: skip


def ends_tables(content: Content) -> list[Table]:
    """Return how outputs ended: the judge's classes, and outputs without a value, by metric and for prefilling."""
    groups = [(metric, False) for metric in METRICS] + [("asr", True)]
    tables = []
    for metric, prefill in groups:
        slices = [part for part in content.slices if part.metric == metric and content.is_prefill(part) == prefill]
        rows = [(arm, _sum(content, arm, slices)) for arm in content.arms]
        lost = any(group != CLASS for _, ends in rows for group, _ in ends)
        if slices and (metric != "accuracy" or lost):
            name = "prefilling attacks" if prefill else "all benchmarks together"
            title = f"{TITLES[metric]}: how outputs ended, {name}"
            tables.append(_ends_table(f"ends-{metric}{'-prefill' if prefill else ''}", title, rows))
    return tables


def ends_by_slice(content: Content) -> list[Table]:
    """Return how outputs ended on each benchmark and attack alone, where there is more than one."""
    if not 2 <= len(content.slices) <= MOST_SLICE_TABLES:
        return []
    return [
        _ends_table(
            f"ends-{number}",
            f"{TITLES[part.metric]}, {part.label(content.slices)}",
            [(arm, _sum(content, arm, [part])) for arm in content.arms],
        )
        for number, part in enumerate(content.slices)
    ]


def _sum(content: Content, arm: str, slices: Iterable[Slice]) -> Ends:
    return sum((content.ends.get((arm, part), Ends()) for part in slices), Ends())


def _ends_table(name: str, title: str, rows: Sequence[tuple[str, Ends]]) -> Table:
    there = {end for _, ends in rows for end in ends}
    columns = sorted(there | {UNSCORED}, key=_column_order)
    lines, shares = [], []
    for arm, ends in rows:
        total = max(ends.total(), 1)
        cells = (Cell(f"{100 * ends[end] / total:.1f} %", (f"{ends[end]:,}",)) for end in columns)
        lines.append((Cell(arm), *cells, Cell(f"{total:,}")))
        shares.append(tuple(ends[end] / total for end in columns))
    head = ("arm", *(end for _, end in columns), "outputs")
    return Table(name, title, head, tuple(lines), tuple(shares), flat=True)


def _column_order(end: tuple[str, str]) -> tuple[int, int, str]:
    group, name = end
    return (CLASS, OUTPUT, NO_VALUE).index(group), _ORDER.index(name) if name in _ORDER else len(_ORDER), name
