"""Which rows an optimiser step works on, and who works on which of them.

Both are pure functions of the seed and the step: every rank computes the whole deal for itself and takes its share. So
the step's counts, the query-swap partners and the rows do not depend on how many ranks or micro-batches there are,
nothing has to be gathered, and a resumed run continues exactly. (A `DataLoader` sharded by accelerate would repeat rows
to fill up the last step, and would give ranks uneven work.)
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from safekey.errors import UserError
from safekey.training.encoding import Encoded
from safekey.training.objective.pack import Counts, count, document_lengths
from safekey.training.objective.swaps import partner_queries, wrong_beginnings


@dataclass(frozen=True)
class Piece:
    """What one forward pass works on.

    Attributes:
        rows: its rows. Never empty: a rank that has nothing to do repeats a row and is `idle`.
        swaps: per row, the tokens of its query-swap partner's X.
        wrongs: per row, the tokens of its key-swap beginning.
        idle: the pass only keeps the ranks in step; its loss counts nothing.
    """

    rows: list[Encoded]
    swaps: list[list[int] | None]
    wrongs: list[list[int] | None]
    idle: bool = False

    def lengths(self, masked: bool) -> list[tuple[int, int, int, int]]:
        """Return the lengths of every row's A, B, B' and C documents, 0 where there is none."""
        return [
            document_lengths(row, masked=masked, swap=swap, wrong=wrong)
            for row, swap, wrong in zip(self.rows, self.swaps, self.wrongs, strict=True)
        ]

    def part(self, places: Sequence[int]) -> Piece:
        """Return some of the rows, with what they are lent."""
        return Piece(*([values[i] for i in places] for values in (self.rows, self.swaps, self.wrongs)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class StepWork:
    """One rank's share of an optimiser step.

    Attributes:
        step: number of optimiser steps done before this one.
        micro_batches: the passes of each micro-batch of the training loop.
        counts: of the whole step, all ranks.
        weights: of the auxiliary objectives in force.
    """

    step: int
    micro_batches: list[list[Piece]]
    counts: Counts
    weights: Mapping[str, float]


class Plan:
    """The order of the rows and their deal to ranks.

    Attributes:
        rows: the training data, the same on every rank.
        per_step: rows of a step, all ranks.
        steps_per_epoch: optimiser steps of an epoch; the last one takes what is left (unless `drop_last`).
        loop_length: micro-batches of an epoch as the training loop counts them.
    """

    def __init__(
        self,
        rows: Sequence[Encoded],
        *,
        micro_batch: int,
        accumulation: int,
        world: int,
        rank: int,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,
        cap: int | None = None,
        ksm_rest: int = 0,
    ):
        self.rows = rows
        self.per_step = micro_batch * accumulation * world
        full, left = divmod(len(rows), self.per_step)
        left = 0 if drop_last else left
        self.steps_per_epoch = full + (left > 0)
        self.loop_length = full * accumulation + math.ceil(left / (micro_batch * world))
        if not self.steps_per_epoch:
            raise UserError(f"{len(rows)} rows do not fill one step of {self.per_step} rows: lower the batch size")
        self._world, self._rank, self._seed, self._shuffle, self._cap = world, rank, seed, shuffle, cap
        self._ksm_rest = ksm_rest
        self._shortest = min(rows, key=lambda row: len(row.input_ids))
        self._order: tuple[int, list[int]] = (-1, [])

    def order(self, epoch: int) -> list[int]:
        """Return the row indices of an epoch in the order in which they are trained on."""
        if self._order[0] != epoch:
            indices = list(range(len(self.rows)))
            if self._shuffle:
                random.Random(f"{self._seed}:{epoch}").shuffle(indices)  # noqa: S311 - not a secret
            self._order = (epoch, indices)
        return self._order[1]

    def step_rows(self, step: int) -> list[Encoded]:
        """Return the rows of an optimiser step, over all ranks."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return [self.rows[i] for i in self.order(epoch)[within * self.per_step : (within + 1) * self.per_step]]

    def whole(self, step: int, weights: Mapping[str, float]) -> Piece:
        """Return a step's rows, over all ranks, and what they lend each other under these weights."""
        return piece_of(self.step_rows(step), self._seed + step, weights, self._ksm_rest)

    def work(self, step: int, micro_batches: int, weights: Mapping[str, float]) -> StepWork:
        """Return this rank's share of a step, in the number of micro-batches that the training loop wants."""
        whole = self.whole(step, weights)
        costs = [sum(lengths) for lengths in whole.lengths(bool(weights["qmm"]))]
        mine = deal(costs, self._world, micro_batches, self._cap)[self._rank]
        pieces = [whole.part(piece) if piece else idle_piece(self._shortest) for piece in mine]
        borders = [len(pieces) * i // micro_batches for i in range(micro_batches + 1)]
        groups = [pieces[a:b] for a, b in pairwise(borders)]
        return StepWork(step, groups, count(whole.rows), weights)


def piece_of(rows: list[Encoded], seed: int, weights: Mapping[str, float], ksm_rest: int) -> Piece:
    """Return these rows with the partners that the objectives in force need, drawn among them by the seed."""
    nobody: list[list[int] | None] = [None] * len(rows)
    return Piece(
        rows,
        partner_queries(rows, seed) if weights["qsm"] else nobody,
        wrong_beginnings(rows, seed, ksm_rest) if weights["ksm"] else nobody,
    )


def idle_piece(row: Encoded) -> Piece:
    """Return what a rank without rows works on, to keep in step."""
    return Piece([row], [None], [None], idle=True)


def deal(costs: Sequence[int], ranks: int, least: int, cap: int | None) -> list[list[list[int]]]:
    """Deal rows to ranks and forward passes so that passes are about equally long.

    Args:
        costs: each row's packed tokens.
        ranks: number of ranks.
        least: passes that each rank makes at least.
        cap: most tokens of a pass (a single longer row still is a pass); more passes are made to keep to it.

    Returns:
        Per rank, per pass, indices of rows; as many passes on every rank, some perhaps empty.
    """
    most = max(least, math.ceil(len(costs) / ranks))
    passes = least
    bins = _spread(costs, ranks * passes)
    while cap is not None and passes < most and any(_cost(costs, one) > cap and len(one) > 1 for one in bins):
        passes += 1
        bins = _spread(costs, ranks * passes)
    bins.sort(key=lambda one: (-_cost(costs, one), one))  # ranks work at the same time on passes of the same length
    hands: list[list[list[int]]] = [[] for _ in range(ranks)]
    for turn in range(passes):
        group = bins[turn * ranks : (turn + 1) * ranks]
        for hand, one in zip(hands, group if turn % 2 == 0 else reversed(group), strict=True):
            hand.append(one)
    return hands


def _spread(costs: Sequence[int], number: int) -> list[list[int]]:
    """Spread rows over bins: the longest first, each into the bin that holds least."""
    bins: list[list[int]] = [[] for _ in range(number)]
    loads = [(0, i) for i in range(number)]
    for row in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, lightest = min(loads)
        bins[lightest].append(row)
        loads[lightest] = (load + costs[row], lightest)
    return [sorted(one) for one in bins]


def _cost(costs: Sequence[int], one: Sequence[int]) -> int:
    return sum(costs[i] for i in one)


def fingerprint(rows: Sequence[Encoded]) -> str:
    """Hash the rows, to notice that ranks, or a run and its checkpoint, do not have the same data."""
    digest = hashlib.sha256()
    for row in rows:
        spans = (row.spans.query, row.spans.understanding, row.spans.key_sentence)
        numbers = [edge for span in spans for edge in (span.start, span.stop)]
        label = {None: -1, False: 0, True: 1}[row.harmful]
        digest.update(array("q", [len(row.input_ids), row.first_target, label, *numbers, *row.input_ids]).tobytes())
    return digest.hexdigest()[:16]
