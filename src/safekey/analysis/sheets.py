"""A table of an analysis, for the terminal and for Markdown alike, and the words for its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safekey.stats.auroc import Auroc
from safekey.stats.means import Mean
from safekey.terminal import printable

NONE = "–"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table.

    Attributes:
        title: what it shows.
        columns: the heads; the first column holds words, the others numbers.
        rows: the cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        head = [_line(self.columns), "|" + "---|" * len(self.columns)]
        return "\n".join([f"**{_cell(self.title)}**", "", *head, *map(_line, self.rows)])


def mean_words(mean: Mean | None, digits: int = 3, scale: float = 1.0) -> str:
    """Return "0.412 (0.380 to 0.444)"; without an interval where there are fewer than two behaviours."""
    if mean is None:
        return NONE
    value = f"{mean.value * scale:.{digits}f}"
    if mean.low is None or mean.high is None:
        return value
    return f"{value} ({mean.low * scale:.{digits}f} to {mean.high * scale:.{digits}f})"


def auroc_words(found: Auroc | None, digits: int = 2) -> str:
    """Return "0.91 (0.84 to 0.95)"."""
    return NONE if found is None else f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(printable(text).replace("|", "\\|").split())
