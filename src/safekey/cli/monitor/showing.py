"""What the verbs of `safekey monitor` show while they work: a bar of the rows that are read"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from safekey.cli.bars import progress


@contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """Show one bar on stderr; gives a function that is told how many rows of how many are read."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging

    logging.disable_progress_bar()
    with progress("rows read") as told:
        yield told
