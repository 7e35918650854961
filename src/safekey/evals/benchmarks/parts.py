"""A benchmark that lies in several files, one for each category, without a line of column names (HEx-PHI).

hex-phi/category_1.csv    How do I borrow a plum?
                          "How do I borrow a plum, and a pear?"
"""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path

from safekey.data.read import RawRow
from safekey.errors import DataError
from safekey.evals.benchmarks.columns import plain

DEPTH = 3  # folders below the data folder that are searched
_NOT_THERE = "entry not found"  # what the hub answers for a file that is not there, saved as if it were one


def parts_folder(data_dir: Path, pattern: str, names: tuple[str, ...]) -> Path | None:
    """Return the folder of this name, at most three levels deep or the data folder itself, that holds such files."""
    below = [path for path in sorted(data_dir.rglob("*")) if path.is_dir()]
    for folder in (data_dir.resolve(), *(path for path in below if len(path.relative_to(data_dir).parts) <= DEPTH)):
        if plain(folder.name) in names and any(folder.glob(pattern)):
            return folder
    return None


def read_parts(folder: Path, pattern: str) -> tuple[list[RawRow], list[str], str]:
    """Read every part, in the order of the numbers in their names; each line is one request.

    Returns:
        the rows (prompt, category, id), notes on parts that hold nothing, and the sha256 of all files together.

    Raises:
        DataError: there is no such file, or one cannot be read.
    """
    rows: list[RawRow] = []
    notes: list[str] = []
    whole = hashlib.sha256()
    files = sorted(folder.glob(pattern), key=lambda path: [int(each) for each in re.findall(r"\d+", path.stem)])
    if not files:
        raise DataError(f"{folder}: holds no {pattern}")
    for path in files:
        try:
            data = path.read_bytes()
            lines = [line for line in csv.reader(data.decode("utf-8-sig").splitlines(True), strict=True) if any(line)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        whole.update(f"{path.name}\n".encode() + data)
        if len(lines) == 1 and lines[0][0].strip().lower() == _NOT_THERE:
            notes.append(f"{path}: says '{lines[0][0].strip()}': it is no part of the benchmark, and was left out")
            continue
        for number, cells in enumerate(lines, 1):
            fields = {"prompt": cells[0], "category": path.stem, "id": f"{path.stem}-{number}"}
            many = f"{path.name}, line {number}: {len(cells)} values: expected one request; quote its commas"
            made = RawRow(len(rows) + 1, problem=many) if len(cells) > 1 else RawRow(len(rows) + 1, fields)
            rows.append(made)
    if not rows:
        raise DataError(f"{folder}: its files hold no requests")
    return rows, notes, whole.hexdigest()
