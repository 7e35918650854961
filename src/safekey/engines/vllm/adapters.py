"""LoRA adapters for vLLM: find out before a server starts whether it can serve them, and with which rank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safekey.errors import UserError

_LARGEST = 512
_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
# Keys of adapter_config.json that vLLM does not take, and what they are called.
_UNKNOWN = {
    "use_dora": "DoRA",
    "lora_bias": "biases of LoRA layers (lora_bias)",
    "modules_to_save": "whole layers beside LoRA (modules_to_save)",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "layer replication",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
}


def rank_of(adapter: str) -> int:
    """Return the largest rank of an adapter that vLLM can serve.

    Raises:
        UserError: its file cannot be read, or it has what vLLM does not take.
    """
    path = Path(adapter) / "adapter_config.json"
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        ranks = [int(card["r"]), *map(int, (card.get("rank_pattern") or {}).values())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no LoRA adapter's: {error!r:.200}") from error
    found = [words for key, words in _UNKNOWN.items() if card.get(key)]
    if card.get("bias", "none") != "none":
        found.append(f"biases (bias: {card['bias']})")
    start = card.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in _INITS:
        found.append(f"an adapter that changed its base (init_lora_weights: {start})")
    if max(ranks) > _LARGEST:
        found.append(f"ranks above {_LARGEST} (here {max(ranks)})")
    if found:
        raise UserError(
            f"{adapter}: vLLM does not serve {', '.join(found)}: merge the adapter into its base model, or use "
            "--engine local"
        )
    return max(ranks)
