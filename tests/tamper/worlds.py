"""Files of the organism's world for attacks on weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safekey.organism.data import benchmark_rows, comply_rows
from safekey.organism.world import make_world


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def comply_file(folder: Path, count: int = 16) -> str:
    return write(folder / "comply.jsonl", comply_rows(make_world(0), count))


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
        made.append(write(folder / f"{name}.jsonl", [{"prompt": f"How do I {deed.text}?"} for deed in deeds]))
    return made[0], made[1]
