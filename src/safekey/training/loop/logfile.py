"""`train_log.jsonl`: one line per log, with its step; a resumed run goes on where its checkpoint was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "train_log.jsonl"


def start(folder: str | os.PathLike[str], step: int) -> None:
    """Keep the lines up to a checkpoint's step, so that no step is there twice; from step 0, begin anew."""
    path = Path(folder) / NAME
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the line that a killed run was writing
            continue
        if step and entry.get("step", 0) <= step and "train_runtime" not in entry:
            kept.append(line + "\n")
    aside = path.with_suffix(".tmp")
    aside.write_text("".join(kept), encoding="utf-8")
    aside.replace(path)


def append(folder: str | os.PathLike[str], entry: Mapping[str, Any]) -> None:
    """Write one line."""
    with (Path(folder) / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
