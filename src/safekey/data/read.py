"""Read files and hub data sets as raw rows, without interpreting them.

A row that cannot be read (a broken JSON line, a broken character) is returned with the reason, never dropped. A source
that cannot be read at all raises `DataError` with the line at fault.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safekey.data.contents import file_bytes, is_parquet, too_large, unpacked_limit
from safekey.data.json_rows import RawRow as RawRow
from safekey.data.json_rows import json_rows, said_twice
from safekey.errors import DataError, UserError
from safekey.hub import hub_reachable, local_note

FILE_TYPES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def read_rows(
    path: str, *, split: str | None = None, revision: str | None = None, config: str | None = None
) -> tuple[list[RawRow], list[str]]:
    """Read every row of a local file, a folder saved by `datasets`, or a hub data set.

    Returns:
        The rows, and notes on choices for the caller to show (which split was read).

    Raises:
        DataError: the source cannot be read, or holds no rows.
        UserError: `split`, `revision` or `config` was given for a plain file, which has none.
    """
    notes: list[str] = []
    local = Path(path)
    if local.is_file():
        named = [name for name, value in (("split", split), ("revision", revision), ("config", config)) if value]
        if named:
            raise UserError(f"{path}: '{named[0]}' applies to hub data sets and saved folders; this is a plain file")
        rows = [_checked(row) for row in _read_file(path, local, notes)]
    elif local.is_dir() or _is_hub_id(path):
        rows = [_checked(row) for row in _read_dataset(path, split, revision, config, notes)]
    elif local.is_symlink():
        raise DataError(f"{path}: is a link to {os.readlink(local)}, which does not exist")
    else:
        raise DataError(f"{path}: no such file")
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return rows, notes


def _is_hub_id(path: str) -> bool:
    return bool(_HUB_ID.fullmatch(path)) and not path.removesuffix(".gz").endswith((*FILE_TYPES, ".txt", ".yaml"))


def _read_file(path: str, local: Path, notes: list[str]) -> Iterable[RawRow]:
    kind = Path(local.name.removesuffix(".gz")).suffix.lower()
    if kind not in FILE_TYPES:
        raise DataError(f"{path}: unknown file type '{kind}'; expected one of {', '.join(FILE_TYPES)}, or .gz of it")
    data = file_bytes(path, local, notes)
    if not data.strip():
        raise DataError(f"{path}: is empty")
    if is_parquet(data) and kind != ".parquet":
        notes.append(f"{path}: is Parquet, although its name ends in {kind}; it was read as Parquet")
        kind = ".parquet"
    if kind == ".parquet":
        return _parquet(path, data)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:  # no text begins with NUL characters
        raise DataError(f"{path}: is UTF-16 or UTF-32; save it as UTF-8")
    # A broken byte becomes a lone surrogate here and is reported later, for its own row, by `_checked`.
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if kind in (".csv", ".tsv"):
        delimiter = "\t" if kind == ".tsv" else ","
        return _csv(path, _without_comments(path, text, delimiter, notes), delimiter)
    return json_rows(path, text, notes, lines=kind != ".json")


def _without_comments(path: str, text: str, delimiter: str, notes: list[str]) -> str:
    """Return the text without comment lines before the header ("# version 2"); a note says how many there were.

    A line of names, as many as the line behind it has cells, is the header itself: a first column may be called "# id".
    """
    lines = 0
    while text.startswith("# "):
        first, _, rest = text.partition("\n")
        names = first.split(delimiter)
        if "=" not in first and all(names[1:]) and 1 < len(names) == rest.partition("\n")[0].count(delimiter) + 1:
            break
        text = rest
        lines += 1
    if lines:
        notes.append(
            f"{path}: {lines} comment line{'s' if lines > 1 else ''} before the header (with '# ') passed over"
        )
    return text


def _csv(path: str, text: str, delimiter: str) -> Iterator[RawRow]:
    limit = csv.field_size_limit(sys.maxsize)  # the default of 131,072 characters is less than a long thinking
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        _check_header(path, list(reader.fieldnames or ()))
        rows = []
        for number, fields in enumerate(reader, 1):
            if None in fields:
                reason = f"too many values: the header names {len(reader.fieldnames or ())} columns; quote the commas"
                rows.append(RawRow(number, problem=reason))
            else:
                rows.append(RawRow(number, fields))
    except csv.Error as error:
        raise DataError(f"{path}: wrong CSV: {error} at line {reader.line_num}") from error
    finally:
        csv.field_size_limit(limit)
    return iter(rows)


def _check_header(path: str, names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: wrong CSV: two columns are called '{twice}'; rename one in the first line")
    other = next((mark for mark in (";", "\t", ",") if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        kind = "it is named .tsv" if other == "," else "name it .tsv" if other == "\t" else "save it with commas"
        raise DataError(f"{path}: its columns seem to be separated by {other!r}: {kind}")


def _parquet(path: str, data: bytes) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not is_parquet(data):
        raise DataError(f"{path}: cannot be read as Parquet: it is no Parquet file, or its end is missing")
    limit, size = unpacked_limit(len(data)), 0
    rows: list[dict[str, Any]] = []
    try:
        for batch in pq.ParquetFile(pa.BufferReader(data)).iter_batches(batch_size=512):
            size += batch.nbytes
            if size > limit:
                raise too_large(path, limit)
            rows += batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    return (RawRow(number, row) for number, row in enumerate(rows, 1))


def _read_dataset(
    path: str, split: str | None, revision: str | None, config: str | None, notes: list[str]
) -> Iterable[RawRow]:
    folder = Path(path).is_dir()
    if not folder:
        hub_reachable()
    import datasets

    bars = not datasets.are_progress_bars_disabled()
    if folder:  # no bar for what takes a moment
        datasets.disable_progress_bars()
    saved = any((Path(path) / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        # Never `trust_remote_code`: a data set's own script would run as the user.
        data = datasets.load_from_disk(path) if saved else datasets.load_dataset(path, config, revision=revision)
    except Exception as error:  # the hub client raises a dozen unrelated types; all mean the same to the user
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        if folder:
            raise DataError(
                f"{path}: is a folder, and cannot be read as one: {first_line}.{_files_in(path)}"
            ) from error
        raise DataError(f"{path}: neither a file nor a readable hub data set: {local_note()}{first_line}") from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    if isinstance(data, dict):
        names = sorted(data)
        chosen = split or (names[0] if len(names) == 1 else "train")
        if chosen not in data:
            raise DataError(f"{path}: no split '{chosen}'; it has {', '.join(names)}: name one of them")
        if not split and len(names) > 1:
            notes.append(f"{path}: split 'train' of {', '.join(names)} was taken, as none was named")
        data = data[chosen]
    elif split and str(data.split or split) != split:
        raise DataError(f"{path}: no split '{split}'; the folder holds '{data.split}'")
    return (RawRow(number, row) for number, row in enumerate(data, 1))


def _files_in(folder: str) -> str:
    names = sorted(each.name for each in Path(folder).iterdir() if each.name.endswith((*FILE_TYPES, ".gz")))
    return f" It holds {', '.join(names[:8])}: name one of them" if names else " Name a file"


def _checked(row: RawRow) -> RawRow:
    """Report a row with a broken character, which neither a tokenizer nor a UTF-8 file accepts."""
    for column, value in row.fields.items():
        try:
            if (twin := said_twice(value)) is not None:
                reason = f"the same key twice in one object: '{twin}'; leave one of them out"
            elif _is_text(column) and _is_text(value):
                continue
            else:
                reason = "broken text: not valid UTF-8 (or half of a surrogate pair); convert the file to UTF-8"
        except RecursionError:
            reason = "nested too deeply: expected a table's cell"
        return RawRow(row.number, column=str(column).encode("utf-8", "replace").decode(), problem=reason)
    return row


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() or not re.search("[\ud800-\udfff]", value)
    if isinstance(value, Mapping):
        return all(_is_text(key) and _is_text(item) for key, item in value.items())
    return all(_is_text(item) for item in value) if isinstance(value, list | tuple) else True
