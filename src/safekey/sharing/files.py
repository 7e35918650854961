"""Which files of a training run may leave: the model, its tokenizer and the heads, by name; nothing else

    found = model_files(read_training("runs/first"), base)
    [file.name for file in found.files]   -> ["chat_template.jinja", "config.json", "model.safetensors", …]

Data, logs, optimiser states and checkpoints have no name in the list, so they cannot slip in. A symbolic link or a
pickle in the model's folder is refused: the one leads elsewhere, the other can run code where it is loaded.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.run_folder.ownership import LEDGER
from safekey.sharing.card import CARD
from safekey.sharing.facts import Base, Training
from safekey.training.loop.checkpoint import MANIFEST

_NAMES = re.compile(
    r"config\.json|generation_config\.json|adapter_config\.json|chat_template\.(jinja|json)"
    r"|(model|adapter_model)(-\d{5}-of-\d{5})?\.safetensors|(model|adapter_model)\.safetensors\.index\.json"
    r"|safekey_heads\.(json|safetensors)"
    r"|tokenizer(_config)?\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt"
    r"|tokenizer\.model|spiece\.model|sentencepiece\.bpe\.model|tekken\.json"
    r"|(LICEN[CS]E|NOTICE|USE_POLICY)(\.(txt|md))?"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".msgpack")
_TOKENS = re.compile(r"tokenizer\.json|vocab\.(json|txt)|merges\.txt|tekken\.json|.*\.model|.*\.safetensors")
_OWN = {MANIFEST, LEDGER, CARD}
_NAMING = ("name_or_path", "base_model")
_SMALL = 10_000_000  # bytes: larger files are kept by the hub as LFS, known by their sha256


@dataclass(frozen=True, slots=True)
class Shared:
    """One file of a repository.

    Attributes:
        name: its path there.
        source: the file that is uploaded, or its content.
        size: bytes.
        sha256: of the content.
        oid: the content's name in git; "" for a large file.
        note: what was changed in it; "" for nothing.
    """

    name: str
    source: Path | bytes
    size: int
    sha256: str
    oid: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        files: those that are uploaded.
        left_out: names of those in the model's folder that are not.
    """

    files: tuple[Shared, ...]
    left_out: tuple[str, ...]


def model_files(run: Training, base: Base) -> ModelFiles:
    """Return the model's files, its heads included.

    In small JSON files a local path of the base model is replaced by its name.

    Raises:
        UserError: there is a symbolic link, a pickle, or a file that tells a local path.
    """
    if run.model.is_symlink():
        raise UserError(f"{run.model}: is a symbolic link, which is not followed: put the model itself there")
    files, left_out = [], []
    for path in sorted(run.model.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise UserError(
                f"{path}: is a symbolic link, which is not followed: put the file itself there, or remove it"
            )
        if path.suffix.lower() in _PICKLES:
            raise UserError(f"{path}: is a pickle or the like, which can run code where it is loaded: remove it")
        if not stat.S_ISREG(mode) or not _NAMES.fullmatch(path.name):
            left_out += [] if path.name in _OWN else [path.name]
        else:
            files.append(_shared(run, base, path))
    if not any(file.name.endswith(".safetensors") and not file.name.startswith("safekey_") for file in files):
        raise UserError(f"{run.model}: holds no weights (model.safetensors or adapter_model.safetensors)")
    return ModelFiles(tuple(files), tuple(left_out))


def from_bytes(name: str, content: bytes, note: str = "") -> Shared:
    """Return a file that is made, not read."""
    oid = hashlib.sha1(_git_head(len(content)) + content, usedforsecurity=False).hexdigest()
    return Shared(name, content, len(content), hashlib.sha256(content).hexdigest(), oid, note)


def _shared(run: Training, base: Base, path: Path) -> Shared:
    if path.suffix == ".safetensors":
        _check_header(path)
    if _TOKENS.fullmatch(path.name):
        return _from_disk(path)
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise UserError(f"{path}: is no UTF-8 text ({error})") from error
    changed = _without_paths(run, base, path, text) if path.suffix == ".json" else text
    if leak := run.private.leak(changed):
        raise UserError(f"{path}: names a folder or machine ({leak}): remove it, then push again")
    if changed == text:
        return _from_disk(path)
    return from_bytes(path.name, changed.encode(), "local path replaced by the base's name")


def _without_paths(run: Training, base: Base, path: Path, text: str) -> str:
    """Return a JSON text in which no value is a local path; where none was, the text itself."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error})") from error

    def cleaned(key: str, item: Any) -> Any:
        if isinstance(item, dict):
            return {name: cleaned(name, each) for name, each in item.items()}
        if isinstance(item, list):
            return [cleaned(key, each) for each in item]
        if not isinstance(item, str) or not _is_path(item):
            return item
        return (base.hub_id or base.name) if key.endswith(_NAMING) else run.private.public(item)

    changed = cleaned("", value)
    return text if changed == value else json.dumps(changed, indent=2, ensure_ascii=False) + "\n"


def _is_path(text: str) -> bool:
    return bool(re.match(r"(~|\.{1,2})?/\S|[A-Za-z]:\\|file://", text)) or (
        "/" in text and len(text) < 300 and " " not in text and Path(text).exists()
    )


def _check_header(path: Path) -> None:
    """Check that a file is what its name says: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        head = file.read(1)
    if head != b"{" or not 0 < length < path.stat().st_size:
        raise UserError(f"{path}: is no safetensors file, whatever its name says: train again")


def _from_disk(path: Path) -> Shared:
    size = path.stat().st_size
    sums = [hashlib.sha256()]
    if size <= _SMALL:
        sums.append(hashlib.sha1(_git_head(size), usedforsecurity=False))
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            for each in sums:
                each.update(block)
    oid = sums[1].hexdigest() if len(sums) > 1 else ""
    return Shared(path.name, path, size, sums[0].hexdigest(), oid)


def _git_head(size: int) -> bytes:
    return f"blob {size}\0".encode()
