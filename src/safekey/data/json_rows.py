"""Read the text of a JSON or JSONL file as raw rows. A row that cannot be read costs itself, never the file.

[{"question": …}, {"question": …}]      {"question": …}⏎{"question": …}      {"data": [{"question": …}], "version": 2}
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from safekey.errors import DataError

_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_TEXT_COLUMNS = frozenset(
    {"prompt", "question", "query", "instruction", "goal", "behavior", "response", "output", "problem"}
)
_TOO_DEEP = "nested too deeply: expected a table's row"


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


class Twice(dict[str, Any]):
    """An object that says one of its keys twice; JSON's reader would keep the last value in silence."""

    key = ""


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    twice = Twice(made)
    twice.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return twice


def said_twice(value: Any) -> str | None:
    """Return a key that an object in this value says twice, or None."""
    if isinstance(value, Twice):
        return value.key
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((key for item in inner if (key := said_twice(item)) is not None), None)


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object_of)


def json_rows(path: str, text: str, notes: list[str], *, lines: bool) -> Iterator[RawRow]:
    """Read JSON or JSONL; the content decides where it contradicts the file name, a common mistake.

    Args:
        path: for messages.
        text: the file's text, not empty.
        notes: gets a line where rows under a key were read.
        lines: the name says JSONL.

    Raises:
        DataError: the text is no JSON, or holds no list of objects.
    """
    first = text.lstrip()[0]
    if lines and first != "[":
        return _json_lines(text)
    try:
        value = _loads(text)
    except json.JSONDecodeError as error:
        if lines or (error.msg == "Extra data" and first == "{"):
            return _json_lines(text)
        raise DataError(f"{path}: wrong JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # one row of a list: the others can be read
        elements = _elements(text)
        if not elements:
            what = _TOO_DEEP if isinstance(error, RecursionError) else error
            raise DataError(f"{path}: wrong JSON: {what}") from error
        return (_read(number, element) for number, element in enumerate(elements, 1))
    if isinstance(value, dict):
        value = _under_a_key(path, value, notes)
    if not isinstance(value, list):
        raise DataError(f"{path}: wrong JSON: expected a list of objects, found {type(value).__name__}")
    return (_object(number, row) for number, row in enumerate(value, 1))


def _under_a_key(path: str, value: dict[str, Any], notes: list[str]) -> list[Any]:
    """Return the rows of a file that is one object: a list in it, or the object itself."""
    if any(isinstance(value.get(name), str) for name in _TEXT_COLUMNS):
        return [value]
    lists = [key for key, rows in value.items() if _is_rows(rows)]
    if len(lists) == 1:
        if others := [key for key in value if key != lists[0]]:
            notes.append(f"{path}: the rows under the key '{lists[0]}' were read; not read: {', '.join(others)}")
        return list(value[lists[0]])
    if len(lists) > 1:
        raise DataError(
            f"{path}: holds several lists of rows ({', '.join(lists)}): save one of them as a file of its own"
        )
    if list(value.values()) == [[]]:
        return []
    columns = [len(cells) for cells in value.values() if isinstance(cells, list | dict)]
    if len(value) > 1 and len(columns) == len(value) and not any(map(_is_turns, value.values())):
        if all(isinstance(row, dict) for row in value.values()) and len(set(map(tuple, value.values()))) == 1:
            notes.append(f"{path}: each key holds one row; the keys themselves were not read")
            return list(value.values())
        if len(set(columns)) == 1:
            raise DataError(
                f"{path}: is written column by column ({', '.join(list(value)[:6])}): save it as a list of rows "
                "(pandas: to_json(orient='records'))"
            )
    return [value]


def _is_rows(value: Any) -> bool:
    return (
        isinstance(value, list) and all(isinstance(row, dict) for row in value) and not _is_turns(value) and value != []
    )


def _is_turns(value: Any) -> bool:
    """Whether a list holds the turns of a conversation: then its object is a row."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    return ("role" in value[0] and "content" in value[0]) or ("from" in value[0] and "value" in value[0])


def _elements(text: str) -> list[str]:
    """Cut a JSON list into its elements without reading them; [] when it is none, or not whole."""
    depth, begin, found = 0, 0, []
    for match in _BRACKET.finditer(text):
        sign = match[0]
        if sign in "[{":
            depth += 1
            begin = match.end() if depth == 1 else begin
        elif sign in "]}":
            depth -= 1
        if (sign == "," and depth == 1) or depth == 0:
            found.append(text[begin : match.start()])
            begin = match.end()
        if depth == 0:
            whole = text.lstrip().startswith("[") and sign == "]" and not text[match.end() :].strip()
            return found if whole else []
    return []


def _json_lines(text: str) -> Iterator[RawRow]:
    # Not str.splitlines(): it also splits at U+2028 and others, which JSON strings may hold.
    return (_read(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _read(number: int, text: str) -> RawRow:
    try:
        return _object(number, _loads(text))
    except json.JSONDecodeError as error:
        return RawRow(number, problem=f"wrong JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return RawRow(number, problem=f"wrong JSON: {_TOO_DEEP}")
    except ValueError as error:
        return RawRow(number, problem=f"wrong JSON: {error}")


def _object(number: int, value: Any) -> RawRow:
    if isinstance(value, Twice):
        reason = f"the same key twice: '{value.key}'; nobody can tell which value is meant, leave one out"
        return RawRow(number, column=value.key, problem=reason)
    if isinstance(value, dict):
        return RawRow(number, value)
    return RawRow(number, problem=f"not an object: expected {{column: value, …}}, found {type(value).__name__}")
