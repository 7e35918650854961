"""Refuse models that cannot be packed, and compare the packed step with the unpacked model before training.

A fault in packing raises no error; it trains a wrong model. So a model known not to work is refused with the reason,
and any other is compared with its own forward, unpacked and unchanged, on one small batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safekey.errors import UserError
from safekey.training.encoding import Encoded
from safekey.training.objective.attention import disable, recomputes
from safekey.training.objective.pack import Counts, count
from safekey.training.objective.step import attach, detach, is_attached, safekey_loss, unwrap

_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
_PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
_WEIGHT = 0.2  # of all losses but the first
_LOSSES = ("SFT loss", "QMM loss", "query-swap loss", "key-swap loss")
Partners = tuple[list[list[int]], list[list[int]]]
"""Each row's other query, and its wrong key sentence."""
_HALF_TOLERANCE = 0.1
"""Largest relative error allowed. Attention across documents causes an error near or above 1."""


def refuse_unsupported(model: nn.Module) -> None:
    """Refuse models that cannot be trained in packed form.

    Raises:
        UserError: with the reason: positions that depend on the longest row of the batch, layers with a recurrent
            state, attention that cannot be replaced, prompt-learning adapters, an encoder.
    """
    causal_lm = unwrap(model)
    config: Any = causal_lm.config
    name = type(causal_lm).__name__
    for rope in _rope_types(config):
        if rope in _LENGTH_DEPENDENT_ROPE:
            raise UserError(
                f"{name} scales its positions by '{rope}', which depends on the batch's longest position: packed and "
                "separate rows would differ. Set rope_parameters to a fixed scaling (default, linear, yarn, llama3)"
            )
    odd = sorted(set(getattr(config, "layer_types", None) or []) - _PACKABLE_LAYERS)
    if odd or getattr(causal_lm, "_is_stateful", False):
        raise UserError(
            f"{name} has layers ({', '.join(odd) or 'recurrent'}) that carry a state across packed documents: "
            "only full and sliding-window attention can be packed"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name} is an encoder-decoder: SafeKey trains decoder-only reasoning models")
    if not getattr(causal_lm, "_supports_attention_backend", False):
        raise UserError(
            f"{name} computes its attention itself: only models that use transformers' AttentionInterface can be packed"
        )
    for adapter, settings in (getattr(model, "peft_config", None) or {}).items():
        if getattr(settings, "is_prompt_learning", False):
            raise UserError(f"adapter '{adapter}' prepends virtual tokens, which packed rows cannot have: use LoRA")


def _rope_types(config: Any) -> list[str]:
    """Return every rope type in a config, which may have one for all layers or one per layer type."""
    found: list[str] = []
    for parameters in (getattr(config, "rope_parameters", None), getattr(config, "rope_scaling", None)):
        nested = list(parameters.values()) if isinstance(parameters, dict) else []
        for level in [parameters, *nested]:
            if isinstance(level, dict):
                found += [str(level[key]) for key in ("rope_type", "type") if key in level]
    return found


def self_test(model: nn.Module, rows: Sequence[Encoded], *, gradients: bool = True, max_tokens: int = 256) -> float:
    """Compare the packed step with the model's own attention, row by row, on a few short rows.

    Args:
        model: the model before it is wrapped for distributed training (PEFT is fine).
        rows: candidates; the shortest ones with spans are used, cut after K.
        gradients: compare gradients too (needs memory for one set of gradients).
        max_tokens: longest row that is used, up to the end of K.

    Returns:
        The largest relative error seen.

    Raises:
        UserError: the two differ by more than rounding, so training would be wrong.
    """
    short = _short_rows(rows, max_tokens)
    if not short:
        return 0.0
    causal_lm = unwrap(model)
    attached = is_attached(model)
    heads = detach(model)  # the comparison is without heads
    try:
        wanted = [p for p in causal_lm.parameters() if p.requires_grad] if gradients else []
        with torch.set_grad_enabled(bool(wanted)), _frugal(causal_lm):
            swaps, wrongs = _partners(short)
            on = {"head_weight": 0.0, "qsm_weight": _WEIGHT, "ksm_weight": _WEIGHT}
            packed = safekey_loss(model, None, short, swaps=swaps, wrongs=wrongs, **on)  # type: ignore[arg-type]
            ours = [each.detach() for each in (packed.sft, packed.qmm, packed.qsm, packed.ksm)]
            ours += _gradients(packed.total, wanted)
            del packed
            disable(causal_lm)  # with checkpointing, the attention of the packed step stays on until here
            theirs = _separate(causal_lm, short, count(short), (swaps, wrongs), wanted)
    finally:
        if attached:
            attach(model, heads)
    scale = float(torch.stack([grad.norm() for grad in theirs[len(_LOSSES) :]]).norm()) if wanted else 0.0
    # A gradient that is all rounding has no relative error.
    floors = [*([0.0] * len(_LOSSES)), *([1e-3 * scale] * len(wanted))]
    known = {id(parameter): name for name, parameter in causal_lm.named_parameters()}
    names = [*_LOSSES, *(f"gradient of {known[id(parameter)]}" for parameter in wanted)]
    errors = [_relative(a, b, floor) for a, b, floor in zip(ours, theirs, floors, strict=True)]
    if not all(bool(torch.isfinite(loss)) for loss in theirs[: len(_LOSSES)]):
        raise UserError(
            f"{type(causal_lm).__name__}'s own loss is not finite, without anything of ours: its weights are "
            "broken, or overflow in this precision (dtype, bf16 and fp16 choose it)"
        )
    largest = max(zip(errors, names, strict=True))
    tolerance = _TOLERANCE.get(next(causal_lm.parameters()).dtype, _HALF_TOLERANCE)
    if not largest[0] <= tolerance:
        raise UserError(
            f"self-test failed: the packed step and {type(causal_lm).__name__}'s own attention differ by "
            f"{largest[0]:.2g} ({largest[1]}, allowed {tolerance:g}). Training would be wrong. Please report it; "
            "attn_implementation='eager' or 'sdpa' may help"
        )
    return largest[0]


def _short_rows(rows: Sequence[Encoded], max_tokens: int, most: int = 3) -> list[Encoded]:
    """Cut the shortest rows with spans a little after K, and reverse the tokens after X.

    A text that the model has memorised has a gradient near zero, in which only rounding would be compared.
    """
    complete = [row for row in rows if row.spans.complete and row.spans.key_sentence.stop + 1 <= max_tokens]
    short = []
    for row in sorted(complete, key=lambda row: row.spans.key_sentence.stop)[:most]:
        x, ids = row.spans.query.stop, row.input_ids[: row.spans.key_sentence.stop + 8]
        short.append(replace(row, input_ids=ids[:x] + ids[x:][::-1]))
    return short


def _partners(rows: Sequence[Encoded]) -> Partners:
    """Give every row the query and the key sentence of the row before it, whatever their labels."""
    before = [rows[i - 1] for i in range(len(rows))]
    return [row.input_ids[row.spans.query] for row in before], [row.input_ids[row.spans.key_sentence] for row in before]


@contextmanager
def _frugal(model: nn.Module) -> Iterator[None]:
    """Keep a model's modes, and compute without dropout and with gradient checkpointing while the block runs.

    Without checkpointing the comparison would need more memory than a training step that has it. Checkpointing works in
    training mode only, so dropout modules (LoRA's, say) are switched off one by one; where the model's configuration
    names any dropout, which its layers may apply by themselves, the whole model is in evaluation mode, without
    checkpointing.
    """
    modes = [(module, module.training) for module in model.modules()]
    settings: dict[str, Any] = model.config.to_dict()  # type: ignore[operator, union-attr]
    drops = any("drop" in name and isinstance(value, float) and value for name, value in settings.items())
    able = bool(getattr(model, "supports_gradient_checkpointing", False)) and not drops
    had = recomputes(model)
    model.train(able)
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.training = False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
        if able and not had:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        try:
            yield
        finally:
            if able and not had:
                model.gradient_checkpointing_disable()  # type: ignore[operator]
            for module, mode in modes:
                module.training = mode


def _separate(
    model: nn.Module, rows: Sequence[Encoded], total: Counts, partners: Partners, wanted: Sequence[nn.Parameter]
) -> list[Tensor]:
    """Compute sft, qmm, qsm and ksm with one plain forward pass per document, without packing, and their gradients.

    Each document's gradient is added to the sum at once, so that one document's activations are kept at a time.
    """
    some = next(model.parameters())
    device, wide = some.device, torch.promote_types(some.dtype, torch.float32)
    divisors = (total.sft_tokens, total.key_tokens, total.key_tokens, total.recovery_tokens)
    found = [torch.zeros((), device=device, dtype=wide) for _ in _LOSSES]
    sums = [torch.zeros_like(parameter) for parameter in wanted]
    for row, swap, wrong in zip(rows, *partners, strict=True):
        for at, (document, first, learnt) in enumerate(_documents(row, swap, wrong)):
            tokens = torch.tensor([document], device=device)
            positions = torch.arange(first, first + len(document), device=device)[None]
            logits = model(input_ids=tokens, position_ids=positions, use_cache=False).logits[0]
            loss = _summed(logits, tokens[0], len(document) - learnt) / max(1, divisors[at])
            found[at] += loss.detach()
            for held, grad in zip(sums, _gradients(loss, wanted), strict=True):
                held.add_(grad, alpha=1.0 if at == 0 else _WEIGHT)
    return [*found, *sums]


def _documents(row: Encoded, swap: Sequence[int], wrong: Sequence[int]) -> list[tuple[list[int], int, int]]:
    """Return the document of each loss: its tokens, its first position, and how many of its last tokens are learnt."""
    ids, x, u, k = row.input_ids, row.spans.query, row.spans.understanding, row.spans.key_sentence
    return [
        (ids, 0, len(ids) - row.first_target),
        (ids[x.stop : k.stop], x.stop, k.stop - k.start),
        ([*swap, *ids[x.stop : k.stop]], 0, k.stop - k.start),
        ([*ids[: k.start], *wrong, *ids[u.stop :]], 0, len(ids) - k.start),
    ]


def _summed(logits: Tensor, ids: Tensor, first: int) -> Tensor:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits[first - 1 : -1].to(wide), ids[first:], reduction="sum")


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    if not parameters:
        return []
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [torch.zeros((), device=loss.device) if grad is None else grad for grad in found]


def _relative(ours: Tensor, theirs: Tensor, floor: float) -> float:
    ours, theirs = ours.detach(), theirs.detach()
    size = max(float(theirs.norm()), floor, 1e-8)
    return float((ours - theirs).norm()) / size
