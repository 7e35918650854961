"""`safekey train`, from the command line to the run folder, on a small model."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from safekey.cli import app as cli
from safekey.training.command import launch
from safekey.training.command.launch import accelerate_config, check_launch, launch_command

ALONE = os.environ | {"OMP_NUM_THREADS": "1"}
SMALL = str(Path(__file__).with_name("small.yaml"))
SHORT = ("num_train_epochs=1", "qmm_epochs=0.5", "head_epochs=0.5", "max_length=300", "use_cpu=true", "limit=24")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model, `base`, and 128 rows, `rows.jsonl`."""
    from small_model import save_small_model
    from small_world import rows, write_rows

    folder = tmp_path_factory.mktemp("small")
    save_small_model(folder / "base", [f"{row['question']} {row['response']}" for row in rows()], seed=1)
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture
def train(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `safekey train tests/small.yaml ...` and gives (exit code, stdout, stderr)."""
    import torch

    torch.set_num_threads(1)  # the model is tiny, and tests run beside each other
    monkeypatch.chdir(tmp_path)

    def run(*words: str, recipe: str = SMALL, base: str = "", data: str = "") -> tuple[int, str, str]:
        paths = [f"model_name_or_path={base or small / 'base'}", f"data={data or small / 'rows.jsonl'}"]
        code = cli.main(["train", recipe, *paths, "output_dir=run", *SHORT, *words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("safekey: error: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


def reference_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in the five columns of the published `sft_mix_2k.json`; its offsets count the normalised text."""
    thinking, answer = row["response"].removeprefix("<think>\n").split("\n</think>\n\n")
    ends = [found.end() for found in re.finditer(r"[.?!](?=\s)", row["response"])]
    return {
        "question": row["question"],
        "response": f"<think>\n\n{thinking} \n</think>\n{answer}\n",
        "source": "ALERT" if row["harmful"] else "4o_rewrite",
        "summary_end_idx": ends[0],
        "next_sentence_end_idx": ends[1],
    }


def test_the_reference_file_is_taken_unchanged(train: Any, tmp_path: Path) -> None:
    """One JSON list, labels by source, offsets of U and K, one key sentence outside the thinking (4 of 1,915 there)."""
    from small_world import rows

    made = [reference_row(row) for row in itertools.islice(rows(), 24)]
    normal = made[0]["response"].replace("\n\n", "\n", 1).replace(" \n</think>\n", "\n</think>\n\n").strip()
    made[0] |= {"summary_end_idx": normal.index("</think>"), "next_sentence_end_idx": len(normal)}
    file = tmp_path / "sft_mix_2k.json"
    file.write_text(json.dumps(made, indent=2))
    code, out, err = train("eval_fraction=0", data=str(file))
    assert code == 0, err
    columns = "question, response, source, summary_end_idx, next_sentence_end_idx"
    assert f"24 of 24 rows used; columns read: {columns}; not read: none" in " ".join(out.split())
    benign = sum(row["source"] == "4o_rewrite" for row in made)
    assert 0 < benign < 24
    table = " ".join(out.split())
    assert f"harmful / benign / unlabelled {24 - benign} / {benign} / 0" in table
    assert "with U and K (others: SFT only) 24 U and K by given 24" in table
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


def test_train_then_again_then_changed_then_anew(train: Any, tmp_path: Path) -> None:
    code, out, _ = train("--dry-run")
    assert out.count("columns read: ") == 1
    assert (code, (tmp_path / "run").exists()) == (0, False)
    for words in ("harmful / benign", "Tokens", "rows per step", "epoch 1", "activations", "nothing was written"):
        assert words in out

    code, out, _ = train()
    assert code == 0
    run = tmp_path / "run"
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["rows"]["trained_on"] + record["rows"]["held_out"] == 24
    assert len(next(iter(record["data"].values()))["sha256"]) == 64
    assert record["starts"][0]["versions"]["torch"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["qmm_epochs"], config["learning_rate"]) == (0.5, 3e-3)
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "model" / "safekey_heads.safetensors").is_file()

    code, out, _ = train()
    assert (code, "this run is finished" in out) == (0, True)
    code, _, err = train("learning_rate=1e-3", "logging_steps=3")
    assert code == 2
    assert "learning_rate: 0.003 then, 0.001 now" in one_line(err)
    assert "logging_steps" not in one_line(err)
    code, _, _ = train("learning_rate=1e-3", "--overwrite", data="missing.jsonl")
    assert (code, (run / "model").is_dir()) == (2, True)  # a mistake does not delete the earlier run
    code, _, _ = train("learning_rate=1e-3", "--overwrite", "save_strategy=no", "eval_fraction=0")
    assert code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["learning_rate"] == 1e-3


def test_lora(train: Any, tmp_path: Path) -> None:
    lora = ("use_peft=true", "lora_r=4", "lora_target_modules=[q_proj, v_proj]", "max_steps=2")
    code, out, _ = train(*lora)
    assert code == 0
    assert "% trained" in out
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").is_file()


def test_skipped_rows_are_all_written_down(train: Any, small: Path, tmp_path: Path) -> None:
    good = (small / "rows.jsonl").read_text().splitlines()
    bad = [json.dumps({"question": "q", "response": "no thinking", "harmful": True}), "{broken"]
    (tmp_path / "mixed.jsonl").write_text("\n".join([*good[:8], *bad, *good[8:16]]) + "\n")
    code, out, err = train(data="mixed.jsonl")
    assert code == 0
    problems = [json.loads(line) for line in (tmp_path / "run" / "data_problems.jsonl").read_text().splitlines()]
    assert [problem["row"] for problem in problems] == [9, 10]
    assert all(problem.keys() == {"file", "row", "field", "reason"} for problem in problems)
    assert "WARNING: 2 rows are not used" in out
    code, _, err = train("strict=true", "output_dir=other", data="mixed.jsonl")
    assert code == 2
    assert "row 9" in one_line(err)


def test_one_class_is_loud_and_switches_the_heads_off(train: Any, small: Path, tmp_path: Path) -> None:
    rows = [line for line in (small / "rows.jsonl").read_text().splitlines() if '"harmful": true' in line]
    (tmp_path / "deeds.jsonl").write_text("\n".join(rows))
    code, out, _ = train(data="deeds.jsonl")
    assert code == 0
    assert "WARNING: ONE CLASS ONLY" in out
    assert "DPSH (safety heads)" not in out
    assert not (tmp_path / "run" / "model" / "safekey_heads.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "no recipe 'nowhere'"),
        (("lerning_rate=1",), "did you mean 'learning_rate'"),
        (("learning_rate=abc",), "expected a number"),
        (("max_length=12",), "none of the 128 rows can be trained on; the first"),
        (("model_name_or_path=./missing",), "looked for a tokenizer in a folder"),
        (("data=missing.jsonl",), "missing.jsonl"),
        (("data=empty.jsonl",), "empty.jsonl"),
        (("output_dir=file/run",), "output_dir file/run: cannot be read or written"),
        (("--launch", "ddp"), "needs --num-processes"),
        (("--num-processes", "2"), "needs --launch"),
        (("--launch", "fsdp2", "--num-processes", "2"), "needs GPUs"),
        (("--launch", "zero3", "--num-processes", "2"), "DeepSpeed, which is not installed"),
        (("load_in_4bit=true",), "use_peft=true"),
        (("use_peft=true", "lora_target_modules=[nosuch]"), "use_peft: Target modules nosuch not found"),
        (("report_to=wandb",), "pip install wandb"),
        (("learning_rate=-1",), "Invalid learning rate"),
    ],
)
def test_bad_input_is_one_line(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "file").write_text("")
    code, _, err = train(*words, recipe=SMALL if words else "nowhere")
    assert code == 2
    assert expected in one_line(err)


@pytest.mark.parametrize(
    ("template", "expected"),
    [("", "has no chat template"), ("{{ messages[0].content }}<think>\n\n</think>\n\n", "closes the thinking")],
)
def test_a_template_that_cannot_be_trained_on(
    train: Any, small: Path, tmp_path: Path, template: str, expected: str
) -> None:
    import shutil

    shutil.copytree(small / "base", tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    if template:
        (tmp_path / "base" / "chat_template.jinja").write_text(template)
    code, _, err = train(base="base")
    assert code == 2
    assert expected in one_line(err)
    code, _, _ = train(f"chat_template_path={small / 'base' / 'chat_template.jinja'}", "--dry-run", base="base")
    assert code == 0


def test_missing_weights_name_what_is_there(train: Any, small: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(small / "base", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    code, _, err = train(base="base")
    assert code == 2
    assert "weights in safetensors form" in one_line(err)
    assert "tokenizer.json" in one_line(err)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def broken_model(small: Path, folder: Path, fault: str) -> None:
    """Copy the small model and spoil its weights."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(small / "base", folder)
    file = folder / "model.safetensors"
    state = load_file(file)
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:5000])
        return
    if fault == "missing":
        del state["model.norm.weight"]
    if fault == "nan":
        state["model.norm.weight"][0] = float("nan")
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("cut", "not fully covered"),
        ("missing", "1 weights are missing, among them model.norm.weight"),
        ("nan", "own loss is not finite"),
    ],
)
def test_broken_weights(train: Any, small: Path, tmp_path: Path, fault: str, expected: str) -> None:
    broken_model(small, tmp_path / "base", fault)
    code, _, err = train(base="base")
    assert code == 2
    assert expected in one_line(err)


@pytest.mark.parametrize(
    ("config", "expected"),
    [({"model_type": "mamba"}, "no attention heads"), ({"model_type": "t5"}, "no decoder-only language model")],
)
def test_models_of_another_kind(train: Any, small: Path, tmp_path: Path, config: dict[str, Any], expected: str) -> None:
    import shutil

    shutil.copytree(small / "base", tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    code, _, err = train("--dry-run", base="base")
    assert code == 2
    assert expected in one_line(err)


def test_rows_longer_than_the_models_positions(train: Any, small: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(small / "base", tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}))
    code, out, _ = train("--dry-run", base="base")
    assert code == 0
    assert "longer than the model's 40 positions" in out


def test_two_runs_in_one_folder(train: Any, tmp_path: Path) -> None:
    from safekey.training.command.folder import RunFolder

    with RunFolder(tmp_path / "run").held():
        code, _, err = train()
    assert code == 2
    assert "another process is training here" in one_line(err)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_full_disk_is_said_once(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safekey.training.command.folder import RunFolder
    from safekey.training.loop import export

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    monkeypatch.setattr(RunFolder, "mark", full)  # run.json cannot be written either
    code, _, err = train("save_strategy=steps", "save_steps=1")
    assert code == 2
    line = one_line(err)
    assert line.count("No space left") == 1
    assert "there is no earlier checkpoint. Free some space" in line


def test_the_console_has_lines_for_a_file_and_nothing_that_nobody_can_act_on(
    train: Any, small: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(small / "base", tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"eos_token_id": 3, "bos_token_id": 4}))
    code, out, err = train("use_peft=true", "gradient_checkpointing=true", base="base")
    assert code == 0
    assert err == ""
    assert "step 1/" in out
    assert " left\n" in out
    adapter = json.loads((tmp_path / "run" / "model" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(tmp_path / "base")  # loads from any folder


def test_options_may_stand_anywhere() -> None:
    words = ["train", "r", "a=1", "--launch", "ddp", "b=2", "--num-processes=2", "c=3", "--", "--num_machines", "2"]
    args = cli.build_parser().parse_args(words)
    assert args.recipe == "r"
    assert args.overrides == ["a=1", "b=2", "c=3", "--num_machines", "2"]
    assert (args.launch, args.num_processes) == ("ddp", 2)


def test_accelerates_configuration() -> None:
    assert accelerate_config("ddp", 2, gpu=False, half=False)["use_cpu"] is True
    fsdp = accelerate_config("fsdp2", 8, gpu=True, half=True)
    assert (fsdp["distributed_type"], fsdp["fsdp_config"]["fsdp_version"], fsdp["mixed_precision"]) == (
        "FSDP",
        2,
        "bf16",
    )
    zero = accelerate_config("zero3", 8, gpu=True, half=True)["deepspeed_config"]
    assert (zero["zero_stage"], zero["offload_optimizer_device"], zero["offload_param_device"]) == (3, "cpu", "cpu")
    assert check_launch("zero3", 8, 0, planning=True) == 8
    command = launch_command(Path("a.yaml"), ["--num_machines", "2"], ["train", "r"])
    assert "--main_process_port" not in command
    assert command[-4:] == ["-m", "safekey.cli", "train", "r"]
    assert launch.worker_launch() is None


def test_help_needs_no_torch() -> None:
    code = "import sys, safekey.cli.train, safekey.cli.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def command(small: Path, run: Path, *words: str) -> list[str]:
    paths = [f"model_name_or_path={small / 'base'}", f"data={small / 'rows.jsonl'}", f"output_dir={run}"]
    return [sys.executable, "-m", "safekey.cli", "train", SMALL, *paths, "max_length=300", *words]


def weights(run: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(run / "model" / "model.safetensors")
    return found


@pytest.mark.slow
def test_ctrl_c_and_sigkill_go_on_to_the_same_weights(small: Path, tmp_path: Path) -> None:
    words = (
        "num_train_epochs=3",
        "save_steps=4",
        "save_total_limit=3",
        "self_test=false",
        "use_cpu=true",
        "logging_steps=1",
    )
    whole = subprocess.run(
        command(small, tmp_path / "whole", *words), capture_output=True, text=True, check=False, env=ALONE
    )
    assert whole.returncode == 0, whole.stderr
    codes = []
    for number in (signal.SIGKILL, signal.SIGINT):
        broken = subprocess.Popen(
            command(small, tmp_path / "broken", *words), stdout=subprocess.PIPE, text=True, env=ALONE
        )
        log, seen = tmp_path / "broken" / "train_log.jsonl", 0
        deadline, goal = time.monotonic() + 120, 6 if number == signal.SIGKILL else 14
        while seen < goal and broken.poll() is None and time.monotonic() < deadline:
            seen = (
                max([json.loads(x).get("step", 0) for x in log.read_text().splitlines()] or [0]) if log.exists() else 0
            )
            time.sleep(0.02)
        os.kill(broken.pid, number)
        out, _ = broken.communicate(timeout=60)
        codes.append(broken.returncode)
    assert codes == [-signal.SIGKILL, 130]
    assert "interrupted; the same command goes on from" in out
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["status"] == "interrupted"
    last = subprocess.run(
        command(small, tmp_path / "broken", *words), capture_output=True, text=True, check=False, env=ALONE
    )
    assert last.returncode == 0, last.stderr
    assert "going on from" in last.stdout
    ours, theirs = weights(tmp_path / "broken"), weights(tmp_path / "whole")
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(small: Path, tmp_path: Path) -> None:
    words = ("num_train_epochs=1", "qmm_epochs=0.5", "head_epochs=0.5", "per_device_train_batch_size=4", "limit=32")
    one = subprocess.run(
        command(small, tmp_path / "one", *words), capture_output=True, text=True, check=False, env=ALONE
    )
    assert one.returncode == 0, one.stderr
    many = [*command(small, tmp_path / "two", *words), "--launch", "ddp", "--num-processes", "2"]
    two = subprocess.run(many, capture_output=True, text=True, check=False, env=ALONE)
    assert two.returncode == 0, two.stderr
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    again = subprocess.run(
        [*command(small, tmp_path / "two", *words)], capture_output=True, text=True, check=False, env=ALONE
    )
    assert "this run is finished" in again.stdout or "begun with 2 processes" in again.stderr
