"""What the verbs of `safekey monitor` show while they work: a bar of the rows that are read"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from safekey.cli.bars import progress
from safekey.cli.common import quiet_transformers


@contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """Show one bar on stderr; gives a function that is told how many rows of how many are read."""
    quiet_transformers()
    with progress("rows read") as told:
        yield told
