"""What the run folders of training, evaluation and grid share: lock, writing and reading, versions, secrets, format.

A run folder has a record (`run.json`, or `grid.yaml` of a grid) that names the format it is written in:

    {"format": 1, "status": "finished", "finished_at": "2026-11-25T15:53:49+00:00", "starts": [{"time": ...}], ...}
"""

from __future__ import annotations

import errno
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from safekey.errors import UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock

FORMAT = 1
"""The format of the run folders that this version writes. A record without one is older, and is read as format 1."""

RUN = "run.json"
_PACKAGES = (
    *("safekey", "torch", "transformers", "trl", "accelerate", "peft", "tokenizers", "deepspeed", "bitsandbytes"),
    *("inspect-ai", "openai", "math-verify", "datasets"),
)
_SECRET = re.compile(
    r"(?!(?:eos|bos|pad|unk|sep|cls|mask)_token$)(?:.*[_.])?(?:api_?key|token|password|secret|authorization)",
    re.IGNORECASE,
)
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
"""What a file system without locks answers; ENOSYS: Lustre without the mount option flock."""


def file_lock(path: Path, timeout: float = -1) -> BaseFileLock:
    """Return a lock on a file; acquiring it raises an OSError of `NO_LOCKS` on a file system without locks.

    By itself `filelock` would go over to files that mean "locked" by being there: a job that is killed on one node
    would lock out the next one on another node for ever.
    """
    from filelock import FileLock

    known = inspect.signature(FileLock.__init__).parameters
    strict: dict[str, Any] = {"fallback_to_soft": False} if "fallback_to_soft" in known else {}
    lock: BaseFileLock = FileLock(path, timeout=timeout, thread_local=False, **strict)
    return lock


def hold(folder: Path, busy: str, *, unwritable: str = "give another --output") -> BaseFileLock:
    """Make a folder and lock it until the returned lock is released or the process ends, however it ends.

    On a file system without locks the folder is not locked.

    Args:
        folder: it gets a file `.lock`.
        busy: what to say when another process holds the lock.
        unwritable: what to do when the folder cannot be written.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written.
    """
    from filelock import Timeout

    lock = file_lock(folder / ".lock", timeout=0)
    try:
        make_private(folder)
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder}: {busy}") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise UserError(f"{folder}: cannot be written: {error.strerror}; {unwritable}") from error
    return lock


def make_private(folder: Path) -> None:
    """Make a folder that only its user can read: run folders hold harmful texts. One that exists stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write(path: Path, text: str) -> None:
    """Write beside, then rename: a process that dies here leaves the old file or the new one."""
    aside = path.with_name(f".{path.name}.safekey-new")  # what a kill leaves, the next call replaces
    try:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON that people can read, in one step."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write settings as YAML, without secrets, in one step."""
    write(path, yaml.safe_dump(without_secrets(settings), sort_keys=False, allow_unicode=True))


def mark(folder: Path, status: str, **more: Any) -> None:
    """Add to a run's record how the run stands: "running", "interrupted", "failed" or "finished"."""
    known = {**read_record(folder), **without_secrets(more)}
    write_json(folder / RUN, {**known, "format": FORMAT, "status": status, f"{status}_at": now()})


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty when it is missing or cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a run's record says; empty before the run began.

    Raises:
        UserError: a newer safekey wrote it.
    """
    record = read_json(folder / RUN)
    check_format(folder / RUN, record)
    return record


def read_settings(path: Path, kind: str) -> dict[str, Any]:
    """Return the settings in a run folder's YAML file.

    Args:
        path: the file.
        kind: what the folder should be, for the message.

    Raises:
        UserError: the file is missing or cannot be read, or a newer safekey wrote it.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: no {kind} (it holds no {path.name})") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    found = found if isinstance(found, dict) else {}
    check_format(path, found)
    return found


def check_format(path: Path, record: Mapping[str, Any]) -> None:
    """Check that this version can read a run folder.

    Raises:
        UserError: it was written in a newer format.
    """
    written = record.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise UserError(
            f"{path}: was written by a newer safekey (format {written}; this one reads {FORMAT}): update safekey"
        )


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds anything; hidden files do not count, because a lock alone is no content."""
    return folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir())


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that differ, as "key: 1 then, 2 now", by key; nested keys are joined by a dot."""
    old, new = flat(before), flat(now)
    return {
        key: f"{key}: {old.get(key)!r:.60} then, {new.get(key)!r:.60} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    }


def flat(value: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Return nested settings as "tasks.xstest-safe.sha256": value."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found |= flat(item, f"{head}{key}.")
        else:
            found[f"{head}{key}"] = item
    return found


def start() -> dict[str, Any]:
    """Return the record of one start: the time and the versions."""
    return {"time": now(), "versions": versions()}


def versions() -> dict[str, str]:
    """Return the versions that results depend on, and the git commit that safekey runs from, if any."""
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    root, git = Path(__file__).parent, shutil.which("git")
    if git is not None and "site-packages" not in root.parts:
        command = [git, "-C", str(root), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
        found |= {"git_commit": done.stdout.strip()} if done.stdout.strip() else {}
    return found


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def without_secrets(value: Any) -> Any:
    """Return a value as JSON holds it, without what is named like a secret (also "key=value" in lists)."""
    return _cleaned(json.loads(json.dumps(value, default=str)))


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items() if not _SECRET.fullmatch(key)}
    if isinstance(value, list):
        return [_cleaned(item) for item in value if not (isinstance(item, str) and _names_secret(item))]
    return value


def _names_secret(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and _SECRET.fullmatch(name) is not None
