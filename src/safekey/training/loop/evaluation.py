"""Losses on held-out rows: weighted by tokens, not averaged over batches, and summed over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from safekey.training.encoding import Encoded
from safekey.training.loop.batches import Piece, deal, idle_piece, piece_of
from safekey.training.loop.config import SafeKeyConfig
from safekey.training.loop.metrics import Window, accuracies, head_aurocs
from safekey.training.objective.pack import Counts, count
from safekey.training.objective.step import safekey_loss

_UNIT = Counts(1, 1, 1, 1)  # losses as sums


def eval_pieces(
    rows: Sequence[Encoded], args: SafeKeyConfig, weights: Mapping[str, float], *, ranks: int, rank: int
) -> list[Piece]:
    """Return this rank's forward passes over held-out rows, as many on every rank."""
    if not rows:
        return []
    whole = piece_of(list(rows), args.seed, weights, args.ksm_rest)
    costs = [sum(lengths) for lengths in whole.lengths(masked=True)]
    passes = -(-len(rows) // (ranks * args.per_device_eval_batch_size))
    mine = deal(costs, ranks, passes, args.max_tokens_per_micro_batch)[rank]
    return [whole.part(one) if one else idle_piece(rows[0]) for one in mine]


def evaluate_rows(
    model: nn.Module,
    rows: Sequence[Encoded],
    pieces: Sequence[Piece],
    args: SafeKeyConfig,
    weights: Mapping[str, float],
    after_each: Callable[[], None],
) -> dict[str, float]:
    """Compute every loss on held-out rows, without gradients.

    Args:
        model: the (wrapped) model, heads attached.
        rows: all of them, on every rank.
        pieces: this rank's passes, from `eval_pieces`.
        args: for θ and the like.
        weights: full weights of the auxiliary objectives, whatever the epoch, so that values can be compared over time.
        after_each: called after each pass.

    Returns:
        `loss` (weighted), `loss_sft`, `loss_qmm` (always measured), and where they are part of the objective
        `loss_dpsh`, `loss_qsm`, `loss_ksm`; `key_accuracy_…`, `head_auroc_…`, and `rows`.
    """
    window = Window()
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for piece in pieces:
                out = safekey_loss(
                    model,
                    None,
                    piece.rows,
                    qmm_weight=1.0,
                    head_weight=weights["head"],
                    head_theta=args.head_theta,
                    qsm_weight=weights["qsm"],
                    ksm_weight=weights["ksm"],
                    qmm_positions=args.qmm_positions,
                    key_weight=1.0,
                    counts=_UNIT,
                    swaps=piece.swaps,
                    wrongs=piece.wrongs,
                    seed=args.seed,
                )
                if not piece.idle:
                    window.add_loss(out, {**weights, "qmm": 1.0, "key": 1.0})
                after_each()
    finally:
        model.train(training)
    return _summary(window.state(), count(rows), weights) | {"rows": float(len(rows))}


def _summary(state: Mapping[str, Any], counts: Counts, weights: Mapping[str, float]) -> dict[str, float]:
    sums = state["sums"]
    divisors = {
        "sft": counts.sft_tokens,
        "qmm": counts.key_tokens,
        "qsm": counts.key_tokens,
        "ksm": counts.recovery_tokens,
        "key": counts.key_tokens,
        "dpsh": counts.examples,
    }
    losses = {name: sums[f"loss_{name}"] / by for name, by in divisors.items() if by and f"loss_{name}" in sums}
    total = losses.get("sft", 0.0)
    for objective, name in (("qmm", "qmm"), ("head", "dpsh"), ("qsm", "qsm"), ("ksm", "ksm"), ("key", "key")):
        total += weights[objective] * losses.get(name, 0.0)
    out = {"loss": total, **{f"loss_{name}": value for name, value in losses.items()}}
    return out | accuracies(sums) | head_aurocs(state["heads"])
