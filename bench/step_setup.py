"""Random models of known shapes, rows with the lengths of STAR-1, and FLOP counts for the step benchmark."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


def find_safekey() -> None:
    """Make a plain checkout importable: no installation, and no jaxtyping, which the step uses for annotations only."""
    source = str(Path(__file__).resolve().parent.parent / "src")
    try:
        import safekey  # noqa: F401
    except ImportError:
        sys.path.insert(0, source)
    try:
        import jaxtyping  # noqa: F401
    except ImportError:

        class Shape:
            def __class_getitem__(cls, item: object) -> object:
                return item[0] if isinstance(item, tuple) else item

        stand_in: Any = ModuleType("jaxtyping")
        stand_in.Float = stand_in.Int = stand_in.Bool = Shape
        sys.modules["jaxtyping"] = stand_in


find_safekey()

import torch  # noqa: E402 - after the path is set
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, Qwen2Config  # noqa: E402

from safekey.schema import Spans  # noqa: E402
from safekey.training.encoding import Encoded  # noqa: E402


@dataclass(frozen=True)
class Shape:
    """A model's size: hidden width, MLP width, layers, query heads, key-value heads, vocabulary."""

    family: str
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int


SHAPES = {
    "tiny": Shape("llama", 256, 704, 4, 4, 2, 32_000),
    "small": Shape("llama", 512, 1408, 6, 8, 4, 32_000),
    "medium": Shape("llama", 768, 2048, 12, 12, 4, 32_000),
    "r1-qwen-1.5b": Shape("qwen2", 1536, 8960, 28, 12, 2, 151_936),
    "llama-8b": Shape("llama", 4096, 14_336, 32, 32, 8, 128_256),
}

# STAR-1's 1,000 rows (key sentences found by safekey's rule), tokens estimated from the text: the lengths at QUANTILES.
# X has 5 tokens of template in it.
QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
QUERY = (9.0, 13.6, 15.8, 19.0, 23.4, 29.8, 39.6, 48.2, 79.5, 188.6)
UNDERSTANDING = (8.0, 16.2, 17.3, 20.5, 24.8, 30.2, 42.1, 50.8, 73.4, 236.5)
KEY_SENTENCE = (5.0, 8.6, 8.6, 8.6, 16.2, 23.8, 28.1, 29.2, 30.2, 42.1)
RESPONSE = (160.0, 230.0, 246.2, 287.3, 341.3, 428.8, 598.3, 678.2, 837.0, 1137.2)

# Dense bf16 FLOP/s, for MFU.
PEAK_FLOPS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}


def build_model(shape: Shape, dtype: torch.dtype, device: str, checkpointing: bool) -> PreTrainedModel:
    """Make a random model in training mode."""
    torch.manual_seed(0)
    config_type = {"llama": LlamaConfig, "qwen2": Qwen2Config}[shape.family]
    config = config_type(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=16_384,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    if checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    return model


def make_rows(number: int, vocab: int, lengths: str, scale: float, seed: int = 1) -> list[Encoded]:
    """Draw random rows.

    Args:
        number: how many.
        vocab: ids are drawn from 3 up to here.
        lengths: "star1", or response lengths separated by commas, used in turn.
        scale: factor on the response's length (not on X, U and K): what longer reasoning would look like.
        seed: same seed, same rows.
    """
    draw = random.Random(seed)
    given = [int(text) for text in lengths.split(",")] if lengths != "star1" else []

    def sizes(of: tuple[float, ...]) -> list[int]:
        """Spread evenly over the distribution, in random order, so that few rows represent it."""
        found = [round(_quantile(of, (i + 0.5) / number)) for i in range(number)]
        draw.shuffle(found)
        return found

    drawn = zip(*(sizes(of) for of in (QUERY, UNDERSTANDING, KEY_SENTENCE, RESPONSE)), strict=True)
    rows = []
    for i, (x, u, k, response) in enumerate(drawn):
        response = max(u + k + 2, round(scale * (given[i % len(given)] if given else response)))
        ids = [draw.randrange(3, vocab) for _ in range(x + response)]
        spans = Spans(slice(0, x), slice(x, x + u), slice(x + u, x + u + k))
        rows.append(Encoded(ids, spans, harmful=i % 2 == 0, name=f"row {i}"))
    return rows


def _quantile(of: tuple[float, ...], share: float) -> float:
    above = next(i for i, quantile in enumerate(QUANTILES) if quantile >= share and i)
    low, high = QUANTILES[above - 1], QUANTILES[above]
    return of[above - 1] + (of[above] - of[above - 1]) * (share - low) / (high - low)


def useful_flops(shape: Shape, rows: list[Encoded], auxiliary: bool) -> float:
    """Count the FLOPs that the objective needs, forward and backward, with nothing padded, repeated or recomputed.

    Matrix multiplications and causal attention scores over each document, the head at learnt positions only.
    """
    width = shape.hidden // shape.heads
    layer = shape.hidden * width * (2 * shape.heads + 2 * shape.kv_heads) + 3 * shape.hidden * shape.mlp
    total = 0.0
    for row in rows:
        x, k = row.spans.query.stop, row.spans.key_sentence
        documents = [(len(row.input_ids), len(row.input_ids) - x)]
        if auxiliary:
            documents.append((k.stop - x, k.stop - k.start))
        for tokens, learnt in documents:
            scores = shape.hidden * tokens * (tokens + 1) // 2 * 2  # QK^T and the weighted sum of V
            total += shape.layers * (layer * tokens + scores) + shape.hidden * shape.vocab * learnt
    return 6 * total  # 2 FLOPs a multiply-add, backward twice the forward


def peak_flops(device: str, dtype: torch.dtype) -> float | None:
    """Look up the device's peak; None where it is not known."""
    if device != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    name = torch.cuda.get_device_name()
    return next((flops for known, flops in PEAK_FLOPS.items() if known in name), None)
