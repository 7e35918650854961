"""Read files and hub data sets as raw rows, without interpreting them.

A row that cannot be read (a broken JSON line, a broken character) is returned with the reason, never dropped. A source
that cannot be read at all raises `DataError` with the line at fault.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekey.errors import DataError, UserError
from safekey.hub import hub_reachable, local_note

FILE_TYPES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in its source.

    Attributes:
        number: 1-based row number; for JSONL this is the line number.
        fields: column name to value; empty when the row cannot be read.
        column: the column at fault, or "".
        problem: why the row cannot be read, or "".
    """

    number: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    column: str = ""
    problem: str = ""


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
        rows = [_checked(row) for row in _read_file(path, local)]
    elif local.is_dir() or _is_hub_id(path):
        rows = [_checked(row) for row in _read_dataset(path, split, revision, config, notes)]
    else:
        raise DataError(f"{path}: no such file")
    if not rows:
        raise DataError(f"{path}: holds no rows")
    return rows, notes


def _is_hub_id(path: str) -> bool:
    return bool(_HUB_ID.fullmatch(path)) and not path.removesuffix(".gz").endswith((*FILE_TYPES, ".txt", ".yaml"))


def _read_file(path: str, local: Path) -> Iterator[RawRow]:
    kind = Path(local.name.removesuffix(".gz")).suffix.lower()
    if kind not in FILE_TYPES:
        raise DataError(f"{path}: unknown file type '{kind}'; expected one of {', '.join(FILE_TYPES)}, or .gz of it")
    try:
        data = local.read_bytes()
        if local.name.endswith(".gz"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not data.strip():
        raise DataError(f"{path}: is empty")
    if kind == ".parquet":
        return _parquet(path, data)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:  # no text begins with NUL characters
        raise DataError(f"{path}: is UTF-16 or UTF-32; save it as UTF-8")
    # A broken byte becomes a lone surrogate here and is reported later, for its own row, by `_checked`.
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if kind in (".csv", ".tsv"):
        return _csv(path, text, "\t" if kind == ".tsv" else ",")
    return _json(path, text, lines=kind != ".json")


def _json(path: str, text: str, *, lines: bool) -> Iterator[RawRow]:
    """Read JSON or JSONL; the content decides where it contradicts the file name, a common mistake."""
    first = text.lstrip()[0]
    if lines and first != "[":
        return _json_lines(text)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if lines or (error.msg == "Extra data" and first == "{"):
            return _json_lines(text)
        raise DataError(f"{path}: wrong JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: wrong JSON: {error}") from error
    if isinstance(value, dict):
        inner = list(value.values())
        wrapped = len(inner) == 1 and isinstance(inner[0], list) and all(isinstance(row, dict) for row in inner[0])
        value = inner[0] if wrapped else [value]
    if not isinstance(value, list):
        raise DataError(f"{path}: wrong JSON: expected a list of objects, found {type(value).__name__}")
    return (_object(number, row) for number, row in enumerate(value, 1))


def _json_lines(text: str) -> Iterator[RawRow]:
    # Not str.splitlines(): it also splits at U+2028 and others, which JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield _object(number, json.loads(line))
        except json.JSONDecodeError as error:
            yield RawRow(number, problem=f"wrong JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:
            yield RawRow(number, problem=f"wrong JSON: {error}")


def _object(number: int, value: Any) -> RawRow:
    if isinstance(value, dict):
        return RawRow(number, value)
    return RawRow(number, problem=f"not an object: expected {{column: value, …}}, found {type(value).__name__}")


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

    try:
        rows = pq.read_table(pa.BufferReader(data)).to_pylist()
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
            raise DataError(f"{path}: cannot be read as a saved folder: {first_line}") from error
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


def _checked(row: RawRow) -> RawRow:
    """Report a row with a broken character, which neither a tokenizer nor a UTF-8 file accepts."""
    for column, value in row.fields.items():
        try:
            if _is_text(column) and _is_text(value):
                continue
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
