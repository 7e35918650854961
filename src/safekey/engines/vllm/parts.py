"""The parts of a model as folders of this machine: vLLM reads no hub. A hub model is downloaded, safetensors only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safekey.engines.weights import Source
from safekey.errors import UserError
from safekey.hub import hub_reachable, local_note


def parts_here(source: Source, revision: str | None, trust: bool) -> tuple[Source, str | None]:
    """Return a model's parts as folders of this machine, and the revision.

    Args:
        source: the parts, as folders or hub ids.
        revision: of a hub id: a branch, tag or commit; None: main.
        trust: download its Python code as well.

    Raises:
        UserError: there is no such hub model, or it cannot be downloaded, or it has no safetensors.
    """
    folder = Path(source.base)
    if not folder.is_dir():
        folder = _download(source.base, revision, code=trust)
        revision = folder.name
    base = os.path.abspath(folder)
    tokenizer = base if source.tokenizer == source.base else os.path.abspath(source.tokenizer)
    return Source(base, os.path.abspath(source.adapter) if source.adapter else None, tokenizer), revision


def _download(name: str, revision: str | None, *, code: bool) -> Path:
    from huggingface_hub import snapshot_download

    hub_reachable()
    kinds = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken", *(["*.py"] if code else [])]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=kinds))
    except Exception as error:  # the hub's client raises many kinds
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{local_note()}'{name}': there is no such folder here, and no hub model of that name at revision "
            f"'{revision or 'main'}' could be had: {reason}"
        ) from error
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(f"'{name}': the hub model has no config.json and no weights as *.safetensors")
    return folder


def generation_config(folder: str) -> Any:
    """Return a model's generation_config; one made of its config.json where there is none, as transformers does.

    Raises:
        UserError: neither can be read.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        return GenerationConfig.from_pretrained(folder)
    except Exception:
        try:
            return GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder))
        except Exception as error:
            raise UserError(f"{folder}: its config.json cannot be used: {str(error)[:300]}") from error
