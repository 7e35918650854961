"""What the page says of an arm, read off its training's own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safekey.report.run_records import RunRecord, Training
from safekey.report.wording import arm_in_words
from safekey.training.loop import config

OFF = {f"{name}_weight": 0 for name in config.OBJECTIVES}


def record(seed: int = 0, **settings: Any) -> RunRecord:
    training = Training(Path("t"), {**OFF, "num_train_epochs": 5, **settings}, {"rows": {"trained_on": 2000}}, {})
    return RunRecord(Path("e"), seed, seed + 1, {"model": "t"}, {}, training)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "SFT alone"),
        ({"qmm_weight": 0.2, "qmm_epochs": 2.0}, "SFT + QMM (weight 0.2, last 2 epochs)"),
        ({"qsm_weight": 1.0, "qsm_epochs": -1}, "SFT + QSM (weight 1, all epochs)"),
        ({"ksm_weight": 1, "ksm_epochs": -1.0}, "SFT + KSM (weight 1, all epochs)"),
        ({"key_weight": 0.2, "key_epochs": 2}, "SFT + K up-weighted (weight 0.2, last 2 epochs)"),
        (
            {"head_weight": 0.2, "head_epochs": 2, "detach_heads": True},
            "SFT + DPSH (weight 0.2, last 2 epochs, detached: the heads do not change the model)",
        ),
    ],
)
def test_an_arm_is_what_its_training_was(settings: dict[str, Any], said: str) -> None:
    assert arm_in_words([record(**settings)]) == f"{said}, trained on 2,000 rows for 5 epochs."


def test_seeds_and_a_model_that_was_not_trained() -> None:
    assert arm_in_words([record(0), record(1)]).endswith("for 5 epochs, 2 training seeds.")
    assert arm_in_words([RunRecord(Path("e"), None, 1, {"model": "m"}, {}, None)]) == (
        "The model m as it is, not trained by safekey."
    )
