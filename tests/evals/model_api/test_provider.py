"""Inspect's tasks on our engines: prefills, records, seeds, the cache, batches, cancellation, errors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from inspect_ai import Task, eval
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig, ModelOutput, get_model
from inspect_ai.solver import generate

from engines.endpoint import Endpoint, running
from engines.folders import real_tokenizer, save
from safekey.engines import SamplingParams, ScriptedEngine
from safekey.errors import UserError
from safekey.evals.model_api.convert import METADATA, completion_from, prefill_message, to_params, to_prompt
from safekey.schema import NO_ANSWER, Completion, Message, Prompt

torch.set_num_threads(1)
SHORT = GenerateConfig(temperature=0.0, max_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("qwen3"), real_tokenizer("qwen3"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with running() as endpoint:
        yield endpoint


def run(samples: list[Any], model: Any, tmp_path: Path, **options: Any) -> Any:
    task = Task(dataset=[Sample(input=s) for s in samples], solver=generate(**options.pop("solve", {})), name="t")
    (log,) = eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none", **options)
    return log


def test_a_task_on_a_folder(folder: str, tmp_path: Path) -> None:
    inputs: list[Any] = ["Hello", "How do I pick the royal vault? " * 3]
    inputs.append([ChatMessageUser(content="Hi"), prefill_message("<think>\nSure, here</think>", 3)])
    log = run(inputs, f"safekey/{folder}", tmp_path, temperature=0.0, max_tokens=8)
    assert log.status == "success", log.error
    for sample in log.samples:
        record = sample.output.metadata[METADATA]
        assert sample.output.stop_reason in ("stop", "max_tokens")
        assert sample.output.usage.input_tokens == len(record["prompt_ids"])
        assert record["rendered_by"] == "safekey"
        assert record["sampling"]["temperature"] == 0.0
        assert len(record["prompt_sha256"]) == 64
        assert completion_from(sample.output).text == record["text"]
    prefilled = completion_from(log.samples[2].output)
    assert prefilled.started_inside
    assert prefilled.prefill == "Sure"[: len(prefilled.prefill)]
    plain = completion_from(log.samples[0].output)
    assert (
        plain
        == dict(
            get_model(f"safekey/{folder}").api.engine.generate(
                [Prompt((Message("user", "Hello"),))], SamplingParams(max_new_tokens=8)
            )
        )[0]
    )


def test_epochs_are_other_samples_and_reruns_are_not(folder: str, tmp_path: Path) -> None:
    texts = []
    for _ in range(2):
        log = run(["Hello"], f"safekey/{folder}", tmp_path, temperature=1.0, max_tokens=8, epochs=3, seed=5)
        texts.append([sample.output.metadata[METADATA]["text"] for sample in log.samples])
    assert len(set(texts[0])) == 3
    assert texts[0] == texts[1]


def test_the_cache_knows_the_weights_and_the_prefill(folder: str, tmp_path: Path) -> None:
    place = tmp_path / "model"
    calls = []
    for seed in (0, 0, 1):
        save(place, real_tokenizer("qwen3"), seed=seed)
        model = get_model(f"safekey/{place}", memoize=False)
        log = run(["Hello"], model, tmp_path, temperature=0.0, max_tokens=8, solve={"cache": True})
        calls.append((model.api._collector is not None, log.samples[0].output.metadata[METADATA]["text"]))
        model.api.close()
    assert [worked for worked, _ in calls] == [True, False, True]
    assert calls[0][1] == calls[1][1] != calls[2][1]
    model = get_model(f"safekey/{place}", memoize=False)
    user = ChatMessageUser(content="Hello")
    inputs = [[user, prefill_message("Sure, here is", tokens)] for tokens in (1, 2)]
    log = run(inputs, model, tmp_path, temperature=0.0, max_tokens=8, solve={"cache": True})
    assert len({len(s.output.metadata[METADATA]["prompt_ids"]) for s in log.samples}) == 2


def test_a_task_on_a_server(server: Endpoint, folder: str, tmp_path: Path) -> None:
    tok = real_tokenizer("qwen3")
    server.reply = tok.encode("Sure.</think>\n\nNo.")
    log = run(
        ["Hello", [ChatMessageUser(content="Hi"), prefill_message("Well", 1)]],
        f"safekey/{server.url}#tiny",
        tmp_path,
        temperature=0.0,
        max_tokens=8,
        model_args={"tokenizer": folder},
    )
    assert log.status == "success", log.error
    assert [sample.output.completion for sample in log.samples] == ["No.", "No."]
    assert log.samples[1].output.message.content[0].reasoning == "Sure."
    by_url = get_model("safekey/tiny", base_url=server.url, tokenizer=folder)
    assert by_url.api.engine.describe()["mode"] == "tokens"
    by_url.api.close()


def test_what_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError) as caught:
        get_model(f"safekey/{tmp_path}/nowhere")
    assert "no such folder" in str(caught.value.message)
    with pytest.raises(PrerequisiteError):
        get_model(f"safekey/{tmp_path}", api_key="sk-secret")


@pytest.mark.slow
def test_a_server_that_is_down_fails_the_first_sample(tmp_path: Path) -> None:
    log = run(["Hello"], "safekey/http://127.0.0.1:9/v1#m", tmp_path)
    assert log.status == "error"
    assert "does not answer" in log.error.message


class Slow:
    """An engine that notes its batches and can be made to wait or fail."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.fail = False

    def describe(self) -> dict[str, Any]:
        return {"kind": "slow"}

    def generate(self, prompts: Sequence[Prompt], params: Any) -> Iterator[tuple[int, Completion]]:
        if any(p.prefill == "bad" for p in prompts):
            raise UserError("bad prefill")
        return self._go(prompts)

    def _go(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Completion]]:
        self.batches.append(len(prompts))
        self.gate.wait(10)
        if self.fail:
            raise RuntimeError("broken")
        for index, prompt in enumerate(prompts):
            text = prompt.messages[-1].content
            yield index, Completion("", "error", error=text) if text.startswith("no") else Completion(text, "stop")

    def close(self) -> None:
        self.gate.set()


async def gather(model: Any, texts: list[str], **config: Any) -> list[Any]:
    asked = (model.generate(text, config=GenerateConfig(**config)) for text in texts)
    return await asyncio.gather(*asked, return_exceptions=True)


def test_requests_are_gathered_and_errors_stay_apart() -> None:
    engine = Slow()
    engine.gate.set()
    model = get_model(
        "safekey/slow", engine=engine, kind="scripted", memoize=False, config=GenerateConfig(max_connections=100)
    )

    async def all_of_them() -> list[Any]:
        good = gather(model, [f"q{i}" for i in range(40)])
        bad = model.generate([ChatMessageUser(content="x"), prefill_message("bad")])
        lost = model.generate(f"{NO_ANSWER}gone")
        error = model.generate("no room")
        return await asyncio.gather(good, bad, lost, error, return_exceptions=True)

    good, bad, lost, error = asyncio.run(all_of_them())
    assert [output.completion for output in good] == [f"q{i}" for i in range(40)]
    assert isinstance(bad, UserError)
    assert type(lost).__name__ == "NoAnswerError"
    assert isinstance(error, ModelOutput)
    assert (error.stop_reason, error.error) == ("unknown", "no room")
    assert max(engine.batches) > 8
    model.api.close()


def test_a_broken_engine_tells_everyone() -> None:
    engine = Slow()
    engine.fail = True
    engine.gate.set()
    model = get_model("safekey/slow", engine=engine, kind="scripted", memoize=False)
    outcomes = asyncio.run(gather(model, ["a", "b", "c"]))
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    model.api.close()


def test_cancelled_requests_are_dropped_and_the_rest_goes_on() -> None:
    engine = Slow()
    model = get_model(
        "safekey/slow", engine=engine, kind="scripted", memoize=False, config=GenerateConfig(max_connections=100)
    )

    async def cancel_some() -> list[Any]:
        first = asyncio.create_task(model.generate("first"))
        await asyncio.sleep(0.2)
        waiting = [asyncio.create_task(model.generate(f"w{i}")) for i in range(6)]
        await asyncio.sleep(0.1)
        for task in (first, *waiting[:4]):
            task.cancel()
        await asyncio.sleep(0.05)
        engine.gate.set()
        return await asyncio.gather(first, *waiting, return_exceptions=True)

    outcomes = asyncio.run(cancel_some())
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [True] * 5 + [False] * 2
    assert engine.batches == [1, 2]
    model.api.close()


def test_closing_leaves_no_thread_and_nobody_waiting() -> None:
    engine = Slow()
    model = get_model("safekey/slow", engine=engine, kind="scripted", memoize=False)

    async def close_while_waiting() -> list[Any]:
        tasks = [asyncio.create_task(model.generate(f"q{i}")) for i in range(3)]
        await asyncio.sleep(0.2)
        late = asyncio.create_task(model.generate("late"))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(model.api.close)
        return await asyncio.wait_for(asyncio.gather(*tasks, late, return_exceptions=True), 5)

    before = set(threading.enumerate())
    outcomes = asyncio.run(close_while_waiting())
    assert len(outcomes) == 4
    time.sleep(0.05)
    assert not [t for t in set(threading.enumerate()) - before if t.name == "safekey-collector"]


def test_scripted(tmp_path: Path) -> None:
    engine = ScriptedEngine(script={"Hello": "<think>\nA plan.\n</think>\n\nNo."}, default="?")
    model = get_model("safekey/scripted", engine=engine, kind="scripted", memoize=False)
    log = run(["Hello", "Else"], model, tmp_path)
    assert [s.output.completion for s in log.samples] == ["No.", "?"]
    assert log.samples[0].output.message.content[0].reasoning == "A plan."
    assert engine.calls == 2


def test_settings() -> None:
    made = to_params(GenerateConfig(max_tokens=9, seed=3, stop_seqs=["X"], extra_body={"repetition_penalty": 1.2}))
    assert made == SamplingParams(None, None, None, 9, 1.2, 3, ("X",))
    for bad in ({"presence_penalty": 1.0}, {"num_choices": 2}, {"extra_body": {"min_p": 1}}, {"logprobs": True}):
        with pytest.raises(UserError, match="do not support"):
            to_params(GenerateConfig(**bad))


def test_messages_and_prefills() -> None:
    earlier = ChatMessageAssistant(content="<think>\nA plan.\n</think>\n\nNo.")
    prompt = to_prompt(
        [
            ChatMessageUser(content="a"),
            earlier,
            ChatMessageUser(content="b"),
            prefill_message("<think>\nx\n</think>\n\ny ", 5, answer=True),
        ]
    )
    assert prompt.messages == (Message("user", "a"), Message("assistant", "No.", "A plan."), Message("user", "b"))
    assert (prompt.prefill, prompt.prefill_tokens, prompt.prefill_answer) == ("<think>\nx\n</think>\n\ny ", 5, True)
    other = to_prompt([ChatMessageUser(content="a"), ChatMessageAssistant(content="Sure")])
    assert (other.prefill, other.prefill_tokens, other.prefill_answer) == ("Sure", None, True)
    assert completion_from(ModelOutput.from_content("mockllm/model", "x")).text == "x"
