"""Choose the published rows of a benchmark file, among those that carry the right label (`labels.py`).

Every rule is a pure function of the rows, in the file's order, and the seed: the same file gives the same prompts on
any machine. A note says what a rule leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from safekey.data.read import RawRow
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.columns import Row, column_of, text_of, value_of

Table = Mapping[str, tuple[str, ...]]
STEP = 5
PER_CATEGORY = 100


def chosen(rows: list[RawRow], benchmark: Benchmark, table: Table, seed: int, notes: list[str]) -> list[RawRow]:
    """Return the published choice among rows that carry the right label (see `Benchmark.rule`)."""
    if benchmark.pick == "every-5th":
        if len(rows) == benchmark.size:
            notes.append(
                f"{benchmark.name}: the file holds {len(rows)} rows, the published choice itself: all are taken"
            )
            return rows
        return rows[::STEP]
    if benchmark.pick == "seeded" and benchmark.draw is not None:
        return drawn(rows, benchmark.draw, seed)
    if benchmark.pick == "harmbench":
        kept = [row for row in rows if text_of(row.fields, ("FunctionalCategory",)).strip().lower() != "copyright"]
        if len(kept) < len(rows):
            notes.append(f"{benchmark.name}: {len(rows) - len(kept)} copyright behaviours left out: {benchmark.rule}")
        return kept
    if benchmark.pick == "wildchat":
        return _wildchat(rows, notes)
    return rows


def drawn(rows: list[RawRow], count: int, seed: int) -> list[RawRow]:
    """Return `count` rows in the order in which `datasets.Dataset.shuffle(seed).select(range(count))` draws them."""
    if len(rows) <= count:
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[int(place)] for place in order[:count]]


def sampled(rows: list[RawRow], count: int, seed: int) -> list[RawRow]:
    """Return a seeded sample of `count` rows, in the file's order."""
    kept = {id(row) for row in drawn(rows, count, seed)}
    return [row for row in rows if id(row) in kept]


def _wildchat(rows: list[RawRow], notes: list[str]) -> list[RawRow]:
    """Choose as the reference does: toxic, English, one turn, last turn flagged; the highest scores of each category.

    The last turn is the model's reply, so the scores are the reply's: this is the published rule.
    """
    scored: list[tuple[str, float, RawRow]] = []
    for row in rows:
        category, score = _moderation(row.fields)
        if category:
            scored.append((category, score, row))
    if not scored:
        notes.append("wildchat-toxic: the file holds no moderation scores: every row is taken as chosen already")
        return rows
    kept = []
    for category in sorted({category for category, _, _ in scored}):
        of_it = [(score, row) for name, score, row in scored if name == category]
        kept += [row for _, row in sorted(of_it, key=lambda pair: -pair[0])[:PER_CATEGORY]]
    notes.append(
        f"wildchat-toxic: {len(scored)} of {len(rows)} rows are toxic, English, of one turn and flagged; "
        f"{len(kept)} of them, at most {PER_CATEGORY} a category, are taken"
    )
    return kept


def _moderation(fields: Row) -> tuple[str, float]:
    """Return a row's highest moderation category and its score; ("", 0.0) when the rule leaves the row out."""
    reduced = column_of(fields, ("category_score",))
    if reduced is not None and column_of(fields, ("category",)):  # the reference's own reduced file
        return text_of(fields, ("category",)), float(fields[reduced])
    turns = _read(value_of(fields, ("openai_moderation",)))
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], Mapping):
        return "", 0.0
    right = {"toxic": ("true", "1"), "language": ("english",), "turn": ("1", "1.0")}
    for name, accepted in right.items():
        value = text_of(fields, (name,)).strip().lower()
        if value and value not in accepted:
            return "", 0.0
    scores = turns[-1].get("category_scores")
    if not turns[-1].get("flagged") or not isinstance(scores, Mapping):
        return "", 0.0
    # The hub writes each category twice ("self-harm", "self_harm"); None stands where a row lacks one.
    numbers = {str(name): float(score) for name, score in scores.items() if score is not None and "_" not in str(name)}
    best = max(numbers, key=lambda name: numbers[name], default="")
    return best, numbers.get(best, 0.0)


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
