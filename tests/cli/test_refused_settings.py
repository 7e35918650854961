"""Settings that TRL, transformers and torch refuse: one line that names the key, already in a dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safekey.cli.app import main
from safekey.training.command.checks import refused_by_library

SMALL = str(Path(__file__).with_name("small.yaml"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from small_model import save_small_model
    from small_world import rows, write_rows

    folder = tmp_path_factory.mktemp("small")
    save_small_model(folder / "base", [f"{row['question']} {row['response']}" for row in rows()], seed=1)
    write_rows(folder / "rows.jsonl")
    return folder


STEPS = "eval_strategy=steps save_strategy=steps eval_steps=3 save_steps=4 load_best_model_at_end=true"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (STEPS, "saving steps to be a round multiple of the evaluation steps, but found 4"),
        ("load_best_model_at_end=true save_strategy=epoch eval_strategy=steps eval_steps=1", "strategy to match"),
        ("load_best_model_at_end=true eval_fraction=0", "needs rows to evaluate on"),
        (
            "load_best_model_at_end=true save_strategy=epoch eval_strategy=epoch metric_for_best_model=los",
            "did you mean 'loss",
        ),
        ("save_strategy=best", "needs metric_for_best_model"),
        ("max_steps=-5", "max_steps is -5, expected a number of steps from 1, or -1"),
        ("max_steps=0", "max_steps is 0"),
        ("num_train_epochs=0", "num_train_epochs is 0"),
        ("num_train_epochs=-1", "num_train_epochs is -1"),
        ("per_device_train_batch_size=0", "key 'per_device_train_batch_size': is 0"),
        ("per_device_train_batch_size=-2 batch_size=null", "per_device_train_batch_size is -2"),
        ("per_device_eval_batch_size=0", "per_device_eval_batch_size is 0"),
        ("gradient_accumulation_steps=0 batch_size=null", "gradient_accumulation_steps is 0"),
        ("logging_steps=0", "logging_steps"),
        ("logging_steps=-1", "logging_steps is -1"),
        ("save_steps=0", "save_steps is 0"),
        ("eval_steps=-2", "eval_steps is -2"),
        ("save_total_limit=0", "save_total_limit is 0"),
        ("warmup_steps=-1", "warmup_steps"),
        ("seed=-1", "seed is -1, expected a number from 0"),
        ("data_seed=-1", "data_seed is -1"),
        ("weight_decay=-1", "weight_decay is -1"),
        ("max_grad_norm=-1", "max_grad_norm is -1"),
        ("dataloader_num_workers=-1", "dataloader_num_workers is -1"),
        ("learning_rate=-1", "Invalid learning rate: -1"),
        ("adam_beta1=2", "Invalid beta parameter"),
        ("adam_epsilon=-1", "Invalid epsilon"),
        ("optim_args=x", "optim, optim_args"),
        ("lr_scheduler_type=cosine_with_min_lr", "lr_scheduler_kwargs"),
        ("lr_scheduler_kwargs={x: 1}", "unexpected keyword argument 'x'"),
        ("report_to=wandbb", "did you mean 'wandb'"),
        ("log_level=loud", "log_level is 'loud', expected one of"),
        ("fsdp=full_shard", "--launch fsdp2"),
        ("torch_compile=true torch_compile_backend=nosuch", "torch_compile_backend is 'nosuch'"),
        ("gradient_checkpointing=true gradient_checkpointing_kwargs={x: 1}", "gradient_checkpointing_kwargs holds 'x'"),
        ("bf16=true fp16=true", "exclude one another"),
        ("dataloader_prefetch_factor=2", "dataloader_prefetch_factor"),
        ("torch_empty_cache_steps=0", "torch_empty_cache_steps"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_one_line_in_a_dry_run(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, expected: str
) -> None:
    paths = [f"model_name_or_path={small / 'base'}", f"data={small / 'rows.jsonl'}", f"output_dir={tmp_path / 'run'}"]
    given = [word.replace("{x:_1}", "{x: 1}") for word in words.replace("{x: 1}", "{x:_1}").split()]
    options = ["max_length=300", "use_cpu=true", "limit=24", "self_test=false", "eval_fraction=0.2", *given]
    assert main(["train", SMALL, *paths, *options, "--dry-run"]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("safekey: error: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    assert expected in lines[0]
    assert not (tmp_path / "run").exists()


def test_what_a_library_raises_during_a_run_is_one_line_and_our_own_faults_are_not() -> None:
    import transformers

    with pytest.raises(ValueError, match="nosuch") as theirs:
        transformers.get_scheduler("nosuch", optimizer=None)  # type: ignore[arg-type]
    found = refused_by_library(theirs.value)
    assert found is None or str(found).startswith("transformers refuses a setting of this run: ")
    with pytest.raises(ValueError, match="wrong") as ours:
        raise ValueError("wrong")
    assert refused_by_library(ours.value) is None
    with pytest.raises(ZeroDivisionError) as fault:
        json.loads("0") / 0
    assert refused_by_library(fault.value) is None
