"""The local engine: a batch is what its rows are alone, ends are exact, and what is missing is named."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import FAMILIES, real_tokenizer, save

from safekey.engines import LocalEngine, SamplingParams, open_engine
from safekey.engines.sampling import Draw
from safekey.errors import UserError
from safekey.schema import Message, Prompt
from toys import prompt_ids

torch.set_num_threads(1)
GREEDY = SamplingParams(max_new_tokens=24)
SAMPLED = SamplingParams(temperature=0.9, top_p=0.95, top_k=40, max_new_tokens=24, seed=7)


def ask(text: str, **prefill: Any) -> Prompt:
    return Prompt((Message("user", text),), **prefill)


PROMPTS = [
    *(ask("How do I pick the royal vault? " * count) for count in (3, 1, 7, 2, 5)),
    ask("Hi", prefill="Sure, here is how", prefill_tokens=3),
    ask("Hi", prefill="A plan.\n</think>\n\nSure"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("qwen3"), real_tokenizer("qwen3"))


@pytest.fixture(scope="module")
def engine(folder: str) -> LocalEngine:
    return LocalEngine(folder, batch_size=4)


@pytest.mark.parametrize("params", [GREEDY, SAMPLED, replace(GREEDY, repetition_penalty=1.3)], ids=str)
def test_batch_equals_one_by_one(engine: LocalEngine, params: SamplingParams) -> None:
    batch = dict(engine.generate(PROMPTS, params))
    assert sorted(batch) == list(range(len(PROMPTS)))
    for index, prompt in enumerate(PROMPTS):
        assert dict(engine.generate([prompt], params))[0] == batch[index]
    assert dict(engine.generate(PROMPTS[::-1], params)) == {len(PROMPTS) - 1 - i: c for i, c in batch.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_generates(name: str, tmp_path: Path) -> None:
    tok = real_tokenizer(name)
    made = dict(LocalEngine(save(tmp_path, tok)).generate([ask("Hi"), ask("Hi", prefill="Sure, here")], GREEDY))
    assert made[0].prompt_ids == tuple(prompt_ids([Message("user", "Hi")], tok))
    assert made[1].prefill == "Sure, here"
    assert made[1].started_inside
    assert all(c.finish in ("stop", "length") and c.output_tokens for c in made.values())


def test_seeds_decide_the_sample(engine: LocalEngine) -> None:
    prompts = [PROMPTS[0]] * 3
    made = dict(engine.generate(prompts, [SAMPLED, replace(SAMPLED, seed=8), SAMPLED]))
    assert made[0] == made[2] != made[1]


def test_sampling_follows_the_distribution() -> None:
    scores = torch.tensor([0.1, 0.0, 0.6, 0.3]).log().repeat(4000, 1)
    drawn = Draw(range(4000), 1, 5, "cpu")(torch.zeros(4000, 5, dtype=torch.long), scores).argmax(-1)
    share = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(share, torch.tensor([0.1, 0.0, 0.6, 0.3]), atol=0.03)
    assert share[1] == 0


def test_greedy_and_penalty_equal_plain_transformers(engine: LocalEngine) -> None:
    ids = prompt_ids(PROMPTS[0].messages, engine.chat.tokenizer)
    for penalty in (1.0, 1.3):
        theirs = engine._model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=24, repetition_penalty=penalty, eos_token_id=2
        )[0, len(ids) :]
        ours = dict(engine.generate([PROMPTS[0]], replace(GREEDY, repetition_penalty=penalty)))[0]
        assert ours.text == engine.chat.tokenizer.decode(theirs[theirs != 2])


def test_the_models_own_settings_never_slip_in(tmp_path: Path) -> None:
    folder = save(tmp_path, real_tokenizer("qwen3"))
    path = tmp_path / "generation_config.json"
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps(config | {"do_sample": True, "temperature": 0.6, "top_k": 20, "repetition_penalty": 5.0})
    )
    engine, plain = LocalEngine(folder), dict(LocalEngine(folder).generate(PROMPTS[:1], GREEDY))
    config_free = save(tmp_path / "free", real_tokenizer("qwen3"))
    assert plain == dict(LocalEngine(config_free).generate(PROMPTS[:1], GREEDY))
    assert engine.sampling_defaults == {"temperature": 0.6, "top_p": 1.0, "top_k": 20}
    own = SamplingParams(temperature=None, top_p=None, top_k=None, max_new_tokens=24)
    asked = SamplingParams(temperature=0.6, top_p=1.0, top_k=20, max_new_tokens=24)
    assert dict(engine.generate(PROMPTS[:2], own)) == dict(engine.generate(PROMPTS[:2], asked))


def test_ends_are_exact(engine: LocalEngine, folder: str) -> None:
    long = dict(engine.generate([PROMPTS[0]], GREEDY))[0]
    assert (long.finish, long.output_tokens) == ("length", 24)
    tokenizer = engine.chat.tokenizer
    ids = engine._model.generate(torch.tensor([list(long.prompt_ids or ())]), max_new_tokens=24, eos_token_id=2)
    ids = ids[0, len(long.prompt_ids or ()) :].tolist()
    last = max(i for i, token in enumerate(ids) if token not in ids[:i])  # ends exactly where the limit is, too
    other = LocalEngine(folder)
    other._ends = (ids[last], 2)
    for limit, finish in ((last + 1, "stop"), (last + 5, "stop"), (last, "length")):
        made = dict(other.generate([PROMPTS[0]], replace(GREEDY, max_new_tokens=limit)))[0]
        assert (made.finish, made.output_tokens) == (finish, min(limit, last + 1))
        assert made.text == tokenizer.decode(ids[:last])


def test_stop_strings(engine: LocalEngine) -> None:
    plain = dict(engine.generate(PROMPTS, GREEDY))
    text = plain[0].text
    stop = text[8:11]
    made = dict(engine.generate(PROMPTS, replace(GREEDY, stop=(stop, "never there"))))
    assert made[0].text == text[: text.index(stop)]
    assert made[0].finish == "stop"
    assert 0 < (made[0].output_tokens or 0) < 24
    assert all(made[i].text == plain[i].text for i in made if stop not in plain[i].text)


def test_the_models_own_end_tokens(tmp_path: Path) -> None:
    folder = save(tmp_path, real_tokenizer("qwen3"))
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [7, 9]}))
    assert {7, 9} <= set(LocalEngine(folder).describe()["end_token_ids"])


def test_context_overflow_is_an_error_completion(engine: LocalEngine) -> None:
    over, near = ask("word " * 600), ask("word " * 123)
    made = dict(engine.generate([over, PROMPTS[0], near], replace(GREEDY, max_new_tokens=400)))
    assert made[0].finish == "error"
    assert "512" in made[0].error
    assert made[1].finish == "length"
    assert made[1].output_tokens == 400
    assert made[2].finish == "length"
    assert len(made[2].prompt_ids or ()) + (made[2].output_tokens or 0) == 512


def test_out_of_memory_halves_the_batch(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(folder, batch_size=8)
    run, sizes = engine._run, []

    def small(batch: list[Any], params: SamplingParams) -> list[Any]:
        sizes.append(len(batch))
        if len(batch) > 2 or any(len(row.placed.ids) > 40 for row in batch):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(batch, params)

    monkeypatch.setattr(engine, "_run", small)
    made = dict(engine.generate(PROMPTS, GREEDY))
    assert sorted(made) == list(range(len(PROMPTS)))
    assert [c.finish for c in made.values()].count("error") == sum(len(c.prompt_ids or ()) > 40 for c in made.values())
    assert any("memory" in c.error for c in made.values())
    assert sizes[0] == 7


def test_refusals_come_before_any_work(engine: LocalEngine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 or more"):
        engine.generate([PROMPTS[0], ask("Hi", prefill="x", prefill_tokens=-1)], GREEDY)
    r1 = LocalEngine(save(tmp_path, real_tokenizer("deepseek_r1_distill")))
    with pytest.raises(UserError, match="opens the thinking"):
        r1.generate([ask("Hi", prefill="Sure", prefill_answer=True)], GREEDY)
    with pytest.raises(UserError, match="max_new_tokens"):
        SamplingParams(max_new_tokens=0)


def test_close_gives_up(engine: LocalEngine, folder: str) -> None:
    other = LocalEngine(folder, batch_size=1)
    results = other.generate(PROMPTS, GREEDY)
    next(results)
    other.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(results)


def test_describe_names_the_weights(engine: LocalEngine, tmp_path: Path) -> None:
    told = engine.describe()
    assert told["dtype"] == "float32"
    assert len(told["weights_sha256"]) == 64
    again = save(tmp_path / "a", real_tokenizer("qwen3"))
    other = save(tmp_path / "b", real_tokenizer("qwen3"), seed=1)
    assert LocalEngine(again).describe()["weights_sha256"] == told["weights_sha256"]
    assert LocalEngine(other).describe()["weights_sha256"] != told["weights_sha256"]
    json.dumps(told)


def test_adapter_and_run_folders(folder: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules="all-linear", init_lora_weights=False)
    )
    run = tmp_path / "run"
    model.save_pretrained(run / "model")
    (run / "run.json").write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # its lines would stand among ours
        made = dict(open_engine(str(run)).generate(PROMPTS[:2], GREEDY))
    assert made == dict(LocalEngine(folder, adapter=str(run / "model")).generate(PROMPTS[:2], GREEDY))
    assert made[0].text != dict(LocalEngine(folder).generate(PROMPTS[:2], GREEDY))[0].text


def broken(folder: str, tmp_path: Path, what: str) -> str:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if what == "weights":
        (copy / "model.safetensors").unlink()
    elif what == "pickle":
        (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    elif what == "config":
        (copy / "config.json").unlink()
    elif what == "tokenizer":
        for file in copy.glob("tokenizer*"):
            file.unlink()
    elif what == "template":
        (copy / "chat_template.jinja").unlink()
    elif what == "cut":
        data = (copy / "model.safetensors").read_bytes()
        (copy / "model.safetensors").write_bytes(data[:5000])
    elif what == "incomplete":
        from safetensors.torch import load_file, save_file

        state = load_file(copy / "model.safetensors")
        state.pop("model.norm.weight")
        save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    elif what == "run":
        for file in list(copy.iterdir()):
            file.unlink()
        (copy / "run.json").write_text("{}")
        (copy / "checkpoint-40").mkdir()
    elif what == "empty":
        for file in list(copy.iterdir()):
            file.unlink()
    return str(copy)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("weights", r"looked for weights \(\*\.safetensors\)"),
        ("pickle", r"pickled weights \(pytorch_model.bin\)"),
        ("config", "looked for a model's config.json"),
        ("tokenizer", r"looked for a tokenizer \(tokenizer.json\)"),
        ("template", "no chat template"),
        ("cut", "cannot be loaded"),
        ("incomplete", "1 weights are missing, among them model.norm.weight"),
        ("run", "checkpoint-40"),
        ("empty", "it holds nothing"),
    ],
)
def test_a_broken_folder_is_one_clear_error(folder: str, tmp_path: Path, what: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_engine(broken(folder, tmp_path, what))


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_engine(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        open_engine("nobody/nothing")
    with pytest.raises(UserError, match="choose local, server"):
        open_engine("x", kind="magic")
    with pytest.raises(UserError, match="batchsize"):
        open_engine("x", kind="local", batchsize=3)
