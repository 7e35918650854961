"""Was the model trained on what it is asked? Read from the training run's folder, which says what it was trained on.

    overlaps, notes = contamination("runs/r1-7b", [items])
    overlaps["strongreject"]  -> {"overlapping": 7, "items": 313, "share": 0.022, "ids": [...], "warning": "…"}

Training and evaluation never import one another: what is read here is `config.yaml` and `run.json`, as `safekey train`
writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from safekey.data.load import load_examples
from safekey.errors import UserError
from safekey.evals.benchmarks.contamination import overlap
from safekey.evals.benchmarks.load import Items
from safekey.schema import Example

_LOADS = ("split", "revision", "config", "columns", "label_column")
UNKNOWN = "contamination is not known: the model's folder holds no record of a training run (config.yaml and run.json)"


def contamination(model: str, benchmarks: Sequence[Items]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Compare a model's training data with benchmarks.

    Args:
        model: what is evaluated; a training run's folder, its `model` or a checkpoint, knows what it was trained on.
        benchmarks: what it is asked.

    Returns:
        what was found for each benchmark that could be compared, and what could not be found out.
    """
    run = training_run(model)
    if run is None:
        return {}, [UNKNOWN]
    rows, notes = training_rows(run)
    found: dict[str, dict[str, Any]] = {}
    for items in benchmarks if rows else ():
        result = overlap(rows, items)
        found[items.benchmark.name] = {
            "overlapping": len(result.matches),
            "items": result.items,
            "share": result.rate,
            "ids": sorted(result.ids),
            "training_rows": len(rows),
            "warning": result.describe(),
        }
    return found, notes


def training_run(model: str) -> Path | None:
    """Return the folder of the training run that a model's folder belongs to, or None."""
    path = Path(model).expanduser()
    if not path.is_dir():
        return None
    for folder in (path, path.resolve().parent):
        if (folder / "config.yaml").is_file() and (folder / "run.json").is_file():
            return folder
    return None


def training_of(run_folder: Path, model: str) -> Path | None:
    """Return the folder of the training run whose model an evaluation's run folder is about, or None.

    Where the model's path is gone, as in a grid that was copied or moved, that is the training run called `train`
    beside the evaluation, but only for a model that came out of a folder of that name.
    """
    found = training_run(model)
    if found is not None or "train" not in Path(model).parts[-2:]:
        return found
    return training_run(str(run_folder.expanduser().resolve().parent / "train"))


def training_rows(run: Path) -> tuple[list[Example], list[str]]:
    """Return the rows of a training run's data files, and which files could not be read as they were then."""
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return [], [f"contamination is not known: {run}: its record cannot be read ({type(error).__name__})"]
    named = config.get("data") if isinstance(config, Mapping) else None
    rows: list[Example] = []
    notes = []
    for entry in named if isinstance(named, list) else [named] if named else []:
        source = dict(entry) if isinstance(entry, Mapping) else {"path": str(entry)}
        path = str(source.get("path", ""))
        try:
            _unchanged(path, record)
            named_too: dict[str, Any] = {name: source[name] for name in _LOADS if source.get(name) is not None}
            rows += load_examples(path, **named_too)
        except UserError as error:
            notes.append(f"contamination by the training data {path} is not known: {str(error).splitlines()[0]}")
    if not rows and not notes:
        notes.append(f"contamination is not known: {run / 'config.yaml'} names no training data")
    return rows, notes


def _unchanged(path: str, record: Any) -> None:
    identity = (record.get("data") or {}).get(path) if isinstance(record, Mapping) else None
    known = identity.get("sha256") if isinstance(identity, Mapping) else None
    if known and Path(path).is_file() and hashlib.sha256(Path(path).read_bytes()).hexdigest() != known:
        raise UserError("the file has changed since the training")
