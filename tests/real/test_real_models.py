"""Real pretrained models pass whole, tokenizer and chat template untouched.

`SAFEKEY_REAL_MODELS` names a folder of model folders, for example `smollm2` (SmolLM2-135M-Instruct) and `qwen-coder`
(Qwen2.5-Coder-0.5B-Instruct). `make_model.py` makes the first; docs/real-models.md says what came of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from safekey.cli.app import main
from small_world import rows

pytestmark = pytest.mark.real
HOME = os.environ.get("SAFEKEY_REAL_MODELS", "")
MODELS = sorted(path for path in Path(HOME).iterdir() if (path / "config.json").is_file()) if HOME else []
SHORT = ("max_length=192", "batch_size=2", "per_device_train_batch_size=2", "use_cpu=true", "eval_fraction=0")
MOST_BYTES = 600e6
EVERY = ("qmm_epochs=-1", "head_epochs=-1", "logging_steps=1", "save_strategy=no")


@pytest.fixture(params=MODELS or [None], ids=lambda path: path.name if path else "none")
def model(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip("SAFEKEY_REAL_MODELS names no folder of real models")
    path: Path = request.param
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four rows with thinking, two of them harmful, from the invented world of the tests."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in list(rows())[:4]), encoding="utf-8")
    return path


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "train_log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_inspect_shows_the_ids_that_inference_sends(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer

    from safekey import load_examples, segment
    from safekey.training import encode

    assert main(["data", "inspect", str(data), "--model", str(model), "--limit", "1"]) == 0
    assert "[K]" in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(model)
    row = segment(load_examples(str(data))[0])
    encoded = encode(row, tokenizer, max_length=192)
    turns = [{"role": "user", "content": row.prompt[0].content}]
    sent = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert encoded.input_ids[: len(sent)] == list(sent)


def test_lora_trains_and_exports(model: Path, data: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    run = tmp_path / "run"
    adapter = ("use_peft=true", "lora_r=4", "lora_target_modules=all-linear", "learning_rate=1e-3", "warmup_steps=0")
    words = [f"model_name_or_path={model}", f"data={data}", f"output_dir={run}", "max_steps=1", *SHORT, *EVERY]
    assert main(["train", "base", *words, *adapter]) == 0
    (loss,) = [line["loss"] for line in log_of(run) if "loss" in line]
    assert 0 < loss < 20
    made = AutoPeftModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    assert any("lora_B" in name and bool(weight.any()) for name, weight in made.state_dict().items())
    assert not [name for name in made.state_dict() if "safekey" in name]
    template = AutoTokenizer.from_pretrained(run / "model").chat_template
    assert template == AutoTokenizer.from_pretrained(model).chat_template, "the template was changed"


def test_full_training_goes_on_after_a_kill_and_exports(model: Path, data: Path, tmp_path: Path) -> None:
    """Killed behind its first checkpoint, a run ends with the weights of one that nobody disturbed."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if (size := sum(file.stat().st_size for file in model.glob("*.safetensors"))) > MOST_BYTES:
        pytest.skip(f"{size / 1e9:.1f} GB of weights: two full trainings with checkpoints take too long here")
    words = [f"model_name_or_path={model}", f"data={data}", "max_steps=2", *SHORT, *EVERY]
    words = [*words[:-1], "save_strategy=steps", "save_steps=1", "learning_rate=1e-4", "warmup_steps=0"]
    assert main(["train", "base", *words, f"output_dir={tmp_path / 'whole'}"]) == 0
    command = [sys.executable, "-m", "safekey.cli", "train", "base", *words, f"output_dir={tmp_path / 'killed'}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        first = tmp_path / "killed" / "checkpoint-1"
        while not first.is_dir() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
        process.wait()
    assert first.is_dir(), (tmp_path / "log").read_text()
    assert not (tmp_path / "killed" / "model").exists(), "the kill came too late"
    assert main(["train", "base", *words, f"output_dir={tmp_path / 'killed'}"]) == 0
    whole, killed = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    before = load_file(model / "model.safetensors")
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert any(not torch.equal(whole[name].float(), before[name].float()) for name in whole), "nothing was trained"
    made, info = AutoModelForCausalLM.from_pretrained(tmp_path / "killed" / "model", output_loading_info=True)
    assert not any(info.values()), info
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "killed" / "model")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(model).chat_template
    ends = GenerationConfig.from_pretrained(tmp_path / "killed" / "model").eos_token_id
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")  # both models' templates end a turn with it
    assert end in (ends if isinstance(ends, list) else [ends])
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True,
                                          return_tensors="pt", return_dict=True)  # fmt: skip
    assert made.generate(**asked, max_new_tokens=4, do_sample=False).shape[1] > asked["input_ids"].shape[1]


def test_local_generation_and_prefill(model: Path) -> None:
    from transformers import AutoTokenizer

    from safekey.engines import SamplingParams, open_engine
    from safekey.schema import Message, Prompt

    engine = open_engine(str(model), dtype="float32", device="cpu")
    asked = Prompt((Message("user", "Name one colour."),))
    prefilled = Prompt((Message("user", "Name one colour."),), prefill="Blue is a colour that", prefill_tokens=3)
    found = dict(engine.generate([asked, prefilled], SamplingParams(temperature=0.0, max_new_tokens=6)))
    assert all(completion.finish in ("stop", "length") for completion in found.values())
    plain, started = found[0], found[1]
    assert plain.prompt_ids is not None
    assert started.prompt_ids is not None
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.decode(started.prompt_ids).endswith(started.prefill)
    assert started.prefill
    assert "Blue is a colour that".startswith(started.prefill.strip())
    engine.close()


def test_evaluation_through_the_command_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [{"id": f"q{n}", "prompt": f"Name {n} colours.", "label": "safe"} for n in (2, 3)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    words = ["--tasks", "xstest", "--file", f"xstest-safe={tmp_path / 'asked.jsonl'}", "--judge", "refusal_keywords"]
    words += ["--max-tokens", "8", "--engine-option", "dtype=float32", "--output", str(tmp_path / "run"), "--json"]
    assert main(["eval", str(model), *words]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["failed"]["completions"] == 0
    saved = [json.loads(line) for line in (tmp_path / "run" / "completions.jsonl").read_text().splitlines()]
    assert [row["item"] for row in saved] == ["q2", "q3"]
    assert all(row["prompt_ids"] and (row["text"] or row["finish"] == "stop") for row in saved)
