"""Decide whether the query of a row is harmful.

The first that applies decides: `label=` (the whole source), `label_column=` (a column that the user names), a column
called `harmful` or similar, the rule of the layout. Otherwise the row has no label. Labels are never guessed, and the
rule that decided is stored with the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safekey.data.formats import RowError
from safekey.errors import UserError

Row = Mapping[str, Any]

WORDS = {
    **dict.fromkeys(("harmful", "unsafe", "malicious", "toxic"), True),
    **dict.fromkeys(("benign", "safe", "harmless", "unharmful", "not harmful"), False),
}
FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

LABEL_COLUMNS = ("harmful", "is_harmful")  # any value of WORDS or FLAGS
WORD_LABEL_COLUMNS = ("label", "safety")  # only when the value is in WORDS: 0 and 1 could mean anything there
SAFE_COLUMNS = ("safe", "is_safe", "benign", "is_benign", "harmless", "is_harmless")  # if named: true means benign


@dataclass(frozen=True, slots=True)
class Layout:
    """A published layout and its label rule.

    Attributes:
        name: its name in reports.
        needs: columns that must hold a value.
        rule: the rule in words, for the user.
        harmful: the rule.
    """

    name: str
    needs: frozenset[str]
    rule: str
    harmful: Callable[[Row], bool | None]


def _from_source(row: Row) -> bool | None:
    return row["source"] != "4o_rewrite" if row.get("source") else None


def _star1(row: Row) -> bool | None:
    return row.get("source") != "4o_rewrite"


REFERENCE = "safekey-reference"
LAYOUTS = (
    Layout(
        REFERENCE,
        frozenset({"question", "response", "summary_end_idx", "next_sentence_end_idx"}),
        "reference mix: source '4o_rewrite' is benign, any other source is harmful",
        _from_source,
    ),
    Layout(
        "star1",
        frozenset({"question", "response", "category", "score"}),
        "STAR-1: every row is harmful, except source '4o_rewrite', which is benign",
        _star1,
    ),
)


def layout_of(row: Row) -> Layout | None:
    """Return the published layout of a row, by the columns that hold a value; None for any other row."""
    return next((entry for entry in LAYOUTS if all(row.get(name) is not None for name in entry.needs)), None)


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a row, its layout ("" for none of the known ones), the rule that decided, and the columns read."""

    harmful: bool | None
    layout: str
    rule: str
    columns: frozenset[str] = frozenset()


def parse_label_word(label: bool | str | None) -> bool | None:
    """Return the meaning of `label=`: "harmful" or True, "benign" or False; None stays None.

    Raises:
        UserError: any other value.
    """
    if label is None or isinstance(label, bool):
        return label
    if label.strip().lower() in WORDS:
        return WORDS[label.strip().lower()]
    raise UserError(f"label: expected 'harmful' or 'benign', found {label!r}")


def label_row(row: Row, *, label: bool | None = None, label_column: str | None = None) -> Label:
    """Decide whether the query of a row is harmful; the module's docstring has the order of the rules.

    Raises:
        RowError: a label column holds a value that cannot be read as a label.
    """
    layout = layout_of(row)
    name = layout.name if layout else ""
    if label is not None:
        return Label(label, name, f"label given for the whole source: {'harmful' if label else 'benign'}")
    if label_column:
        if label_column not in row:
            raise RowError(label_column, f"missing label column: the row has {', '.join(row)}")
        inverted = label_column.lower() in SAFE_COLUMNS
        rule = f"column '{label_column}'" + (" (true means benign)" if inverted else "")
        return Label(_parse(row[label_column], label_column, inverted), name, rule, frozenset({label_column}))
    for column in LABEL_COLUMNS:
        if (value := _parse(row.get(column), column, inverted=False)) is not None:
            return Label(value, name, f"column '{column}'", frozenset({column}))
    for column in WORD_LABEL_COLUMNS:
        if isinstance(row.get(column), str) and (word := row[column].strip().lower()) in WORDS:
            return Label(WORDS[word], name, f"column '{column}'", frozenset({column}))
    if layout and (value := layout.harmful(row)) is not None:
        return Label(value, name, layout.rule, layout.needs | {"source"})
    return Label(None, name, "no label: no label column, and no rule for this layout")


def _parse(value: Any, column: str, inverted: bool) -> bool | None:
    """Read a cell: bool, 0/1 (also 0.0/1.0), or a word; None and "" are no label."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None  # value != value: NaN, which pandas writes for a missing cell
    word = value.strip().lower() if isinstance(value, str) else str(value).lower().removesuffix(".0")
    if word in WORDS:
        return WORDS[word]
    if word in FLAGS:
        return FLAGS[word] != inverted
    known = ", ".join([*WORDS, *FLAGS])
    raise RowError(column, f"not a label: {value!r:.60}; expected one of {known}")
