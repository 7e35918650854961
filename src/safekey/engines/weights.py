"""Find and load a model: from a folder (model, run or LoRA adapter) or a hub id; choose its device and dtype.

Weights are read from safetensors only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.errors import UserError

if TYPE_CHECKING:
    import torch

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_BLOB = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """The parts of a model.

    Attributes:
        base: folder or hub id of the weights.
        adapter: folder of a LoRA adapter on top of them, or None.
        tokenizer: folder or hub id of the tokenizer.
    """

    base: str
    adapter: str | None
    tokenizer: str


def find(model: str, adapter: str | None = None) -> Source:
    """Find the parts of a model.

    Args:
        model: a model's, run's, checkpoint's or adapter's folder, or a hub id.
        adapter: a LoRA adapter's folder to put on top.

    Raises:
        UserError: a part is missing; the message says what was looked for and what the folder holds.
    """
    folder = _folder(model)
    if adapter is not None:
        return Source(str(folder or model), str(_folder(adapter) or adapter), str(folder or model))
    if folder is None:
        return Source(model, None, model)
    card = folder / "adapter_config.json"
    if card.is_file() and not (folder / "config.json").is_file():
        return _adapter(folder, card)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: looked for a model's config.json or an adapter_config.json; {_holds(folder)}")
    if not list(folder.glob("*.safetensors")):
        pickles = [entry.name for entry in folder.iterdir() if entry.suffix in _PICKLES]
        reason = (
            f"pickled weights ({pickles[0]}) are not loaded: save them as safetensors" if pickles else _holds(folder)
        )
        raise UserError(f"{folder}: looked for weights (*.safetensors) and found none; {reason}")
    return Source(str(folder), None, str(folder))


def _folder(model: str) -> Path | None:
    """Return the folder that holds the model, or None for a hub id."""
    path = Path(model).expanduser()
    if path.is_dir():
        inner = path / "model"
        plain = any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
        if not plain and inner.is_dir():
            return inner
        if not plain and (path / "run.json").is_file():
            newest = max((p.name for p in path.glob("checkpoint-*")), default=None, key=lambda n: (len(n), n))
            hint = f"evaluate a checkpoint ({path / newest})" if newest else "it has no checkpoint either"
            raise UserError(f"{path}: a training run without an exported model (looked for {inner}): {hint}")
        return path
    if path.exists():
        raise UserError(f"{model}: is a file; expected a model's folder, a run's folder or a hub id")
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", model):
        raise UserError(f"{model}: there is no such folder, and it is no hub id (owner/name)")
    return None


def _adapter(folder: Path, card: Path) -> Source:
    try:
        base = json.loads(card.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{card}: does not name its base_model_name_or_path ({error!r})") from error
    if not (folder / "adapter_model.safetensors").is_file():
        raise UserError(f"{folder}: looked for adapter_model.safetensors and found none; {_holds(folder)}")
    try:
        source = find(str(base))
    except UserError as error:
        raise UserError(f"{card} names the base model '{base}': {error}") from error
    own = (folder / "tokenizer.json").is_file()
    return Source(source.base, str(folder), str(folder) if own else source.tokenizer)


def _holds(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return f"it holds {', '.join(names[:12]) or 'nothing'}" + (
        f" and {len(names) - 12} more" if len(names) > 12 else ""
    )


def tokenizer_folder(name: str) -> Source:
    """Return the source of a tokenizer alone: a folder, a run's folder, or a hub id."""
    folder = _folder(name)
    return Source("", None, str(folder or name))


def load_tokenizer(source: Source, revision: str | None, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    if Path(source.tokenizer).is_dir() and not tokenizer_files(Path(source.tokenizer)):
        folder = Path(source.tokenizer)
        raise UserError(f"{folder}: looked for a tokenizer (tokenizer.json) and found none; {_holds(folder)}")
    try:
        return AutoTokenizer.from_pretrained(
            source.tokenizer, revision=revision, trust_remote_code=trust_remote_code, padding_side="left"
        )
    except Exception as error:  # a broken file raises whatever its parser raises
        raise _unusable(source.tokenizer, revision, "a tokenizer", error) from error


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a folder that a tokenizer can be read from."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json")
    return [folder / name for name in names if (folder / name).is_file()]


def load_model(source: Source, revision: str | None, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """Load the weights, and the adapter if there is one.

    Raises:
        UserError: they cannot be loaded, or some are missing (transformers would use random ones).
    """
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            source.base,
            revision=revision,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:
        raise _unusable(source.base, revision, "weights in safetensors form", error) from error
    missing = sorted(report.get("missing_keys", ()))
    if missing:
        raise UserError(f"{source.base}: {len(missing)} weights are missing, among them {', '.join(missing[:3])}")
    if source.adapter is None:
        return model
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # peft asks by a name that transformers has replaced
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
            return PeftModel.from_pretrained(model, source.adapter)
    except Exception as error:
        raise _unusable(source.adapter, None, "a LoRA adapter", error) from error


def _unusable(name: str, revision: str | None, what: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if Path(name).is_dir():
        return UserError(f"{name}: {what} cannot be loaded from this folder: {reason:.300}")
    offline = " (HF_HUB_OFFLINE is set: only the local cache was asked)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return UserError(
        f"'{name}': there is no such folder here, and looking for {what} of the hub model of that name at revision "
        f"'{revision or 'main'}'{offline} failed: {reason:.300}"
    )


def fingerprint(source: Source, revision: str | None = None) -> str:
    """Return one sha256 over the names and sha256 sums of all weight files, the adapter's included."""
    total = hashlib.sha256()
    for name in (source.base, source.adapter):
        if name is None:
            continue
        for file in sorted(_weight_files(name, revision)):
            total.update(f"{file.name} {_sha256(file)}\n".encode())
    return total.hexdigest()


def _weight_files(name: str, revision: str | None) -> list[Path]:
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(name, revision=revision, local_files_only=True, allow_patterns=["*.safetensors"])
        )
    heads = "safekey_heads.safetensors"  # no part of the model
    return [file for file in folder.glob("*.safetensors") if file.name != heads]


def _sha256(file: Path) -> str:
    blob = file.resolve().name  # the hub's cache names large files by their sha256
    if file.is_symlink() and _BLOB.fullmatch(blob):
        return blob
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pick_device(asked: str | None) -> torch.device:
    """Return the device asked for, or the best one there is."""
    import torch

    if asked and asked != "auto":
        try:
            return torch.device(asked)
        except RuntimeError as error:
            raise UserError(f"device '{asked}' is none: use cuda, cuda:0, mps or cpu") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(asked: str, device: torch.device) -> torch.dtype:
    """Return the dtype asked for; "auto": a 16-bit one on CUDA, else float32."""
    import torch

    if asked != "auto":
        dtype = getattr(torch, asked, None)
        if not isinstance(dtype, torch.dtype):
            raise UserError(f"dtype '{asked}' is none: use float32, bfloat16, float16 or auto")
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float32


def context_length(config: Any) -> int:
    """Return the longest sequence that a model takes, in tokens."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def cache_bytes(model: Any) -> int:
    """Return how many bytes of keys and values one token takes."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", 1)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * model.dtype.itemsize)


def free_memory(device: torch.device) -> int | None:
    """Return the free memory in bytes where it is known."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "cpu":
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (ValueError, OSError, AttributeError):
            return None
    return None
