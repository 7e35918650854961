"""Write examples to JSONL so that `load_examples` reads the same examples again, and records row by row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from safekey.data.formats import COLUMNS, RowError, column_table
from safekey.data.labels import LABEL_COLUMNS, WORD_LABEL_COLUMNS, label_row
from safekey.data.load import read_example
from safekey.data.read import RawRow
from safekey.errors import UserError
from safekey.schema import Example, Message
from safekey.text.thinking import split_response

Record = dict[str, object]


def to_row(example: Example) -> dict[str, Any]:
    """Return the row to write: the fields as they were read, with the canonical response, offsets and label.

    If the columns of the row would be read differently without options (they were named by `columns=`, say), the prompt
    is written as `prompt`. No value is lost: a column whose name is needed is kept as `source_<name>`.
    """
    fields = example.fields
    found: dict[str, Any] = {
        "id": fields.get("id") or example.id,
        "response": example.response,
        "understanding_end": example.understanding_end,
        "key_sentence_end": example.key_sentence_end,
        "span_source": example.span_source,
    }
    if example.harmful is not None:
        found["harmful"] = example.harmful
    row = {**fields, **_displaced(fields, found), **found}
    if _reads_back(row, example):
        return row
    found |= {"id": example.id, "prompt": [_turn(turn) for turn in example.prompt], "source": example.source}
    in_the_way = {name for key in ("messages", "thinking", "system", "history") for name in COLUMNS[key]}
    if example.harmful is None:
        in_the_way |= {*LABEL_COLUMNS, *WORD_LABEL_COLUMNS}
    if example.understanding_end is None:
        in_the_way |= {*COLUMNS["understanding_end"], *COLUMNS["key_sentence_end"]}
    own = {f"source_{name}" if name in in_the_way else name: value for name, value in fields.items()}
    return {**own, **_displaced(fields, found), **found}


def _displaced(fields: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the row that `found` overwrites, except a response that is the same in another form."""
    kept = {}
    for name in ("id", "prompt", "response", "source"):
        value = fields.get(name)
        if value is None or name not in found or str(value) == str(found[name]):
            continue
        if name == "response" and isinstance(value, str) and _answer(value) == _answer(found[name]):
            continue
        kept[f"source_{name}"] = value
    return kept


def _answer(response: str) -> str:
    return split_response(response).answer


def write_jsonl(examples: Iterable[Example], path: str | os.PathLike[str]) -> int:
    """Write the examples to a temporary file and rename it to `path`, so that an interruption leaves no partial file.

    Returns:
        The number of rows written.

    Raises:
        UserError: the file cannot be written.
    """
    target = Path(path)
    aside = target.with_name(target.name + ".partial")
    count = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            for example in examples:
                file.write(json.dumps(to_row(example), ensure_ascii=False, default=str) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return count


def _reads_back(row: dict[str, Any], example: Example) -> bool:
    try:
        again = read_example(RawRow(example.row, row), example.file, column_table(None))
        return replace(again, harmful=label_row(row).harmful) == example
    except RowError:
        return False


def _turn(turn: Message) -> dict[str, str]:
    thinking = {} if turn.thinking is None else {"thinking": turn.thinking}
    return {"role": turn.role, "content": turn.content, **thinking}


def read_records(path: Path | None) -> dict[str, Record]:
    """Return the records of a JSONL file by their "key"; lines that a kill cut short are skipped."""
    found: dict[str, Record] = {}
    for line in path.read_bytes().split(b"\n") if path is not None and path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("key"), str):
            found[record["key"]] = record
    return found


def open_for_append(path: Path) -> IO[bytes]:
    """Open a JSONL file to append records; end a line that a kill cut short.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+")
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another results file") from error
    return file


def append_record(file: IO[bytes], record: Record) -> None:
    """Append one record and flush it.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        file.flush()
    except OSError as error:
        raise UserError(f"{file.name}: cannot be written ({error.strerror}); what was recorded is kept") from error
