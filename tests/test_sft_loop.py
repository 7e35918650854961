"""The loop that is for reading gives the trainer's weights."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from safekey.training import SafetyHeads
from toys import llama
from training.loop.runs import VOCABULARY, config, rows, trainer

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "sft_loop.py"


def load_script():
    spec = importlib.util.spec_from_file_location("sft_loop", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["sft_loop"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_loop_equals_trainer(tmp_path: Path) -> None:
    loop = load_script()
    data = rows(21)
    options = loop.Options(
        learning_rate=1e-2,
        weight_decay=0.01,
        epochs=3,
        objective_epochs=2,
        batch_size=8,
        micro_batch=2,
        warmup=0.2,
        seed=3,
    )
    total = 3 * math.ceil(21 / 8)
    theirs = trainer(
        tmp_path,
        data,
        double=True,
        num_train_epochs=3,
        warmup_steps=math.ceil(0.2 * total),
        adam_beta2=0.95,
        max_grad_norm=1.0,
    )
    model, heads = llama(VOCABULARY).double(), SafetyHeads(32)
    heads.load_state_dict(theirs.heads.state_dict())
    heads.to(next(theirs.heads.parameters()).dtype)
    theirs.train()
    losses = loop.train(model, heads, data, options)
    assert len(losses) == total
    wanted = dict(theirs.model.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, wanted[name], rtol=1e-7, atol=1e-9)
    for name, parameter in heads.named_parameters():
        torch.testing.assert_close(parameter, wanted[f"safekey_heads.{name}"], rtol=1e-6, atol=1e-7)
    logged = [entry["loss"] for entry in theirs.state.log_history if "learning_rate" in entry]
    assert losses == pytest.approx(logged, rel=1e-4)
    assert config(tmp_path).adam_beta1 == 0.9


def test_the_loop_is_short() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 200
