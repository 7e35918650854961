"""What a run's numbers need of its completions: how they ended, and their labels, without the texts.

outputs = read_outputs(run.rows)
outputs.counts["strongreject"]  -> {"completions": 313, "ok": 300, "truncated": 9, "unclosed": 3, …, "error": 1}
outputs.failed  -> {"completions": 1, "asked_again": 1, "reasons": {"no answer: the server answered 503": 1}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from safekey.evals.benchmarks.behaviours import Asked, behaviours
from safekey.evals.records.rows import REDACTED, RunRows, asked_in, completion_hash, completion_in, is_final
from safekey.text.outputs import OUTPUT_CLASSES
from safekey.text.thinking import split_completion

_CLASSES = tuple(name for name in OUTPUT_CLASSES if name != "unattacked")  # that one is counted only where it occurs
_MOST_REASONS = 5
_LONGEST_REASON = 200  # characters


@dataclass(frozen=True)
class Outputs:
    """The completions of a run.

    Attributes:
        known: hash → the labels of a `Scored`: sample, benchmark, output, behaviour, category, attack.
        counts: benchmark → completions, and how many ended in each class.
        failed: generations that failed ("completions"), those of them that the same command asks for again
            ("asked_again"), and how often for which reason ("reasons").
    """

    known: dict[str, dict[str, Any]]
    counts: dict[str, dict[str, int]]
    failed: dict[str, Any]
    _rows: RunRows

    def empty_parts(self, missing: Iterable[tuple[str, Any]]) -> set[tuple[str, str]]:
        """Return which of these (hash, part) have nothing to judge; the texts are read for them alone."""
        wanted: dict[str, list[Any]] = {}
        for digest, part in missing:
            if self.known[digest]["output"] == "ok":
                wanted.setdefault(digest, []).append(part)
        empty = set()
        for row in self._rows.completions.rows() if wanted else ():
            digest = completion_hash(row)
            if digest in wanted and REDACTED in row:
                empty |= {(digest, part) for part in wanted[digest] if part not in row[REDACTED]["parts"]}
            elif digest in wanted:
                thinking = split_completion(completion_in(row))
                empty |= {(digest, part) for part in wanted[digest] if not thinking.part(part).strip()}
        return empty


def read_outputs(rows: RunRows) -> Outputs:
    """Read the completions of a run folder."""
    known: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    asked: list[Asked] = []
    reasons: Counter[str] = Counter()
    again = 0
    for row in rows.completions.rows():
        labels = {name: row[name] for name in ("benchmark", "output", "behaviour", "category", "attack")}
        known[completion_hash(row)] = {"sample": f"{row['item']}#{row['epoch']}", **labels}
        asked.append(asked_in(row))
        own = counts.setdefault(row["benchmark"], {"completions": 0, **dict.fromkeys(_CLASSES, 0)})
        own["completions"] += 1
        own[row["output"]] = own.get(row["output"], 0) + 1
        if row["output"] == "error":
            reasons[str(row["error"])[:_LONGEST_REASON]] += 1
            again += not is_final(row)
    for labels, behaviour in zip(known.values(), behaviours(asked), strict=True):
        labels["behaviour"] = behaviour
    failed = {
        "completions": reasons.total(),
        "asked_again": again,
        "reasons": dict(reasons.most_common(_MOST_REASONS)),
    }
    return Outputs(known, counts, failed, rows)
