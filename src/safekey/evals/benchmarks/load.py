"""Load a benchmark, from a user's file or a hub data set at a pinned revision, as items.

    items = load_benchmark("strongreject", data_dir="benchmarks/")
    items[0].prompt, items[0].request, items.notes, items.problems

`catalog.py` has the table of benchmarks, `columns.py` that of column names, `selection.py` chooses the rows.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from safekey.data.formats import RowError
from safekey.data.read import RawRow, read_rows
from safekey.errors import RowProblem, UserError
from safekey.evals.benchmarks.attacks import PREFILL_TOKENS, prefill
from safekey.evals.benchmarks.behaviours import Asked, behaviours, plain_id, same_text
from safekey.evals.benchmarks.catalog import Benchmark, find_benchmark
from safekey.evals.benchmarks.columns import ATTACKS, columns_found, holds, named_columns
from safekey.evals.benchmarks.files import (
    Reading,
    check_names,
    choose_file,
    columns_not_there,
    listed,
    no_header,
    read_columns,
    unused_files,
)  # fmt: skip
from safekey.evals.benchmarks.files import find_file as find_file  # part of this module's interface
from safekey.evals.benchmarks.items import Item, build_item
from safekey.evals.benchmarks.parts import read_parts
from safekey.evals.benchmarks.roles import NO_ROLES, FileRoles
from safekey.evals.benchmarks.selection import check_labels, chosen, label_columns, labelled, numbered, sampled

Table = Mapping[str, tuple[str, ...]]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"[A-Za-z0-9_.:/#+-]{1,80}")  # one word of letters, digits and marks: an id, a slug, a hash


class Items(list[Item]):
    """A benchmark's items, and the rows that could not be used.

    Attributes:
        benchmark: the table's row.
        problems: one entry for every row that should have become an item and could not.
        notes: choices and differences from the published benchmark, for the user.
        warnings: what makes the numbers doubtful.
        rows_read: rows in the source.
        source: the file or hub id.
        revision: the hub's revision, "" for a file.
        sha256: of the file's bytes, "" for the hub.
        reading: what was read of the source, and what was not.
    """

    def __init__(self, benchmark: Benchmark, items: Iterable[Item] = ()) -> None:
        super().__init__(items)
        self.benchmark = benchmark
        self.problems: list[RowProblem] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.rows_read = 0
        self.source = ""
        self.revision = ""
        self.sha256 = ""
        self.reading = Reading()

    def describe_problems(self, limit: int = 5) -> str:
        """Return "" or the problems, one a line, at most `limit` of them and then "+N more"."""
        lines = [str(problem) for problem in self.problems[:limit]]
        if len(self.problems) > limit:
            lines.append(f"+{len(self.problems) - limit} more")
        return "\n".join(lines)


def load_benchmark(
    name: str | Benchmark,
    data_dir: str | os.PathLike[str] | None = None,
    file: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    columns: Mapping[str, str | None] | None = None,
    prefill_tokens: Sequence[int] = PREFILL_TOKENS,
    force_labels: bool = False,
) -> Items:
    """Load a benchmark of the table, or one of the user's own.

    The source is `file`, else the best match in `data_dir`, else the hub (only at a named or pinned revision).

    Args:
        name: a name of the table, or a row that is in no table (`own.own_benchmark`).
        data_dir: a folder of benchmark files, searched three levels deep by the table's file names.
        file: one file, in whatever layout it is published.
        revision: the commit of the hub data set.
        limit: only the first so many of the chosen rows; the prefilling attack makes one item per row and N of them.
        sample: only a seeded sample of so many of the chosen rows, in the file's order; before `limit`.
        seed: draws rows and shuffles choices; None: the published seed.
        columns: what is looked for → the column's name, for the keys of `columns.COLUMNS`; None: do not look for it.
        prefill_tokens: every N of the prefilling attack.
        force_labels: ask rows, too, that say the opposite of what the benchmark asks for.

    Returns:
        The items, never empty, with the rows that could not be used and notes on what differs from the published set.

    Raises:
        DataError: the source cannot be read.
        UserError: an argument is wrong, no file was found, its columns do not fit, or no row can be used.
    """
    benchmark = find_benchmark(name) if isinstance(name, str) else name
    for what, number in (("limit", limit), ("sample", sample)):
        if number is not None and number < 1:
            raise UserError(f"{what}: expected a number from 1, found {number}")
    seed = benchmark.seed if seed is None else seed
    table = named_columns(columns)
    items = Items(benchmark)
    rows = _read_source(items, data_dir, file, revision)
    items.rows_read = len(rows)
    items.warnings += columns_not_there(items.source, rows, columns or {})
    check_names(items.source, rows)
    # The choice counts rows by their place in the source, so unreadable ones stay until it is made.
    readable = [row for row in rows if not row.problem]
    items.problems += [RowProblem(items.source, row.number, row.column, row.problem) for row in rows if row.problem]
    if not readable:
        raise UserError(f"{items.source}: no row can be read\n{items.describe_problems()}")
    source = f"{items.source}/{benchmark.hub.split or ''}" if items.revision and benchmark.hub else items.source
    kept = rows if benchmark.keep is None else readable
    kept = labelled(kept, benchmark, table, source, items.notes, items.problems, force=force_labels)
    kept = chosen(kept, benchmark, table, seed, items.notes)
    kept = [row for row in kept if not row.problem]
    check_labels(kept, benchmark, table, source, items.notes, force=force_labels)
    roles = _roles(items, kept, table)
    full = len(kept)
    if sample is not None:
        kept = sampled(kept, sample, seed)
    kept = kept[:limit]
    _build(items, kept, table, seed, roles)
    labels = label_columns(readable, table) if benchmark.suite != "reasoning" else ()
    items.reading = read_columns(items.reading, benchmark, [row.fields for row in kept], table, roles, labels)
    _note_objectives(items, kept, roles)
    _note_sizes(items, full, len(kept))
    if benchmark.kind == "prefill":
        items[:] = prefill(items, prefill_tokens)
    return items


def items_of(
    benchmark: Benchmark, rows: Sequence[RawRow], source: str, *, columns: Mapping[str, str | None] | None = None
) -> Items:
    """Build the items of rows that were read elsewhere, all of them: no choice of rows, no check of labels.

    Args:
        benchmark: what the rows are.
        rows: the rows, with those that cannot be read.
        source: where they come from, for messages.
        columns: as for `load_benchmark`.

    Raises:
        UserError: no row can be used, or the columns do not fit.
    """
    table = named_columns(columns)
    items = Items(benchmark)
    items.source, items.rows_read = source, len(rows)
    items.warnings += columns_not_there(source, rows, columns or {})
    check_names(source, rows)
    items.problems += [RowProblem(source, row.number, row.column, row.problem) for row in rows if row.problem]
    kept = [row for row in rows if not row.problem]
    if not kept:
        raise UserError(f"{source}: no row can be used\n{items.describe_problems()}")
    roles = _roles(items, kept, table)
    _build(items, kept, table, benchmark.seed, roles)
    items.reading = read_columns(items.reading, benchmark, [row.fields for row in kept], table, roles, ())
    _note_objectives(items, kept, roles)
    return items


def what_was_read(loaded: Sequence[Items], data_dir: str | os.PathLike[str] | None) -> list[str]:
    """Return what was read of each benchmark's file, and the files of the folder that none of them uses."""
    lines = [
        line for items in loaded for line in items.reading.lines(items.benchmark.name, items.source, items.rows_read)
    ]
    unused = unused_files(data_dir, [items.source for items in loaded]) if data_dir is not None else []
    if data_dir is not None and unused:
        lines.append(f"{data_dir}: used by no benchmark of this run: {listed(unused, Path(data_dir))}")
    return lines


def _read_source(
    items: Items, data_dir: str | os.PathLike[str] | None, file: str | os.PathLike[str] | None, revision: str | None
) -> list[RawRow]:
    benchmark = items.benchmark
    if file is not None or data_dir is not None:
        if revision:
            raise UserError(f"{benchmark.name}: a revision and a local file exclude one another")
        if file is not None:
            path = Path(file)
        else:
            found = choose_file(benchmark, data_dir or "")
            path = found.path
            items.reading.others = listed(found.others, Path(data_dir or ""))
        items.source = str(path)
        if benchmark.parts and path.is_dir():
            rows, notes, items.sha256 = read_parts(path, benchmark.parts)
        else:
            rows, notes = read_rows(str(path))
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


def _roles(items: Items, rows: Sequence[RawRow], table: Table) -> FileRoles | None:
    kind, suite = items.benchmark.kind, items.benchmark.suite
    if suite == "reasoning":
        return None
    need: Literal["conversation", "request"] = "conversation" if kind == "conversation" else "request"
    return FileRoles([row.fields for row in rows], table, items.source, need, benign=suite == "over-refusal")


def _build(items: Items, rows: list[RawRow], table: Table, seed: int, roles: FileRoles | None) -> None:
    failures: list[RowProblem] = []
    for row in rows:
        try:
            own = roles.of(row.fields) if roles else NO_ROLES
            items.append(build_item(items.benchmark, row.fields, table, items.source, row.number, seed, own))
        except RowError as error:
            failures.append(RowProblem(items.source, row.number, error.field, error.reason))
    items.problems += failures
    if not items:
        first = failures[0] if failures else None
        what = f"; row {first.row}: {first.reason}" if first else ""
        option = first.field if first and first.field in table and first.field not in ATTACKS else "prompt"
        raise UserError(
            f"{items.source}: no row can be used for '{items.benchmark.name}'{what}. Columns found: "
            f"{columns_found(row.fields for row in rows[:100])}. Name one with --column {option}=NAME"
            f"{no_header(items.source, rows)}"
        )
    counts = Counter(item.id for item in items)
    doubled = [item_id for item_id, count in counts.items() if count > 1]
    if doubled:  # a resumed run identifies a sample by its id: two must never share one
        items[:] = [replace(item, id=f"{item.id}~{item.row}") if counts[item.id] > 1 else item for item in items]
        items.notes.append(f"{items.source}: {len(doubled)} ids are on several rows; '~ROW' was added to them")
    asked = [Asked(item.benchmark, plain_id(item.id, item.attack), item.behaviour, item.request) for item in items]
    found = behaviours(asked)
    items[:] = [replace(item, behaviour=behaviour) for item, behaviour in zip(items, found, strict=True)]
    alone = [asked.objective for asked in asked if not asked.behaviour]
    if shared := len(alone) - len(set(map(same_text, alone))):
        items.notes.append(
            f"{items.source}: {shared} prompts have the objective of an earlier one, and are one behaviour with it"
        )


def _note_objectives(items: Items, rows: Sequence[RawRow], roles: FileRoles | None) -> None:
    """Note rows without an objective where others have one, and objectives and prompts that look like ids."""
    if roles is None:
        return
    items.warnings += roles.hints()
    of = {row.number: (roles.of(row.fields), row.fields) for row in rows}
    without: dict[str, list[int]] = {}
    ids: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        own, fields = of[item.row]
        if own.told and not holds(fields.get(own.told)):
            without.setdefault(own.told, []).append(item.row)
        elif own.told and _ID.fullmatch(item.request.strip()):
            ids.setdefault((own.told, "the judge is told"), []).append(item)
        if _ID.fullmatch(item.text.strip()):
            ids.setdefault((own.asked, "the model is asked"), []).append(item)
    for column, numbers in without.items():
        items.notes.append(
            f"{items.source}: '{column}' is empty in {numbered(numbers)}: there the judge is told the whole prompt"
        )
    for (column, use), found in ids.items():
        seen = ", ".join(repr(text) for text in list(dict.fromkeys(_said(item, use) for item in found))[:3])
        key = "objective" if "judge" in use else "prompt"
        items.warnings.append(
            f"{items.source}: {len(found)} of {len(items)} texts in '{column}', which {use}, look like ids ({seen}): "
            f"name the column that holds the text with --column {key}=NAME"
        )


def _said(item: Item, use: str) -> str:
    return (item.request if "judge" in use else item.text).strip()


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
