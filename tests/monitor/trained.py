"""A small model with heads, as a training's run folder, and rows: made from the organism, nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from safekey.organism.data import BASE, training_rows
from safekey.organism.mix import Mix
from safekey.organism.world import make_world
from safekey.training import SafetyHeads
from safekey.training.loop.export import heads_state, save_heads

VERSIONS = {"safekey": "0.1.0"}


def world_rows(count: int = 400, seed: int = 5, mix: Mix = Mix()) -> list[dict[str, Any]]:  # noqa: B008 - frozen
    """Harmful and benign rows with thinking; wrapped ones carry the name of their attack."""
    return training_rows(make_world(0), seed, mix)[:count]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_run(folder: Path, data: Path | None = None, *, pooling: Any = "mean", heads: bool = True) -> Path:
    """The shipped base with random heads, as a finished training that read `data`."""
    model = folder / "model"
    shutil.copytree(BASE, model)
    torch.manual_seed(0)
    made = SafetyHeads(json.loads((model / "config.json").read_text())["hidden_size"], pooling)
    if heads:
        save_heads(model, made, heads_state(made), theta=0.5, base_model="organism")
    values = {"model_name_or_path": "organism", "data": str(data) if data else []}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    record = {"format": 1, "kind": "training", "status": "finished", "starts": [{"time": "t", "versions": VERSIONS}]}
    (folder / "run.json").write_text(json.dumps(record))
    return folder
