"""Compute all losses of a batch with one packed forward pass through the (wrapped) model.

The chunked cross-entropy and the heads run inside the model's own forward (see `attach`). So DDP, FSDP2, DeepSpeed,
PEFT and autocast, which wrap the model, see one ordinary call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from safekey.errors import UserError
from safekey.training.encoding import Encoded
from safekey.training.objective.attention import document_attention
from safekey.training.objective.heads import SafetyHeads
from safekey.training.objective.losses import dual_path_loss, linear_cross_entropy, logit_adjustment
from safekey.training.objective.pack import Counts, Packed, count, pack
from safekey.training.objective.swaps import partner_queries, wrong_beginnings

HEADS_NAME = "safekey_heads"
"""The name of the heads as a submodule of the causal language model."""


@dataclass(frozen=True)
class SafeKeyLoss:
    """The losses of one batch, each a scalar with its own gradient; a loss that is off is a constant 0.

    Attributes:
        total: sft + qmm_weight·qmm + head_weight·dpsh + qsm_weight·qsm + ksm_weight·ksm + key_weight·key.
        sft: mean over the response tokens.
        qmm: mean over the tokens of K, without the query.
        dpsh: mean over the rows with spans and a label.
        qsm: mean over the tokens of K, after another row's query.
        ksm: mean over the tokens from K on, after a wrong beginning.
        key: mean over the tokens of K in the response document (the up-weighting control).
        metrics: sums and counts for logging, detached; see `StepMetrics`.
    """

    total: Float[Tensor, ""]
    sft: Float[Tensor, ""]
    qmm: Float[Tensor, ""]
    dpsh: Float[Tensor, ""]
    qsm: Float[Tensor, ""]
    ksm: Float[Tensor, ""]
    key: Float[Tensor, ""]
    metrics: StepMetrics


@dataclass(frozen=True)
class StepMetrics:
    """Sums and counts of a batch for logging.

    Attributes:
        tokens: packed tokens of all documents.
        key_hits: for each objective ("sft", "qmm", "qsm", "ksm"): how many tokens of K its documents predict right, and
            how many there are (0 of 0 while the objective is off).
        head_logits: logits of both heads for each row with spans and a label (empty while the heads are off).
        harmful: the labels of these rows.
    """

    tokens: int
    key_hits: dict[str, tuple[Tensor, int]]
    head_logits: Float[Tensor, "examples 2"]
    harmful: Int[Tensor, " examples"]


@dataclass(frozen=True)
class _Work:
    """The arguments that the packed step passes to the model's forward."""

    packed: Packed
    weights: Float[Tensor, " targets"]
    heads: SafetyHeads | None
    detach_heads: bool


def safekey_loss(
    model: nn.Module,
    heads: SafetyHeads | None,
    rows: Sequence[Encoded],
    *,
    qmm_weight: float = 0.2,
    head_weight: float = 0.2,
    head_theta: float = 0.5,
    qsm_weight: float = 0.0,
    ksm_weight: float = 0.0,
    key_weight: float = 0.0,
    detach_heads: bool = False,
    counts: Counts | None = None,
    swaps: Sequence[Sequence[int] | None] | None = None,
    wrongs: Sequence[Sequence[int] | None] | None = None,
    seed: int = 0,
) -> SafeKeyLoss:
    """Compute all losses of a batch with one call of `model`.

    Args:
        model: a transformers causal language model, bare or wrapped (PEFT, DDP, FSDP2, DeepSpeed); `attach`
            comes before wrapping.
        heads: the safety heads; None uses the attached ones.
        rows: the batch, any number of encoded rows.
        qmm_weight: weight of query-mask modelling (qmm); 0 leaves its documents out.
        head_weight: weight of the dual-path safety heads (dpsh); 0 leaves the heads out.
        head_theta: θ, the share of the head that sees U alone, in [0, 1].
        qsm_weight: weight of query swap (qsm), an extension of this library (docs/training.md).
        ksm_weight: weight of key swap (ksm), an extension of this library (docs/training.md).
        key_weight: weight of a second sft loss on K, a control for qmm: up-weighting without masking.
        detach_heads: train the heads without a gradient into the model.
        counts: the divisors of the losses: the counts of this batch (default), or those of the whole step, over all
            micro-batches and ranks; then the losses of the micro-batches add up to the loss of the step.
        swaps: for each row the tokens of another row's query; default: drawn within this batch by `seed`.
        wrongs: for each row the tokens of a wrong beginning; default: drawn within this batch by `seed`, the key
            sentence of another row alone.
        seed: random seed for drawing swap partners.

    Raises:
        UserError: an empty batch, impossible spans, heads missing or of the wrong width, an unsupported model.
    """
    causal_lm = unwrap(model)
    attached = getattr(causal_lm, HEADS_NAME, None)
    used = (heads or attached) if head_weight else None
    _check_heads(causal_lm, used, head_weight)
    swaps = (partner_queries(rows, seed) if swaps is None else swaps) if qsm_weight else None
    wrongs = (wrong_beginnings(rows, seed, rest=0) if wrongs is None else wrongs) if ksm_weight else None
    device = next(causal_lm.parameters()).device
    packed = pack(rows, qmm=bool(qmm_weight), swaps=swaps, wrongs=wrongs).to(device)
    total = counts or count(rows)
    # The gradient of the weighted sum of all losses is computed inside the forward pass (see `linear_cross_entropy`):
    # `total` needs no second pass through the language-model head.
    parts = {
        "sft": (packed.sft, total.sft_tokens, 1.0),
        "qmm": (packed.qmm, total.key_tokens, qmm_weight),
        "qsm": (packed.qsm, total.key_tokens, qsm_weight),
        "ksm": (packed.ksm, total.recovery_tokens, ksm_weight),
        "key": (packed.key, total.key_tokens, key_weight),
    }
    wide = torch.promote_types(next(causal_lm.parameters()).dtype, torch.float32)
    weights = sum(chosen.to(wide) * (weight / max(1, divisor)) for chosen, divisor, weight in parts.values())
    assert isinstance(weights, Tensor)
    out = _forward(model, causal_lm, _Work(packed, weights, used, detach_heads))
    losses, hits, logits = out["losses"], out["hits"], out["head_logits"]
    zero = losses.new_zeros(())
    means = {
        name: losses[chosen].sum() / max(1, divisor) if weight else zero
        for name, (chosen, divisor, weight) in parts.items()
    }
    dpsh = zero
    if used is not None:
        dpsh = dual_path_loss(logits, packed.harmful, head_theta).sum() / max(1, total.examples)
    return SafeKeyLoss(
        total=out["total"] + head_weight * dpsh + out["keep_alive"],
        dpsh=dpsh,
        metrics=_metrics(packed, hits, logits),
        **means,
    )


def attach(model: nn.Module, heads: SafetyHeads | None) -> None:
    """Make the heads a submodule of the causal language model, and let its forward compute the packed step.

    Call it after PEFT (which would wrap or freeze the heads) and before DDP, FSDP2, DeepSpeed or `accelerator.prepare`.
    Padded calls of the model are unchanged. `detach` undoes it.
    """
    causal_lm = unwrap(model)
    if heads is not None:
        _check_heads(causal_lm, heads, 1.0)
        setattr(causal_lm, HEADS_NAME, heads)
    if not is_attached(causal_lm):
        causal_lm.__dict__["_safekey_forward"] = causal_lm.forward
        causal_lm.forward = MethodType(_attached_forward, causal_lm)


def is_attached(model: nn.Module) -> bool:
    """Whether `attach` was called on this model."""
    return "_safekey_forward" in unwrap(model).__dict__


def detach(model: nn.Module) -> SafetyHeads | None:
    """Undo `attach`; return the heads."""
    causal_lm = unwrap(model)
    if is_attached(causal_lm):
        del causal_lm.__dict__["_safekey_forward"], causal_lm.__dict__["forward"]
    heads: SafetyHeads | None = getattr(causal_lm, HEADS_NAME, None)
    if heads is not None:
        delattr(causal_lm, HEADS_NAME)
    return heads


def unwrap(model: nn.Module) -> PreTrainedModel:
    """Return the causal language model inside DDP, DeepSpeed, torch.compile and PEFT.

    Raises:
        UserError: there is no transformers causal language model inside.
    """
    inner: Any = model
    while not isinstance(inner, PreTrainedModel):
        if hasattr(inner, "get_base_model"):  # PEFT
            inner = inner.get_base_model()
        elif hasattr(inner, "module"):  # DDP, DeepSpeed
            inner = inner.module
        elif hasattr(inner, "_orig_mod"):  # torch.compile
            inner = inner._orig_mod
        else:
            raise UserError(f"{type(model).__name__} holds no transformers model: pass one from AutoModelForCausalLM")
    if inner.get_output_embeddings() is None:
        raise UserError(f"{type(inner).__name__} has no language-model head: load it with AutoModelForCausalLM")
    return inner


def _forward(model: nn.Module, causal_lm: PreTrainedModel, work: _Work) -> dict[str, Tensor]:
    """Call the wrapped model once, with the packed forward in place."""
    with document_attention(causal_lm), _stepping(causal_lm):
        out: dict[str, Tensor] = model(
            input_ids=work.packed.input_ids,
            position_ids=work.packed.position_ids,
            use_cache=False,
            safekey_work=work,
        )
    return out


@contextmanager
def _stepping(causal_lm: PreTrainedModel) -> Iterator[None]:
    """Attach for one call, unless the model is attached already."""
    if is_attached(causal_lm):
        yield
        return
    if "_original_forward" in causal_lm.__dict__:  # accelerate's mixed precision lives in that wrapper
        raise UserError("the model was prepared by accelerate already: call safekey.training.attach before prepare")
    own = causal_lm.__dict__.get("forward")
    attach(causal_lm, None)
    try:
        yield
    finally:
        del causal_lm.__dict__["_safekey_forward"], causal_lm.__dict__["forward"]
        if own is not None:
            causal_lm.__dict__["forward"] = own


def _attached_forward(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
    """The forward of an attached model: the packed step when `safekey_work` is given, the model's own otherwise."""
    work: _Work | None = kwargs.pop("safekey_work", None)
    if work is None:
        return self.__dict__["_safekey_forward"](*args, **kwargs)
    packed = work.packed
    backbone = self.base_model
    hidden = backbone(
        input_ids=kwargs["input_ids"],
        position_ids=kwargs["position_ids"],
        attention_mask=None,
        use_cache=False,
        document_lengths=packed.lengths,
    ).last_hidden_state[0]
    head = self.get_output_embeddings()
    adjust = logit_adjustment(self.config)
    tokens = linear_cross_entropy(
        hidden[packed.predictors],
        packed.targets,
        work.weights,
        head if adjust is None else lambda h: adjust(head(h)),
        self.config.vocab_size,
    )
    logits = hidden.new_zeros((0, 2))
    if work.heads is not None:
        logits = work.heads(hidden.detach() if work.detach_heads else hidden, packed.pool)
    return {**tokens._asdict(), "head_logits": logits, "keep_alive": _keep_alive(self, work)}


def _keep_alive(causal_lm: PreTrainedModel, work: _Work) -> Tensor:
    """Return 0 with a gradient path to attached heads that this pass does not use: DDP waits for their gradients."""
    heads = getattr(causal_lm, HEADS_NAME, None)
    idle = work.heads is None or not len(work.packed.harmful)
    if heads is None or not idle or not (dist.is_available() and dist.is_initialized()):
        return torch.zeros((), device=work.packed.input_ids.device)
    return 0.0 * sum((parameter.float().sum() for parameter in heads.parameters()), torch.zeros(()))


def _check_heads(causal_lm: PreTrainedModel, heads: SafetyHeads | None, head_weight: float) -> None:
    if not head_weight:
        return
    if heads is None:
        raise UserError(f"head_weight is {head_weight} but there are no heads: pass SafetyHeads or set head_weight=0")
    width = causal_lm.config.hidden_size
    if heads.hidden_size != width:
        raise UserError(f"the heads read {heads.hidden_size} features, the model has hidden_size {width}")


def _metrics(packed: Packed, hits: Bool[Tensor, " targets"], logits: Tensor) -> StepMetrics:
    of_key = {"sft": packed.key, "qmm": packed.qmm, "qsm": packed.qsm, "ksm": packed.ksm_key}
    right = {name: hits[chosen] for name, chosen in of_key.items()}
    return StepMetrics(
        tokens=packed.input_ids.shape[1],
        key_hits={name: (found.sum(), len(found)) for name, found in right.items()},
        head_logits=logits.detach(),
        harmful=packed.harmful if len(logits) else packed.harmful[:0],
    )
