"""Write checkpoints that are either complete or absent, and find the newest complete one.

A checkpoint is written to a hidden folder, listed in a manifest, and renamed. A run that is killed while saving leaves
no folder that looks like a checkpoint; a checkpoint with a missing or changed file is detected and not resumed from.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from safekey.errors import UserError

MANIFEST = "safekey_complete.json"
PREFIX = "checkpoint-"
_ASIDE = ".saving-"

logger = logging.getLogger("safekey.training")


def last_complete_checkpoint(output_dir: str | os.PathLike[str]) -> str | None:
    """Return the newest checkpoint that a run can resume from, or None; log which ones are ignored, and why."""
    folders = sorted(_checkpoints(output_dir), key=_step, reverse=True)
    for folder in folders:
        reason = fault(folder)
        if reason is None:
            return str(folder)
        logger.warning("ignoring %s: %s", folder, reason)
    return None


def fault(folder: str | os.PathLike[str]) -> str | None:
    """Return why a run cannot resume from this folder, or None if it can."""
    path = Path(folder)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        return f"it is incomplete ({MANIFEST} is missing)"
    except json.JSONDecodeError:
        return f"it is incomplete ({MANIFEST} cannot be read)"
    for name, size in manifest["files"].items():
        if not (path / name).is_file():
            return f"it is incomplete ({name} is missing)"
        if (path / name).stat().st_size != size:
            return f"it is damaged ({name} has {(path / name).stat().st_size} bytes, expected {size})"
    if not manifest["resumable"]:
        return "it holds the model only (save_only_model)"
    return None


def foreign(folder: Path, *, unlisted: bool = False) -> Path | None:
    """Return what `commit` has not written: a file in a checkpoint's or model's folder, or the folder; None if nothing.

    A folder that is still hidden is ours by its name.

    Args:
        folder: the folder.
        unlisted: whether a folder without a list of its files is ours, too (a finished run's, of an older version).
    """
    if folder.is_symlink() or not folder.is_dir():
        return folder
    if folder.name.startswith(_ASIDE):
        return None
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None if unlisted else folder
    files = (file for file in folder.rglob("*") if file.is_symlink() or not file.is_dir())
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return next((names[name] for name in sorted(names) if name not in sizes and name != MANIFEST), None)


def read_extra(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the `extra` that `commit` has stored."""
    extra: dict[str, Any] = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))["extra"]
    return extra


def aside(final: str | os.PathLike[str]) -> str:
    """Return the hidden folder to which a checkpoint is written first."""
    path = Path(final)
    return str(path.parent / f"{_ASIDE}{path.name}")


def commit(final: str | os.PathLike[str], *, resumable: bool, extra: Mapping[str, Any]) -> None:
    """List the files in the hidden folder, flush them to the disk, and rename the folder."""
    path, temporary = Path(final), Path(aside(final))
    files = [file for file in sorted(temporary.rglob("*")) if file.is_file()]
    for file in files:
        _sync(file)
    sizes = {file.relative_to(temporary).as_posix(): file.stat().st_size for file in files}
    manifest = {"files": sizes, "resumable": resumable, "extra": dict(extra)}
    (temporary / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    _sync(temporary / MANIFEST)
    _sync(temporary)
    if path.exists():  # left by an earlier run, complete or not
        shutil.rmtree(path)
    temporary.rename(path)
    _sync(path.parent)


def clean(output_dir: str | os.PathLike[str]) -> None:
    """Remove the hidden folders of killed runs."""
    for pattern in (f"{_ASIDE}{PREFIX}*", f"{_ASIDE}model"):
        for folder in Path(output_dir).glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def saving(final: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a failure to write into one clear error, and remove the unfinished checkpoint.

    Raises:
        UserError: the disk is full or cannot be written; earlier checkpoints are unchanged.
    """
    try:
        yield
    except Exception as error:
        if not is_write_failure(error):
            raise
        shutil.rmtree(aside(final), ignore_errors=True)
        earlier = last_complete_checkpoint(Path(final).parent)
        rest = f"the last complete checkpoint is {earlier}" if earlier else "there is no earlier checkpoint"
        raise UserError(
            f"cannot save {final}: {error}. {rest}. Free some space (or set save_total_limit), then run the same "
            "command again to resume from there"
        ) from error


def is_write_failure(error: Exception) -> bool:
    """Whether an error means that the disk is full or cannot be written; libraries report it in several ways."""
    if isinstance(error, (OSError, SafetensorError)):
        return True
    return isinstance(error, RuntimeError) and any(
        part in str(error) for part in ("PytorchStreamWriter", "inline_container", "No space left", "file write")
    )


def _checkpoints(output_dir: str | os.PathLike[str]) -> list[Path]:
    return [folder for folder in Path(output_dir).glob(f"{PREFIX}*") if folder.is_dir() and _step(folder) >= 0]


def _step(folder: Path) -> int:
    number = folder.name.removeprefix(PREFIX)
    return int(number) if number.isdigit() else -1


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
