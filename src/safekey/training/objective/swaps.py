"""What rows of a step lend each other: query swap takes another row's query, key swap another row's wrong beginning.

Both are drawn from the whole step's rows, over all ranks, by the seed. So every rank draws the same, and the draw does
not depend on how the rows are split.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from safekey.training.encoding import Encoded


def swap_partners(rows: Sequence[Encoded], seed: int) -> list[int | None]:
    """Draw, for each row with spans, another such row whose query replaces its own.

    A random cycle through the rows: nobody gets itself, everybody is used once. Fewer than two rows: no partner.

    Args:
        rows: the whole step's rows, over all ranks.
        seed: same seed, same rows, same partners.
    """
    eligible = [i for i, row in enumerate(rows) if row.spans.complete]
    partners: list[int | None] = [None] * len(rows)
    if len(eligible) > 1:
        cycle = eligible[:]
        random.Random(seed).shuffle(cycle)  # noqa: S311 - not a secret
        for here, there in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            partners[here] = there
    return partners


def query_ids(row: Encoded) -> list[int]:
    """X as tokens."""
    return row.input_ids[row.spans.query]


def partner_queries(rows: Sequence[Encoded], seed: int) -> list[list[int] | None]:
    """Return, per row, the query of its query-swap partner among these rows."""
    return [None if partner is None else query_ids(rows[partner]) for partner in swap_partners(rows, seed)]


def wrong_beginnings(rows: Sequence[Encoded], seed: int, rest: int) -> list[list[int] | None]:
    """Draw, for each labelled row with spans, the beginning W that key swap puts before its K.

    W is the key sentence of a row of the other label and up to `rest` tokens of the thinking behind it, how many is
    drawn too: a prefilled beginning may end anywhere. Refusing rows are shown complying key sentences and complying
    rows refusing ones, so that neither is favoured. None where no row has the other label.

    Args:
        rows: the whole step's rows, over all ranks.
        seed: same seed, same rows, same beginnings.
        rest: most tokens behind the borrowed key sentence.
    """
    draw = random.Random(f"key swap {seed}")  # noqa: S311 - not a secret
    lenders = {label: [row for row in rows if row.spans.complete and row.harmful is label] for label in (True, False)}
    found: list[list[int] | None] = []
    for row in rows:
        others = lenders[not row.harmful] if row.spans.complete and row.harmful is not None else []
        if not others:
            found.append(None)
            continue
        other = draw.choice(others)
        key = other.spans.key_sentence
        end = min(key.stop + draw.randint(0, rest), max(key.stop, other.thinking_end or 0))
        found.append(other.input_ids[key.start : end])
    return found
