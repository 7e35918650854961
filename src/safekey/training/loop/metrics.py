"""What training logs: sums over a logging window, reduced over the ranks only when they are logged or saved."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from safekey.training.loop.batches import Piece
from safekey.training.objective.step import SafeKeyLoss

# Peak dense bf16 floating-point operations a second, by a part of the device's name (vendors' data sheets).
_PEAK = (
    ("B200", 2250e12), ("H200", 989e12), ("H100 PCIe", 756e12), ("H100", 989e12), ("A100", 312e12), ("L40S", 362e12),
    ("L40", 181e12), ("L4", 121e12), ("A10G", 70e12), ("A10", 125e12), ("A40", 150e12), ("A6000", 155e12),
    ("RTX 4090", 165e12), ("RTX 3090", 71e12),
)  # fmt: skip

_LOSSES = {"sft": "sft", "qmm": "qmm", "head": "dpsh", "qsm": "qsm", "ksm": "ksm", "key": "key"}
"""Objective to loss name: the heads' objective is the loss L_dpsh."""

_HITS = {"visible": "key_hits", "hidden": "masked_hits", "swapped": "swapped_hits", "recovered": "recovered_hits"}


class Window:
    """Sums since the last log. Tensors stay where they are, so that adding to them does not wait for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.heads: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, name: str, value: Any) -> None:
        """Add to one sum."""
        value = value.detach() if isinstance(value, torch.Tensor) else float(value)
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def add_loss(self, out: SafeKeyLoss, weights: Mapping[str, float]) -> None:
        """Add one pass: its share of the losses, its hits, its heads' logits."""
        self.add("loss", out.total)
        for objective, name in _LOSSES.items():
            if objective == "sft" or weights[objective]:
                self.add(f"loss_{name}", getattr(out, name))
        for kind, attribute in _HITS.items():
            right, total = getattr(out.metrics, attribute)
            self.add(f"right_{kind}", right)
            self.add(f"total_{kind}", total)
        if len(out.metrics.harmful):
            self.heads.append((out.metrics.head_logits, out.metrics.harmful))

    def add_step(self, seconds: float, weights: Mapping[str, float]) -> None:
        """Count a step (on one rank only: it is the same step on all)."""
        self.add("seconds", seconds)
        for objective, name in _LOSSES.items():
            if objective == "sft" or weights[objective]:
                self.add(f"steps_{name}", 1)

    def state(self) -> dict[str, Any]:
        """Return the sums over all ranks, as plain numbers (all ranks must call this together)."""
        sums = {name: float(value) for name, value in self.sums.items()}
        heads = [
            [*logits, label]
            for pair, harmful in self.heads
            for logits, label in zip(pair.float().tolist(), harmful.tolist(), strict=True)
        ]
        everyone: list[Any] = [None] * _world()
        if len(everyone) > 1:
            dist.all_gather_object(everyone, (sums, heads))
        else:
            everyone = [(sums, heads)]
        names = sorted({name for theirs, _ in everyone for name in theirs})
        total = {name: sum(theirs.get(name, 0.0) for theirs, _ in everyone) for name in names}
        return {"sums": total, "heads": [one for _, theirs in everyone for one in theirs]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave (on one rank only: it is everybody's)."""
        self.sums = dict(state["sums"])
        numbers = torch.tensor(state["heads"]).reshape(-1, 3)
        self.heads = [(numbers[:, :2], numbers[:, 2].long())] if len(numbers) else []


def summarize(state: Mapping[str, Any], peak_flops: float | None = None) -> dict[str, float]:
    """Turn a window's sums into what is logged; what was off in the window is absent.

    Returns:
        `loss` and each `loss_…`: mean over the window's steps in which it was on; `key_accuracy_visible`, `_hidden`,
        `_swapped`, `_recovered`: share of K's tokens predicted right; `head_auroc_understanding`,
        `_query_and_understanding`; `tokens_per_second`: packed tokens of all ranks over the steps' own time;
        `packing_efficiency`: packed tokens over those that padded batches of the same documents would hold, one batch
        per kind of document;
        `step_seconds`; `mfu`.
    """
    sums, out = state["sums"], {}
    steps = sums.get("steps_sft", 0.0)
    if steps:
        out["loss"] = sums.get("loss", 0.0) / steps
    for name in _LOSSES.values():
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
    """Share of K's tokens predicted right: X visible, hidden, swapped; behind a wrong beginning. Absent: not seen."""
    totals = {kind: sums.get(f"total_{kind}", 0.0) for kind in _HITS}
    return {f"key_accuracy_{kind}": sums[f"right_{kind}"] / total for kind, total in totals.items() if total}


def head_aurocs(heads: Sequence[Sequence[float]]) -> dict[str, float]:
    """AUROC of both heads from rows of (logit, logit, label); absent while one class is."""
    out = {}
    for column, name in enumerate(("understanding", "query_and_understanding")):
        value = auroc([row[column] for row in heads], [bool(row[2]) for row in heads])
        if value is not None:
            out[f"head_auroc_{name}"] = value
    return out


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Probability that a positive scores higher than a negative, ties counting half; None without both kinds."""
    number = sum(positive)
    if number in (0, len(positive)):
        return None
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, at = 0.0, 0
    while at < len(order):
        end = at
        while end < len(order) and scores[order[end]] == scores[order[at]]:
            end += 1
        ranks += sum(positive[i] for i in order[at:end]) * (at + 1 + end) / 2  # ties share their mean rank
        at = end
    return (ranks - number * (number + 1) / 2) / (number * (len(positive) - number))


def document_lengths(piece: Piece, masked: bool) -> list[list[int]]:
    """Return the lengths of the A, B, B' and C documents of a pass, kind by kind."""
    return [[length for length in kind if length] for kind in zip(*piece.lengths(masked), strict=True)]


def padded_tokens(kinds: Iterable[Sequence[int]]) -> int:
    """Tokens of padded batches of these documents, one batch per kind."""
    return sum(len(lengths) * max(lengths) for lengths in kinds if lengths)


class Flops:
    """Floating-point operations of training on packed documents; None of it is known for mixtures of experts.

    Weights take part in one multiply-add per token forwards and two backwards (one, where they are frozen); attention
    over a document of n tokens costs n²/2 pairs. Recomputation under checkpointing is not counted, as usual for MFU.
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
        """Return the operations of a forward and backward pass over these documents."""
        lengths = [length for kind in kinds for length in kind]
        return float(self._per_token * sum(lengths) + self._per_pair * sum(n * n for n in lengths) / 2)


def _size(parameter: nn.Parameter) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # ZeRO-3 leaves an empty tensor behind


def peak_flops(device: torch.device, world: int) -> float | None:
    """Return all ranks' peak bf16 operations a second, or None for an unknown device."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((world * flops for part, flops in _PEAK if part in name), None)


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory that this process has held at once: on its GPU, or else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
