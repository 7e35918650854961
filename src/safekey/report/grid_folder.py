"""A grid's folder, as `safekey grid` leaves it, read as arms with their evaluations.

runs/grid/
  grid.yaml                        recipe, arms, seeds, reference, evaluation settings, versions
  arms/sft/seed-0/train/, eval/    a training run's folder, and its evaluation's
  arms/base/eval/                  the model that was not trained
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from safekey.errors import UserError
from safekey.evals.run import EvalRun

GRID = "grid.yaml"


@dataclass(frozen=True)
class GridFolder:
    """What a report needs of a grid.

    Attributes:
        folder: the grid's.
        arms: arm → its finished evaluations, in the order of seeds.
        reference: the grid's reference.
        settings: grid.yaml.
        notes: what is not finished.
    """

    folder: Path
    arms: Mapping[str, tuple[Path, ...]]
    reference: str
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


def is_grid(folder: Path) -> bool:
    """Whether a folder is a grid's."""
    return (folder.expanduser() / GRID).is_file()


def read_grid(folder: Path) -> GridFolder:
    """Find a grid's finished evaluations; seeds that some arm lacks are left to the comparison.

    Raises:
        UserError: grid.yaml cannot be read, or not one evaluation is finished.
    """
    home = folder.expanduser()
    try:
        settings = yaml.safe_load((home / GRID).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{home / GRID}: cannot be read: {error}") from error
    if not isinstance(settings, Mapping):
        raise UserError(f"{home / GRID}: expected names and values")
    named = settings.get("arms")
    order = [str(name) for name in named] if isinstance(named, (Mapping, list)) else []
    folders = sorted(path for path in (home / "arms").glob("*") if path.is_dir())
    folders.sort(key=lambda path: order.index(path.name) if path.name in order else len(order))
    arms, notes = {}, []
    for path in folders:
        runs = sorted((run for run in (*path.glob("eval"), *path.glob("seed-*/eval"))), key=_seed)
        done = tuple(run for run in runs if EvalRun(run).record.get("status") == "finished")
        if done:
            arms[path.name] = done
        if len(done) < len(runs) or not runs:
            notes.append(f"{path.name}: {len(runs) - len(done)} evaluations are not finished, {len(done)} are")
    if not arms:
        raise UserError(f"{home}: no evaluation of this grid is finished: the same `safekey grid` command goes on")
    reference = str(settings.get("reference") or "")
    if reference not in arms:
        known = next((name for name in arms if name != "base"), next(iter(arms)))
        notes += (
            [f"the reference '{reference}' has no finished evaluation: {known} takes its place"] if reference else []
        )
        reference = known
    return GridFolder(home, arms, reference, settings, tuple(notes))


def _seed(run: Path) -> tuple[int, str]:
    number = run.parent.name.removeprefix("seed-")
    return (int(number) if number.isdecimal() else -1, str(run))
