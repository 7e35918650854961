"""Choose the rows of each optimiser step and deal them to ranks and forward passes.

Both are pure functions of the seed and the step: every rank computes the whole deal and takes its share. So the counts
that divide the losses, the swap partners and the rows do not depend on the number of ranks or micro-batches, nothing is
gathered, and a resumed run continues exactly. (A `DataLoader` sharded by accelerate would repeat rows to fill up the
last step, and would give the ranks uneven work.)
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
from safekey.training.loop.config import SafeKeyConfig
from safekey.training.objective.pack import Counts, count, document_lengths
from safekey.training.objective.swaps import partner_queries, wrong_beginnings


class SafeKeyCollator:
    """A `collate_fn`: ``DataLoader(rows, batch_size=8, collate_fn=SafeKeyCollator())`` yields ``{"rows": [...]}``.

    It neither pads nor packs. Which documents a row contributes depends on the objectives that are on, hence on the
    epoch; `safekey_loss` packs them.
    """

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, list[Encoded]]:
        """Return the rows under the key that the training step reads.

        Raises:
            UserError: something else than encoded rows.
        """
        for row in rows:
            if not isinstance(row, Encoded):
                raise UserError(
                    f"SafeKeyCollator got a {type(row).__name__}, expected Encoded rows: call "
                    "safekey.training.encode(example, tokenizer) on your examples first"
                )
        return {"rows": list(rows)}


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one forward pass, with their swap partners.

    Attributes:
        rows: never empty: a rank that has no row left repeats one and is `idle`.
        swaps: for each row, the query of its swap partner.
        wrongs: for each row, its wrong beginning.
        idle: the pass only keeps the ranks in step; its loss counts nothing.
    """

    rows: list[Encoded]
    swaps: list[list[int] | None]
    wrongs: list[list[int] | None]
    idle: bool = False

    @classmethod
    def of(cls, rows: list[Encoded], seed: int, weights: Mapping[str, float], ksm_rest: int) -> MicroBatch:
        """Draw, by the seed and among these rows, the partners that the objectives with a weight need."""
        nobody: list[list[int] | None] = [None] * len(rows)
        swaps = partner_queries(rows, seed) if weights["qsm"] else nobody
        return cls(rows, swaps, wrong_beginnings(rows, seed, ksm_rest) if weights["ksm"] else nobody)

    def lengths(self, qmm: bool) -> list[tuple[int, int, int, int]]:
        """Return the lengths of every row's response, qmm, qsm and ksm documents, 0 where there is none."""
        return [
            document_lengths(row, qmm=qmm, swap=swap, wrong=wrong)
            for row, swap, wrong in zip(self.rows, self.swaps, self.wrongs, strict=True)
        ]

    def parts(self, groups: Sequence[Sequence[int]], spare: Encoded) -> list[MicroBatch]:
        """Return one micro-batch for each group of row indices; an empty group becomes an idle pass over `spare`."""
        return [
            MicroBatch(*([values[i] for i in group] for values in (self.rows, self.swaps, self.wrongs)))  # type: ignore[arg-type]
            if group
            else MicroBatch([spare], [None], [None], idle=True)
            for group in groups
        ]


@dataclass(frozen=True)
class StepWork:
    """One rank's share of an optimiser step.

    Attributes:
        step: number of optimiser steps done before this one.
        passes: for each micro-batch that the training loop counts, its forward passes.
        counts: of the whole step, all ranks.
        weights: of the auxiliary objectives that are on.
    """

    step: int
    passes: list[list[MicroBatch]]
    counts: Counts
    weights: Mapping[str, float]


class BatchPlan:
    """The order of the rows and their deal to ranks.

    Attributes:
        rows: the training data, the same on every rank.
        per_step: rows of a step, all ranks.
        steps_per_epoch: optimiser steps of an epoch; the last one takes what is left (unless `dataloader_drop_last`).
        loop_length: micro-batches of an epoch as the training loop counts them.
    """

    def __init__(self, rows: Sequence[Encoded], args: SafeKeyConfig, *, world: int = 1, rank: int = 0):
        """Plan the batches.

        Args:
            rows: the training data.
            args: batch size, accumulation, seeds, order, token cap.
            world: number of ranks.
            rank: whose share `work` returns.

        Raises:
            UserError: the rows do not fill one step.
        """
        micro_batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
        self.rows = rows
        self.per_step = micro_batch * accumulation * world
        full, left = divmod(len(rows), self.per_step)
        left = 0 if args.dataloader_drop_last else left
        self.steps_per_epoch = full + (left > 0)
        self.loop_length = full * accumulation + math.ceil(left / (micro_batch * world))
        if not self.steps_per_epoch:
            raise UserError(f"{len(rows)} rows do not fill one step of {self.per_step} rows: lower the batch size")
        self._args, self._world, self._rank = args, world, rank
        self._seed = args.seed if args.data_seed is None else args.data_seed
        self._shortest = min(rows, key=lambda row: len(row.input_ids))
        self._order: tuple[int, list[int]] = (-1, [])

    def order(self, epoch: int) -> list[int]:
        """Return the row indices of an epoch in the order of training."""
        if self._order[0] != epoch:
            indices = list(range(len(self.rows)))
            if self._args.train_sampling_strategy == "random":
                random.Random(f"{self._seed}:{epoch}").shuffle(indices)  # noqa: S311 - not a secret
            self._order = (epoch, indices)
        return self._order[1]

    def whole(self, step: int, weights: Mapping[str, float]) -> MicroBatch:
        """Return the rows of a step, over all ranks, with the partners that these weights need."""
        epoch, within = divmod(step, self.steps_per_epoch)
        places = self.order(epoch)[within * self.per_step : (within + 1) * self.per_step]
        return MicroBatch.of([self.rows[i] for i in places], self._seed + step, weights, self._args.ksm_rest)

    def work(self, step: int, micro_batches: int, weights: Mapping[str, float]) -> StepWork:
        """Return this rank's share of a step, in the number of micro-batches that the training loop wants."""
        whole = self.whole(step, weights)
        costs = [sum(lengths) for lengths in whole.lengths(bool(weights["qmm"]))]
        mine = deal(costs, self._world, micro_batches, self._args.max_tokens_per_micro_batch)[self._rank]
        passes = whole.parts(mine, self._shortest)
        borders = [len(passes) * i // micro_batches for i in range(micro_batches + 1)]
        return StepWork(step, [passes[a:b] for a, b in pairwise(borders)], count(whole.rows), weights)


def deal(costs: Sequence[int], ranks: int, least: int, cap: int | None) -> list[list[list[int]]]:
    """Deal rows to ranks and forward passes so that the passes are about equally long.

    Args:
        costs: the packed tokens of each row.
        ranks: number of ranks.
        least: passes that each rank makes at least.
        cap: most tokens of a pass (a single longer row is still a pass); more passes are made to keep to it.

    Returns:
        Row indices, for each rank and each of its passes; every rank makes the same number of passes, some perhaps
        empty.
    """
    most = max(least, math.ceil(len(costs) / ranks))
    passes = least
    bins = _spread(costs, ranks * passes)
    while cap is not None and passes < most and any(_cost(costs, one) > cap and len(one) > 1 for one in bins):
        passes += 1
        bins = _spread(costs, ranks * passes)
    bins.sort(key=lambda one: (-_cost(costs, one), one))  # at any time all ranks work on passes of similar length
    hands: list[list[list[int]]] = [[] for _ in range(ranks)]
    for turn in range(passes):
        group = bins[turn * ranks : (turn + 1) * ranks]
        for hand, one in zip(hands, group if turn % 2 == 0 else reversed(group), strict=True):
            hand.append(one)
    return hands


def _spread(costs: Sequence[int], number: int) -> list[list[int]]:
    """Spread rows over bins: the longest first, each into the bin with the fewest tokens."""
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
    """Hash the rows, to notice that two ranks, or a run and its checkpoint, have different data."""
    digest = hashlib.sha256()
    for row in rows:
        spans = (row.spans.query, row.spans.understanding, row.spans.key_sentence)
        numbers = [edge for span in spans for edge in (span.start, span.stop)]
        label = {None: -1, False: 0, True: 1}[row.harmful]
        digest.update(array("q", [len(row.input_ids), row.first_target, label, *numbers, *row.input_ids]).tobytes())
    return digest.hexdigest()[:16]
