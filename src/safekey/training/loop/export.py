"""Export the model so that plain transformers and vLLM load it and stop where its template stops, and the heads.

vLLM refuses a model with unknown weight names, so the heads are not part of it. They are saved beside it as
`safekey_heads.safetensors`, with a card that describes their use.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from safekey.errors import UserError
from safekey.training.objective import attention
from safekey.training.objective.heads import SafetyHeads
from safekey.training.objective.step import HEADS_NAME

WEIGHTS = "safekey_heads.safetensors"
CARD = "safekey_heads.json"
GENERATION = "generation_config.json"
_CHANGED = ("use_cache", "output_router_logits", "router_aux_loss_coef")


def keep_out_of_exports(causal_lm: PreTrainedModel) -> None:
    """Make `save_pretrained` leave out the attached heads."""
    names = {f"{HEADS_NAME}.{name}" for name in getattr(causal_lm, HEADS_NAME).state_dict()}
    causal_lm._keys_to_ignore_on_save = {*(causal_lm._keys_to_ignore_on_save or ()), *names}


def settings_to_restore(config: Any) -> dict[str, Any]:
    """Return the current values of the config settings that transformers and TRL change for training."""
    return {name: getattr(config, name) for name in _CHANGED if hasattr(config, name)}


@contextmanager
def as_it_came(causal_lm: PreTrainedModel, settings: Mapping[str, Any]) -> Iterator[None]:
    """While the block runs, undo what training has changed in the config: its attention, and these settings."""
    attention.disable(causal_lm)
    config = causal_lm.config
    during = settings_to_restore(config)
    for name, value in settings.items():
        setattr(config, name, value)
    try:
        yield
    finally:
        for name, value in during.items():
            setattr(config, name, value)


@contextmanager
def generation_settings_aside(causal_lm: PreTrainedModel) -> Iterator[None]:
    """While the block runs, the model has plain generation settings.

    transformers refuses to save a model whose settings contradict one another (a temperature without sampling), as
    some published ones do. `write_generation_settings` writes them.
    """
    own = causal_lm.generation_config
    if own is None:
        yield
        return
    causal_lm.generation_config = GenerationConfig()
    try:
        yield
    finally:
        causal_lm.generation_config = own


def write_generation_settings(folder: str | os.PathLike[str], causal_lm: PreTrainedModel, ends: Sequence[int]) -> None:
    """Write the model's own generation settings, with every token that ends a turn.

    A tokenizer's end token may be another than the one with which its chat template ends a turn, and then plain
    `generate` would run on behind the answer. Beside a LoRA adapter the file is for its user: peft does not read it.

    Args:
        folder: an existing folder.
        causal_lm: the model.
        ends: ids of the tokens that end a turn (`safekey.text.chat.end_ids`).
    """
    own = causal_lm.generation_config
    if own is None:
        return
    settings = copy.deepcopy(own)
    settings.eos_token_id = ends[0] if len(ends) == 1 else list(ends) or None
    settings.to_json_file(Path(folder) / GENERATION)


def heads_state(heads: SafetyHeads) -> dict[str, Tensor]:
    """Return the whole weights of the heads on the CPU, however sharded (all ranks must call this together)."""
    with _gathered(heads, writing=False):
        return {name: _whole(value).detach().float().cpu().clone() for name, value in heads.named_parameters()}


def set_heads_state(heads: SafetyHeads, state: dict[str, Tensor]) -> None:
    """Load whole weights into heads, however sharded (all ranks must call this together)."""
    with torch.no_grad(), _gathered(heads, writing=True):
        for name, parameter in heads.named_parameters():
            value = state[name].to(parameter.device, parameter.dtype)
            mesh = getattr(parameter, "device_mesh", None)
            if mesh is not None:  # FSDP2
                from torch.distributed.tensor import distribute_tensor

                value = distribute_tensor(value, mesh, getattr(parameter, "placements", None))
            parameter.copy_(value)


def _whole(value: Tensor) -> Tensor:
    full: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return full


@contextmanager
def _gathered(heads: nn.Module, writing: bool) -> Iterator[None]:
    """Gather the shards of ZeRO-3; otherwise do nothing."""
    if not any(hasattr(parameter, "ds_id") for parameter in heads.parameters()):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(list(heads.parameters()), modifier_rank=0 if writing else None):
        yield


def save_heads(
    folder: str | os.PathLike[str], heads: SafetyHeads, state: dict[str, Tensor], *, theta: float, base_model: str
) -> None:
    """Write the weights of the heads and their card.

    Args:
        folder: an existing folder.
        heads: the heads, for their size and pooling.
        state: their whole weights, from `heads_state`.
        theta: θ of the training objective.
        base_model: name of the model that was trained.
    """
    save_file({name: value.contiguous() for name, value in state.items()}, os.fspath(Path(folder) / WEIGHTS))
    card = {
        "format": 1,
        "hidden_size": heads.hidden_size,
        "pooling": heads.pooling,
        "theta": theta,
        "base_model": base_model,
        "labels": {"1": "harmful query", "0": "benign query"},
        "reads": "the last hidden states, after the final norm, of the model in this folder",
        "heads": {
            "understanding": "over U, the opening sentences of the reasoning that restate the query",
            "query_and_understanding": "over X and U: everything up to the end of U",
        },
        "use": "heads = safekey.training.load_heads(folder); logits = heads(hidden_states, borders); "
        "probability that the query is harmful = sigmoid(logit)",
    }
    (Path(folder) / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_heads(folder: str | os.PathLike[str]) -> SafetyHeads:
    """Load trained heads from the folder of a model or a checkpoint, on the CPU.

    Raises:
        UserError: there are none, or the two files do not match.
    """
    card_path, weights = Path(folder) / CARD, Path(folder) / WEIGHTS
    if not card_path.is_file() or not weights.is_file():
        raise UserError(f"no safety heads in {folder}: expected {WEIGHTS} and {CARD}; was head_weight 0?")
    try:
        card: dict[str, Any] = json.loads(card_path.read_text(encoding="utf-8"))
        heads = SafetyHeads(card["hidden_size"], card["pooling"])
        heads.load_state_dict(load_file(os.fspath(weights)))
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"the safety heads in {folder} cannot be read: {error}") from error
    return heads
