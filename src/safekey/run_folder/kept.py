"""Keep what has been computed for each row until a verb has finished, so that one that was killed goes on.

    with keeping(folder, "analysis") as kept:                    # folder/rows.part
        for batch in batches:
            values = filled(kept, names, lambda: compute(batch))     # one array for each row
    # here rows.part is gone; after an error, Ctrl-C or SIGKILL it is there, and the next call reads it

A record is one line of JSON, then the array's bytes:

    {"key": "5d1f…", "dtype": "float64", "shape": [57], "crc": 2774210577}
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from safekey.errors import UserError
from safekey.run_folder.appending import append_line
from safekey.run_folder.ownership import Ledger
from safekey.run_folder.records import hold

ROWS = "rows.part"
_BEGINS = b'{"key": "'


class Kept:
    """A file of arrays by name, appended to by one process at a time. The arrays stay on disk."""

    def __init__(self, path: Path) -> None:
        """Open the file, or a new one; a record that a kill cut off is dropped.

        Raises:
            UserError: it cannot be read or written, or is no such file.
        """
        self.path = path
        self._places: dict[str, tuple[int, dict[str, Any]]] = {}
        try:
            end = self._read() if path.exists() else 0
            self._file: BinaryIO = path.open("a+b", buffering=0)
            self._file.truncate(end)
        except OSError as error:
            raise self._unwritable(error) from error

    def _read(self) -> int:
        """Find every record's place; return where the last whole one ends."""
        end = 0
        with self.path.open("rb") as file:
            while line := file.readline():
                if not line.startswith(_BEGINS[: len(line)]) and not end:
                    raise UserError(f"{self.path}: is no file of rows that safekey keeps: move it away, or delete it")
                try:
                    head = json.loads(line)
                    place, size = file.tell(), _size(head)
                    content = file.read(size)
                    whole = line.endswith(b"\n") and len(content) == size and zlib.crc32(content) == head["crc"]
                    name = head["key"]
                except (ValueError, KeyError, TypeError):
                    break
                if not whole:
                    break
                self._places[name] = (place, head)
                end = file.tell()
        return end

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path}: cannot be read or written: {error.strerror}; give another --output, or free space"
        )

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def get(self, name: str) -> NDArray[Any]:
        """Return the array of a name that is there."""
        place, head = self._places[name]
        self._file.seek(place)
        content = b""
        while len(content) < _size(head) and (more := self._file.read(_size(head) - len(content))):
            content += more
        return np.frombuffer(content, head["dtype"]).reshape(head["shape"]).copy()

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Append an array; once this returns, a kill of the process does not lose it.

        Raises:
            UserError: the disk is full, or cannot be written; what was there is whole.
        """
        content = np.ascontiguousarray(array).tobytes()
        head = {"key": name, "dtype": str(array.dtype), "shape": list(array.shape), "crc": zlib.crc32(content)}
        line = json.dumps(head).encode() + b"\n"
        try:
            place = append_line(self._file, line + content)
        except OSError as error:
            raise self._unwritable(error) from error
        self._places[name] = (place + len(line), head)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _size(head: dict[str, Any]) -> int:
    """Return how many bytes an array has."""
    return int(math.prod(head["shape"])) * int(np.dtype(head["dtype"]).itemsize)


@contextmanager
def keeping(folder: Path, kind: str) -> Iterator[Kept]:
    """Lock a folder and keep rows in it; they are deleted when the block ends without an error.

    Args:
        folder: it is made where it is missing; it was checked to be ours, or empty.
        kind: what the folder is for, as `kind_of` returns it.

    Raises:
        UserError: another process works in it, or it cannot be written.
    """
    lock = hold(folder, "another safekey works here: wait for it, or end it", unwritable="give another folder")
    try:
        path = folder / ROWS
        if not path.is_file():
            try:
                Ledger.of_folder(folder, kind).write(path, b"")  # from here on the folder is known as ours
            except OSError as error:
                raise UserError(f"{folder}: cannot be written: {error.strerror}; give another folder") from error
        kept = Kept(path)
        try:
            yield kept
        finally:
            kept.close()
        path.unlink(missing_ok=True)
    finally:
        lock.release()


def filled(
    kept: Kept | None, names: Sequence[str], compute: Callable[[], Sequence[NDArray[Any]]]
) -> Sequence[NDArray[Any]]:
    """Return a batch's arrays: those that are kept, else they are computed, and kept.

    A batch that lacks a row is computed as a whole, so that its rounding is that of a run which nobody stopped.

    Args:
        kept: None: nothing is kept.
        names: one for each row of the batch.
        compute: returns the batch's arrays.

    Raises:
        UserError: as `Kept.add`.
    """
    if kept is not None and all(name in kept for name in names):
        return [kept.get(name) for name in names]
    values = compute()
    if kept is not None:
        for name, value in zip(names, values, strict=True):
            if name not in kept:
                kept.add(name, value)
    return values
