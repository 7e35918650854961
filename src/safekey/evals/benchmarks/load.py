"""Load a benchmark, from a user's file or a hub data set at a pinned revision, as items.

    items = load_benchmark("strongreject", data_dir="benchmarks/")
    items[0].prompt, items[0].request, items.notes, items.problems

`catalog.py` has the table of benchmarks, `columns.py` that of column names, `selection.py` chooses the rows.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from safekey.data.formats import RowError
from safekey.data.read import FILE_TYPES, RawRow, read_rows
from safekey.errors import RowProblem, UserError
from safekey.evals.benchmarks.attacks import PREFILL_TOKENS, prefill
from safekey.evals.benchmarks.behaviours import Asked, behaviours, plain_id, same_text
from safekey.evals.benchmarks.catalog import Benchmark, find_benchmark
from safekey.evals.benchmarks.columns import columns_found, named_columns
from safekey.evals.benchmarks.items import Item, build_item
from safekey.evals.benchmarks.selection import chosen, labelled, sampled

DEPTH = 3  # folders below the data folder that are searched
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENDINGS = (*FILE_TYPES, *(f"{kind}.gz" for kind in FILE_TYPES))


class Items(list[Item]):
    """A benchmark's items, and the rows that could not be used.

    Attributes:
        benchmark: the table's row.
        problems: one entry for every row that should have become an item and could not.
        notes: choices and differences from the published benchmark, for the user.
        rows_read: rows in the source.
        source: the file or hub id.
        revision: the hub's revision, "" for a file.
        sha256: of the file's bytes, "" for the hub.
    """

    def __init__(self, benchmark: Benchmark, items: Iterable[Item] = ()) -> None:
        super().__init__(items)
        self.benchmark = benchmark
        self.problems: list[RowProblem] = []
        self.notes: list[str] = []
        self.rows_read = 0
        self.source = ""
        self.revision = ""
        self.sha256 = ""

    def describe_problems(self, limit: int = 5) -> str:
        """Return "" or the problems, one a line, at most `limit` of them and then "+N more"."""
        lines = [str(problem) for problem in self.problems[:limit]]
        if len(self.problems) > limit:
            lines.append(f"+{len(self.problems) - limit} more")
        return "\n".join(lines)


def load_benchmark(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    file: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    columns: Mapping[str, str | None] | None = None,
    prefill_tokens: Sequence[int] = PREFILL_TOKENS,
) -> Items:
    """Load a benchmark of the table.

    The source is `file`, else the best match in `data_dir`, else the hub (only at a named or pinned revision).

    Args:
        name: a name of the table.
        data_dir: a folder of benchmark files, searched three levels deep by the table's file names.
        file: one file, in whatever layout it is published.
        revision: the commit of the hub data set.
        limit: only the first so many of the chosen rows; the prefilling attack makes one item per row and N of them.
        sample: only a seeded sample of so many of the chosen rows, in the file's order; before `limit`.
        seed: draws rows and shuffles choices; None: the published seed.
        columns: what is looked for → the column's name, for the keys of `columns.COLUMNS`; None: do not look for it.
        prefill_tokens: every N of the prefilling attack.

    Returns:
        The items, never empty, with the rows that could not be used and notes on what differs from the published set.

    Raises:
        DataError: the source cannot be read.
        UserError: an argument is wrong, no file was found, its columns do not fit, or no row can be used.
    """
    benchmark = find_benchmark(name)
    for what, number in (("limit", limit), ("sample", sample)):
        if number is not None and number < 1:
            raise UserError(f"{what}: expected a number from 1, found {number}")
    seed = benchmark.seed if seed is None else seed
    table = named_columns(columns)
    items = Items(benchmark)
    rows = _read_source(items, data_dir, file, revision)
    items.rows_read = len(rows)
    # The choice counts rows by their place in the source, so unreadable ones stay until it is made.
    readable = [row for row in rows if not row.problem]
    items.problems += [RowProblem(items.source, row.number, row.column, row.problem) for row in rows if row.problem]
    if not readable:
        raise UserError(f"{items.source}: no row can be read\n{items.describe_problems()}")
    source = f"{items.source}/{benchmark.hub.split or ''}" if items.revision and benchmark.hub else items.source
    kept = rows if benchmark.keep is None else readable
    kept = labelled(kept, benchmark, table, source, items.notes, items.problems)
    kept = chosen(kept, benchmark, table, seed, items.notes)
    kept = [row for row in kept if not row.problem]
    full = len(kept)
    if sample is not None:
        kept = sampled(kept, sample, seed)
    kept = kept[:limit]
    _build(items, kept, table, seed)
    _note_sizes(items, full, len(kept))
    if benchmark.kind == "prefill":
        items[:] = prefill(items, prefill_tokens)
    return items


def find_file(benchmark: Benchmark, data_dir: str | os.PathLike[str]) -> Path:
    """Return the file of a data folder that holds a benchmark.

    Raises:
        UserError: the folder does not exist, or holds no such file, or several that fit equally well.
    """
    folder = Path(data_dir)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(_ENDINGS) and len(path.relative_to(folder).parts) <= DEPTH and path.is_file()
    )
    for pattern in benchmark.files:
        found = [
            path
            for path in files
            if fnmatch.fnmatchcase(path.name.lower(), pattern)
            or fnmatch.fnmatchcase(path.relative_to(folder).as_posix().lower(), pattern)
        ]
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in found)
            raise UserError(f"{folder}: several files fit '{benchmark.name}': {names}; name one with --file")
        if found:
            return found[0]
    names = ", ".join(str(path.relative_to(folder)) for path in files[:20]) or "no data file"
    raise UserError(
        f"{folder}: no file for '{benchmark.name}': looked for {', '.join(benchmark.files)} with one of the endings "
        f"{', '.join(FILE_TYPES)} (.gz); found {names}. Name the file with --file"
    )


def _read_source(
    items: Items, data_dir: str | os.PathLike[str] | None, file: str | os.PathLike[str] | None, revision: str | None
) -> list[RawRow]:
    benchmark = items.benchmark
    if file is not None or data_dir is not None:
        if revision:
            raise UserError(f"{benchmark.name}: a revision and a local file exclude one another")
        path = Path(file) if file is not None else find_file(benchmark, data_dir or "")
        rows, notes = read_rows(str(path))
        items.source = str(path)
        if path.is_file():
            items.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        items.notes += notes
        return rows
    hub = benchmark.hub
    if hub is None:
        raise UserError(f"{benchmark.name}: no hub data set is known for it; give a file, or a folder with --data-dir")
    revision = revision or hub.revision
    if not revision:
        raise UserError(
            f"{benchmark.name}: no revision of '{hub.id}' is pinned; name a commit with --revision, or give a local "
            "file (a branch may change between two runs that are compared)"
        )
    rows, notes = read_rows(hub.id, split=hub.split, revision=revision, config=hub.config)
    items.source, items.revision = hub.id, revision
    items.notes += notes
    if not _COMMIT.fullmatch(revision):
        items.notes.append(f"{hub.id}: revision '{revision}' is no commit: it may move; pin the full commit hash")
    return rows


def _build(items: Items, rows: list[RawRow], table: Mapping[str, tuple[str, ...]], seed: int) -> None:
    failures: list[RowProblem] = []
    for row in rows:
        try:
            items.append(build_item(items.benchmark, row.fields, table, items.source, row.number, seed))
        except RowError as error:
            failures.append(RowProblem(items.source, row.number, error.field, error.reason))
    items.problems += failures
    if not items:
        first = failures[0] if failures else None
        what = f"; row {first.row}: {first.reason}" if first else ""
        option = first.field if first and first.field in table else "prompt"
        raise UserError(
            f"{items.source}: no row can be used for '{items.benchmark.name}'{what}. Columns found: "
            f"{columns_found(row.fields for row in rows[:100])}. Name one with --column {option}=NAME"
        )
    counts = Counter(item.id for item in items)
    doubled = [item_id for item_id, count in counts.items() if count > 1]
    if doubled:  # a sample is known by its id when a run goes on after a stop: two must never share one
        items[:] = [replace(item, id=f"{item.id}~{item.row}") if counts[item.id] > 1 else item for item in items]
        items.notes.append(f"{items.source}: {len(doubled)} ids stand on several rows; '~ROW' was added to them")
    asked = [Asked(item.benchmark, plain_id(item.id, item.attack), item.behaviour, item.request) for item in items]
    found = behaviours(asked)
    items[:] = [replace(item, behaviour=behaviour) for item, behaviour in zip(items, found, strict=True)]
    alone = [asked.objective for asked in asked if not asked.behaviour]
    if shared := len(alone) - len(set(map(same_text, alone))):
        items.notes.append(
            f"{items.source}: {shared} prompts have the objective of an earlier one, and are one behaviour with it"
        )


def _note_sizes(items: Items, full: int, asked: int) -> None:
    benchmark = items.benchmark
    if benchmark.size is not None and full != benchmark.size:
        items.notes.append(f"{benchmark.name}: {full} rows chosen; the published benchmark has {benchmark.size}")
    if asked < full:
        items.notes.append(f"{benchmark.name}: {asked} of {full} rows are asked")
    if items.problems:
        items.notes.append(f"{benchmark.name}: {len(items.problems)} rows cannot be used")
    dropped = sum("dropped_reply" in item.metadata for item in items)
    if dropped:
        items.notes.append(f"{benchmark.name}: the last reply of {dropped} conversations was taken off")
    texts = Counter(item.prompt.messages for item in items)
    if repeated := sum(count - 1 for count in texts.values() if count > 1):
        items.notes.append(f"{benchmark.name}: {repeated} prompts repeat an earlier one of the file")
