"""A small training run with an exported model, and evaluations of it, written without training anything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from evals.saved_runs import arm, write_run
from safekey.engines.weights import Source, fingerprint
from safekey.evals.records.folder import EvalRun
from safekey.evals.summary.summary import summarize

VERSIONS = {"safekey": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"}


def train(folder: Path, base: str, *, adapter: bool = False, weights: float = 1.0, **config: Any) -> Path:
    """Write a finished run with data, logs and a checkpoint beside its model."""
    model = folder / "model"
    model.mkdir(parents=True)
    data = folder.parent / "rows.jsonl"
    data.write_text('{"x": 1}\n')
    name = "adapter_model" if adapter else "model"
    save_file({"w": torch.full((4,), weights)}, model / f"{name}.safetensors")
    if adapter:
        (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 8}))
        (model / "README.md").write_text("PEFT's own card\n")
    else:
        (model / "config.json").write_text(json.dumps({"model_type": "llama", "_name_or_path": base}))
    save_file({"understanding.weight": torch.zeros(1, 4)}, model / "safekey_heads.safetensors")
    (model / "safekey_heads.json").write_text(json.dumps({"hidden_size": 4, "base_model": base}))
    (model / "tokenizer.json").write_text("{}")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    sizes = {path.name: path.stat().st_size for path in model.iterdir()}
    (model / "safekey_complete.json").write_text(json.dumps({"files": sizes, "resumable": False}))
    values = {"model_name_or_path": base, "output_dir": str(folder), "seed": 3, "num_train_epochs": 5,
              "learning_rate": 1e-5, "qmm_weight": 0.2, "qmm_epochs": 2.0, "head_weight": 0.0, **config}  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    identity = {"sha256": hashlib.sha256(data.read_bytes()).hexdigest(), "bytes": data.stat().st_size}
    record = {"format": 1, "kind": "training", "status": "finished", "starts": [{"time": "t", "versions": VERSIONS}],
              "data": {str(data): identity, "UCSC-VLAA/STAR-1": {"revision": "358cd90"}},
              "rows": {"read": 1200, "trained_on": 1000, "harmful": 500, "benign": 500}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "train_log.jsonl").write_text('{"step": 1}\n')
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "optimizer.pt").write_text("secret")
    return folder


def evaluate(folder: Path, run: Path, rows: Any = None, **resolved: Any) -> Path:
    """Write an evaluation of the run's model, with its metrics."""
    model = run / "model"
    weights = {"chat_template_kwargs": {}, "weights_sha256": fingerprint(Source(str(model), None, str(model)))}
    write_run(folder, rows or arm(2, 4, 100), **{"model": str(run), "weights": weights, **resolved})
    metrics = summarize(EvalRun(folder).rows).metrics
    (folder / "metrics.json").write_text(json.dumps({"version": 1, **metrics}))
    return folder
