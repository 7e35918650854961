"""A training's run folder. It holds all settings, so the same command continues, and later verbs need no recipe.

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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey import run_folder
from safekey.errors import RowProblem, UserError
from safekey.run_folder import without_secrets
from safekey.run_folder.ownership import check_apart, is_same, kind_of
from safekey.training.command.recipe import REMOVED
from safekey.training.loop import checkpoint

if TYPE_CHECKING:
    from safekey.training.command.recipe import Recipe, RunSettings

FREE = frozenset(
    {"report_to", "run_name", "disable_tqdm", "log_level", "log_level_replica", "logging_steps", "logging_strategy"}
    | {"logging_first_step", "save_total_limit", "push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo"}
    | {"hub_token", "overwrite", "output_dir", "self_test", "project"}
)
"""Keys that may change between a run and its continuation: they do not touch the weights."""

_FILES = ("config.yaml", run_folder.RUN, "data_problems.jsonl", "accelerate.yaml", "train_log.jsonl")
_CHECKPOINT = re.compile(r"(\.saving-)?checkpoint-\d+|\.saving-model")
_ADVICE = "give another output_dir"


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def model(self) -> Path:
        """The exported model's folder."""
        return self.path / "model"

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says; empty before the run began.

        Raises:
            UserError: a newer safekey wrote it.
        """
        return run_folder.read_record(self.path)

    @property
    def finished(self) -> bool:
        """Whether the run is complete and its model is still there."""
        return kind_of(self.path) == "training" and self.record.get("status") == "finished" and self.model.is_dir()

    def check_ours(self, inputs: Mapping[str, str]) -> None:
        """Refuse a folder that another program or the user has filled, or that holds an input of this training.

        Args:
            inputs: what the user calls an input (a recipe's key) → its path.

        Raises:
            UserError: something would be replaced or deleted that no training of safekey wrote.
        """
        if not run_folder.is_foreign(self.path):
            return
        if (kind := kind_of(self.path)) != "training":
            self._refuse_loose_checkpoints()
            what = f"is the folder of another verb ({kind})" if kind else "is not empty, and no training's run folder"
            raise UserError(f"{self.path}: {what}: {_ADVICE}")
        finished = self.record.get("status") == "finished"
        made = [entry for entry in self.path.iterdir() if _CHECKPOINT.fullmatch(entry.name)]
        for entry in [*made, *([self.model] if os.path.lexists(self.model) else [])]:
            if other := checkpoint.foreign(entry, unlisted=finished and entry == self.model):
                raise UserError(f"{other}: no training of safekey wrote it there: move it away, or {_ADVICE}")
        files = [self.path / name for name in _FILES if (self.path / name).exists()]
        own = self.path / "config.yaml"  # `safekey train RUN/config.yaml` is how a run is repeated
        apart = {name: path for name, path in inputs.items() if name != "recipe" or not is_same(path, own)}
        check_apart(apart, [*files, *made, self.model], f"move it away, or {_ADVICE}")

    def _refuse_loose_checkpoints(self) -> None:
        if self.path.is_dir() and any(_CHECKPOINT.fullmatch(entry.name) for entry in self.path.iterdir()):
            raise UserError(f"{self.path}: holds checkpoints but no config.yaml: {_ADVICE}")

    @property
    def _has_trained(self) -> bool:
        """Whether there is anything to go on from: a checkpoint, a logged step or a model."""
        log = self.path / "train_log.jsonl"
        return (
            any(_CHECKPOINT.fullmatch(entry.name) for entry in self.path.iterdir())
            or (log.is_file() and log.stat().st_size > 0)
            or self.model.is_dir()
        )

    def check(self, config: Mapping[str, Any], data: Mapping[str, Any], processes: int) -> None:
        """Refuse to continue with another config, other data or another number of processes.

        A run that failed before its first step binds nobody: the corrected command starts it anew.

        Raises:
            UserError: the keys that differ are named.
        """
        try:
            (self.path / "config.yaml").stat()
        except FileNotFoundError:
            self._refuse_loose_checkpoints()
            return
        except OSError as error:
            raise UserError(f"output_dir {self.path}: cannot be read or written: {error.strerror}") from error
        record, before = self.record, run_folder.read_settings(self.path / "config.yaml", "training's run folder")
        if record.get("status") in ("failed", "deleted") and not self._has_trained:
            return
        older = {"rows": "same"}  # of a run whose config lacks the key
        changed = run_folder.changes(older | before, older | without_secrets(config))
        differing = [words for key, words in changed.items() if key.split(".")[0] not in FREE | REMOVED.keys()]
        if shown := "; ".join(differing):
            raise UserError(
                f"{self.path}: was made with another config ({shown}). "
                "Give another output_dir, the old values, or --overwrite to start anew"
            )
        earlier = record.get("processes", processes)
        if earlier != processes:
            raise UserError(
                f"{self.path}: was begun with {earlier} processes, now {processes}: rows would be dealt otherwise. "
                f"Use --num-processes {earlier}, another output_dir, or --overwrite to start anew"
            )
        for path, identity in record.get("data", {}).items():
            if path in data and data[path] != identity:
                raise UserError(
                    f"{path}: changed since the run in {self.path} began; restore it, or use --overwrite to start anew"
                )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for this process: two runs would write over each other's checkpoints.

        Raises:
            UserError: another process trains here, or the folder cannot be made.
        """
        busy = "another process is training here; wait for it, or give another output_dir"
        with run_folder.hold(self.path, busy, unwritable="give another output_dir"):
            yield

    def begin(self, config: Mapping[str, Any], record: Mapping[str, Any], problems: Iterable[RowProblem]) -> None:
        """Write the folder's own files; a continued run keeps the times and versions of its earlier starts.

        Raises:
            UserError: the folder cannot be written.
        """
        starts = [*self.record.get("starts", []), run_folder.start()]
        own = {"format": run_folder.FORMAT, "kind": "training"}
        known = {**own, **without_secrets(record), "status": "running", "starts": starts}
        lines = [json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in problems]
        try:
            run_folder.make_private(self.path)
            run_folder.write_json(self.path / run_folder.RUN, known)  # first: from here on the folder is ours
            run_folder.write_settings(self.path / "config.yaml", config)
            run_folder.write(self.path / "data_problems.jsonl", "".join(lines))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}; give another output_dir") from error

    def mark(self, status: str, **more: Any) -> None:
        """Record how the run stands: "finished", "interrupted" or "failed"."""
        run_folder.mark(self.path, status, **more)

    def clear(self) -> None:
        """Delete what an earlier run wrote here, and nothing else (`check_ours` comes first)."""
        if not self.path.is_dir():
            return
        if self.record:  # the mark stays until `begin` writes the next one: a kill in between leaves the folder ours
            run_folder.write_json(self.path / run_folder.RUN, {**self.record, "status": "deleted", "data": {}})
        for entry in self.path.iterdir():
            if entry.name == "model" or _CHECKPOINT.fullmatch(entry.name):
                shutil.rmtree(entry)
            elif entry.name in _FILES and entry.name != run_folder.RUN:
                entry.unlink()
        (self.path / run_folder.RUN).unlink(missing_ok=True)


def resolved_config(recipe: Recipe, settings: RunSettings) -> dict[str, Any]:
    """Return the recipe as it took effect: everything that was set, and all keys of our own, without secrets."""
    from trl import SFTConfig

    theirs = {entry.name for entry in fields(SFTConfig)}
    own = {f.name: getattr(settings.training, f.name) for f in fields(settings.training) if f.name not in theirs}
    values = {**own, **asdict(settings.data), **recipe.values}
    values |= {name: getattr(settings.data, name) for name in ("data", "eval_data", "rows")}  # the seed's own files
    values["output_dir"] = settings.training.output_dir
    values["max_length"] = settings.training.max_length
    name = settings.model.model_name_or_path
    values["model_name_or_path"] = str(Path(name).resolve()) if name and Path(name).exists() else name
    return dict(sorted(without_secrets(values).items()))
