"""Short training runs of a toy model, for the tests of the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from safekey.training import Encoded, SafeKeyConfig, SafeKeyTrainer
from toys import llama, random_rows, tokenizer

VOCABULARY = 472  # the toy tokenizer's


def config(folder: Path | str, **changes: Any) -> SafeKeyConfig:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "weight_decay": 0.01,
        "lr_scheduler_type": "cosine",
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "self_test": False,
        "seed": 3,
    }
    return SafeKeyConfig(**{**settings, **changes})


def rows(count: int = 21, seed: int = 0) -> list[Encoded]:
    return random_rows(count, VOCABULARY, seed)


def trainer(
    folder: Path | str,
    data: Any = None,
    eval_dataset: Any = None,
    peft_config: Any = None,
    model: Any = None,
    callbacks: Any = None,
    double: bool = False,
    **changes: Any,
) -> SafeKeyTrainer:
    """Make a trainer; with `double` in fp64, where AdamW cannot blow rounding up (it divides by small gradients)."""
    torch.set_num_threads(1)
    model = llama(VOCABULARY) if model is None else model
    made = SafeKeyTrainer(
        model.double() if double else model,
        config(folder, **changes),
        rows() if data is None else data,
        eval_dataset,
        processing_class=tokenizer(),
        peft_config=peft_config,
        callbacks=callbacks,
    )
    if double and made.heads is not None:
        made.heads.double()
    return made


def weights(model: Any) -> dict[str, torch.Tensor]:
    """All weights, the heads' included."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def history(made: SafeKeyTrainer, name: str) -> list[float]:
    return [entry[name] for entry in made.state.log_history if name in entry]
