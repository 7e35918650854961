"""How many files of the package one evaluation and one training step go through: fewer are easier to follow.

`executed.py` says what counts. A number above the ceiling prints the files: merge modules that are one thought, or drop
a step in between. When a change lowers a number, lower its ceiling.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from safekey.organism import write_world

EVAL, TRAIN = 68, 52  # files, at most


def executed(tmp_path: Path, *words: str) -> list[str]:
    script, out = Path(__file__).with_name("executed.py"), tmp_path / "files.json"
    done = subprocess.run([sys.executable, str(script), str(out), *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files: list[str] = json.loads(out.read_text())
    return files


@pytest.mark.slow
def test_files_executed_by_the_evaluation_of_one_prompt(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    what = ["--tasks", "strongreject", "--data-dir", str(world.folder), "--limit", "1"]
    how = ["--engine", "local", "--judge", "exact=safekey.organism.judge:decide", "--output", "run"]
    files = executed(tmp_path, "eval", str(world.base), *what, *how)
    assert "organism/judge.py" in files, "the judge was not asked"
    assert len(files) <= EVAL, "\n".join([f"{len(files)} files, more than {EVAL}:", *files])


@pytest.mark.slow
def test_files_executed_by_one_training_step(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    words = [f"model_name_or_path={world.base}", f"data={world.train}", "output_dir=run", "max_steps=1"]
    files = executed(tmp_path, "train", "organism", *words)
    assert "training/objective/step.py" in files
    assert len(files) <= TRAIN, "\n".join([f"{len(files)} files, more than {TRAIN}:", *files])
