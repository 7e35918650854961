"""The dual-path safety heads: two linear heads on the last hidden states. Their loss is dpsh."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from safekey.errors import UserError

Pooling = Literal["mean", "max", "last"]


class SafetyHeads(nn.Module):
    """Two linear heads, one over U alone, one over X and U; each gives one logit, positive for harmful.

    Attributes:
        understanding: the head over U, weights w_U and b_U.
        query_and_understanding: the head over X and U, weights w_X and b_X.
        pooling: how a span becomes one vector: "mean" over its tokens (the paper), "max", or its "last" token.
    """

    def __init__(self, hidden_size: int, pooling: Pooling = "mean"):
        super().__init__()
        if pooling not in get_args(Pooling):
            raise UserError(f"unknown pooling {pooling!r}: expected one of {', '.join(get_args(Pooling))}")
        self.hidden_size = hidden_size
        self.pooling: Pooling = pooling
        self.understanding = nn.Linear(hidden_size, 1)
        self.query_and_understanding = nn.Linear(hidden_size, 1)

    def forward(
        self, hidden: Float[Tensor, "tokens hidden"], pool: Int[Tensor, "examples 4"]
    ) -> Float[Tensor, "examples 2"]:
        """Return the logits of both heads, understanding first, computed in fp32 (or wider, if the states are).

        Args:
            hidden: last hidden states, after the final norm.
            pool: for each example: start of X, end of X, start of U, end of U.
        """
        wide = torch.promote_types(hidden.dtype, torch.float32)
        only_u, both = [], []
        for x_start, x_end, u_start, u_end in pool.tolist():
            u = hidden[u_start:u_end].to(wide)
            only_u.append(pool_states(u, self.pooling))
            both.append(pool_states(torch.cat([hidden[x_start:x_end].to(wide), u]), self.pooling))
        if not only_u:
            return hidden.new_zeros((0, 2), dtype=wide)
        with torch.autocast(hidden.device.type, enabled=False):
            logits = [_apply(self.understanding, only_u), _apply(self.query_and_understanding, both)]
        return torch.cat(logits, dim=1).to(wide)


def _apply(head: nn.Linear, vectors: list[Tensor]) -> Float[Tensor, "examples 1"]:
    stacked = torch.stack(vectors)
    if stacked.dtype == torch.float64 != head.weight.dtype:  # a double model keeps its precision with single heads
        return nn.functional.linear(stacked, head.weight.double(), head.bias.double())
    logits: Tensor = head(stacked.to(head.weight.dtype))  # through the module: that is where sharding gathers weights
    return logits


def pool_states(states: Float[Tensor, "tokens hidden"], pooling: Pooling) -> Float[Tensor, " hidden"]:
    """Return a span's states as one vector; the span has at least one token."""
    if pooling == "mean":
        return states.mean(0)
    return states.amax(0) if pooling == "max" else states[-1]
