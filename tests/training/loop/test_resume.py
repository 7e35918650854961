"""A run that is killed and started again ends with the same weights, bit for bit, and the same log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from runs import VOCABULARY, distance, rows, trainer, weights
from transformers import TrainerCallback

from safekey.errors import UserError
from safekey.training import last_complete_checkpoint
from safekey.training.loop import checkpoint, persistent
from toys import llama

RUN = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 3,
    "learning_rate": 1e-3,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "logging_steps": 3,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "qsm_weight": 0.1,
    "ksm_weight": 0.1,
    "qmm_epochs": 1.5,
    "head_epochs": 1.7,
    "max_tokens_per_micro_batch": 120,
}  # 21 rows in steps of 8: three steps an epoch, nine in all
TIMED = {"tokens_per_second", "step_seconds", "peak_memory_gib"}


def made(folder: Path, lora: bool = False, **changes):
    """A run in which dropout draws random numbers at every step."""
    model = llama(VOCABULARY, attention_dropout=0.1)
    peft_config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.1) if lora else None
    return trainer(folder, eval_dataset=rows(5, 9), model=model, peft_config=peft_config, **{**RUN, **changes})


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forked(action) -> int:
    """Run something in a process of its own; return how it ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        action()
        code = 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


class KillAt(TrainerCallback):
    def __init__(self, where: str, step: int):
        self.where, self.step = where, step

    def on_pre_optimizer_step(self, args, state, control, **others):
        if (self.where, self.step) == ("inside", state.global_step):
            kill()

    def on_step_end(self, args, state, control, **others):
        if (self.where, self.step) == ("behind", state.global_step):
            kill()


def killed(folder: Path, where: str, step: int, lora: bool) -> int:
    """Train in another process and kill it there."""

    def action() -> None:
        run = made(folder, lora)
        run.add_callback(KillAt(where, step))

        def at(owner, name):
            own = getattr(owner, name)

            def then(*args, **kwargs):
                if run.state.global_step == step:
                    kill()
                return own(*args, **kwargs)

            setattr(owner, name, then)

        if where == "model written":
            at(run, "_save_optimizer_and_scheduler")
        if where == "all written":
            at(checkpoint, "commit")
        if where == "renaming":
            at(Path, "rename")
        if where == "rotating":
            at(persistent, "rotate_checkpoints")
        run.train(resume_from_checkpoint=True)

    return forked(action)


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines if "train_runtime" not in line]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    found = {}
    for lora in (False, True):
        folder = tmp_path_factory.mktemp("whole")
        run = made(folder, lora)
        run.train()
        found[lora] = weights(run.model), log(folder)
    return found


POINTS = [("inside", 1), ("behind", 3), ("inside", 5), ("behind", 6)]
POINTS += [(where, 4) for where in ("model written", "all written", "renaming", "rotating")]
CASES = [pytest.param(*point, lora) for point in POINTS[:5] for lora in (False, True)]
CASES += [pytest.param(*point, lora, marks=pytest.mark.slow) for point in POINTS[5:] for lora in (False, True)]


@pytest.mark.parametrize(("where", "step", "lora"), CASES)
def test_killed_and_resumed(tmp_path, uninterrupted, where, step, lora) -> None:
    assert killed(tmp_path, where, step, lora) == -signal.SIGKILL
    run = made(tmp_path, lora)
    run.train(resume_from_checkpoint=True)
    expected, expected_log = uninterrupted[lora]
    assert distance(weights(run.model), expected) == 0.0
    assert log(tmp_path) == expected_log
    assert not list(tmp_path.glob(".saving-*"))


@pytest.mark.slow
def test_killed_again_and_again(tmp_path, uninterrupted) -> None:
    for where, step in [("behind", 2), ("all written", 4), ("inside", 6), ("behind", 8)]:
        assert killed(tmp_path, where, step, lora=False) == -signal.SIGKILL
    run = made(tmp_path)
    run.train(resume_from_checkpoint=True)
    assert distance(weights(run.model), uninterrupted[False][0]) == 0.0
    assert log(tmp_path) == uninterrupted[False][1]


@pytest.mark.slow
def test_a_fresh_process_killed_from_outside(tmp_path, uninterrupted) -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}\n"
        "from pathlib import Path; from test_resume import made; import torch\n"
        f"run = made(Path({str(tmp_path)!r})); run.train(resume_from_checkpoint=True)\n"
        f"torch.save(run.model.state_dict(), {str(tmp_path / 'final.pt')!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and last_complete_checkpoint(tmp_path) is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert distance(torch.load(tmp_path / "final.pt"), uninterrupted[False][0]) == 0.0


def test_incomplete_checkpoints_are_passed_over(tmp_path, caplog) -> None:
    run = made(tmp_path, save_total_limit=None, max_steps=6)
    run.train()
    newest = tmp_path / "checkpoint-6"
    assert last_complete_checkpoint(tmp_path) == str(newest)
    (newest / "optimizer.pt").unlink()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    assert "checkpoint-6: it is incomplete (optimizer.pt is missing)" in caplog.text
    with (tmp_path / "checkpoint-4" / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert "it is damaged (model.safetensors has 100 bytes" in caplog.text
    (tmp_path / "checkpoint-99").mkdir()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    with pytest.raises(UserError, match=r"optimizer\.pt is missing"):
        made(tmp_path).train(resume_from_checkpoint=str(newest))
    shutil.rmtree(tmp_path)
    assert last_complete_checkpoint(tmp_path) is None


def test_another_runs_checkpoint_is_refused(tmp_path) -> None:
    made(tmp_path, max_steps=2).train()
    with pytest.raises(UserError, match="rows per step is 8, this run's is 16"):
        made(tmp_path, gradient_accumulation_steps=4).train(resume_from_checkpoint=True)
    other = trainer(tmp_path, rows(21, seed=5), eval_dataset=rows(5), **RUN)
    with pytest.raises(UserError, match="training data"):
        other.train(resume_from_checkpoint=True)


def test_killed_before_the_export_takes_no_further_step(tmp_path) -> None:
    """The last checkpoint is there, and max_steps ends within an epoch."""
    first = made(tmp_path, max_steps=4)
    first.train()
    again = made(tmp_path, max_steps=4)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    assert distance(weights(again.model), weights(first.model)) == 0.0


@pytest.mark.parametrize("name", ["torch", "safetensors", "os"])
def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch, name) -> None:
    run = made(tmp_path)

    def full(*args, **kwargs):
        if run.state.global_step < 4:
            return own(*args, **kwargs)
        Path(checkpoint.aside(tmp_path / "checkpoint-4"), "half").write_text("of a file")
        if name == "torch":
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        raise OSError(28, "No space left on device")

    target = {"torch": "torch.save", "safetensors": "safekey.training.loop.export.save_file", "os": "os.fsync"}[name]
    module, _, attribute = target.rpartition(".")
    own = getattr(sys.modules[module], attribute)
    monkeypatch.setattr(target, full)
    with pytest.raises(UserError, match=r"cannot save .*checkpoint-4.*the last complete checkpoint is .*checkpoint-2"):
        run.train()
    assert not list(tmp_path.glob(".saving-*"))
    monkeypatch.undo()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_a_cluster_tells_each_process_and_its_parent_passes_it_on(monkeypatch) -> None:
    """Two SIGTERMs close together are one request; a second Ctrl-C, and a late SIGTERM, end it at once."""
    asked = SimpleNamespace(stop_asked=False)
    with persistent.PersistentTrainer._stops_between_steps(asked):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.stop_asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr("safekey.training.loop.persistent._ONE_REQUEST", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_inside_a_step(tmp_path, uninterrupted, number) -> None:
    """The step is finished, a checkpoint saved, and the run goes on from there."""

    class Interrupt(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **others):
            if state.global_step == 4:
                os.kill(os.getpid(), number)

    run = made(tmp_path)
    run.add_callback(Interrupt())
    with pytest.raises(KeyboardInterrupt, match=r"stopped after step 5; saved .*checkpoint-5: run the same command"):
        run.train()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = made(tmp_path)
    again.train(resume_from_checkpoint=True)
    assert distance(weights(again.model), uninterrupted[False][0]) == 0.0
    assert log(tmp_path) == uninterrupted[False][1]
