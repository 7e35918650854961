"""Write examples to JSONL so that `load_examples` reads the same examples again, and records row by row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from safekey.data.formats import COLUMNS, RowError, column_table
from safekey.data.labels import LABEL_COLUMNS, WORD_LABEL_COLUMNS, label_row
from safekey.data.load import read_example
from safekey.data.read import RawRow
from safekey.errors import UserError
from safekey.run_folder.appending import append_line, end_last_line
from safekey.run_folder.ownership import Ledger, check_apart, real
from safekey.schema import Example, Message
from safekey.text.thinking import split_response

Record = dict[str, object]
_BEGINS = b'{"key": "'  # every saved record


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
    if example.span_confidence is not None or "span_confidence" in fields:
        found["span_confidence"] = example.span_confidence
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


def check_output(path: str | os.PathLike[str], name: str, inputs: Mapping[str, str | os.PathLike[str]]) -> None:
    """Check that a file may be written: it is new or as safekey wrote it, and it is no input.

    Args:
        path: the file.
        name: the option that names it, for the message.
        inputs: what the user calls an input → its path.

    Raises:
        UserError: what stands in the way, and what to do.
    """
    advice = "give another name, or move it away"
    check_apart(inputs, [path], advice, name)
    target = real(path)
    Ledger.of_file(target).check([target], name, advice)


def write_text(path: str | os.PathLike[str], lines: Iterable[str]) -> int:
    """Write lines in one step: an interruption leaves the old file or the new one. A verb calls `check_output` first.

    Returns:
        The number of lines written.

    Raises:
        UserError: the file cannot be written.
    """
    target, count = real(path), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Ledger.of_file(target).replacing(target) as file:
            for line in lines:
                file.write(line.encode("utf-8") + b"\n")
                count += 1
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return count


def write_jsonl(examples: Iterable[Example], path: str | os.PathLike[str]) -> int:
    """Write the examples as JSONL in one step; a file of that name is replaced. See `write_text`.

    Returns:
        The number of rows written.

    Raises:
        UserError: the file cannot be written.
    """
    return write_text(path, (json.dumps(to_row(example), ensure_ascii=False, default=str) for example in examples))


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


def check_records(path: Path, inputs: Mapping[str, str | os.PathLike[str]]) -> None:
    """Check that records may be appended to a file: it is new, or begins with a record of ours, and is no input.

    Raises:
        UserError: what stands in the way, and what to do.
    """
    advice = "give another --output, or move it away"
    check_apart(inputs, [path], advice, "replies")
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError as error:
        raise UserError(f"replies {path}: cannot be read: {error.strerror}; {advice}") from error
    if not first.startswith(_BEGINS[: len(first)]):
        raise UserError(f"replies {path}: is there already, and holds no replies that safekey saved; {advice}")


def open_for_append(path: Path) -> BinaryIO:
    """Open a JSONL file to append records (`append_record`); cut off a line that a kill cut short.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)
        end_last_line(file, _BEGINS)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another results file") from error
    return file


def append_record(file: BinaryIO, record: Record) -> None:
    """Append one record; one that does not fit on the disk is taken back.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        append_line(file, json.dumps(record, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise UserError(f"{file.name}: cannot be written ({error.strerror}); what was recorded is kept") from error
