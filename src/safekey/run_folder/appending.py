"""Append whole lines to a file: a full disk or a kill never leaves half a line in front of a later one."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import BinaryIO


def append_line(file: BinaryIO, line: bytes) -> int:
    """Append a line and return the place where it begins; a line that does not fit is taken back.

    Args:
        file: open for appending, without a buffer (`buffering=0`), which would write its rest after a failure.
        line: with its line end.

    Raises:
        OSError: the disk is full, or the file cannot be written; the file is as it was.
    """
    begin = file.seek(0, os.SEEK_END)
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) or 0 :]
        file.flush()
    except BaseException:  # Ctrl-C between two parts of a line as well
        with suppress(OSError):
            file.truncate(begin)
        raise
    return begin


def end_last_line(file: BinaryIO, begins: bytes) -> None:
    """End a last line without a line end, so that the next line stands alone; half a line of ours is cut off.

    Args:
        file: open for reading and appending.
        begins: how each of our lines begins: half a line that begins otherwise is another's, and is kept.
    """
    end = file.seek(0, os.SEEK_END)
    place = end
    while place:  # backwards, in blocks: the last line may be long
        step = min(place, 1 << 16)
        file.seek(place - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            place = place - step + found + 1
            break
        place -= step
    if place == end:
        return
    file.seek(place)
    line = file.read(end - place)
    if _is_json(line) or not line.startswith(begins[: len(line)]):
        append_line(file, b"\n")
    else:
        file.truncate(place)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
