"""Find a benchmark's file in a folder; say what was read of it (which column became what), and what was not.

benchmarks/strongreject_dataset.csv      by its name
benchmarks/MATH/test.jsonl               a file with a general name, in a folder with the benchmark's
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekey.data.read import FILE_TYPES, RawRow
from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.columns import COLUMNS, Row, column_of, labels_of, plain
from safekey.evals.benchmarks.items import question_names
from safekey.evals.benchmarks.parts import parts_folder
from safekey.evals.benchmarks.roles import FileRoles

DEPTH = 3  # folders below the data folder that are searched
NAMED = 20  # files that a message names
ENDINGS = (*FILE_TYPES, *(f"{kind}.gz" for kind in FILE_TYPES))
GENERAL = ("test", "eval", "data", "dataset", "default", "all", "prompts", "questions", "combine", "train", "dev")
"""Names of files that say nothing about their content, the most likely one first."""
_PART = re.compile(r"(?P<name>[a-z_]*?)[-_.]?(?P<part>\d{4,5})(-of-(?P<parts>\d{4,5}))?")
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
    "sorry-bench": ("prompt_style",),
}
_METADATA = ("level", "year", "url")


@dataclass(frozen=True, slots=True)
class Found:
    """The file of a benchmark, and the other files of the folder that fit it, too."""

    path: Path
    others: tuple[Path, ...] = ()


def find_file(benchmark: Benchmark, data_dir: str | os.PathLike[str]) -> Path:
    """Return the file of a data folder that holds a benchmark; see `choose_file`."""
    return choose_file(benchmark, data_dir).path


def choose_file(benchmark: Benchmark, data_dir: str | os.PathLike[str]) -> Found:
    """Choose the file of a data folder that holds a benchmark: by its own name, else by that of its folder.

    Raises:
        UserError: the folder does not exist, or holds no such file, or several that fit equally well.
    """
    folder = Path(data_dir)
    files = data_files(folder)
    if benchmark.parts and (place := parts_folder(folder, benchmark.parts, benchmark.folders)):
        return Found(place)
    fitting: list[Path] = []
    for pattern in benchmark.files:
        found = [path for path in files if _fits(path, folder, pattern)]
        fitting += [path for path in found if path not in fitting]
    general = _general(benchmark, folder, files)
    others = tuple(fitting) or tuple(path for _, path in general)
    for pattern in benchmark.files:
        if found := [path for path in fitting if _fits(path, folder, pattern)]:
            best = _best_of([pair for pair in general if pair[1] in found])
            return _chosen(benchmark, folder, best if len(found) > 1 and best else found, others)
    if best := _best_of(general):
        return _chosen(benchmark, folder, best, others)
    raise UserError(
        f"{folder}: no file for '{benchmark.name}': looked for {', '.join(benchmark.files)} with one of the endings "
        f"{', '.join(FILE_TYPES)} (.gz), and for test, data or the like in a folder called {_spelled(benchmark)}; "
        f"found {listed(files, folder) or 'no data file'}. Name the file with --file {benchmark.name}=PATH"
    )


def data_files(folder: Path) -> list[Path]:
    """Return the data files of a folder, three levels deep.

    Raises:
        UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(ENDINGS) and len(path.relative_to(folder).parts) <= DEPTH and path.is_file()
    )


def unused_files(data_dir: str | os.PathLike[str], used: Iterable[str]) -> list[Path]:
    """Return the data files of a folder that are none of these."""
    read = {Path(path).resolve() for path in used}
    places = ((path, path.resolve()) for path in data_files(Path(data_dir)))
    return [path for path, place in places if place not in read and place.parent not in read]


def listed(files: Iterable[Path], folder: Path) -> str:
    """Return files as text, relative to their folder; "" for none."""
    names = [path.relative_to(folder).as_posix() for path in files]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _fits(path: Path, folder: Path, pattern: str) -> bool:
    names = (path.name.lower(), path.relative_to(folder).as_posix().lower())
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _general(benchmark: Benchmark, folder: Path, files: list[Path]) -> list[tuple[int, Path]]:
    """Return (place in GENERAL, file) of files with a general name in a folder with the benchmark's."""
    split = benchmark.hub.split if benchmark.hub and benchmark.hub.split not in (None, "train") else None
    order = list(dict.fromkeys([split, *GENERAL] if split else GENERAL))
    found = []
    for path in files:
        above = (folder.resolve().name, *path.relative_to(folder).parts[:-1])
        name = _stem(path)
        part = _PART.fullmatch(name)
        word = part["name"] if part else name
        if any(plain(each) in benchmark.folders for each in above) and (word in order or (part and not word)):
            found.append((order.index(word) if word in order else len(order), path))
    return sorted(found)


def _best_of(general: list[tuple[int, Path]]) -> list[Path]:
    return [path for place, path in general if place == general[0][0]]


def _chosen(benchmark: Benchmark, folder: Path, found: list[Path], others: Iterable[Path]) -> Found:
    part = _PART.fullmatch(_stem(found[0]))
    if part and int(part["parts"] or 1) > 1:
        raise UserError(
            f"{folder}: '{benchmark.name}' lies in {int(part['parts'])} parts ({listed(found, folder)}), of which one "
            f"would be read: put them into one file, and name it with --file {benchmark.name}=PATH"
        )
    if len(found) > 1:
        raise UserError(
            f"{folder}: several files fit '{benchmark.name}': {listed(found, folder)}; name one with "
            f"--file {benchmark.name}=PATH"
        )
    return Found(found[0], tuple(path for path in others if path != found[0]))


def _stem(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return name.rpartition(".")[0]


def _spelled(benchmark: Benchmark) -> str:
    return " or ".join(benchmark.folders)


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
