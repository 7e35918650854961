"""Pack the documents of several rows into one sequence, so that one forward pass gives every loss.

A row contributes one document for each objective that is on::

    response   [X U K R answer]     sft: loss on everything after X; the heads read the hidden states of X and U
    qmm        [U K]                query-mask modelling: X is left out, positions as if it were there; loss on K
    qsm        [X' U K]             query swap: X' is another row's X; loss on K
    ksm        [X U W K R answer]   key swap: a wrong beginning W, from another row, before K; loss on all after W

The documents of a row lie side by side, row after row, without padding; each attends only within itself. The qmm
document is exact, not an approximation: with X masked, U and K see only each other, and the loss needs nothing after K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from safekey.errors import UserError
from safekey.training.encoding import Encoded


@dataclass(frozen=True)
class Packed:
    """One packed batch; every index counts along the packed sequence.

    Attributes:
        input_ids: the tokens of all documents.
        position_ids: positions, counted within each document.
        lengths: the lengths of the documents, in order.
        predictors: indices of the hidden states that predict a target.
        targets: the tokens that have a loss.
        sft: which of the targets belong to a response document.
        key: which of those belong to K.
        qmm: which belong to a qmm document.
        qsm: which belong to a qsm document.
        ksm: which belong to a ksm document.
        ksm_key: which of those belong to K.
        pool: for each row with a label and spans: start of X, end of X, start of U, end of U.
        harmful: the labels of these rows, 1 harmful, 0 benign.
    """

    input_ids: Int[Tensor, "1 tokens"]
    position_ids: Int[Tensor, "1 tokens"]
    lengths: tuple[int, ...]
    predictors: Int[Tensor, " targets"]
    targets: Int[Tensor, " targets"]
    sft: Bool[Tensor, " targets"]
    key: Bool[Tensor, " targets"]
    qmm: Bool[Tensor, " targets"]
    qsm: Bool[Tensor, " targets"]
    ksm: Bool[Tensor, " targets"]
    ksm_key: Bool[Tensor, " targets"]
    pool: Int[Tensor, "examples 4"]
    harmful: Int[Tensor, " examples"]

    def to(self, device: torch.device | str) -> Packed:
        """Move every tensor to a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {n: v.to(device, non_blocking=True) for n, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class Counts:
    """The divisors of the losses: counts over the whole step, all micro-batches and all ranks.

    Attributes:
        sft_tokens: targets of the response documents.
        key_tokens: tokens of K, over the rows that have U and K.
        examples: rows with U, K and a label.
        recovery_tokens: tokens from K to the end, over these rows.
    """

    sft_tokens: int
    key_tokens: int
    examples: int
    recovery_tokens: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def count(rows: Sequence[Encoded]) -> Counts:
    """Count the divisors of the losses of these rows."""
    complete = [row for row in rows if row.spans.complete]
    labelled = [row for row in complete if row.harmful is not None]
    return Counts(
        sft_tokens=sum(len(row.input_ids) - row.first_target for row in rows),
        key_tokens=sum(row.spans.key_sentence.stop - row.spans.key_sentence.start for row in complete),
        examples=len(labelled),
        recovery_tokens=sum(len(row.input_ids) - row.spans.key_sentence.start for row in labelled),
    )


def document_lengths(
    row: Encoded, *, qmm: bool = False, swap: Sequence[int] | None = None, wrong: Sequence[int] | None = None
) -> tuple[int, int, int, int]:
    """Return the lengths of a row's response, qmm, qsm and ksm documents; 0 for one that is not asked for."""
    x, u, k = row.spans.query, row.spans.understanding, row.spans.key_sentence
    full, short, complete = len(row.input_ids), k.stop - x.stop, row.spans.complete
    return (
        full,
        short if complete and qmm else 0,
        len(swap) + short if complete and swap is not None else 0,
        full + len(wrong) + k.start - u.stop if complete and wrong is not None else 0,
    )


def pack(
    rows: Sequence[Encoded],
    *,
    qmm: bool,
    swaps: Sequence[Sequence[int] | None] | None = None,
    wrongs: Sequence[Sequence[int] | None] | None = None,
) -> Packed:
    """Lay the documents of the rows side by side.

    Args:
        rows: at least one.
        qmm: whether rows with U and K get a qmm document. Its positions start at |X|, as in the paper.
        swaps: per row, the tokens of another row's X for the qsm document, or None for no such document.
        wrongs: per row, the tokens of the wrong beginning W for the ksm document, or None for no such document.

    Raises:
        UserError: no rows, or spans that do not lie in order inside their row.
    """
    if not rows:
        raise UserError("cannot pack an empty batch: pass at least one encoded row")
    build = _Builder()
    for i, row in enumerate(rows):
        _check(row)
        key = row.spans.key_sentence if row.spans.complete else slice(0, 0)
        places = range(row.first_target, len(row.input_ids))
        base = build.add(row.input_ids, ["key" if key.start <= at < key.stop else "sft" for at in places])
        if not row.spans.complete:
            continue
        x, k = row.spans.query, row.spans.key_sentence
        if row.harmful is not None:
            u = row.spans.understanding
            build.pool.append((base + x.start, base + x.stop, base + u.start, base + u.stop))
            build.harmful.append(int(row.harmful))
        tail = row.input_ids[x.stop : k.stop]
        learnt = k.stop - k.start
        if qmm:
            build.add(tail, ["qmm"] * learnt, x.stop)
        swap = swaps[i] if swaps is not None else None
        if swap is not None:
            build.add([*swap, *tail], ["qsm"] * learnt)
        wrong = wrongs[i] if wrongs is not None else None
        if wrong is not None:
            build.add(recovery(row, wrong), ["ksm_key"] * learnt + ["ksm"] * (len(row.input_ids) - k.stop))
    return build.done()


def recovery(row: Encoded, wrong: Sequence[int]) -> list[int]:
    """Return the tokens of the ksm document: W stands where K stood, with the same white space, and K follows W."""
    u, k = row.spans.understanding, row.spans.key_sentence
    return [*row.input_ids[: k.start], *wrong, *row.input_ids[u.stop :]]


class _Builder:
    """Collects the lists that become one `Packed`."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.lengths: list[int] = []
        self.predictors: list[int] = []
        self.kinds: list[str] = []
        self.pool: list[tuple[int, int, int, int]] = []
        self.harmful: list[int] = []

    def add(self, ids: Sequence[int], kinds: Sequence[str], first_position: int = 0) -> int:
        """Add a document whose last `len(kinds)` tokens are targets of these kinds; return where it starts."""
        base = len(self.ids)
        self.ids += ids
        self.positions += range(first_position, first_position + len(ids))
        self.lengths.append(len(ids))
        self.predictors += range(base + len(ids) - len(kinds) - 1, base + len(ids) - 1)
        self.kinds += kinds
        return base

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
            sft=of("sft", "key"),
            key=of("key"),
            qmm=of("qmm"),
            qsm=of("qsm"),
            ksm=of("ksm", "ksm_key"),
            ksm_key=of("ksm_key"),
            pool=torch.tensor(self.pool, dtype=torch.long).reshape(-1, 4),
            harmful=torch.tensor(self.harmful, dtype=torch.long),
        )


def _check(row: Encoded) -> None:
    """Refuse spans that are out of order or leave the row."""
    x, u, k = row.spans.query, row.spans.understanding, row.spans.key_sentence
    inside = 0 <= x.start <= x.stop <= len(row.input_ids)
    if row.spans.complete:
        inside = inside and x.stop <= u.start < u.stop <= k.start < k.stop <= len(row.input_ids)
    if not inside or not row.input_ids:
        raise UserError(
            f"row {row.name or '(unnamed)'}: spans query={x}, understanding={u}, key_sentence={k} must lie in this "
            f"order inside its {len(row.input_ids)} tokens"
        )
