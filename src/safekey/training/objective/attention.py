"""Causal attention within each document of a packed sequence.

The function is registered with transformers' `AttentionInterface`. It gets the lengths of the documents, so no
block-diagonal mask is needed and no document sees another. A call without `document_lengths` (a padded forward,
`generate`) is passed on to the model's own attention and mask, so such calls are right while it is switched on.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from safekey.errors import UserError

_PREFIX = (
    "safekey_documents_over_"  # followed by the name of the model's own implementation, which is kept nowhere else
)
_IN_STEP: ContextVar[bool] = ContextVar("safekey_in_step", default=False)
_QUERY_BLOCK = 512  # rows of an explicit score matrix at a time (sinks, soft caps, windows)

States = Float[Tensor, "1 heads tokens width"]


@contextmanager
def document_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attend within documents while the block runs.

    With gradient checkpointing the layers run again in the backward pass, after the block. Then the attention stays
    switched on; it only acts on calls with `document_lengths`.

    Raises:
        UserError: the model's attention cannot be replaced.
    """
    enable(model)
    token = _IN_STEP.set(True)
    try:
        yield
    finally:
        _IN_STEP.reset(token)
        if not (model.training and torch.is_grad_enabled() and recomputes(model)):
            disable(model)


def recomputes(model: nn.Module) -> bool:
    """Whether layers run again in the backward pass (gradient checkpointing)."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def enable(model: PreTrainedModel) -> None:
    """Route the model's attention through `attend_documents`."""
    own = model.config._attn_implementation or "eager"
    if own.startswith(_PREFIX):
        return
    if not getattr(model, "_supports_attention_backend", False):
        raise UserError(
            f"{type(model).__name__} computes its attention itself, so packed documents would attend across their "
            "borders: train a model whose attention goes through transformers' AttentionInterface"
        )
    name = _PREFIX + own
    AttentionInterface.register(name, attend_documents)
    AttentionMaskInterface.register(name, _mask)
    model.config._attn_implementation = name


def disable(model: PreTrainedModel) -> None:
    """Give the model its own attention back."""
    name = model.config._attn_implementation or ""
    if name.startswith(_PREFIX):
        model.config._attn_implementation = name.removeprefix(_PREFIX)


def _mask(*args: Any, config: Any, **kwargs: Any) -> Any:
    """Return no mask inside the packed step, the model's own mask otherwise."""
    if _IN_STEP.get():
        return None
    own = config._attn_implementation.removeprefix(_PREFIX)
    return ALL_MASK_ATTENTION_FUNCTIONS[own](*args, config=config, **kwargs)


def attend_documents(
    module: nn.Module,
    query: States,
    key: States,
    value: States,
    attention_mask: Tensor | None,
    *,
    document_lengths: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 tokens heads width"], None]:
    """Compute causal attention within each document; the signature is that of transformers' attention functions.

    Args:
        module: the attention module.
        query: rotated queries; keys and values may have fewer heads (grouped-query attention).
        key: rotated keys.
        value: values.
        attention_mask: must be None in a packed call.
        document_lengths: lengths of the documents; they add up to the number of tokens.
        scaling: factor on the scores, default width^-0.5.
        dropout: probability of dropping an attention weight.
        sliding_window: number of tokens that a token sees, itself included.
        softcap: cap of the scores, cap·tanh(score/cap).
        s_aux: a learnt score per head that takes part in the softmax without a value (attention sinks).
        others: passed on to the model's own attention in an unpacked call.
    """
    if document_lengths is None:
        own = str(module.config._attn_implementation).removeprefix(_PREFIX)  # type: ignore[union-attr]
        given = {"sliding_window": sliding_window, "softcap": softcap, "s_aux": s_aux}
        others |= {name: given_value for name, given_value in given.items() if given_value is not None}
        default = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        function: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(own, default)
        given_out: tuple[Tensor, None] = function(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **others
        )
        return given_out
    if attention_mask is not None or sum(document_lengths) != query.shape[2] or query.shape[0] != 1:
        raise RuntimeError(
            f"packed attention got {tuple(query.shape)} queries, documents of {sum(document_lengths)} tokens and "
            f"{'a' if attention_mask is not None else 'no'} mask: call the model through safekey_loss"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    plain = s_aux is None and softcap is None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if plain and dropout == 0.0 and _varlen_fits(query, value):
        return _varlen(query, key, value, document_lengths, scale, sliding_window), None
    lengths, outputs = list(document_lengths), []
    for q, k, v in zip(*(torch.split(states, lengths, dim=2) for states in (query, key, value)), strict=True):
        if plain and (sliding_window is None or q.shape[2] <= sliding_window):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout, scale=scale)
        else:
            out = _explicit(q, k, v, scale, dropout, sliding_window, softcap, s_aux)
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, dim=1), None


def _explicit(
    query: States,
    key: States,
    value: States,
    scale: float,
    dropout: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> States:
    """Compute attention with explicit scores, for what the fused kernels lack; a block of queries at a time."""
    length = query.shape[2]
    outputs = []
    for begin in range(0, length, _QUERY_BLOCK):
        end = min(begin + _QUERY_BLOCK, length)
        first = 0 if window is None else max(0, begin - window + 1)
        scores = query[:, :, begin:end] @ key[:, :, first:end].transpose(2, 3) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        here = torch.arange(begin, end, device=query.device)[:, None]
        there = torch.arange(first, end, device=query.device)[None]
        hidden = there > here
        if window is not None:
            hidden |= there <= here - window
        scores = scores.masked_fill(hidden, float("-inf"))
        if sinks is not None:
            column = sinks.to(scores.dtype).reshape(1, -1, 1, 1).expand(1, -1, end - begin, 1)
            scores = torch.cat([scores, column], dim=-1)
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
        weights = F.dropout(weights[..., : end - first], dropout)
        outputs.append(weights @ value[:, :, first:end])
    return torch.cat(outputs, dim=2)


def _varlen_fits(query: Tensor, value: Tensor) -> bool:
    """Whether torch's variable-length flash kernel takes these tensors."""
    if query.device.type != "cuda" or query.dtype not in (torch.float16, torch.bfloat16):
        return False
    if query.shape[-1] > 256 or query.shape[-1] % 8 or value.shape[-1] != query.shape[-1]:
        return False
    return _varlen_kernel() is not None


@lru_cache(maxsize=1)  # asked for in every layer
def _varlen_kernel() -> Callable[..., Any] | None:
    """Return torch's kernel, if this version has one with a scale and a window (the first versions did not)."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return None
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"scale", "window_size"} <= known.keys() else None


def _varlen(
    query: States, key: States, value: States, lengths: tuple[int, ...], scale: float, window: int | None
) -> Float[Tensor, "1 tokens heads width"]:
    """Run one kernel over all documents (CUDA, half precision)."""
    kernel = _varlen_kernel()
    assert kernel is not None
    borders = torch.tensor([0, *lengths], device="cpu").cumsum(0).to(query.device, torch.int32, non_blocking=True)
    q, k, v = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
    reach = (-1, 0) if window is None else (window - 1, 0)
    out = kernel(q, k, v, borders, borders, max(lengths), max(lengths), scale=scale, window_size=reach)
    assert isinstance(out, Tensor)
    return out[None]
