"""Say what was read of a benchmark's file and what was not: which column became what, and which were left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from safekey.data.read import RawRow
from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.columns import COLUMNS, Row, column_of, labels_of, plain
from safekey.evals.benchmarks.items import question_names
from safekey.evals.benchmarks.roles import FileRoles

HEADER_WORDS = 4  # more words than this are no column name
Table = Mapping[str, tuple[str, ...]]
_SHARED = ("category", "id", "attack", "behaviour")
_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "math": ("answer", "solution"),
    "choice": ("options", "answer", "incorrect", "answer_index"),
    "code": ("test", "entry_point", "canonical"),
    "prefill": ("target",),
}
_OF_PICK: Mapping[str, tuple[str, ...]] = {
    "wildchat": ("openai_moderation", "toxic", "language", "turn", "category_score"),
    "harmbench": ("FunctionalCategory",),
}
_METADATA = ("level", "year", "url")


@dataclass(slots=True)
class Reading:
    """What was read of one file.

    Attributes:
        columns: what → the columns that it was read from.
        ignored: columns of which nothing was read.
        others: other files of the folder that fit the benchmark, as text; "" for none.
    """

    columns: dict[str, list[str]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    others: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for run.json."""
        return {"columns": dict(self.columns), "ignored": list(self.ignored), "other_files": self.others}

    def lines(self, name: str, source: str, rows: int) -> list[str]:
        """Return what to print about one benchmark's file."""
        read = "; ".join(f"{what}: {', '.join(columns)}" for what, columns in self.columns.items())
        lines = [f"{name}: read {source}, {rows} rows; {read}; not read: {', '.join(self.ignored) or 'none'}"]
        if self.others:
            lines.append(
                f"{name}: {source} was chosen; these fit, too: {self.others} (--file {name}=PATH takes another)"
            )
        return lines


def read_columns(
    reading: Reading,
    benchmark: Benchmark,
    rows: Sequence[Row],
    table: Table,
    roles: FileRoles | None,
    labels: Sequence[str],
) -> Reading:
    """Return `reading` with the columns of these rows that were read, and for what; `labels` are those of labels."""
    found: dict[str, list[str]] = {}

    def add(what: str, columns: Iterable[str | None]) -> None:
        if own := list(dict.fromkeys(column for column in columns if column)):
            found[what] = own

    if roles is not None:
        each = [roles.of(row) for row in rows]
        add("asked", (own.asked for own in each))
        add("told to the judge", (own.told or own.asked for own in each))
    elif benchmark.kind == "choice":
        add("asked", (_first(row, question_names(table)) for row in rows))
    else:
        add("asked", (_first(row, table["code" if benchmark.kind == "code" else "problem"]) for row in rows))
    texts = [plain(column) for columns in found.values() for column in columns]
    for key in (*_OF_KIND.get(benchmark.kind, ()), *_SHARED):
        names = [name for name in table[key] if key not in ("category", "attack") or plain(name) not in texts]
        each_name = [[name] for name in names] if key in ("incorrect", "answer", "solution") else [names]
        add(key, (column_of(row, part) for part in each_name for row in rows))
    if benchmark.pick == "harmbench":
        add("context", (column_of(row, table["context"]) for row in rows))
    add("label", (column for row in rows for column, _ in labels_of(row, labels)))
    add("choice of rows", (column_of(row, [n]) for n in _OF_PICK.get(benchmark.pick, ()) for row in rows))
    if benchmark.kind == "math":
        add("kept", (name for name in _METADATA for row in rows if name in row))
    taken = {column for columns in found.values() for column in columns}
    there = dict.fromkeys(str(name) for row in rows for name in row)
    return Reading(found, [name for name in there if name not in taken], reading.others)


def _first(row: Row, names: Iterable[str]) -> str | None:
    own = {plain(str(name)): str(name) for name in row}
    return next((own[plain(name)] for name in names if plain(name) in own), None)


def check_names(source: str, rows: Sequence[RawRow]) -> None:
    """Refuse two columns of texts whose names differ in case or spaces alone: which one is meant cannot be told.

    Raises:
        UserError: there are two.
    """
    texts = {plain(name) for key in ("prompt", "conversation", "objective", "problem") for name in COLUMNS[key]}
    seen: dict[str, str] = {}
    for name in dict.fromkeys(str(name) for row in rows for name in row.fields):
        first = seen.setdefault(plain(name), name)
        if first != name and plain(name) in texts and any({first, name} <= set(row.fields) for row in rows):
            raise UserError(f"{source}: the columns '{first}' and '{name}' have the same name but for its spelling; "
                            "rename or remove one of them")  # fmt: skip


def columns_not_there(source: str, rows: Sequence[RawRow], columns: Mapping[str, str | None]) -> list[str]:
    """Return a warning for each column that the user names and no row has."""
    there = {plain(str(name)) for row in rows for name in row.fields}
    return [
        f"{source}: no row has the column '{name}' that --column {key}={name} names"
        for key, name in columns.items()
        if name and plain(name) not in there
    ]


def no_header(source: str, rows: Sequence[RawRow]) -> str:
    """Return advice for a CSV file whose first line is taken for column names and is a row, as in HEx-PHI."""
    names = [str(name) for name in (rows[0].fields if rows else ())]
    if not source.lower().removesuffix(".gz").endswith((".csv", ".tsv")) or not any(" " in n.strip() for n in names):
        return ""
    if max(len(name.split()) for name in names) <= HEADER_WORDS:
        return ""
    return ". Its first line seems to be a row: if the file has no line of column names, add one (such as: prompt)"
