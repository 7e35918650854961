"""Estimate the memory that one GPU needs; docs/multi-gpu.md explains the arithmetic.

A full fine-tune of 8B parameters, for example, needs 16 bytes per parameter (fp32 weight, gradient and two Adam
moments): 128 GB without activations. It does not fit on one 80 GB GPU; with FSDP2 over 8 GPUs it is 16 GB each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from safekey.errors import UserError
from safekey.training.objective.losses import LOGIT_BUDGET

GIB = 1 << 30
CONTEXT = GIB
"""Memory of CUDA itself, its kernels and the gaps of the allocator: about one GiB."""
ZERO3_LIVE = 1_000_000_000
"""DeepSpeed's `stage3_max_live_parameters`: parameters that are gathered at once."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder.

    Attributes:
        parameters: all of them.
        trainable: parameters that training changes.
        block: parameters of one layer.
        quantized: parameters held in 4 or 8 bits.
        layers, hidden, vocabulary: as in the model's configuration.
        inner: feed-forward width that one token uses (of its active experts).
        query, key_value: width of all query heads, and of all key or value heads.
    """

    parameters: int
    trainable: int
    block: int
    quantized: int
    layers: int
    hidden: int
    vocabulary: int
    inner: int
    query: int
    key_value: int


@dataclass(frozen=True)
class Memory:
    """Bytes that one process needs on its GPU, and in the memory of the host."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    context: int
    host: int = 0

    @property
    def total(self) -> int:
        """Bytes on the GPU."""
        held = self.weights + self.gradients + self.optimizer + self.activations
        return held + self.logits + self.buffers + self.context


def model_shape(config: Any, lora: Any = None, bits: int = 16) -> Shape:
    """Read the sizes from a model's configuration, by building it on the meta device (no memory, no weights).

    Args:
        config: a transformers configuration.
        lora: a peft configuration, if adapters are trained.
        bits: 4 or 8 when the linear layers' weights are quantised.

    Raises:
        UserError: it is not the configuration of a causal language model with attention.
    """
    import torch
    from transformers import AutoModelForCausalLM

    kind = f"model type '{config.model_type}'"
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise UserError(f"{kind} is no decoder-only language model, which SafeKey trains: {error!s:.120}") from error
    if not hasattr(config, "num_attention_heads"):
        raise UserError(f"{kind} has no attention heads: only attention keeps packed documents apart")
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    layers = next(
        m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == config.num_hidden_layers
    )
    block = sum(parameter.numel() for parameter in layers[0].parameters())
    linear = sum(m.weight.numel() for m in layers.modules() if isinstance(m, torch.nn.Linear))
    parameters = trainable = sum(parameter.numel() for parameter in model.parameters())
    if lora is not None:
        from peft import get_peft_model

        try:
            with torch.device("meta"):
                adapted = get_peft_model(model, lora)
        except ValueError as error:
            raise UserError(f"use_peft: {error!s:.300} (the keys lora_… choose what is adapted)") from error
        trainable = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    inner = int(
        getattr(config, "moe_intermediate_size", None) or getattr(config, "intermediate_size", 4 * config.hidden_size)
    )
    return Shape(
        parameters=parameters,
        trainable=trainable,
        block=block,
        quantized=linear if bits < 16 else 0,
        layers=int(config.num_hidden_layers),
        hidden=int(config.hidden_size),
        vocabulary=int(config.vocab_size),
        inner=inner * int(getattr(config, "num_experts_per_tok", None) or 1),
        query=heads * width,
        key_value=width * int(getattr(config, "num_key_value_heads", None) or heads),
    )


def estimate(
    shape: Shape,
    *,
    launch: str,
    processes: int,
    tokens: int,
    targets: int,
    weight_bytes: int,
    compute_bytes: int,
    checkpointing: bool,
    bits: int = 16,
) -> Memory:
    """Estimate the peak memory of one training step.

    Args:
        shape: the model.
        launch: "none", "ddp", "fsdp2" or "zero3" (ZeRO-3 with parameters and optimiser in host memory).
        processes: number of GPUs.
        tokens: packed tokens of the largest micro-batch.
        targets: tokens of that micro-batch that have a loss.
        weight_bytes: bytes per weight as loaded (2 or 4).
        compute_bytes: bytes per activation (2 or 4).
        checkpointing: whether a layer's activations are computed again in the backward pass.
        bits: 4 or 8 when the linear layers are quantised.
    """
    frozen = shape.parameters + (shape.trainable if shape.trainable < shape.parameters else 0) - shape.trainable
    full = shape.trainable == shape.parameters
    held = frozen * weight_bytes if not full else 0
    if shape.quantized:
        held += int(shape.quantized * (bits + 0.5) / 8) - shape.quantized * weight_bytes  # 0.5: a scale per 64 weights
    trained = shape.trainable * (weight_bytes if full else 4)  # adapters are trained in fp32
    state = shape.trainable * 8 if (weight_bytes == 4 or not full or launch in ("fsdp2", "zero3")) else trained * 2
    gradients, optimizer, buffers, host = trained, state, 0, 0
    unsharded = 2 * shape.block + 2 * shape.vocabulary * shape.hidden  # two layers in flight, embedding and head
    if launch == "ddp":
        buffers = trained  # the reducer's own copy of the gradients
    elif launch == "fsdp2":
        trained = shape.trainable * 4
        held, trained, gradients, optimizer = (
            share // processes for share in (held, trained, shape.trainable * 4, shape.trainable * 8)
        )
        buffers = unsharded * compute_bytes + shape.block * 4
    elif launch == "zero3":
        host = (shape.parameters * 2 + shape.trainable * 16) // processes
        held = trained = optimizer = 0
        gradients = shape.trainable * 2 // processes
        buffers = min(ZERO3_LIVE, shape.parameters) * 2 + unsharded * compute_bytes
    if launch in ("none", "ddp") and weight_bytes > compute_bytes:
        buffers += shape.parameters * compute_bytes  # autocast keeps its half-precision copies through the step
    return Memory(
        weights=held + trained,
        gradients=gradients,
        optimizer=optimizer,
        activations=activation_bytes(shape, tokens, compute_bytes, checkpointing),
        logits=logit_bytes(shape.vocabulary, targets, compute_bytes),
        buffers=buffers,
        context=CONTEXT,
        host=host,
    )


def layer_bytes(shape: Shape, compute_bytes: int) -> int:
    """Return the bytes that one layer keeps for its backward pass, per token.

    Both norms keep their input and its normalised form in fp32 and their output (2 · (8 + b) · hidden). Attention keeps
    queries and keys before and after the rotation, values and its output (b · (3 · query + 3 · key_value)), and the
    rotation copies their halves (b · (query + key_value)). The feed-forward network keeps gate, activation, up and
    their product (b · 4 · inner).
    """
    b = compute_bytes
    return (
        2 * (8 + b) * shape.hidden
        + b * (3 * shape.query + 3 * shape.key_value)
        + b * (shape.query + shape.key_value)
        + 4 * b * shape.inner
    )


def activation_bytes(shape: Shape, tokens: int, compute_bytes: int, checkpointing: bool) -> int:
    """Return the bytes that all layers keep; with checkpointing, the input of each layer and one whole layer."""
    one = layer_bytes(shape, compute_bytes)
    if checkpointing:
        return tokens * (shape.layers * compute_bytes * shape.hidden + one)
    return tokens * shape.layers * one


def logit_bytes(vocabulary: int, targets: int, compute_bytes: int) -> int:
    """Return the bytes of one chunk of logits: as computed, in fp32, softmax, and the gradient in both precisions."""
    chunk = min(targets, max(64, LOGIT_BUDGET // vocabulary))
    return chunk * vocabulary * (2 * compute_bytes + 8)
