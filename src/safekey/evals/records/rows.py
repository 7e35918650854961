"""A run folder's two files of rows, completions and verdicts, each opened once in a process."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekey.evals.records.completions import completion_hash, completion_key
from safekey.evals.records.row_store import RowStore

COMPLETIONS = "completions.jsonl"
VERDICTS = "verdicts.jsonl"
RESOLVED = "resolved.yaml"


def verdict_key(row: Mapping[str, Any]) -> Hashable:
    """Identify a verdict: which completion, which part, which judge with which prompt, and who answered."""
    return row["completion"], row["judge"], row["prompt_hash"], row["model"], row["part"]


@dataclass(frozen=True)
class RunRows:
    """Completions and verdicts of one run folder."""

    completions: RowStore
    verdicts: RowStore

    def close(self) -> None:
        """Close both files."""
        self.completions.close()
        self.verdicts.close()

    def put_in_order(self, benchmarks: Sequence[str], items: Mapping[str, Sequence[str]]) -> None:
        """Sort both files by benchmark, item and sample, and drop superseded rows."""
        places = {(name, item): (at, n) for at, name in enumerate(benchmarks) for n, item in enumerate(items[name])}
        last = (len(benchmarks), 0)

        def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
            return *places.get((row["benchmark"], row["item"]), last), str(row["item"]), row["epoch"]

        self.completions.rewrite(place)
        current = {completion_hash(row) for row in self.completions.rows()}
        self.verdicts.rewrite(
            lambda row: (*place(row), row["part"], row["judge"], row["model"], row["prompt_hash"]),
            keep=lambda row: row["completion"] in current,
        )


_open: dict[str, RunRows] = {}


def open_rows(folder: str | None) -> RunRows | None:
    """Return a run folder's rows; None for no folder, or one that holds no run (any more: a log may outlive it)."""
    if folder is None:
        return None
    if folder not in _open:
        home = Path(folder)
        if not (home / RESOLVED).is_file():
            return None
        _open[folder] = RunRows(RowStore(home / COMPLETIONS, completion_key), RowStore(home / VERDICTS, verdict_key))
    return _open[folder]


def close_rows(folder: str) -> None:
    """Close a run folder's rows."""
    rows = _open.pop(folder, None)
    if rows is not None:
        rows.close()
