"""A real vLLM beside the local engine: the same tokens, exact prefills, our exports, the fields of a reasoning parser.

`SAFEKEY_VLLM` names the `vllm` executable of an environment of its own, `SAFEKEY_REAL_MODELS` a folder with `smollm2`.
docs/engines.md says what was seen.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken

from safekey.cli.app import main
from safekey.engines import SamplingParams, open_engine
from safekey.schema import Message, Prompt
from safekey.text.thinking import split_completion
from small_world import rows

pytestmark = pytest.mark.real
VLLM, HOME = os.environ.get("SAFEKEY_VLLM", ""), os.environ.get("SAFEKEY_REAL_MODELS", "")
MODEL = Path(HOME or ".") / "smollm2"
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, max_new_tokens=64)
CLOSE = 1e-3
"""Two tokens whose logits are closer than this may change places: kernels add in another order."""

SUBJECTS = ("the sea", "a clock", "bread", "a bicycle", "snow", "the moon", "a library", "chess", "a garden", "tea")
ASKED = ("Explain {} in one sentence.", "Write a line about {}.", "Name two facts about {}.", "Why do people like {}?")
PROMPTS = [Prompt((Message("user", form.format(about)),)) for form in ASKED for about in SUBJECTS]


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    if not VLLM or not (MODEL / "config.json").is_file():
        pytest.skip("SAFEKEY_VLLM names no vllm executable, or SAFEKEY_REAL_MODELS no folder with smollm2")


@contextmanager
def served(model: Path, folder: Path, *options: str) -> Iterator[str]:
    """Serve a model with vLLM on the loopback; yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_hex(8)
    quiet = {"VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "2"}
    command = [VLLM, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
               "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "16", *options]  # fmt: skip
    os.environ["OPENAI_API_KEY"] = key
    with (folder / f"vllm-{port}.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | quiet | cpu, start_new_session=True)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except OSError:
                assert server.poll() is None, (folder / f"vllm-{port}.log").read_text()[-3000:]
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)
        del os.environ["OPENAI_API_KEY"]


def with_think_tokens(folder: Path) -> Path:
    """Save SmolLM2 with <think> and </think> as tokens: vLLM's reasoning parsers look for tokens, not for texts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(MODEL), AutoModelForCausalLM.from_pretrained(MODEL)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    model.resize_token_embeddings(len(tokenizer))
    torch.manual_seed(0)
    with torch.no_grad():  # transformers gives all new tokens the same embedding, and they are hard to tell apart then
        rows = model.get_input_embeddings().weight
        for token in ("<think>", "</think>"):
            rows[tokenizer.convert_tokens_to_ids(token)].normal_(0.0, float(rows[:1000].std()))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(folder: Path, data: Path, *words: str, model: Path | None = None) -> Path:
    """Fine-tune SmolLM2 through the command line; return the run's folder."""
    fixed = ("max_length=192", "batch_size=2", "per_device_train_batch_size=2", "use_cpu=true", "eval_fraction=0",
             "save_strategy=no", "warmup_steps=0", "logging_steps=1")  # fmt: skip
    given = (f"model_name_or_path={model or MODEL}", f"data={data}", f"output_dir={folder}", *fixed, *words)
    assert main(["train", "base", *given]) == 0
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in list(rows())[:4]), encoding="utf-8")
    return path


def answers(model: str, prompts: list[Prompt], **options: Any) -> list[Any]:
    engine = open_engine(model, **options)
    found = dict(engine.generate(prompts, GREEDY))
    engine.close()
    return [found[index] for index in range(len(prompts))]


def gap(model: Any, ids: list[int]) -> float:
    """The distance of the two likeliest next tokens' logits."""
    with torch.inference_mode():
        top = model(torch.tensor([ids])).logits[0, -1].topk(2).values
    return float(top[0] - top[1])


def compare(folder: Path, ours: list[Any], theirs: list[Any], most: int) -> None:
    """All but `most` outputs are equal, and the others first differ where two tokens are as good as equally likely."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind = AutoPeftModelForCausalLM if (folder / "adapter_config.json").is_file() else AutoModelForCausalLM
    model, tokenizer = kind.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    differ = []
    for mine, other in zip(ours, theirs, strict=True):
        assert not other.error
        assert mine.prompt_ids == other.prompt_ids
        if (mine.text, mine.finish) == (other.text, other.finish):
            continue
        a, b = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (mine.text, other.text))
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        differ.append((at, gap(model, [*mine.prompt_ids, *a[:at]])))
    print(f"{len(ours) - len(differ)} of {len(ours)} outputs are equal; the others differ at {differ}", file=sys.stderr)
    assert len(differ) <= most
    assert all(distance < CLOSE for _, distance in differ)


def test_the_same_tokens_as_the_local_engine(tmp_path: Path) -> None:
    ours = answers(str(MODEL), PROMPTS, dtype="float32", device="cpu", batch_size=8)
    begun = [Prompt(p.messages, prefill="One thing that people know is that it", prefill_tokens=n)
             for p, n in zip(PROMPTS[:8], range(1, 9), strict=True)]  # fmt: skip
    with served(MODEL, tmp_path) as url:
        compare(MODEL, ours, answers(url, PROMPTS, tokenizer=str(MODEL)), 2)
        compare(MODEL, answers(str(MODEL), begun, dtype="float32", device="cpu"),
                answers(url, begun, tokenizer=str(MODEL)), 1)  # fmt: skip


def test_our_full_export_is_served_and_its_thinking_comes_in_a_field(tmp_path: Path, data: Path) -> None:
    """Four rows, learnt by heart: the model thinks, and vLLM's reasoning parser puts the thinking into a field."""
    run = train(tmp_path / "full", data, "learning_rate=5e-4", "max_steps=24", "qmm_weight=0", "head_weight=0",
                model=with_think_tokens(tmp_path / "base"))  # fmt: skip
    prompt = Prompt((Message("user", json.loads(data.read_text().splitlines()[0])["question"]),))
    (local,) = answers(str(run), [prompt], dtype="float32", device="cpu")
    parts = split_completion(local)
    assert parts.thinking, f"the model did not learn to think: {local.text!r}"
    assert local.finish == "stop"
    with served(run / "model", tmp_path, "--reasoning-parser", "deepseek_r1") as url:
        compare(run / "model", [local], answers(url, [prompt], tokenizer=str(run)), 0)
        (chat,) = answers(url, [prompt], mode="chat")
        said = split_completion(chat)
        assert (said.thinking, said.answer) == (parts.thinking, parts.answer)
        key = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}", "Content-Type": "application/json"}
        body = {"messages": [prompt.messages[0].to_dict()], "temperature": 0, "max_tokens": 64}
        name = json.load(urllib.request.urlopen(urllib.request.Request(f"{url}/models", headers=key)))["data"][0]["id"]
        sent = json.dumps({**body, "model": name}).encode()
        reply = json.load(urllib.request.urlopen(urllib.request.Request(f"{url}/chat/completions", sent, key)))
        message = reply["choices"][0]["message"]
        field = message.get("reasoning") or message.get("reasoning_content")
        assert field.strip() == parts.thinking
        assert message["content"].strip() == parts.answer


def test_our_lora_adapter_is_served(tmp_path: Path, data: Path) -> None:
    lora = ("use_peft=true", "lora_r=8", "lora_target_modules=all-linear", "learning_rate=3e-3", "max_steps=3")
    run = train(tmp_path / "lora", data, *lora)
    prompts = PROMPTS[:10]
    ours = answers(str(run), prompts, dtype="float32", device="cpu")
    plain = answers(str(MODEL), prompts, dtype="float32", device="cpu")
    assert [one.text for one in ours] != [one.text for one in plain], "the adapter does nothing"
    with served(MODEL, tmp_path, "--enable-lora", "--lora-modules", f"ours={run / 'model'}") as url:
        theirs = answers(f"{url}#ours", prompts, tokenizer=str(run))
        compare(run / "model", ours, theirs, 2)
