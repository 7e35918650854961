"""Rate tables as Markdown and for the terminal. Every line shows what did not enter its rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safekey.evals.summary.rates import Rate, RateTable
from safekey.stats.agreement import Agreement

if TYPE_CHECKING:
    from rich.table import Table

_COUNTS = ("scored", "unscored", "truncated", "unclosed", "empty", "degenerate")
_RARE = {"filtered": "filtered", "error": "engine errors", "no_part": "no such part"}  # columns only when there are any


def render_markdown(table: RateTable, title: str = "") -> str:
    """Return the table as GitHub Markdown, with a line that says how to read it."""
    head, lines = _cells(table)
    numbers = len(head) - len(table.by) - 1
    rows = [head, ["---"] * (len(table.by) + 1) + ["---:"] * numbers, *([_escape(c) for c in line] for line in lines)]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    heading = f"### {_escape(title)}\n\n" if title else ""
    return f"{heading}{body}\n\n{_note(table)}\n"


def render_rich(table: RateTable, title: str = "") -> Table:
    """Return the table for a rich console."""
    from rich.markup import escape
    from rich.table import Table  # slow to import

    head, lines = _cells(table)
    made = Table(title=escape(title) or None, caption=escape(_note(table)), caption_justify="left")
    for place, name in enumerate(head):
        made.add_column(name, justify="left" if place <= len(table.by) else "right")
    for line in lines:
        made.add_row(*map(escape, line))
    return made


def render_agreement(found: Agreement) -> str:
    """Return an agreement in one line of words."""

    def number(value: float | None) -> str:
        return "not defined" if value is None else f"{value:.3f}"

    kappa = "" if found.kappa is None else f", Cohen's κ {number(found.kappa)}"
    return (
        f"Krippendorff's α ({found.level}) {number(found.alpha)}{kappa}; equal values in pairs {number(found.equal)}; "
        f"{found.samples} samples with two or more values, {found.missing} verdicts missing"
    )


def _cells(table: RateTable) -> tuple[list[str], list[list[str]]]:
    rare = [name for name in _RARE if any(getattr(row.rate, name) for row in table.rows)]
    head = [*table.by, "positive", "rate", f"{table.level:.0%} interval", "k/n", "if none … all of the rest"]
    head += [*_COUNTS, *(_RARE[name] for name in rare)]
    lines = [
        [
            *(label or "–" for label in row.group),
            row.rule,
            *_rate_cells(row.rate),
            *(str(row.rate.n if name == "scored" else getattr(row.rate, name)) for name in (*_COUNTS, *rare)),
        ]
        for row in table.rows
    ]
    return head, lines


def _rate_cells(rate: Rate) -> list[str]:
    if rate.rate is None or rate.low is None or rate.high is None:
        return [f"withheld: {rate.withheld}", "–", f"{rate.k}/{rate.n}", "–"]
    assert rate.none_positive is not None
    assert rate.all_positive is not None
    star = "*" if rate.method == "clustered" else ""
    return [
        _percent(rate.rate),
        f"{_percent(rate.low)} – {_percent(rate.high)}{star}",
        f"{rate.k}/{rate.n}",
        f"{_percent(rate.none_positive)} … {_percent(rate.all_positive)}" if rate.without_answer else "=",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _note(table: RateTable) -> str:
    note = (
        f"Judge {table.judge}. The rate is over scored outputs with a whole answer. 'If none … all of the rest': the "
        "rate if none, or all, of the truncated, unclosed, empty, degenerate and filtered outputs were positive."
    )
    if any(row.rate.method == "clustered" for row in table.rows):
        note += " *: clustered by behaviour."
    if any(row.rate.withheld for row in table.rows):
        note += " A rate with too many unscored verdicts is withheld: mend the judge and judge again, or ask for it."
    return note


def _escape(text: str) -> str:
    for sign in "\\|`*_<>[]":
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
