"""Runs to label: harmless placeholders, judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.saved_runs import completion, verdict, write_run
from safekey.evals.labelling.sample import Wanted
from safekey.evals.labelling.session import Session
from safekey.evals.labelling.store import LabelFile, open_labels


def harm_run(path: Path, positive: int = 4, negative: int = 16, unscored: int = 2, **more: Any) -> Path:
    """A run of one harm benchmark; the model's name, the attack and the category would give the arm away."""
    values = [5.0] * positive + [1.0] * negative + [None] * unscored
    rows = []
    for number, value in enumerate(values):
        text = f"Thought {number}.</think>\n\nText {number}."
        told = {"model": "secret-model", "attack": "story", "category": "secret-category", "text": text}
        row = completion("strongreject", f"the-item-{number}", **{**told, "request": f"Request {number}?", **more})
        rows.append((row, [verdict(row, value)]))
    return write_run(path, rows)


def labels_of(run: Path, **wanted: Any) -> LabelFile:
    return open_labels(run, Wanted(**wanted))


def session_of(run: Path, rater: str = "ann", **wanted: Any) -> Session:
    return Session(labels_of(run, **wanted), rater)
