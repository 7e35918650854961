"""Many documents in one row: the form in which one forward pass gives every loss.

A row of training data contributes up to four *documents* (METHOD.md, "Facts that make it fast")::

    A   [X U K R answer]     SFT on everything after X; the heads read h over X and U
    B   [U K]                QMM: X is not there, positions as if it were; loss on K
    B'  [X' U K]             query swap: another row's X is there instead; loss on K
    C   [X U W K R answer]   key swap: a wrong beginning W, another row's K, stands before K; loss on what follows W

They lie next to each other, A1 B1 B'1 C1 A2 B2 B'2 C2 …, each attending only within itself, with no padding. Once X is
hidden, nothing behind K matters to QMM, and U and K cannot see X: the short document is exactly the masked long one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from safekey.errors import UserError
from safekey.training.encoding import Encoded

Positions = Literal["keep", "compact", "jitter"]


@dataclass(frozen=True)
class Packed:
    """One packed batch; every index below counts along the packed sequence.

    Attributes:
        input_ids: all documents' tokens, one row.
        position_ids: each document's own positions.
        lengths: the documents' lengths, in order.
        predictors: where the hidden states lie that predict a learnt token.
        targets: the learnt tokens.
        full: which of the targets belong to an A document (SFT).
        masked: which belong to a B document (QMM).
        swapped: which belong to a B' document (query swap).
        recovered: which belong to a C document (key swap).
        recovered_key: which of those belong to K.
        key: which belong to K inside an A document.
        pool: per example with a label and spans: start of X, end of X, start of U, end of U.
        harmful: those examples' labels, 1 harmful, 0 benign.
    """

    input_ids: Int[Tensor, "1 tokens"]
    position_ids: Int[Tensor, "1 tokens"]
    lengths: tuple[int, ...]
    predictors: Int[Tensor, " targets"]
    targets: Int[Tensor, " targets"]
    full: Bool[Tensor, " targets"]
    masked: Bool[Tensor, " targets"]
    swapped: Bool[Tensor, " targets"]
    recovered: Bool[Tensor, " targets"]
    recovered_key: Bool[Tensor, " targets"]
    key: Bool[Tensor, " targets"]
    pool: Int[Tensor, "examples 4"]
    harmful: Int[Tensor, " examples"]

    def to(self, device: torch.device | str) -> Packed:
        """Move every tensor to a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {n: v.to(device, non_blocking=True) for n, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class Counts:
    """Global normalisers: how much there is over the whole step, all micro-batches and all ranks.

    Attributes:
        sft_tokens: learnt tokens of the A documents.
        key_tokens: tokens of K over the rows that have one.
        examples: rows with spans and a label.
        recovery_tokens: tokens from K to the end, over those rows.
    """

    sft_tokens: int
    key_tokens: int
    examples: int
    recovery_tokens: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def count(rows: Sequence[Encoded]) -> Counts:
    """Count what normalises the losses of these rows."""
    complete = [row for row in rows if row.spans.complete]
    labelled = [row for row in complete if row.harmful is not None]
    return Counts(
        sft_tokens=sum(len(row.input_ids) - row.first_target for row in rows),
        key_tokens=sum(row.spans.key_sentence.stop - row.spans.key_sentence.start for row in complete),
        examples=len(labelled),
        recovery_tokens=sum(len(row.input_ids) - row.spans.key_sentence.start for row in labelled),
    )


def document_lengths(
    row: Encoded, *, masked: bool = False, swap: Sequence[int] | None = None, wrong: Sequence[int] | None = None
) -> tuple[int, int, int, int]:
    """How many packed tokens a row's A, B, B' and C cost; 0 where one is not asked for."""
    x, u, k = row.spans.query, row.spans.understanding, row.spans.key_sentence
    full, short, complete = len(row.input_ids), k.stop - x.stop, row.spans.complete
    return (
        full,
        short if complete and masked else 0,
        len(swap) + short if complete and swap is not None else 0,
        full + len(wrong) + k.start - u.stop if complete and wrong is not None else 0,
    )


def pack(
    rows: Sequence[Encoded],
    *,
    masked: bool,
    swaps: Sequence[Sequence[int] | None] | None = None,
    wrongs: Sequence[Sequence[int] | None] | None = None,
    positions: Positions = "keep",
    seed: int = 0,
) -> Packed:
    """Lay the rows' documents side by side.

    Args:
        rows: at least one.
        masked: whether rows with spans get their B document.
        swaps: per row, the tokens of another row's X for B', or None.
        wrongs: per row, the tokens of the wrong beginning W for C, or None.
        positions: what B's positions say: "keep" starts at |X| as in the paper, "compact" at 0, "jitter" at a random
            offset up to 2·|X| drawn by `seed` (kept positions tell the model how long the hidden query was).
        seed: for "jitter".

    Raises:
        UserError: no rows, or spans that do not lie in order inside their row.
    """
    if not rows:
        raise UserError("cannot pack an empty batch: pass at least one encoded row")
    build = _Builder()
    for i, row in enumerate(rows):
        _check(row)
        base = build.full(row)
        if not row.spans.complete:
            continue
        x, k = row.spans.query, row.spans.key_sentence
        if row.harmful is not None:
            u = row.spans.understanding
            build.pool.append((base + x.start, base + x.stop, base + u.start, base + u.stop))
            build.harmful.append(int(row.harmful))
        tail = row.input_ids[x.stop : k.stop]
        learnt = k.stop - k.start
        if masked:
            start = {"keep": x.stop, "compact": 0}.get(positions)
            if start is None:  # drawn by the row itself, so that it does not depend on how a batch is split
                start = random.Random(hash((seed, *row.input_ids))).randint(0, 2 * x.stop)  # noqa: S311 - not a secret
            build.part(tail, ["masked"] * learnt, start)
        swap = swaps[i] if swaps is not None else None
        if swap is not None:
            build.part([*swap, *tail], ["swapped"] * learnt)
        wrong = wrongs[i] if wrongs is not None else None
        if wrong is not None:
            build.part(recovery(row, wrong), ["recovered_key"] * learnt + ["recovered"] * (len(row.input_ids) - k.stop))
    return build.done()


def recovery(row: Encoded, wrong: Sequence[int]) -> list[int]:
    """C's tokens: W follows U as K does, with the same white space, and K follows W in turn."""
    u, k = row.spans.understanding, row.spans.key_sentence
    return [*row.input_ids[: k.start], *wrong, *row.input_ids[u.stop :]]


class _Builder:
    """The lists that become one `Packed`."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.lengths: list[int] = []
        self.predictors: list[int] = []
        self.kinds: list[str] = []
        self.pool: list[tuple[int, int, int, int]] = []
        self.harmful: list[int] = []

    def _document(self, ids: Sequence[int], first_position: int) -> int:
        base = len(self.ids)
        self.ids += ids
        self.positions += range(first_position, first_position + len(ids))
        self.lengths.append(len(ids))
        return base

    def full(self, row: Encoded) -> int:
        base = self._document(row.input_ids, 0)
        k = row.spans.key_sentence if row.spans.complete else slice(0, 0)
        for at in range(row.first_target, len(row.input_ids)):
            self.predictors.append(base + at - 1)
            self.kinds.append("key" if k.start <= at < k.stop else "sft")
        return base

    def part(self, ids: Sequence[int], learnt: Sequence[str], first_position: int = 0) -> None:
        """Add a document whose last tokens are learnt; `learnt` holds their kinds."""
        base = self._document(ids, first_position)
        self.predictors += range(base + len(ids) - len(learnt) - 1, base + len(ids) - 1)
        self.kinds += learnt

    def done(self) -> Packed:
        ids = torch.tensor([self.ids])
        predictors = torch.tensor(self.predictors, dtype=torch.long)

        def of(*kinds: str) -> Tensor:
            return torch.tensor([name in kinds for name in self.kinds], dtype=torch.bool)

        return Packed(
            input_ids=ids,
            position_ids=torch.tensor([self.positions]),
            lengths=tuple(self.lengths),
            predictors=predictors,
            targets=ids[0, predictors + 1],
            full=of("sft", "key"),
            masked=of("masked"),
            swapped=of("swapped"),
            recovered=of("recovered", "recovered_key"),
            recovered_key=of("recovered_key"),
            key=of("key"),
            pool=torch.tensor(self.pool, dtype=torch.long).reshape(-1, 4),
            harmful=torch.tensor(self.harmful, dtype=torch.long),
        )


def _check(row: Encoded) -> None:
    """Refuse spans that cannot be what they say."""
    x, u, k = row.spans.query, row.spans.understanding, row.spans.key_sentence
    inside = 0 <= x.start <= x.stop <= len(row.input_ids)
    if row.spans.complete:
        inside = inside and x.stop <= u.start < u.stop <= k.start < k.stop <= len(row.input_ids)
    if not inside or not row.input_ids:
        raise UserError(
            f"row {row.name or '(unnamed)'}: spans query={x}, understanding={u}, key_sentence={k} must lie in this "
            f"order inside its {len(row.input_ids)} tokens"
        )
