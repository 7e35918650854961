"""Load tokenizer, configuration and weights for a recipe. Weights are read from safetensors only, never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from safekey.errors import UserError
from safekey.hub import hub_reachable, local_note

if TYPE_CHECKING:
    from trl import ModelConfig

    from safekey.training.command.recipe import RunSettings

KEEPS_MASTERS = ("fsdp2", "zero3")
"""Launches that keep an fp32 copy of the weights for the optimiser, so that the model can be loaded in bf16."""


def load_tokenizer(settings: RunSettings) -> Any:
    """Load the tokenizer, with the chat template of `chat_template_path` if that is set.

    Raises:
        UserError: there is none where the recipe says; what was looked for is in the text.
    """
    from transformers import AutoTokenizer

    name = str(settings.model.model_name_or_path)
    if not Path(name).is_dir():
        hub_reachable()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **_source(settings))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _not_found(name, settings, "a tokenizer", error) from error
    template = settings.training.chat_template_path
    if template:
        try:
            tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"chat_template_path {template}: cannot be read: {error.strerror}") from error
    return tokenizer


def load_config(settings: RunSettings) -> Any:
    """Load the model's configuration, without weights."""
    from transformers import AutoConfig

    name = str(settings.model.model_name_or_path)
    try:
        return AutoConfig.from_pretrained(name, **_source(settings))
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _not_found(name, settings, "a config.json", error) from error


def load_model(settings: RunSettings, launch: str) -> Any:
    """Load the model that will be trained.

    Raises:
        UserError: no weights in safetensors form, or the model cannot be loaded as the recipe asks.
    """
    from transformers import AutoModelForCausalLM

    name = str(settings.model.model_name_or_path)
    if Path(name).is_dir():
        name = str(Path(name).resolve())  # an adapter's card and config name its base model: from any folder
    options: dict[str, Any] = {"use_safetensors": True, "dtype": weight_dtype(settings, launch), **_source(settings)}
    if settings.model.attn_implementation:
        options["attn_implementation"] = settings.model.attn_implementation
    if settings.model.load_in_4bit or settings.model.load_in_8bit:
        options |= _quantized(settings.model, options["dtype"])
    options |= dict(settings.training.model_init_kwargs or {})
    try:
        model, report = AutoModelForCausalLM.from_pretrained(name, output_loading_info=True, **options)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a cut file, other sizes than config.json says, ...: each library has its own types
        raise _not_found(name, settings, "weights in safetensors form", error) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would fill them with random numbers
        raise UserError(
            f"model_name_or_path {name}: {len(missing)} weights are missing, among them {', '.join(missing[:3])}: "
            "the model is incomplete, or its config.json is another model's"
        )
    return model


def weight_dtype(settings: RunSettings, launch: str) -> torch.dtype:
    """Choose the dtype of the weights.

    fp32 on a CPU. On a GPU bf16, where these weights are frozen (LoRA) or another fp32 copy is trained (FSDP2, ZeRO-3).
    A full fine-tune by one process or DDP has only one copy: in bf16 its steps of about 1e-5 would round to nothing, so
    the weights are fp32 and the computation is bf16. A `dtype` in the recipe overrides this.
    """
    asked = settings.model.dtype
    if asked and asked != "auto":
        dtype = getattr(torch, asked, None)
        if not isinstance(dtype, torch.dtype):
            raise UserError(f"key 'dtype': expected float32, bfloat16 or float16, found {asked!r}")
        return dtype
    if not settings.half:
        return torch.float32
    half = torch.float16 if settings.training.fp16 else torch.bfloat16
    return half if settings.model.use_peft or launch in KEEPS_MASTERS else torch.float32


def _quantized(model: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    if not model.use_peft:
        raise UserError("load_in_4bit and load_in_8bit freeze the weights: add use_peft=true to train LoRA on top")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise UserError("quantised weights need bitsandbytes: pip install 'safekey[qlora]'") from error
    from trl import get_kbit_device_map, get_quantization_config

    model.dtype = str(dtype).removeprefix("torch.")
    return {"quantization_config": get_quantization_config(model), "device_map": get_kbit_device_map()}


def _source(settings: RunSettings) -> dict[str, Any]:
    # A token for gated models comes from HF_TOKEN or the hub's own login, never from a recipe.
    return {
        "revision": settings.model.model_revision,
        "trust_remote_code": bool(settings.training.trust_remote_code),
    }


def _not_found(name: str, settings: RunSettings, what: str, error: Exception) -> UserError:
    path = Path(name)
    reason = " ".join(str(error).split())
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:12]) or "nothing"
        return UserError(
            f"model_name_or_path {name}: looked for {what} in this folder, which holds {found}: {reason:.300}"
        )
    return UserError(
        f"model_name_or_path '{name}': looked for {what} in a folder {path.absolute()} (there is none) and for the hub "
        f"model '{name}' at revision '{settings.model.model_revision}': {local_note()}{reason:.300}"
    )
