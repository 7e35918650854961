"""Measure training and held-out rows: losses, accuracy on K, AUROC of the heads, throughput, MFU, memory.

During training, `Window` adds up sums over a logging window; they are reduced over the ranks only when they are logged
or saved. On held-out rows, `evaluate_rows` weights every loss by tokens instead of averaging batches.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from safekey.stats.auroc import area
from safekey.training.encoding import Encoded
from safekey.training.loop.batches import MicroBatch, deal
from safekey.training.loop.config import OBJECTIVES, SafeKeyConfig
from safekey.training.objective.pack import Counts, count
from safekey.training.objective.step import SafeKeyLoss, safekey_loss

# Peak dense bf16 floating-point operations a second, by a part of the device's name (vendors' data sheets).
_PEAK = (
    ("B200", 2250e12), ("H200", 989e12), ("H100 PCIe", 756e12), ("H100", 989e12), ("A100", 312e12), ("L40S", 362e12),
    ("L40", 181e12), ("L4", 121e12), ("A10G", 70e12), ("A10", 125e12), ("A40", 150e12), ("A6000", 155e12),
    ("RTX 4090", 165e12), ("RTX 3090", 71e12),
)  # fmt: skip

LOSSES = ("sft", *OBJECTIVES.values())

ACCURACY = {"sft": "visible", "qmm": "hidden", "qsm": "swapped", "ksm": "recovered"}
"""Objective to the name under which the accuracy on K in its documents is logged: X is there, is left out, is another
row's, or a wrong beginning stands before K."""

_UNIT = Counts(1, 1, 1, 1)  # divisors of 1: losses as sums


class Window:
    """Sums since the last log. Tensors stay on their device, so that adding to them does not wait for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.heads: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, name: str, value: Any) -> None:
        """Add to one sum."""
        value = value.detach() if isinstance(value, torch.Tensor) else float(value)
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def add_loss(self, out: SafeKeyLoss, weights: Mapping[str, float]) -> None:
        """Add the losses of one pass, its hits on K and the logits of its heads."""
        self.add("loss", out.total)
        for name in LOSSES:
            if name == "sft" or weights[name]:
                self.add(f"loss_{name}", getattr(out, name))
        for name, (right, total) in out.metrics.key_hits.items():
            self.add(f"right_{ACCURACY[name]}", right)
            self.add(f"total_{ACCURACY[name]}", total)
        if len(out.metrics.harmful):
            self.heads.append((out.metrics.head_logits, out.metrics.harmful))

    def add_step(self, seconds: float, weights: Mapping[str, float]) -> None:
        """Count a step (on one rank only: all ranks make the same step)."""
        self.add("seconds", seconds)
        for name in LOSSES:
            if name == "sft" or weights[name]:
                self.add(f"steps_{name}", 1)

    def state(self) -> dict[str, Any]:
        """Return the sums over all ranks, as plain numbers (all ranks must call this together)."""
        sums = {name: float(value) for name, value in self.sums.items()}
        heads = [
            [*logits, label]
            for pair, harmful in self.heads
            for logits, label in zip(pair.float().tolist(), harmful.tolist(), strict=True)
        ]
        everyone = [(sums, heads)]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            everyone *= dist.get_world_size()
            dist.all_gather_object(everyone, (sums, heads))
        names = sorted({name for theirs, _ in everyone for name in theirs})
        total = {name: sum(theirs.get(name, 0.0) for theirs, _ in everyone) for name in names}
        return {"sums": total, "heads": [one for _, theirs in everyone for one in theirs]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned (on one rank only: the sums are those of all ranks)."""
        self.sums = dict(state["sums"])
        numbers = torch.tensor(state["heads"]).reshape(-1, 3)
        self.heads = [(numbers[:, :2], numbers[:, 2].long())] if len(numbers) else []


def summarize(state: Mapping[str, Any], peak_flops: float | None = None) -> dict[str, float]:
    """Turn the sums of a window into what is logged; what was off in the window is absent.

    Returns:
        `loss` and each `loss_…`: mean over the steps of the window in which it was on; `key_accuracy_visible`,
        `_hidden`, `_swapped`, `_recovered`: share of the tokens of K predicted right; `head_auroc_understanding`,
        `_query_and_understanding`; `tokens_per_second`: packed tokens of all ranks over the time of the steps;
        `packing_efficiency`: packed tokens over the tokens that padded batches of the same documents would have, one
        batch per kind of document; `step_seconds`; `mfu`.
    """
    sums, out = state["sums"], {}
    steps = sums.get("steps_sft", 0.0)
    if steps:
        out["loss"] = sums.get("loss", 0.0) / steps
    for name in LOSSES:
        if sums.get(f"steps_{name}"):
            out[f"loss_{name}"] = sums.get(f"loss_{name}", 0.0) / sums[f"steps_{name}"]
    out |= accuracies(sums) | head_aurocs(state["heads"])
    seconds, tokens = sums.get("seconds", 0.0), sums.get("tokens", 0.0)
    if steps and seconds > 0:
        out |= {"tokens_per_second": tokens / seconds, "step_seconds": seconds / steps}
        if peak_flops:
            out["mfu"] = sums.get("flops", 0.0) / seconds / peak_flops
    if sums.get("padded"):
        out["packing_efficiency"] = tokens / sums["padded"]
    return out


def accuracies(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the share of the tokens of K predicted right, for each kind of document that occurred (`ACCURACY`)."""
    totals = {kind: sums.get(f"total_{kind}", 0.0) for kind in ACCURACY.values()}
    return {f"key_accuracy_{kind}": sums[f"right_{kind}"] / total for kind, total in totals.items() if total}


def head_aurocs(heads: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the AUROC of both heads from rows of (logit, logit, label); empty when one class is missing."""
    out = {}
    for column, name in enumerate(("understanding", "query_and_understanding")):
        value = area([row[column] for row in heads], [bool(row[2]) for row in heads])
        if value is not None:
            out[f"head_auroc_{name}"] = value
    return out


def micro_batch_loss(
    model: nn.Module,
    micro_batch: MicroBatch,
    args: SafeKeyConfig,
    weights: Mapping[str, float],
    counts: Counts,
    seed: int,
) -> SafeKeyLoss:
    """Compute the losses of one forward pass, with the attached heads and these weights of the objectives."""
    return safekey_loss(
        model,
        None,
        micro_batch.rows,
        qmm_weight=weights["qmm"],
        head_weight=weights["dpsh"],
        head_theta=args.head_theta,
        qsm_weight=weights["qsm"],
        ksm_weight=weights["ksm"],
        key_weight=weights["key"],
        detach_heads=args.detach_heads,
        counts=counts,
        swaps=micro_batch.swaps,
        wrongs=micro_batch.wrongs,
        seed=seed,
    )


def eval_passes(
    rows: Sequence[Encoded], args: SafeKeyConfig, weights: Mapping[str, float], *, ranks: int, rank: int
) -> list[MicroBatch]:
    """Return this rank's forward passes over held-out rows, as many on every rank."""
    if not rows:
        return []
    whole = MicroBatch.of(list(rows), args.seed, weights, args.ksm_rest)
    costs = [sum(lengths) for lengths in whole.lengths(qmm=True)]
    passes = -(-len(rows) // (ranks * args.per_device_eval_batch_size))
    return whole.parts(deal(costs, ranks, passes, args.max_tokens_per_micro_batch)[rank], rows[0])


def evaluate_rows(
    model: nn.Module,
    rows: Sequence[Encoded],
    passes: Sequence[MicroBatch],
    args: SafeKeyConfig,
    weights: Mapping[str, float],
    after_each: Callable[[], None],
) -> dict[str, float]:
    """Compute every loss on held-out rows, without gradients.

    Args:
        model: the (wrapped) model, heads attached.
        rows: all held-out rows, on every rank.
        passes: this rank's passes, from `eval_passes`.
        args: for θ and the like.
        weights: full weights of the auxiliary objectives, whatever the epoch, so that values can be compared over time.
        after_each: called after each pass.

    Returns:
        `loss` (weighted), `loss_sft`, `loss_qmm` and `loss_key` (always measured), and where they are part of the
        objective `loss_dpsh`, `loss_qsm`, `loss_ksm`; `key_accuracy_…`, `head_auroc_…`, and `rows`.
    """
    window, measured = Window(), {**weights, "qmm": 1.0, "key": 1.0}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for one in passes:
                out = micro_batch_loss(model, one, args, measured, _UNIT, args.seed)
                if not one.idle:
                    window.add_loss(out, measured)
                after_each()
    finally:
        model.train(training)
    state, counts = window.state(), count(rows)
    sums, divisors = state["sums"], dict.fromkeys(LOSSES, counts.key_tokens)
    divisors |= {"sft": counts.sft_tokens, "dpsh": counts.examples, "ksm": counts.recovery_tokens}
    losses = {name: sums[f"loss_{name}"] / by for name, by in divisors.items() if by and f"loss_{name}" in sums}
    total = sum((weight * losses.get(name, 0.0) for name, weight in weights.items()), losses.get("sft", 0.0))
    each = {f"loss_{name}": value for name, value in losses.items()}
    return {"loss": total} | each | accuracies(sums) | head_aurocs(state["heads"]) | {"rows": float(len(rows))}


def padded_tokens(kinds: Iterable[Sequence[int]]) -> int:
    """Return the tokens of padded batches of these documents, one batch per kind."""
    return sum(len(lengths) * max(lengths) for lengths in kinds if lengths)


class Flops:
    """Floating-point operations of training on packed documents; `dense` is false for mixtures of experts, where the
    count does not hold.

    Each weight takes part in one multiply-add per token forwards and two backwards (one where it is frozen); attention
    over a document of n tokens has n²/2 pairs. Recomputation under checkpointing is not counted, as usual for MFU.
    """

    def __init__(self, causal_lm: Any):
        config = causal_lm.config.get_text_config()
        embedding = causal_lm.get_input_embeddings().weight
        tied = embedding is causal_lm.get_output_embeddings().weight
        unused = 0 if tied else _size(embedding)
        self.dense = not (getattr(config, "num_experts", 0) or getattr(config, "num_local_experts", 0))
        parameters = list(causal_lm.parameters())
        trained = sum(_size(p) for p in parameters if p.requires_grad)
        total = sum(_size(p) for p in parameters)
        self._per_token = (6 if trained > total / 2 else 4) * (total - unused)
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._per_pair = 12 * config.num_hidden_layers * config.num_attention_heads * width

    def of(self, kinds: Iterable[Sequence[int]]) -> float:
        """Return the operations of a forward and backward pass over documents of these lengths."""
        lengths = [length for kind in kinds for length in kind]
        return float(self._per_token * sum(lengths) + self._per_pair * sum(n * n for n in lengths) / 2)


def _size(parameter: nn.Parameter) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # under ZeRO-3 the tensor itself is empty


def peak_flops(device: torch.device, world: int) -> float | None:
    """Return the peak bf16 operations a second of all ranks, or None for an unknown device."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((world * flops for part, flops in _PEAK if part in name), None)


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory that this process has held at once: on its GPU, or else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
