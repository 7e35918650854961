"""One process and two are the same run: gloo on a CPU, DDP and FSDP2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from ranks import in_ranks
from runs import distance, history, rows, trainer, weights

# Heads and query masking begin at the second of two epochs: idle heads first, then all together.
SCHEDULE = {"qmm_epochs": 1, "head_epochs": 1, "num_train_epochs": 2}
SCHEDULE |= {"qsm_weight": 0.1, "qsm_epochs": 1, "ksm_weight": 0.1, "ksm_epochs": 1}
ONE = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
TWO = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
FSDP = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}}


def whole(made) -> dict[str, torch.Tensor]:
    """All weights, gathered (all ranks together)."""
    state = weights(made.model)
    full = {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in state.items()}
    return {name.removeprefix("module."): value for name, value in full.items()}


def compare(tmp_path: Path, lora: bool = False, fsdp: bool = False, count: int = 21, **changes) -> None:
    def build(folder: str, shape: dict, **more):
        peft_config = LoraConfig(r=4, target_modules="all-linear") if lora else None
        settings = {**SCHEDULE, **shape, **changes, **more}
        return trainer(tmp_path / folder, rows(count), rows(5, 9), peft_config, double=True, **settings)

    def rank(number: int) -> None:
        made = build("two", TWO, **(FSDP if fsdp else {}), eval_strategy="epoch")
        assert made.args.world_size == 2
        made.train()
        made.save_model(str(tmp_path / "export"))
        state = whole(made)
        if fsdp:
            assert all(hasattr(parameter, "device_mesh") for parameter in made.model.parameters())
        if number == 0:
            logs = made.state.log_history
            torch.save({"weights": state, "logs": logs}, tmp_path / "two.pt")

    in_ranks(2, rank, fsdp)
    two = torch.load(tmp_path / "two.pt")
    one = build("one", ONE, eval_strategy="epoch")
    one.train()
    assert distance(whole(one), two["weights"]) < 1e-9
    assert (tmp_path / "export" / "safekey_heads.safetensors").is_file()
    names = (
        "loss",
        "loss_sft",
        "loss_qmm",
        "loss_dpsh",
        "loss_qsm",
        "loss_ksm",
        "key_accuracy_hidden",
        "packing_efficiency",
    )
    for name in (
        *names[:-1],
        "head_auroc_understanding",
        "eval_loss",
        "eval_loss_qmm",
        "eval_head_auroc_understanding",
    ):
        assert history(one, name) == pytest.approx([e[name] for e in two["logs"] if name in e], abs=1e-7), name


def test_ddp_is_one_process(tmp_path) -> None:
    compare(tmp_path)


def test_ddp_with_lora_a_token_cap_and_a_rank_without_rows(tmp_path) -> None:
    """17 rows in steps of 8: the last step has one row, so the other rank only keeps pace."""
    compare(tmp_path, lora=True, count=17, max_tokens_per_micro_batch=60)


def test_fsdp2_is_one_process(tmp_path) -> None:
    compare(tmp_path, fsdp=True, max_tokens_per_micro_batch=60, count=17)


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp2"])
def test_two_processes_resume(tmp_path, fsdp) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2}

    def rank(number: int) -> None:
        wrapping = FSDP if fsdp else {}
        run = trainer(tmp_path / "run", rows(17), **SCHEDULE, **TWO, **saving, **wrapping)
        run.train()
        expected = whole(run)
        again = trainer(tmp_path / "run", rows(17), **SCHEDULE, **TWO, **saving, **wrapping)
        again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
        assert distance(expected, whole(again)) == 0.0

    in_ranks(2, rank, fsdp)


def test_ranks_with_different_data_are_refused(tmp_path) -> None:
    def rank(number: int) -> None:
        with pytest.raises(Exception, match="different training data"):
            trainer(tmp_path, rows(8, seed=number))

    in_ranks(2, rank)
