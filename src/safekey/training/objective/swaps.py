"""Draw swap partners within a step: another row's query for qsm, another row's wrong beginning for ksm.

Both are drawn by the seed from all rows of the step, over all ranks. So every rank draws the same partners, however the
rows are split into micro-batches.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from safekey.training.encoding import Encoded


def swap_partners(rows: Sequence[Encoded], seed: int) -> list[int | None]:
    """Draw, for each row with spans, another such row whose query replaces its own.

    The partners form a random cycle, so no row is its own partner and every row is used once. With fewer than two such
    rows there are no partners.

    Args:
        rows: all rows of the step, over all ranks.
        seed: the same seed and rows give the same partners.
    """
    eligible = [i for i, row in enumerate(rows) if row.spans.complete]
    partners: list[int | None] = [None] * len(rows)
    if len(eligible) > 1:
        cycle = eligible[:]
        random.Random(seed).shuffle(cycle)  # noqa: S311 - not a secret
        for here, there in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            partners[here] = there
    return partners


def partner_queries(rows: Sequence[Encoded], seed: int) -> list[list[int] | None]:
    """Return for each row the tokens of its partner's query, or None."""
    partners = swap_partners(rows, seed)
    return [None if i is None else rows[i].input_ids[rows[i].spans.query] for i in partners]


def wrong_beginnings(rows: Sequence[Encoded], seed: int, rest: int) -> list[list[int] | None]:
    """Draw, for each labelled row with spans, the wrong beginning W of its ksm document.

    W is the key sentence of a row with the other label, followed by 0 to `rest` tokens of that row's thinking; the
    number is drawn too, because an attacker's prefill may end anywhere. Refusing rows get complying key sentences and
    complying rows get refusing ones. None where no row has the other label.

    Args:
        rows: all rows of the step, over all ranks.
        seed: the same seed and rows give the same beginnings.
        rest: most tokens after the borrowed key sentence.
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
