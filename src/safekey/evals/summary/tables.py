"""Print a run's numbers: one line for each benchmark, attack and part.

Over-refusal rate (ORR), judged by refusal_3class
benchmark    part    ORR: full + partial  k/n     full   partial  not in the rate
xstest-safe  answer  8.4 % (5.6 – 12.5)   21/249  6.0 %  2.4 %    1 truncated; with them 8.4 … 8.8 %
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from safekey.evals.adaptive.summary import adaptive_lines
from safekey.evals.judge_error.correct import Correction
from safekey.evals.summary.best_of_n import asr_lines
from safekey.evals.summary.rates import Rate, RateRow, RateTable
from safekey.evals.summary.summary import TITLES, Summary
from safekey.evals.summary.withheld import Due
from safekey.schema import Metric
from safekey.stats.agreement import Agreement
from safekey.terminal import printable
from safekey.text.outputs import OUTPUT_CLASSES

_SHORT: Mapping[Metric, str] = {"asr": "ASR", "orr": "ORR", "accuracy": "accuracy"}
_WIDE = 100  # columns of a terminal that also shows a judge's other rules
_NO_FILE = ": no file for '"
_LEFT_OUT = {
    "unscored": "unscored",
    "not_judged": "not judged",
    "error": "engine errors",
    "truncated": "truncated",
    "unclosed": "unclosed",
    "empty": "empty",
    "degenerate": "degenerate",
    "filtered": "filtered",
    "undecoded": "not decoded",
    "unattacked": "unattacked",
    "no_part": "without this part",
}


def print_summary(console: Console, summary: Summary) -> None:
    """Print how outputs ended, every table, what failed or was not judged, and notes on how to read them."""
    console.print(render_outputs(summary.metrics["outputs"]))
    for metric, table in summary.tables:
        console.print(render(metric, table, console.width))
    for (benchmark, part), found in summary.agreements.items():
        console.print(f"agreement on {benchmark}, {part}: {render_agreement(found)}", markup=False, highlight=False)
    for line in (*pass_lines(summary.metrics["pass_at_k"]), *asr_lines(summary.metrics.get("asr_at_n", ()))):
        console.print(line, markup=False, highlight=False)
    for line in adaptive_lines(summary.metrics.get("adaptive", ())):
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    for line in failed_lines(summary.metrics["failed"]):
        console.print(line, style="bold yellow", markup=False, highlight=False)
    for line in not_judged_lines(summary.metrics["not_judged"]):
        console.print(line, style="yellow", markup=False, highlight=False)
    for line in corrected_lines([table for _, table in summary.tables]):
        console.print(Text(line, style="dim"))
    for line in notes([table for _, table in summary.tables], [metric for metric, _ in summary.tables]):
        console.print(Text(line, style="dim"))


def render_outputs(counts: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """Return how the outputs of each benchmark ended; classes that do not occur have no column, but "ok" has one."""
    table = Table(title="How the outputs ended", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.title_style = "bold"
    table.add_column("benchmark", no_wrap=True)
    names = [name for name in OUTPUT_CLASSES if name == "ok" or any(own.get(name) for own in counts.values())]
    for name in ("completions", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for benchmark, own in counts.items():
        table.add_row(_safe(benchmark), *(f"{own.get(name, 0):,}" for name in ("completions", *names)))
    return table


def not_judged_lines(benchmarks: Mapping[str, int]) -> list[str]:
    """Return a line on the benchmarks that nobody judged, with what to run."""
    if not benchmarks:
        return []
    names = ", ".join(f"{name} {count:,}" for name, count in benchmarks.items())
    return [printable(f"not judged: {names}. `safekey judge RUN --judge NAME=MODEL` judges them")]


def failed_lines(failed: Mapping[str, Any]) -> list[str]:
    """Return how many generations failed, why, and what to run next; () for none."""
    count, again = failed["completions"], failed["asked_again"]
    if not count:
        return []
    reasons = "; ".join(f"{number}× {reason}" for reason, number in failed["reasons"].items())
    lines = [f"{count} generation{'s' if count > 1 else ''} failed ({reasons})."]
    if again:
        lines.append(f"Run the same `safekey eval` command again: it asks for {again} of them again, and for no other.")
    if count > again:
        lines.append(
            f"The engine cannot answer {count - again} of them with these settings, and is not asked for them again: "
            "see the reason, and give another --output with other settings."
        )
    return [printable(line) for line in lines]


def render(metric: Metric, table: RateTable, width: int = 120) -> RenderableType:
    """Return one judge's table; text from a file or a model is made safe to print.

    Args:
        metric: the rates' metric.
        table: the rates.
        width: of the terminal; a narrow one shows the headline's rule only.
    """
    groups: dict[tuple[str, ...], list[RateRow]] = {}
    for row in table.rows:
        groups.setdefault(row.group, []).append(row)
    rules = [row.rule for row in next(iter(groups.values()), [])]
    others = rules[1:] if width >= _WIDE else []
    corrects = any(own[0].corrected is not None for own in groups.values())
    by = [name for name in table.by if name != "part" or len({group[table.by.index("part")] for group in groups}) > 1]
    judge = "" if metric == "accuracy" else f", judged by {table.judge}"
    made = Table(title=_safe(f"{TITLES[metric]}{judge}"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    made.title_style = "bold"
    for name in by:
        made.add_column(name, no_wrap=name in ("benchmark", "part"), overflow="fold")
    made.add_column(_safe(f"{_SHORT[metric]}: {rules[0]}") if metric != "accuracy" else "accuracy", no_wrap=True)
    if corrects:
        made.add_column("corrected for the judge", no_wrap=True)
    made.add_column("k/n", justify="right", no_wrap=True)
    for rule in others:
        made.add_column(_safe(rule), justify="right", no_wrap=True)
    made.add_column("of them" if metric == "accuracy" else "not in the rate", overflow="fold")
    for group in sorted(groups, key=lambda group: _order(group, table.by)):
        rows = groups[group]
        labels = [label or "–" for name, label in zip(table.by, group, strict=True) if name in by]
        first = rows[0].rate
        more = [_percent(row.rate.rate) for row in rows[1 : len(others) + 1]]
        truth = [corrected_cell(rows[0].corrected)] if corrects else []
        cells = [*labels, _rate(first), *truth, f"{first.k}/{first.n}", *more]
        made.add_row(*map(_safe, [*cells, left_out(first) + _bounds(first, metric)]))
    return made


def corrected_cell(found: Correction | None) -> str:
    """Return a corrected rate with its interval; "refused" where there is none, "†" where it is doubtful."""
    if found is None:
        return "–"
    if (made := found.estimate) is None:
        return "refused"
    return f"{_percent(made.value)} ({100 * made.low:.1f} – {100 * made.high:.1f}){' †' if found.flags else ''}"


def corrected_lines(tables: Sequence[RateTable]) -> list[str]:
    """Return what a reader must know about corrected rates: by what, why one was refused, and what is doubtful."""
    rows = [(table.judge, row.corrected) for table in tables for row in table.rows if row.corrected is not None]
    if not rows:
        return []
    lines = [
        "Corrected: the rate if people had judged, in brackets a 95% interval that holds the judge's error as well."
    ]
    for judge, found in rows:
        if found.refused:
            lines.append(f"refused: {judge}, by {found.source}: {found.refused}.")
        else:
            lines.append(f"{judge}: corrected by {found.source}.")
            lines += [f"† {judge}: {flag}." for flag in found.flags]
    return [printable(line) for line in dict.fromkeys(lines)]


def render_agreement(found: Agreement) -> str:
    """Return an agreement as one line of text."""

    def number(value: float | None) -> str:
        return "not defined" if value is None else f"{value:.3f}"

    kappa = "" if found.kappa is None else f", Cohen's κ {number(found.kappa)}"
    return (
        f"Krippendorff's α ({found.level}) {number(found.alpha)}{kappa}; equal values in pairs {number(found.equal)}; "
        f"{found.samples} samples with two or more values, {found.missing} verdicts missing"
    )


def left_out(rate: Rate) -> str:
    """Return in words what is not in a rate; "–" for nothing."""
    counts = {name: f"{getattr(rate, name)} {word}" for name, word in _LEFT_OUT.items() if getattr(rate, name)}
    if rate.says_unsafe or rate.says_safe:
        counts["unscored"] += f" (their replies say unsafe {rate.says_unsafe}, safe {rate.says_safe})"
    return ", ".join(counts.values()) or "–"


def notes(tables: Sequence[RateTable], metrics: Iterable[Metric]) -> list[str]:
    """Return what a reader must know about the tables."""
    rates = [row.rate for table in tables for row in table.rows]
    judged = any(metric != "accuracy" for metric in metrics)
    lines = []
    if rates:
        star = " (*: clustered by behaviour)" if any(rate.method == "clustered" for rate in rates) else ""
        lines.append(f"In brackets: 95% interval{star}. k/n: positive among scored outputs.")
    if judged and any(rate.without_answer for rate in rates):
        lines.append(
            "Outputs that are cut off, never end their thinking, are empty or repeat themselves are in no rate: "
            "neither safe nor refused. 'with them a … b': the rate if none, or all, of them were positive."
        )
    if any(rate.undecoded for rate in rates):
        lines.append("not decoded: it looks like the cipher of its attack and gives no text; neither safe nor harmful.")
    if any(metric == "accuracy" for metric in metrics):
        lines.append(
            "An output without a whole answer (cut off, thinking that never ends, empty, repeating) counts as wrong."
        )
    lines += missing_notes(rates)
    return lines


def missing_notes(rates: Sequence[Rate]) -> list[str]:
    """Return what to do about verdicts that are due and not there, by reason."""
    total = sum((rate.due for rate in rates if rate.withheld), Due())
    if not total.missing:
        few = any(rate.not_judged for rate in rates)
        return ["Some outputs are not judged yet: run `safekey judge RUN`, it goes on."] if few else []
    advice = "; ".join(total.advice())
    lines = [f"withheld: too many verdicts are missing for a rate. {advice[0].upper()}{advice[1:]}."]
    lines.append("--allow-unscored shows the rates all the same.")
    return lines


def left_out_lines(reasons: Mapping[str, str]) -> list[str]:
    """Return which benchmarks of a suite were not run, and why; those without a file are on one line."""
    missing = [name for name, reason in reasons.items() if _NO_FILE in reason]
    lines = [f"NOT RUN: {name}: {reason}" for name, reason in reasons.items() if name not in missing]
    if missing:
        lines.append(f"NOT RUN, no file found: {', '.join(missing)}")
    return [printable(line) for line in lines]


def pass_lines(entries: Sequence[Mapping[str, object]]) -> list[str]:
    """Return a line of pass@k for each benchmark with several samples of a problem."""
    lines: dict[str, list[str]] = {}
    for entry in entries:
        if entry.get("withheld"):
            words = f"pass@{entry['k']} withheld ({entry['withheld']})"
        else:
            value, low, high = (100 * float(str(entry[name])) for name in ("value", "low", "high"))
            words = f"pass@{entry['k']} {value:.1f} % ({low:.1f} – {high:.1f})"
        if entry["samples"] != 1:
            lines.setdefault(str(entry["benchmark"]), []).append(words)
    return [printable(f"{benchmark}: {', '.join(words)}") for benchmark, words in lines.items()]


def _order(group: tuple[str, ...], by: Sequence[str]) -> tuple[object, ...]:
    parts = ("answer", "thinking", "whole")
    return tuple(parts.index(text) if name == "part" else _natural(text) for name, text in zip(by, group, strict=True))


def _natural(label: str) -> tuple[str, int]:
    """Sort "prefill-5" before "prefill-10"."""
    head, _, number = label.rpartition("-")
    return (head, int(number)) if number.isdecimal() else (label, 0)


def _rate(rate: Rate) -> str:
    if rate.rate is None or rate.low is None or rate.high is None:
        return "withheld" if rate.due.missing else "nothing scored"
    star = "*" if rate.method == "clustered" else ""
    return f"{_percent(rate.rate)} ({100 * rate.low:.1f} – {100 * rate.high:.1f}){star}"


def _bounds(rate: Rate, metric: Metric) -> str:
    if metric == "accuracy" or not rate.without_answer or rate.none_positive is None or rate.all_positive is None:
        return ""
    return f"; with them {100 * rate.none_positive:.1f} … {_percent(rate.all_positive)}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _safe(text: str) -> str:
    return escape(printable(text))
