"""The trainer's equivalences: how a step is split changes nothing, and without SafeKey it is TRL's own trainer."""

from __future__ import annotations

import pytest
import torch
from runs import VOCABULARY, config, distance, history, rows, trainer, weights

from safekey.training import Encoded
from toys import llama, tokenizer

ALL_ON = {"qsm_weight": 0.1, "ksm_weight": 0.1, "key_weight": 0.1}
ALL_ON |= {"qmm_epochs": 1, "head_epochs": -1, "qsm_epochs": 0.7, "ksm_epochs": 1.4, "key_epochs": 1}


@pytest.mark.parametrize(
    "split",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"max_tokens_per_micro_batch": 60},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_tokens_per_micro_batch": 90},
    ],
    ids=["1x8", "4x2", "cap", "cap 4x2"],
)
def test_how_a_step_is_split_changes_nothing(tmp_path, split) -> None:
    whole = trainer(tmp_path / "a", **ALL_ON, double=True)
    whole.train()
    parts = trainer(tmp_path / "b", **ALL_ON, double=True, **split)
    parts.train()
    assert whole.state.global_step == parts.state.global_step == 6  # 21 rows in steps of 8, two epochs
    assert distance(weights(whole.model), weights(parts.model)) < 1e-10
    losses = [f"loss_{name}" for name in ("sft", "qmm", "dpsh", "qsm", "ksm", "key")]
    for name in ("loss", *losses, "key_accuracy_recovered", "head_auroc_understanding"):
        assert history(whole, name)
        assert history(whole, name) == pytest.approx(history(parts, name), abs=1e-9)


def test_without_objectives_it_is_trls_trainer(tmp_path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = rows()
    off = {"qmm_weight": 0.0, "head_weight": 0.0, "train_sampling_strategy": "sequential"}
    shape = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    ours = trainer(tmp_path / "a", data, **off, **shape, learning_rate=1e-3)
    ours.train()
    labels = [[-100] * row.first_target + row.input_ids[row.first_target :] for row in data]
    theirs = SFTTrainer(
        llama(VOCABULARY),
        SFTConfig(
            output_dir=str(tmp_path / "b"),
            num_train_epochs=2,
            learning_rate=1e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            save_strategy="no",
            report_to="none",
            logging_steps=1,
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            seed=3,
            **shape,
        ),
        train_dataset=Dataset.from_dict({"input_ids": [row.input_ids for row in data], "labels": labels}),
        processing_class=tokenizer(),
    )
    theirs.train()
    assert distance(weights(ours.model), weights(theirs.model)) < 2e-6
    assert history(ours, "loss_sft") == pytest.approx(history(theirs, "loss"), abs=1e-5)


PINNED = {
    "loss": [6.15419, 5.89579, 5.72818, 5.55001, 6.74291, 7.21782],
    "loss_sft": [6.15419, 5.89579, 5.72818, 5.55001, 5.48585, 5.4189],
    "loss_qmm": [5.48236, 5.60419, 5.51151, 5.52693, 5.51273, 5.46689],
    "loss_dpsh": [0.77931, 0.68112, 0.72585, 0.6934, 0.63307, 0.78763],
    "loss_qsm": [5.50005, 5.52974, 5.48018],
}


def test_a_pinned_trajectory(tmp_path) -> None:
    """Twenty-one steps, every loss: whoever changes these numbers changes what is trained."""
    made = trainer(tmp_path, num_train_epochs=7, qsm_weight=0.1, qsm_epochs=1, learning_rate=3e-3)
    made.train()
    for name, numbers in PINNED.items():
        found = history(made, name)
        assert (found[::4] if len(found) > 6 else found) == pytest.approx(numbers, abs=2e-4), name
    assert len(history(made, "loss_sft")) == 21
    assert len(history(made, "loss_qmm")) == len(history(made, "loss_dpsh")) == 6
    assert len(history(made, "loss_qsm")) == 3


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("objective", ["qmm", "head", "qsm", "ksm", "key"])
def test_each_objective_reaches_the_backbone(tmp_path, objective, lora) -> None:
    """Under TRL's defaults (gradient checkpointing) each objective alone has a gradient in the layers."""
    base = _gradients(tmp_path / "a", lora)
    off = {f"{name}_weight": 0.0 for name in ("qmm", "head", "qsm", "ksm", "key")}
    alone = _gradients(tmp_path / "b", lora, **{**off, f"{objective}_weight": 1.0, f"{objective}_epochs": -1})
    largest = max(float((alone[name] - value).abs().max()) for name, value in base.items())
    assert largest > 1e-5
    if objective == "head":
        detached = _gradients(tmp_path / "c", lora, **{**off, "head_weight": 1.0, "head_epochs": -1}, detach_heads=True)
        assert max(float((detached[name] - value).abs().max()) for name, value in base.items()) == 0.0
        heads = {name: value for name, value in detached.items() if "safekey_heads" in name}
        assert len(heads) == 4
        assert all(value.abs().max() > 0 for value in heads.values())


def _gradients(folder, lora: bool, **changes) -> dict[str, torch.Tensor]:
    """The gradients of the first step, before clipping."""
    from peft import LoraConfig
    from transformers import TrainerCallback

    found: dict[str, torch.Tensor] = {}

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **others):
            found.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    off = {f"{name}_weight": 0.0 for name in ("qmm", "head", "qsm", "ksm", "key")}
    settings = {**off, "max_steps": 1, "max_grad_norm": 1e9, **changes}
    peft_config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False) if lora else None
    made = trainer(folder, peft_config=peft_config, callbacks=[Look()], **settings)
    assert made.args.gradient_checkpointing
    made.train()
    assert found
    return found


def test_heads_off_are_left_alone_and_their_biases_are_trained(tmp_path) -> None:
    made = trainer(tmp_path, head_epochs=1, weight_decay=0.5)
    before = {name: value.detach().clone() for name, value in made.heads.named_parameters()}
    changed = []

    from transformers import TrainerCallback

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **others):
            changed.append([not torch.equal(p, before[n]) for n, p in made.heads.named_parameters()])

    made.add_callback(Look())
    made.train()
    assert changed == [[False] * 4] * 3 + [[True] * 4] * 3


def test_norms_and_biases_do_not_decay(tmp_path) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    qwen = Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCABULARY, num_key_value_heads=2, head_dim=8, **sizes))
    made = trainer(tmp_path, model=qwen, head_learning_rate=0.5)
    names = {id(parameter): name for name, parameter in made.model.named_parameters()}
    groups = made.create_optimizer().param_groups
    undecayed = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert undecayed == {name for name in names.values() if "norm" in name or name.endswith("bias")}
    assert len(undecayed) == 7  # two layer norms, q and k norms, the final norm, two heads' biases
    fast = {names[id(p)] for group in groups if group["lr"] == 0.5 for p in group["params"]}
    assert fast == {name for name in names.values() if "safekey_heads" in name}
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_one_class_only_switches_the_heads_off_loudly(tmp_path, caplog) -> None:
    data = [Encoded(row.input_ids, row.spans, True) for row in rows(8)]
    made = trainer(tmp_path, data, eval_dataset=data[:3], head_epochs=-1)
    assert "DPSH IS OFF: all labelled rows are harmful" in caplog.text
    assert made.heads is None
    made.train()
    assert "loss_dpsh" not in made.state.log_history[0]
    assert "eval_loss_dpsh" not in made.evaluate()


def test_configured_objectives_follow_the_step(tmp_path) -> None:
    five = config(tmp_path, num_train_epochs=5, qsm_weight=0.3, qsm_epochs=0.5, key_weight=1.0, key_epochs=-1)
    on = [five.weights(step, 50, 10) for step in range(50)]
    assert [w["qmm"] for w in on] == [0.0] * 30 + [0.2] * 20  # the paper's last 2 of 5 epochs
    assert [w["qsm"] for w in on] == [0.0] * 45 + [0.3] * 5
    assert all(w["key"] == 1.0 for w in on)
    assert five.weights(0, 8, 10)["qmm"] == 0.2  # a run shorter than two epochs has it on throughout
