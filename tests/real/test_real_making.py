"""`safekey make self` with a real model behind a real vLLM: killed once, no request is lost or rewritten.

`SAFEKEY_REAL_MODELS` names a folder with `smollm2`, `SAFEKEY_VLLM` vLLM's executable. The model first learns a few rows
by heart, because it does not think by itself. docs/making.md says what was seen with 200 requests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from real.served import MARKS, MODEL, VLLM, cpu_settings
from safekey.cli.app import main
from small_world import rows

pytestmark = MARKS
TAUGHT, ASKED = 8, 32
SERVER = ("engine=vllm", "model_options.max_model_len=1024", "model_options.enforce_eager=true")


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file that may be written to at this moment."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def thinker(folder: Path) -> Path:
    """Teach SmolLM2 to think before it answers."""
    data = write(folder / "taught.jsonl", list(rows())[:TAUGHT])
    words = (f"model_name_or_path={MODEL}", f"data={data}", f"output_dir={folder / 'run'}", "max_steps=32")
    fixed = ("max_length=192", "batch_size=2", "per_device_train_batch_size=2", "use_cpu=true", "eval_fraction=0",
             "save_strategy=no", "warmup_steps=0", "qmm_weight=0", "head_weight=0", "learning_rate=3e-4")  # fmt: skip
    assert main(["train", "base", *words, *fixed]) == 0
    return folder / "run" / "model"


def test_every_request_becomes_a_row_or_is_set_aside_as_the_model_said_it(tmp_path: Path) -> None:
    """The first 16 requests, of 200 tokens each, are more than vLLM reads at a time, and their answers are sampled."""
    model, out = thinker(tmp_path), tmp_path / "made"
    labels = {True: "harmful", False: "benign"}
    requests = [{"prompt": row["question"], "label": labels[row["harmful"]]} for row in list(rows())[TAUGHT:]][:ASKED]
    asked = write(tmp_path / "asked.jsonl", sorted(requests, key=lambda one: one["label"], reverse=True))
    words = ["make", "self", f"data={asked}", f"model={model}", "judge=rule", "max_tokens=96", "near=0",
             f"output_dir={out}", f"model_options.vllm={VLLM}", *SERVER]  # fmt: skip
    journal = out / "journal" / "4-self.jsonl"
    with cpu_settings():
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen([sys.executable, "-m", "safekey.cli", *words], stdout=log, stderr=log)
            while len(lines(journal)) < 4 and process.poll() is None:
                time.sleep(0.05)
            process.kill()
            process.wait()
        before = lines(journal)
        assert 4 <= len(before) < ASKED, (tmp_path / "log").read_text()
        assert main(words) == 0
    made, aside, said = lines(out / "rows.jsonl"), lines(out / "set-aside.jsonl"), lines(journal)
    wanted = [row["id"] for row in lines(out / "stages" / "1-collect.jsonl")]
    assert len(wanted) == ASKED
    assert sorted([row["id"] for row in made] + [row["id"] for row in aside]) == sorted(wanted)
    assert sorted(reply["id"] for reply in said) == sorted(wanted)
    assert all(reply in said for reply in before), "a reply was asked for again, or changed"
    assert made, aside
    texts = {reply["id"]: reply["text"] for reply in said}
    for row in made:
        thinking, _, answer = texts[row["id"]].partition("</think>")
        assert row["response"].startswith("<think>")
        assert row["response"].endswith(answer.strip())
        assert thinking.replace("<think>", "").strip() == row["response"][7:].partition("</think>")[0].strip()
