"""The report's tables, the same for the page and for Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safekey.comparison.arm_rates import ArmRate
from safekey.comparison.compare import Comparison, Report
from safekey.comparison.conclusion import p_text, points
from safekey.comparison.pairing import METRICS, Metric
from safekey.comparison.tables import HEADINGS, caption, cell
from safekey.report.content import PREFILL, Ends, Material, Slice
from safekey.report.wording import VERDICTS

ALPHA = 0.05
MOST_SLICES = 200  # rows of one table
MOST_SLICE_TABLES = 60
TITLES: Mapping[Metric, str] = {"asr": "Attack success", "orr": "Over-refusal", "accuracy": "Reasoning"}
NOT_THERE = "–"
FEW_SEEDS = (
    " With few training seeds these intervals are conservative: in simulations with three they held the true rate in "
    "97 to 99 % of cases."
)
_ORDER = ("unsafe", "cautious", "refused", "full_compliance", "partial_refusal", "full_refusal", "garbage")


@dataclass(frozen=True)
class Cell:
    """A table's cell: a first line, quieter ones below, and whether the difference in it is shown to be real."""

    text: str
    more: tuple[str, ...] = ()
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row is its heading.

    Attributes:
        name: for links.
        caption: what it holds.
        head: the columns' headings.
        rows: the cells.
        shares: for each row the shares of its classes (0–1) for a bar; empty for none.
        note: what to know about it.
        flat: whether quieter lines stand beside the first one.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shares: tuple[tuple[float, ...], ...] = ()
    note: str = ""
    flat: bool = False


def percent(rate: ArmRate | None) -> Cell:
    """Return a rate and its interval."""
    if rate is None:
        return Cell(NOT_THERE)
    return Cell(f"{100 * rate.value:.1f} %", (f"{100 * rate.low:.1f} – {100 * rate.high:.1f}",))


def main_table(material: Material) -> Table:
    """Return each arm's verdict and its three rates, prefilling attacks left out where there is anything else."""
    only = not material.prefill_apart and any(part.benchmark == PREFILL for part in material.slices)
    rows = []
    for arm in material.arms:
        verdict = material.headline.verdicts.get(arm) if material.headline else None
        word = "reference" if arm == material.reference else VERDICTS[verdict.verdict] if verdict else NOT_THERE
        runs = len(material.records[arm])
        rates = (percent(material.rates.get((arm, metric))) for metric in METRICS)
        rows.append((Cell(arm, (f"{runs} run{'s' if runs > 1 else ''}",)), Cell(word), *rates))
    return Table(
        "main",
        f"Rates of each arm{' under prefilling' if only else ''}, with 95 % intervals",
        ("arm", "verdict", *HEADINGS.values()),
        tuple(rows),
        note="Each interval is the arm's own, over training seeds and behaviours. Overlapping intervals do not mean "
        "“no difference”: arms answer the same prompts, and the verdicts use that."
        + (FEW_SEEDS if any(len(runs) > 1 for runs in material.records.values()) else ""),
    )


def difference_table(report: Report, name: str, where: str = "") -> Table:
    """Return the differences to the reference behind the verdicts, or those `where` else."""
    found = {(row.arm, row.metric): row for row in report.comparisons}
    measured = [metric for metric in METRICS if any(metric == row.metric for row in report.comparisons)]
    rows = tuple(
        (Cell(arm), *(_difference_cell(found.get((arm, metric))) for metric in measured)) for arm in report.verdicts
    )
    head = (f"against {report.reference}", *(HEADINGS[metric] for metric in measured))
    return Table(name, f"Differences to {report.reference} {where}".strip(), head, rows, note=caption(report))


def _difference_cell(row: Comparison | None) -> Cell:
    rates, colon, rest = cell(row).partition(": ")
    return Cell(rates, (rest,), _is_shown(row)) if colon else Cell(rates)


def slice_table(material: Material, metric: Metric, prefill: bool = False) -> Table | None:
    """Return rates on every benchmark and attack, and differences to the reference, marked as exploratory."""
    slices = [part for part in material.slices if part.metric == metric and (part.benchmark == PREFILL) == prefill]
    if not slices:
        return None
    rows = []
    for part in slices[:MOST_SLICES]:
        cells = []
        for arm in material.arms:
            rate = percent(material.slice_rates.get((arm, part)))
            compared = material.exploratory.get((arm, part))
            cells.append(Cell(rate.text, (*rate.more, *_change(compared)), _is_shown(compared)))
        rows.append((Cell(part.label(slices)), *cells))
    family = sum(row.p is not None for row in material.exploratory.values())
    name = "under prefilling" if prefill else "by benchmark and attack"
    note = (
        f"Exploratory. Below each rate and its interval: difference to {material.reference} in points [95 % interval "
        f"of each alone], p by Holm over the {family} comparisons of all such tables; bold with ● where p ≤ .05."
        if family
        else ""
    )
    if len(slices) > MOST_SLICES:
        note += f" The first {MOST_SLICES} of {len(slices)} rows."
    return Table(f"{metric}-{'prefill' if prefill else 'slices'}", f"{TITLES[metric]} {name}", ("", *material.arms),
                 tuple(rows), note=note)  # fmt: skip


def _change(row: Comparison | None) -> tuple[str, ...]:
    if row is None or row.difference is None or row.interval is None or row.p_adjusted is None:
        return ()
    low, high = row.interval
    sign = "+" if row.difference.estimate > 0 else ""
    return f"{sign}{points(row.difference.estimate)} [{points(low)}, {points(high)}]", p_text(row.p_adjusted)


def _is_shown(row: Comparison | None) -> bool:
    return row is not None and row.p_adjusted is not None and row.p_adjusted <= ALPHA


def ends_tables(material: Material) -> list[Table]:
    """Return how outputs ended: the judge's classes, and what has no value, for each metric and for prefilling."""
    groups = [(metric, False) for metric in METRICS] + [("asr", True)]
    tables = []
    for metric, prefill in groups:
        slices = [part for part in material.slices if part.metric == metric and (part.benchmark == PREFILL) == prefill]
        lost = any(_sum(material, arm, slices).outputs or _sum(material, arm, slices).unscored for arm in material.arms)
        if slices and (metric != "accuracy" or lost):
            name = "prefilling attacks" if prefill else "all benchmarks together"
            tables.append(_ends_table(material, f"ends-{metric}{'-prefill' if prefill else ''}",
                                      f"{TITLES[metric]}: how outputs ended, {name}",
                                      [(arm, _sum(material, arm, slices)) for arm in material.arms]))  # fmt: skip
    return tables


def ends_by_slice(material: Material) -> list[Table]:
    """Return how outputs ended on each benchmark and attack alone, where there is more than one."""
    if not 2 <= len(material.slices) <= MOST_SLICE_TABLES:
        return []
    return [
        _ends_table(
            material,
            f"ends-{number}",
            f"{TITLES[part.metric]}, {part.label(material.slices)}",
            [(arm, _sum(material, arm, [part])) for arm in material.arms],
        )
        for number, part in enumerate(material.slices)
    ]


def _sum(material: Material, arm: str, slices: Iterable[Slice]) -> Ends:
    found = [material.ends[arm, part] for part in slices if (arm, part) in material.ends]
    classes: Counter[str] = Counter()
    outputs: Counter[str] = Counter()
    for ends in found:
        classes.update(ends.classes)
        outputs.update(ends.outputs)
    return Ends(classes, outputs, sum(ends.unscored for ends in found), sum(ends.total for ends in found))


def _ends_table(material: Material, name: str, title: str, rows: Sequence[tuple[str, Ends]]) -> Table:
    classes = sorted({value for _, ends in rows for value in ends.classes}, key=_class_order)
    outputs = sorted({value for _, ends in rows for value in ends.outputs})
    lines, shares = [], []
    for arm, ends in rows:
        counts = [ends.classes.get(value, 0) for value in classes]
        others = [ends.outputs.get(value, 0) for value in outputs]
        unnamed = ends.total - sum(counts) - sum(others) - ends.unscored
        numbers = [*counts, *([unnamed] if not classes else []), *others, ends.unscored]
        total = max(ends.total, 1)
        lines.append((Cell(arm), *(Cell(f"{100 * n / total:.1f} %", (f"{n:,}",)) for n in numbers), Cell(f"{total:,}")))
        shares.append(tuple(n / total for n in numbers))
    named = classes or ["scored"]
    head = ("arm", *named, *outputs, "unscored", "outputs")
    return Table(name, title, head, tuple(lines), tuple(shares), flat=True)


def _class_order(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)
