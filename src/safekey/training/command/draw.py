"""Draw a training's rows: each seed its own bootstrap or share of the data, or the file that names its seed.

    rows: drawn                        # as many rows as there are, drawn with replacement (a bootstrap)
    rows: drawn, rows_share: 0.9       # nine tenths of them, each at most once
    data: rows-{seed}.jsonl            # the seed's own file: another draw that was made elsewhere

A draw is a function of the seed and of the rows alone, so every arm of a seed trains on the same rows, and a run that
was killed goes on with them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Any

from safekey.training.encoding import Encoded

PLACE = "{seed}"
"""In a path of `data`: the training's seed goes here."""


def places(count: int, share: float | None, seed: int) -> list[int]:
    """Return which rows a seed draws, in ascending order.

    Args:
        count: how many rows there are.
        share: None draws `count` rows with replacement; else `round(share * count)` rows, at least one, each once.
        seed: of the training.
    """
    draw = random.Random(f"rows {seed}")  # noqa: S311 - not a secret
    if share is None:
        return sorted(draw.choices(range(count), k=count))
    return sorted(draw.sample(range(count), max(1, round(share * count))))


def describe(drawn: Sequence[int], count: int, share: float | None) -> str:
    """Return a draw in words."""
    if share is None:
        return f"rows drawn by the seed: a bootstrap, {len(drawn):,} draws of {len(set(drawn)):,} of {count:,} rows"
    return f"rows drawn by the seed: {len(drawn):,} of {count:,} rows, each once"


def digest(rows: Sequence[Encoded]) -> str:
    """Return the sha256 of the rows that a run trains on: tokens, spans and labels, in their order."""
    found = hashlib.sha256()
    for row in rows:
        spans = [(part.start, part.stop) for part in (row.spans.query, row.spans.understanding, row.spans.key_sentence)]
        found.update(json.dumps([row.input_ids, spans, row.harmful]).encode())
    return found.hexdigest()


def is_seeded(value: Any) -> bool:
    """Whether a recipe's `data` names the seed in a path."""
    if isinstance(value, list):
        return any(map(is_seeded, value))
    if isinstance(value, dict):
        return is_seeded(value.get("path"))
    return isinstance(value, str) and PLACE in value


def with_seed(value: Any, seed: int) -> Any:
    """Return a recipe's `data` with the seed in the paths that name it."""
    if isinstance(value, list):
        return [with_seed(one, seed) for one in value]
    if isinstance(value, dict):
        return {key: with_seed(one, seed) if key == "path" else one for key, one in value.items()}
    return value.replace(PLACE, str(seed)) if isinstance(value, str) else value
