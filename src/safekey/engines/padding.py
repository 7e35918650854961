"""Rows of token ids as one rectangle, padded on the right, behind everything that a causal model reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor


def padded(
    rows: Iterable[Sequence[int]], tokenizer: Any, device: torch.device
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"]]:
    """Return ids padded on the right, and the mask: 1 for a token of a row, 0 for padding.

    Args:
        rows: at least one.
        tokenizer: names the padding's token; token 0 where it has none, for the mask hides it.
        device: of both.
    """
    ids = [list(row) for row in rows]
    width = max(map(len, ids))
    pad = tokenizer.pad_token_id or 0
    filled = [row + [pad] * (width - len(row)) for row in ids]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in ids]
    return torch.tensor(filled, device=device), torch.tensor(mask, device=device)
