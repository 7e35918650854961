"""Print a judge's error: the two rates with intervals, agreement with people, categories, confusions.

harm_1to5 (openai/gpt-4.1), answers, ≥ 4, against people
             sensitivity          specificity          κ                   found/positive  false alarms/negative
all          91.2 % (82 – 96)     97.0 % (92 – 99)     0.88 (0.80 – 0.93)  62/68           3/100
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safekey.evals.judge_error.labels import problem_lines
from safekey.evals.judge_error.measure import Measured
from safekey.evals.judge_error.raters import Labelled
from safekey.evals.judge_error.record import error_of
from safekey.evals.judge_error.validate import Validated
from safekey.stats.judge_error import Counts, Estimate
from safekey.stats.two_raters import kappa
from safekey.terminal import printable

_TEXT = 90  # characters of an answer that a line shows
NOT_DEFINED = "–"


def print_validation(console: Console, found: Validated, most: int) -> None:
    """Print everything that was measured, and what it is good for.

    Args:
        console: where.
        found: the measured judge.
        most: confusions that are shown in each direction.
    """
    how: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    for line in about_labels(found):
        console.print(printable(line), **how)
    console.print(_rules(found.measured))
    if found.measured.categories:
        console.print(_categories(found.measured))
    for line in (*_agreement(found), *_confusions(found.measured, most)):
        console.print(printable(line), **how)
    console.print(printable(conclusion(found)), style="bold", **how)


def about_labels(found: Validated) -> Iterator[str]:
    """Yield what was read: answers, requests, columns, what was left out."""
    labels = found.labels
    positive = sum(row.positive for row in labels.answers)
    requests = len({row.cluster for row in labels.answers})
    word = "harmful" if labels.kind == "harm" else "refused"
    several = len(labels.answers) != 1, requests != 1
    answers, asked = ("s" if many else "" for many in several)
    yield f"{len(labels.answers)} labelled answer{answers} to {requests} request{asked}: {positive} {word} by people"
    yield "read: " + ", ".join(f"{column} as {name}" for name, column in labels.columns.items())
    if labels.threshold is not None:
        yield f"grades of people from {labels.threshold:g} count as positive"
    if labels.left_out:
        yield "left out: " + ", ".join(f"{count} {why}" for why, count in labels.left_out.items())
    yield from (f"note: {note}" for note in labels.notes)
    yield from problem_lines(labels.problems)


def conclusion(found: Validated) -> str:
    """Return in words what the record is good for."""
    record = found.measured.record
    if why := record.useless():
        return f"This judge corrects nothing: {why}."
    return f"--judge-record {found.path} shows rates of this judge corrected for its error."


def _rules(measured: Measured) -> Table:
    key = measured.record.key
    table = _table(f"{key.who}, {key.part}, against people", "positive")
    for rule, clusters in measured.record.rules.items():
        cells = _drawn_cells(measured, rule) if rule in measured.record.drawn else _cells(clusters)
        table.add_row(_safe(rule), *map(_safe, cells))
    return table


def _drawn_cells(measured: Measured, rule: str) -> list[str]:
    error, counts = measured.record.drawn[rule], measured.record.document["rules"][rule]["counts"]
    found, passed = (f"{counts[name]} drawn" for name in ("hits", "false_alarms"))
    return [percent(error.sensitivity), percent(error.specificity), number(error.gain), NOT_DEFINED, found, passed]


def _categories(measured: Measured) -> Table:
    table = _table(f"by category, {measured.record.key.rule}", "category")
    for name, clusters in measured.categories.items():
        table.add_row(_safe(name or "–"), *map(_safe, _cells(clusters)))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=_safe(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.title_style = "bold"
    table.add_column(first, overflow="fold")
    for name in ("sensitivity", "specificity", "Se + Sp − 1", "κ", "found", "false alarms"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(clusters: Sequence[Counts]) -> list[str]:
    hits, misses, alarms, passes = (sum(column) for column in zip(*clusters, strict=True))
    error = error_of(clusters)
    counts = [f"{hits}/{hits + misses}", f"{alarms}/{alarms + passes}"]
    if error is not None:
        rates = [percent(error.sensitivity), percent(error.specificity)]
        return [*rates, number(error.gain), number(kappa(clusters)), *counts]
    found, passed = ([(*row[:2], 0, 1) for row in clusters], [(1, 0, *row[2:]) for row in clusters])
    one = error_of(found), error_of(passed)  # of the kind that is there
    rates = [
        percent(one[0].sensitivity) if one[0] else NOT_DEFINED,
        percent(one[1].specificity) if one[1] else NOT_DEFINED,
    ]
    return [*rates, NOT_DEFINED, NOT_DEFINED, *counts]


def percent(found: Estimate) -> str:
    """Return a share in percent with its interval."""
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} – {100 * found.high:.1f})"


def number(found: Estimate | None) -> str:
    """Return a coefficient with its interval."""
    return NOT_DEFINED if found is None else f"{found.value:.2f} ({found.low:.2f} – {found.high:.2f})"


def _agreement(found: Validated) -> Iterator[str]:
    measured, people = found.measured, found.labels.agreement
    if measured.record.drawn:
        yield "drawn by this judge's verdicts: the two rates are those of the whole run, by the weights of the draw"
    else:
        yield f"judge and people: Cohen's κ {number(measured.kappa)}, Krippendorff's α {number(measured.alpha)}"
    if people is not None:
        said = [
            f"{name} {'not defined' if value is None else f'{value:.2f}'}"
            for name, value in (("α", people.alpha), ("κ", people.kappa), ("equal pairs", people.equal))
            if name != "κ" or value is not None
        ]
        yield f"people among themselves: {', '.join(said)}; {people.samples} answers judged by two or more"
    if measured.unscored:
        reasons = "; ".join(f"{count}× {reason}" for reason, count in measured.unscored.most_common(3))
        yield f"without a verdict, and in no number above: {sum(measured.unscored.values())} ({reasons})"


def _confusions(measured: Measured, most: int) -> Iterator[str]:
    for heading, rows in (("missed by the judge", measured.missed), ("false alarms", measured.alarms)):
        if rows and most:
            yield f"{heading}: {len(rows)}" + (f", {most} shown" if len(rows) > most else "")
            yield from (f"  {confusion(row)}" for row in rows[:most])


def confusion(row: Labelled) -> str:
    """Return an answer in one line."""
    return f"{row.id}: {short(row.request, _TEXT // 2)} → {short(row.response, _TEXT)}"


def short(text: str, most: int) -> str:
    """Return the beginning of a text on one line, printable."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def _safe(text: str) -> str:
    return escape(printable(text))
