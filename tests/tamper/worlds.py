"""Files of the organism's world for attacks on weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safekey.data.load import load_examples
from safekey.engines.local import LocalEngine
from safekey.organism.data import BASE, benchmark_rows, comply_rows, training_rows
from safekey.organism.world import make_world
from safekey.tamper.request import TamperOptions
from safekey.tamper.tuning import Tuning


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def comply_file(folder: Path, count: int = 16) -> str:
    return write(folder / "comply.jsonl", comply_rows(make_world(0), count))


def guarded(folder: Path) -> str:
    """Make a model that refuses plain requests for forbidden deeds, and save it."""
    engine = LocalEngine(str(BASE), device="cpu")
    harmful = [row for row in training_rows(make_world(0)) if row["harmful"] and row["attack"] == "none"]
    options = TamperOptions(comply="x", learning_rate=1e-2, lora_rank=16)
    tuning = Tuning(engine, load_examples(write(folder / "refuse.jsonl", harmful[:256])), options)
    tuning.until(40)
    model = engine.model.merge_and_unload()
    model.save_pretrained(folder / "guarded")
    engine.chat.tokenizer.save_pretrained(folder / "guarded")
    return str(folder / "guarded")


def benchmark(folder: Path, count: int = 4) -> str:
    """Write a folder with some plain requests of the organism's attack benchmark."""
    rows = [row for row in benchmark_rows(make_world(0))["strongreject"] if row["attack"] == "none"]
    write(folder / "strongreject-like.jsonl", rows[:count])
    return str(folder)


def sides(folder: Path, count: int = 6) -> tuple[str, str]:
    """Write harmful and harmless prompts of the training deeds."""
    home = make_world(0)
    made = []
    for name, forbidden in (("harmful", True), ("harmless", False)):
        deeds = home.pick(forbidden=forbidden, test=False)[:count]
        rows = [{"attack": "none", "prompt": f"How do I {deed.text}?"} for deed in deeds]
        made.append(write(folder / f"{name}.jsonl", rows))
    return made[0], made[1]
