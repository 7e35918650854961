"""Which variance an interval over seeds holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from evals.saved_runs import arm, write_run
from safekey.comparison.collect import collect
from safekey.comparison.draws import BOTH, DRAWN, SAME


def run(folder: Path, name: str, seed: int, file: str = "f", **config: object) -> str:
    """Write an evaluation and, beside it, the training that it evaluates."""
    home = folder / name / f"seed-{seed}"
    (home / "train" / "model").mkdir(parents=True)
    (home / "train" / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "model_name_or_path": "m", **config}))
    (home / "train" / "run.json").write_text(json.dumps({"data": {f"{file}.jsonl": {"sha256": file}}}))
    return str(write_run(home / "eval", arm(5, 5, 5, 12), model=str(home / "train" / "model")))


def notes(arms: dict[str, list[str]]) -> list[str]:
    return [note for note in collect(arms).notes if note in (SAME, DRAWN, BOTH)]


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        (({}, {}), SAME),  # also as an earlier version wrote them
        (({"rows": "same"}, {"rows": "same"}), SAME),
        (({"rows": "drawn"}, {"rows": "drawn"}), DRAWN),
        (({"rows": "drawn"}, {"rows": "same"}), BOTH),
    ],
)
def test_the_notes_say_it(configs: tuple[dict[str, str], dict[str, str]], said: str, tmp_path: Path) -> None:
    first, second = configs
    arms = {
        "sft": [run(tmp_path, "sft", seed, **first) for seed in (0, 1)],
        "qmm": [run(tmp_path, "qmm", seed, **second) for seed in (0, 1)],
    }
    assert notes(arms) == [said]


def test_files_of_their_own_are_draws(tmp_path: Path) -> None:
    arms = {name: [run(tmp_path, name, seed, file=f"rows-{seed}") for seed in (0, 1)] for name in ("sft", "qmm")}
    assert notes(arms) == [DRAWN]


def test_single_runs_and_models_without_a_record_have_no_note(tmp_path: Path) -> None:
    assert notes({name: [run(tmp_path, name, 0)] for name in ("sft", "qmm")}) == []
    other = [str(write_run(tmp_path / f"other-{n}", arm(5, 5, 5, 12))) for n in (1, 2)]
    assert notes({"a": other, "b": [run(tmp_path, "b", 0)]}) == []
