"""Read the files of a run folder without changing them: whatever else works in the folder is not disturbed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safekey.errors import UserError

T = TypeVar("T")


def lines(path: Path, read: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    """Yield `read(row)` of each line; half a line at the end is passed over.

    Raises:
        UserError: the file cannot be read, or `read` cannot use a line.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield read(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{path}, line {number}: is no row of this file ({type(error).__name__}): restore the file"
                ) from error
