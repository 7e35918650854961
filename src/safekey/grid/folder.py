"""A grid's folder. It holds all settings, so the same command continues where it stopped.

runs/grid-organism/
  grid.yaml                     what decides the results: recipe, overrides, arms, seeds, evaluation; no secrets
  arms/base/eval/               the model itself: an evaluation's run folder
  arms/sft/seed-0/train/        a training's run folder
  arms/sft/seed-0/eval/         its evaluation's
  arms/sft/seed-0/log.txt       what both printed
  vllm/                         with --engine vllm: the log of the server that LoRA arms share
  compare.json compare.md       paired statistics
  report/report.html            the page
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey import run_folder
from safekey.engines.vllm.command import MEMORY_AND_SPEED
from safekey.errors import UserError
from safekey.grid.arms import BASE
from safekey.run_folder.ownership import Ledger

if TYPE_CHECKING:
    from filelock import BaseFileLock

SETTINGS = "grid.yaml"
RESULTS = ("compare.json", "compare.md")
_FREE = (
    "format",
    "arms",
    "seeds",
    "compare",
    "threads",
    "starts",
    "evaluation.engine_options.batch_size",
    *(f"evaluation.judge_settings.{name}" for name in ("timeout", "attempts", "backoff", "concurrency", "api_key_env")),
    "evaluation.judge_records",
    "evaluation.vllm",
    *(f"evaluation.engine_options.{name}" for name in MEMORY_AND_SPEED),
)
"""Settings that may change between calls, with all keys below them: results do not depend on them, or are computed
again from saved rows. Arms and seeds may be added."""
_DEFAULTS: tuple[Any, ...] = ("", None, [], {}, False, "same")


@dataclass(frozen=True, slots=True)
class Job:
    """One arm with one seed: trained, then evaluated; the base model is only evaluated.

    Attributes:
        arm: the arm's name.
        seed: of the training; None for the base.
        folder: where it lies.
    """

    arm: str
    seed: int | None
    folder: Path

    @property
    def train(self) -> Path | None:
        """The training's run folder."""
        return None if self.seed is None else self.folder / "train"

    @property
    def evaluation(self) -> Path:
        """The evaluation's run folder."""
        return self.folder / "eval"

    @property
    def log(self) -> Path:
        """What training and evaluation print."""
        return self.folder / "log.txt"

    @property
    def trained(self) -> bool:
        """Whether there is a model to evaluate."""
        return self.train is None or (_status(self.train) == "finished" and (self.train / "model").is_dir())

    @property
    def done(self) -> bool:
        """Whether training and evaluation are finished; the model may have been deleted since.

        An evaluation with generations that a server did not answer goes on: the same command asks for them again.
        """
        record = run_folder.read_record(self.evaluation)
        return record.get("status") == "finished" and not record.get("unanswered")

    def __str__(self) -> str:
        return self.arm if self.seed is None else f"{self.arm}, seed {self.seed}"


def _status(run: Path) -> str:
    return str(run_folder.read_record(run).get("status", ""))


class GridFolder:
    """One grid's folder, locked by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: BaseFileLock | None = None

    @property
    def report(self) -> Path:
        """The report's folder."""
        return self.path / "report"

    @property
    def exists(self) -> bool:
        """Whether the folder holds a grid."""
        return (self.path / SETTINGS).is_file()

    @property
    def settings(self) -> dict[str, Any]:
        """What grid.yaml says.

        Raises:
            UserError: the folder is no grid's, or a newer safekey wrote it.
        """
        found = run_folder.read_settings(self.path / SETTINGS, "grid's folder")
        if not isinstance(found.get("arms"), dict) or "seeds" not in found:
            raise UserError(f"{self.path / SETTINGS}: is no grid's: it names no arms and seeds")
        return found

    @property
    def drawn(self) -> bool:
        """Whether each seed trains on its own draw of the rows; a grid of an earlier version does not."""
        return bool(self.settings.get("rows", "same") == "drawn")

    def jobs(self, arms: Sequence[str], seeds: Sequence[int]) -> list[Job]:
        """Return the jobs, the base first, then seed by seed, so that early results can be compared already."""
        home = self.path / "arms"
        base = [Job(BASE, None, home / BASE)] if BASE in arms else []
        trained = [arm for arm in arms if arm != BASE]
        return base + [Job(arm, seed, home / arm / f"seed-{seed}") for seed in seeds for arm in trained]

    def evaluations(self) -> dict[str, list[Path]]:
        """Return the finished evaluations of each arm, in the order of arms and seeds, the untrained last."""
        settings = self.settings
        found: dict[str, list[Path]] = {arm: [] for arm in settings["arms"]}
        for job in self.jobs(list(settings["arms"]), settings["seeds"]):
            if job.done:
                found[job.arm].append(job.evaluation)
        return {arm: found[arm] for arm in sorted(found, key=lambda arm: arm == BASE) if found[arm]}

    def check(self, resolved: Mapping[str, Any]) -> None:
        """Refuse to continue with other settings; arms and seeds may be added.

        Raises:
            UserError: the keys that differ are named; or the folder holds something else.
        """
        self.check_ours()
        if not self.exists:
            return
        trained, evaluated = self._begun()
        if not trained and not evaluated and self._tried:
            return
        before = self.settings
        old_arms, arms = before["arms"], resolved["arms"]
        then, now = run_folder.flat(before), run_folder.flat(resolved)
        late = ["evaluation"] if self._tried else []  # a judge that did not answer, say, before anything was generated
        changed = [
            words
            for key, words in run_folder.changes(before, resolved).items()
            if not any(key == free or key.startswith(f"{free}.") for free in (*_FREE, *([] if evaluated else late)))
            and not (key not in then and now[key] in _DEFAULTS)  # an older version did not have this setting
        ]
        changed += [f"arm {name}: {' '.join(old_arms[name])} then, {' '.join(arms[name])} now" for name in arms
                    if name in old_arms and old_arms[name] != arms[name]]  # fmt: skip
        if changed:
            raise UserError(
                f"{self.path}: was made with other settings ({'; '.join(changed[:6])}): "
                "give another --output or the old settings"
            )

    def check_ours(self) -> None:
        """Refuse a folder that holds anything but a grid.

        Raises:
            UserError: it does.
        """
        if not self.exists and run_folder.is_foreign(self.path):
            raise UserError(f"{self.path}: is not empty and no grid's folder: give another --output")
        for name in RESULTS if self.exists else ():
            path = self.path / name
            if os.path.lexists(path) and not self._owns(path):
                raise UserError(
                    f"{path}: is there already, and no grid wrote it: move it away, or give another --output"
                )

    def _owns(self, path: Path) -> bool:
        if path.is_symlink() or not path.is_file():
            return False
        ledger = Ledger.of_folder(self.path, "")
        older = path.name not in ledger.files and "ground" in run_folder.read_json(self.path / RESULTS[0])
        return ledger.owns(path) or older  # older: written before there were ledgers

    def write_result(self, name: str, text: str) -> None:
        """Write one of the comparison's files (`RESULTS`)."""
        Ledger.of_folder(self.path, "").write(self.path / name, text.encode("utf-8", "backslashreplace"))

    @property
    def _tried(self) -> bool:
        """Whether a job has run."""
        return any(self.path.glob("arms/**/log.txt"))

    def _begun(self) -> tuple[bool, bool]:
        """Whether any job has trained a step, and whether any has generated."""
        logs = (*self.path.glob("arms/*/seed-*/train/train_log.jsonl"), *self.path.glob("arms/*/seed-*/train/model"))
        rows = self.path.glob("arms/**/eval/completions.jsonl")
        return any(path.is_dir() or path.stat().st_size for path in logs), any(path.stat().st_size for path in rows)

    def begin(self, resolved: Mapping[str, Any]) -> dict[str, Any]:
        """Write grid.yaml; arms and seeds of an earlier call stay. Returns what it says now."""
        before = self.settings if self.exists and (any(self._begun()) or not self._tried) else {}
        merged: dict[str, Any] = {
            "format": run_folder.FORMAT,
            **run_folder.without_secrets(resolved),
            "arms": {**before.get("arms", {}), **resolved["arms"]},
            "seeds": list(dict.fromkeys([*before.get("seeds", []), *resolved["seeds"]])),
            "starts": [*before.get("starts", []), *resolved.get("starts", [])],
            "threads": before.get("threads", resolved["threads"]),  # sums depend on them, in the last digits
        }
        run_folder.write_settings(self.path / SETTINGS, merged)
        return merged

    def hold(self) -> None:
        """Lock the folder until `release`.

        Raises:
            UserError: another process works here, or the folder cannot be written.
        """
        self._lock = run_folder.hold(self.path, "another safekey grid works here: wait for it, or end it")

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
