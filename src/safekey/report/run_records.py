"""What is known of one evaluation run beside its outcomes: its settings, its warnings, and the training behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from safekey.comparison.pairing import Seed
from safekey.comparison.saved_runs import SavedRun
from safekey.evals.benchmarks.contamination import training_of
from safekey.evals.records.folder import EvalRun

Point = tuple[float, float]  # step, value


@dataclass(frozen=True)
class Training:
    """A training run's own files.

    Attributes:
        folder: the run folder.
        config: config.yaml.
        record: run.json.
        curves: logged number → its (step, value) pairs, in the order of steps.
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
        seed: what pairs it with other arms' runs; None for an arm with one run; a string where no seed is known.
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
        """How the run is called within its arm, and in the browser paired with another arm's."""
        if isinstance(self.seed, int):
            return f"seed {self.seed}"
        if self.training is not None and isinstance(self.training.config.get("seed"), int):
            return f"seed {self.training.config['seed']}"
        return "one run" if self.seed is None else f"run {self.number}"


def read_record(run: SavedRun, seed: Seed, number: int) -> RunRecord:
    """Read what is known of a run; what cannot be read is absent, never an error."""
    folder = training_of(run.path, str(run.resolved.get("model") or ""))
    training = None if folder is None else _training(folder)
    return RunRecord(run.path, seed, number, run.resolved, EvalRun(run.path).record, training)


def _training(folder: Path) -> Training:
    config = _mapping(folder / "config.yaml", yaml.safe_load)
    record = _mapping(folder / "run.json", json.loads)
    curves: dict[str, dict[float, float]] = {}
    for row in _log(folder / "train_log.jsonl"):
        step = row.get("step")
        if not isinstance(step, (int, float)):
            continue
        for name, value in row.items():
            if name not in ("step", "epoch") and _finite(value):
                curves.setdefault(name, {})[float(step)] = float(
                    value
                )  # a resumed run logs a step again: the later holds
    return Training(folder, config, record, {name: tuple(sorted(points.items())) for name, points in curves.items()})


def _mapping(path: Path, parse: Any) -> Mapping[str, Any]:
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


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
