"""Chunked cross-entropy and the loss of the heads, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

LOGIT_BUDGET = 1 << 27
"""Number of logits in memory at once on an accelerator: 2^27 fp32 values are half a GiB."""

CPU_LOGIT_BUDGET = 1 << 23
"""The same on a CPU, where smaller chunks suit the caches (fastest at 256 rows of 32k in bench/step.py)."""


class TokenLosses(NamedTuple):
    """What `linear_cross_entropy` returns.

    Attributes:
        total: the weighted sum; the cheap one to differentiate.
        losses: each target's loss, in fp32 (or wider, if the states are), with a gradient of its own.
        hits: whether no token was likelier than the target.
    """

    total: Float[Tensor, ""]
    losses: Float[Tensor, " targets"]
    hits: Bool[Tensor, " targets"]


def linear_cross_entropy(
    hidden: Float[Tensor, "targets hidden"],
    targets: Int[Tensor, " targets"],
    weights: Float[Tensor, " targets"],
    head: Callable[[Tensor], Tensor],
    vocabulary: int,
    chunk: int | None = None,
) -> TokenLosses:
    """Cross-entropy of each target under `head(hidden)`, with the logits of one chunk in memory at a time.

    With a plain linear head, the gradient of the weighted sum is computed together with the losses, while the logits of
    the chunk are in memory: three matrix products, where recomputing the logits takes four. For any other head
    (adapters, hooks, sharded weights, capped logits), torch's checkpointing recomputes the logits in the backward pass;
    so too in fp16, where a gradient computed before the loss is scaled would underflow.

    Args:
        hidden: the states that predict the targets.
        targets: token ids.
        weights: factor of each target in `total`.
        head: the language-model head, with the model's adjustment of the logits, if it has one.
        vocabulary: the head's width.
        chunk: rows at a time; default: as many as the budget allows.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    weights = weights.to(wide)
    size = chunk or max(64, (CPU_LOGIT_BUDGET if hidden.device.type == "cpu" else LOGIT_BUDGET) // vocabulary)
    ready = isinstance(head, nn.Linear) and _is_plain(head) and _computes_in(hidden, head.weight) != torch.float16
    if torch.is_grad_enabled() and ready and len(targets):
        fused: Any = _LinearCrossEntropy.apply
        assert isinstance(head, nn.Linear)
        return TokenLosses(*fused(hidden, head.weight, head.bias, targets, weights, size))

    def piece(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(states).to(wide)
        likeliest = logits.detach().amax(-1) <= logits.detach().gather(1, wanted[:, None])[:, 0]
        return F.cross_entropy(logits, wanted, reduction="none"), likeliest

    losses, hits = [hidden.new_zeros(0, dtype=wide)], [torch.zeros(0, dtype=torch.bool, device=hidden.device)]
    for begin in range(0, len(targets), size):
        states, wanted = hidden[begin : begin + size], targets[begin : begin + size]
        if torch.is_grad_enabled():
            loss, hit = checkpoint(piece, states, wanted, use_reentrant=False, preserve_rng_state=False)
        else:
            loss, hit = piece(states, wanted)
        losses.append(loss)
        hits.append(hit)
    each = torch.cat(losses)
    return TokenLosses((each * weights).sum() + 0.0 * hidden[:0].sum().to(wide), each, torch.cat(hits))


def _is_plain(head: nn.Linear) -> bool:
    """Whether calling the head is just `hidden @ weight.T + bias`."""
    hooked = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or head._backward_pre_hooks
    ordinary = type(head) is nn.Linear and type(head.weight) in (Tensor, nn.Parameter)  # no DTensor, no quantisation
    return ordinary and not hooked and "forward" not in head.__dict__ and not hasattr(head.weight, "ds_id")


def _computes_in(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype of the matrix product of the head, with or without autocast."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


class _LinearCrossEntropy(torch.autograd.Function):
    """The weighted sum and each loss. The forward computes the gradient of the sum; that of a loss is recomputed."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor, size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.size, ctx.wanted = size, ctx.needs_input_grad[:3]
        ctx.dtype = _computes_in(hidden, weight)
        losses, hits, gradients = _chunked(hidden, weight, bias, targets, weights, size, ctx.dtype, ctx.wanted)
        ctx.save_for_backward(hidden, weight, bias, targets, *gradients)
        ctx.mark_non_differentiable(hits)
        return (losses * weights).sum(), losses, hits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor | None, of_losses: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, *gradients = ctx.saved_tensors
        found: list[Tensor | None] = [None, None, None]
        if of_total is not None:
            found = [None if gradient is None else gradient * of_total.to(gradient.dtype) for gradient in gradients]
        if of_losses is not None:
            again = _chunked(hidden, weight, bias, targets, of_losses, ctx.size, ctx.dtype, ctx.wanted)[2]
            found = [a if b is None else b if a is None else a + b for a, b in zip(found, again, strict=True)]
        return *found, None, None, None


def _chunked(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor,
    size: int,
    dtype: torch.dtype,
    wanted: tuple[bool, ...],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Compute losses, hits and the gradients of the weighted sum (states, weight, bias), chunk by chunk, in place."""
    wide = weights.dtype
    losses, hits = torch.empty_like(weights), torch.empty_like(targets, dtype=torch.bool)
    of_hidden = torch.empty_like(hidden) if wanted[0] else None
    of_weight = torch.zeros_like(weight, dtype=wide) if wanted[1] else None
    of_bias = torch.zeros_like(bias, dtype=wide) if wanted[2] and bias is not None else None
    with torch.autocast(hidden.device.type, enabled=False):
        matrix, offset = weight.to(dtype), None if bias is None else bias.to(dtype)
        for begin in range(0, len(targets), size):
            part = slice(begin, begin + size)
            states, target, factor = hidden[part].to(dtype), targets[part, None], weights[part, None]
            logits = F.linear(states, matrix, offset).to(wide)
            largest, right = logits.amax(-1, keepdim=True), logits.gather(1, target)
            summed = logits.sub_(largest).exp_().sum(-1, keepdim=True)
            losses[part] = (summed.log() + largest - right)[:, 0]
            hits[part] = (right >= largest)[:, 0]
            if not any(wanted):
                continue
            logits.mul_(factor / summed).scatter_add_(1, target, -factor)  # now the gradient: w·(softmax − one-hot)
            slope = logits.to(dtype)
            if of_hidden is not None:
                of_hidden[part] = slope @ matrix
            if of_weight is not None:
                of_weight.addmm_(slope.T, states) if dtype == wide else of_weight.add_(slope.T @ states)
            if of_bias is not None:
                of_bias += logits.sum(0)
    kept = None if of_weight is None else of_weight.to(weight.dtype)
    return losses, hits, [of_hidden, kept, None if of_bias is None or bias is None else of_bias.to(bias.dtype)]


def logit_adjustment(config: Any) -> Callable[[Tensor], Tensor] | None:
    """Return what some model families do to the logits after the head; None for most."""
    cap = getattr(config, "final_logit_softcapping", None)
    divide = getattr(config, "logits_scaling", None)
    multiply = getattr(config, "logit_scale", None)
    if not (cap or divide or multiply):
        return None

    def adjust(logits: Tensor) -> Tensor:
        logits = logits / divide if divide else logits
        logits = logits * multiply if multiply else logits
        return cap * torch.tanh(logits / cap) if cap else logits

    return adjust


def dual_path_loss(
    logits: Float[Tensor, "examples 2"], harmful: Int[Tensor, " examples"], theta: float = 0.5
) -> Float[Tensor, " examples"]:
    """Return the dpsh loss of each example: θ·BCE of the head over U + (1−θ)·BCE of the head over X and U.

    Args:
        logits: both heads' logits, understanding first.
        harmful: 1 for a harmful query, 0 for a benign one.
        theta: the weight of the first head, in [0, 1].
    """
    wanted = harmful.to(logits.dtype)
    understanding = F.binary_cross_entropy_with_logits(logits[:, 0], wanted, reduction="none")
    both = F.binary_cross_entropy_with_logits(logits[:, 1], wanted, reduction="none")
    return theta * understanding + (1 - theta) * both
