"""Rows that survive a kill: one JSON object a line, appended as soon as it is known, found again by its key.

    rows = RowStore(run / "verdicts.jsonl", verdict_key)
    if verdict_key(row) not in rows:
        rows.add(row)
    rows.rewrite(order)    # sorted, without superseded rows, in one step

A process that is killed while it writes leaves half a line at the end; opening the file cuts it off. A later row with
the same key supersedes the earlier one.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from safekey.errors import UserError

Row = dict[str, Any]
Key = Callable[[Mapping[str, Any]], Hashable]


class RowStore:
    """A file of rows, appended to by one process at a time (`EvalRun` holds the lock).

    The rows stay on disk: 500 problems with several long samples each would fill the memory.
    """

    def __init__(self, path: Path, key: Key):
        """Open the file, or a new one.

        Args:
            path: the file.
            key: what identifies a row; a row that lacks the fields raises KeyError.

        Raises:
            UserError: the file cannot be read or written, or a line that is not the last one is damaged.
        """
        self.path, self._key = path, key
        self._places: dict[Hashable, tuple[int, int]] = {}
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
            self._read()
        except OSError as error:
            raise UserError(f"{path}: cannot be read or written: {error.strerror}") from error

    def _read(self) -> None:
        """Find every row's place; cut off what a killed process left unfinished."""
        self._places.clear()
        self._file.seek(0)
        place, whole = 0, True
        for number, line in enumerate(self._file, 1):
            whole = line.endswith(b"\n")
            if not whole:
                break
            try:
                self._places[self._key(json.loads(line))] = (place, len(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self.path}, line {number}: is no row of this file ({type(error).__name__}: {str(error)[:80]}); "
                    "restore the file, or delete the line and run the command again"
                ) from error
            place += len(line)
        if not whole:
            self._file.truncate(place)
        self._end = place

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: Hashable) -> Row | None:
        """Return the last row with this key, or None."""
        with self._lock:
            if key not in self._places:
                return None
            place, length = self._places[key]
            return self._at(place, length)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; once this returns, a kill of the process no longer loses it."""
        line = json.dumps(row, ensure_ascii=True).encode() + b"\n"  # ASCII: a lone surrogate must not raise
        with self._lock:
            self._file.write(line)
            self._file.flush()
            self._places[self._key(row)] = (self._end, len(line))
            self._end += len(line)

    def rows(self) -> Iterator[Row]:
        """Yield the rows in the file's order, superseded ones left out."""
        for place, length in sorted(self._places.values()):
            with self._lock:
                row = self._at(place, length)
            yield row

    def rewrite(
        self, order: Callable[[Mapping[str, Any]], Any], keep: Callable[[Mapping[str, Any]], bool] = lambda row: True
    ) -> None:
        """Sort the rows and drop superseded ones, and those not to keep; a kill leaves the old file or the new one."""
        pairs = zip(self.rows(), sorted(self._places.values()), strict=True)
        places = sorted((order(row), place) for row, place in pairs if keep(row))
        aside = self.path.with_name(f".{self.path.name}.new")
        with self._lock, aside.open("wb") as file:
            for _, (place, length) in places:
                self._file.seek(place)
                file.write(self._file.read(length))
            file.flush()
            os.fsync(file.fileno())
            self._file.close()
            aside.replace(self.path)
            self._file = self.path.open("a+b")
            self._read()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _at(self, place: int, length: int) -> Row:
        self._file.seek(place)
        row: Row = json.loads(self._file.read(length))
        return row
