"""The record of one evaluation run: its settings, its warnings, and the training run whose model was evaluated."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekey.comparison.saved_runs import SavedRun, read_mapping
from safekey.comparison.types import Seed
from safekey.evals.records.folder import EvalRun

Point = tuple[float, float]  # step, value


@dataclass(frozen=True)
class Training:
    """The files of a training run.

    Attributes:
        folder: the run folder.
        config: config.yaml.
        record: run.json.
        curves: logged quantity → its (step, value) pairs, in the order of steps.
    """

    folder: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    curves: Mapping[str, tuple[Point, ...]]


@dataclass(frozen=True)
class RunRecord:
    """One evaluation run of an arm.

    Attributes:
        folder: the evaluation's run folder.
        seed: the training seed, by which runs of two arms are paired; None for an arm with one run; a string where no
            seed is known.
        number: its place among the arm's runs, from 1.
        resolved: its resolved.yaml.
        record: its run.json.
        training: the training run whose model was evaluated; None where there is no record of one.
    """

    folder: Path
    seed: Seed
    number: int
    resolved: Mapping[str, Any]
    record: Mapping[str, Any]
    training: Training | None

    @property
    def label(self) -> str:
        """The run's name within its arm; runs of two arms with one name are paired in the transcripts."""
        if isinstance(self.seed, int):
            return f"seed {self.seed}"
        if self.training is not None and isinstance(self.training.config.get("seed"), int):
            return f"seed {self.training.config['seed']}"
        return "one run" if self.seed is None else f"run {self.number}"


def read_record(run: SavedRun, seed: Seed, number: int) -> RunRecord:
    """Return the record of a run; files that cannot be read are left out without an error."""
    training = None if run.training is None else _training(run.training, run.training_config)
    return RunRecord(run.path, seed, number, run.resolved, EvalRun(run.path).record, training)


def _training(folder: Path, config: Mapping[str, Any]) -> Training:
    curves: dict[str, dict[float, float]] = {}
    for row in _log(folder / "train_log.jsonl"):
        step = row.get("step")
        if not isinstance(step, (int, float)):
            continue
        for name, value in row.items():
            if name not in ("step", "epoch") and _finite(value):
                curves.setdefault(name, {})[float(step)] = float(value)  # of a step logged twice the last
    record = read_mapping(folder / "run.json")
    return Training(folder, config, record, {name: tuple(sorted(points.items())) for name, points in curves.items()})


def _log(path: Path) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
