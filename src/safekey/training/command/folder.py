"""The run folder: it describes itself, so the same command goes on where it stopped, and later verbs need no recipe.

runs/r1-distill-qwen-7b/
  config.yaml           the recipe with everything resolved; `safekey train` reads it again
  run.json              status, versions, data files with their sha256, row counts, all training arguments
  data_problems.jsonl   every row that is not used: file, row, field, reason
  checkpoint-40/        ...
  model/                the exported model, its tokenizer, and the safety heads beside it
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import safekey
from safekey.errors import RowProblem, UserError
from safekey.training.command.recipe import REMOVED

if TYPE_CHECKING:
    from safekey.training.command.recipe import Recipe, RunSettings

SECRETS = frozenset({"hub_token", "token", "use_auth_token", "api_key", "password", "secret"})
"""Keys that are never written into a run folder, at any depth."""

FREE = frozenset(
    {"report_to", "run_name", "disable_tqdm", "log_level", "log_level_replica", "logging_steps", "logging_strategy"}
    | {"logging_first_step", "save_total_limit", "push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo"}
    | {"hub_token", "overwrite", "output_dir", "self_test", "project"}
)
"""Keys that may change between a run and its continuation: they do not touch the weights."""

_OURS = (
    "config.yaml",
    "run.json",
    "data_problems.jsonl",
    "accelerate.yaml",
    "model",
    "train_log.jsonl",
)
_CHECKPOINT = re.compile(r"(\.saving-)?checkpoint-\d+")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def model(self) -> Path:
        """Where the exported model lies."""
        return self.path / "model"

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says; empty before the run began or when it cannot be read."""
        try:
            record = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    @property
    def finished(self) -> bool:
        """Whether the run is complete and its model is still there."""
        return self.record.get("status") == "finished" and self.model.is_dir()

    def check(self, config: Mapping[str, Any], data: Mapping[str, Any], processes: int) -> None:
        """Refuse to go on with another config, other data or another number of processes.

        Raises:
            UserError: the keys that differ are named.
        """
        try:
            before = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            if self.path.is_dir() and any(_CHECKPOINT.fullmatch(entry.name) for entry in self.path.iterdir()):
                raise UserError(f"{self.path}: holds checkpoints but no config.yaml: give another output_dir") from None
            return
        except OSError as error:
            raise UserError(f"output_dir {self.path}: cannot be read or written: {error.strerror}") from error
        now = json.loads(json.dumps(dict(config), default=str))
        changed = sorted(
            key for key in (before.keys() | now.keys()) - FREE - REMOVED.keys() if before.get(key) != now.get(key)
        )
        if changed:
            shown = "; ".join(f"{key}: {before.get(key)!r:.60} then, {now.get(key)!r:.60} now" for key in changed)
            raise UserError(
                f"{self.path}: was made with another config ({shown}). "
                "Give another output_dir, the old values, or --overwrite to start anew"
            )
        earlier = self.record.get("processes", processes)
        if earlier != processes:
            raise UserError(
                f"{self.path}: was begun with {earlier} processes, now {processes}: rows would be dealt otherwise. "
                f"Use --num-processes {earlier}, another output_dir, or --overwrite to start anew"
            )
        for path, identity in self.record.get("data", {}).items():
            if path in data and data[path] != identity:
                raise UserError(
                    f"{path}: changed since the run in {self.path} began; restore it, or use --overwrite to start anew"
                )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder for this process: two runs would write over each other's checkpoints.

        The lock goes when the process does, however it ends. A file system without locks is used without one.

        Raises:
            UserError: another process trains here, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        with lock:
            try:
                import fcntl  # not on Windows

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path}: another process is training here; wait for it, or give another output_dir"
                ) from None
            except (OSError, ImportError):
                pass
            yield

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"output_dir {self.path}: cannot be written: {error.strerror}; give another one")

    def begin(self, config: Mapping[str, Any], record: Mapping[str, Any], problems: Iterable[RowProblem]) -> None:
        """Write the folder's own files; a continued run keeps its first start's time and versions beside the new.

        Raises:
            UserError: the folder cannot be written.
        """
        before = self.record
        starts = [*before.get("starts", []), {"time": now(), "versions": versions()}]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _write(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            lines = [json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems]
            _write(self.path / "data_problems.jsonl", "".join(lines))
            self._write_record({**record, "status": "running", "starts": starts})
        except OSError as error:
            raise self._unwritable(error) from error

    def mark(self, status: str, **more: Any) -> None:
        """Record how the run stands: "finished", "interrupted" or "failed"."""
        self._write_record({**self.record, "status": status, f"{status}_at": now(), **more})

    def _write_record(self, record: Mapping[str, Any]) -> None:
        _write(self.path / "run.json", json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n")

    def clear(self) -> None:
        """Delete what an earlier run wrote here, and nothing else."""
        if not self.path.is_dir():
            return
        for entry in self.path.iterdir():
            if entry.name in _OURS or _CHECKPOINT.fullmatch(entry.name):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _write(path: Path, text: str) -> None:
    """Write beside, then rename: a run that dies here leaves the old file or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def resolved_config(recipe: Recipe, settings: RunSettings) -> dict[str, Any]:
    """Return the recipe as it took effect: everything that was set, and all keys of our own, without secrets."""
    from trl import SFTConfig

    theirs = {entry.name for entry in fields(SFTConfig)}
    own = {f.name: getattr(settings.training, f.name) for f in fields(settings.training) if f.name not in theirs}
    values = {**own, **asdict(settings.data), **recipe.values}
    values["output_dir"] = settings.training.output_dir
    values["max_length"] = settings.training.max_length
    name = settings.model.model_name_or_path
    values["model_name_or_path"] = str(Path(name).resolve()) if name and Path(name).exists() else name
    cleaned: dict[str, Any] = json.loads(json.dumps(without_secrets(values), default=str))
    return dict(sorted(cleaned.items()))


def without_secrets(value: Any) -> Any:
    """Return nested tables and lists without the keys of `SECRETS`."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items() if str(key).lower() not in SECRETS}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def versions() -> dict[str, str | None]:
    """Return the versions that a result depends on, and the git commit that safekey runs from, if any."""
    found: dict[str, str | None] = {"safekey": safekey.__version__, "python": sys.version.split()[0]}
    for package in ("torch", "transformers", "trl", "accelerate", "peft", "tokenizers", "deepspeed", "bitsandbytes"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"git_commit": _commit()}


def _commit() -> str | None:
    root = Path(safekey.__file__).parent
    git = shutil.which("git")
    if git is None or "site-packages" in root.parts:
        return None
    command = [git, "-C", str(root), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    return done.stdout.strip() or None


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
