"""A small model with rows in a folder, for the tests of what happens inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import small_world
from small_model import make_model, make_tokenizer


def write_models(folder: Path, seeds: tuple[int, ...] = (1, 2)) -> list[Path]:
    """Write small random models that share a tokenizer."""
    texts = [f"{row['question']} {row['response']}" for row in small_world.rows()]
    tokenizer = make_tokenizer(texts, 500)
    found = []
    for seed in seeds:
        target = folder / f"model-{seed}"
        tokenizer.save_pretrained(target)
        make_model(tokenizer, seed).save_pretrained(target)
        found.append(target)
    return found


def write_rows(path: Path, count: int = 16, **more: Any) -> Path:
    """Write the first rows of the small world, half of them harmful."""
    rows = [{**row, **more} for row in list(small_world.rows())[:count]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
