"""The monitor's own forward passes: last hidden states over X and U, pooled as the heads read them

A batch is padded on the right and attention is causal, so a row's states are those that it has alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from safekey.engines.padding import padded
from safekey.monitor.reading import Reading
from safekey.training.objective.heads import Pooling, pool_states

Progress = Callable[[int, int], None]
"""Is told how many rows of how many are read."""


class Pooled(NamedTuple):
    """One response as the heads see it: U's states as one vector (None without U), and those of X and U."""

    understanding: Float[Tensor, " hidden"] | None
    query_and_understanding: Float[Tensor, " hidden"]


def backbone_of(model: Any) -> Any:
    """Return the part of a causal language model that gives the last hidden states after the final norm."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft: adapters are within
    return plain.base_model


@torch.inference_mode()
def pooled_states(
    model: Any, tokenizer: Any, readings: Sequence[Reading], pooling: Pooling, *, batch_size: int = 16,
    progress: Progress | None = None,
) -> list[Pooled]:  # fmt: skip
    """Run the model over responses; return their pooled states on the CPU, fp32, in their order.

    Args:
        model: a transformers causal language model, in evaluation mode.
        tokenizer: its tokenizer.
        readings: none empty, none longer than the model's context.
        pooling: how a span becomes one vector.
        batch_size: rows in a forward pass; those of similar length go together, the longest first, so that lack of
            memory shows at once.
        progress: told how many rows of how many are read.
    """
    backbone = backbone_of(model)
    found: dict[int, Pooled] = {}
    order = sorted(range(len(readings)), key=lambda at: -len(readings[at].ids))
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        ids, mask = padded([readings[at].ids for at in batch], tokenizer, model.device)
        states = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        for row, at in enumerate(batch):
            found[at] = _pool(states[row, : len(readings[at].ids)].float().cpu(), readings[at], pooling)
        if progress:
            progress(len(found), len(readings))
    return [found[at] for at in range(len(readings))]


def _pool(states: Float[Tensor, "tokens hidden"], reading: Reading, pooling: Pooling) -> Pooled:
    u = states[reading.query_end :]
    return Pooled(pool_states(u, pooling) if len(u) else None, pool_states(states, pooling))
