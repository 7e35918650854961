"""The server engine against a small endpoint: the local engine's ids, and every fault ends in a completion."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, faults, running
from folders import FAMILIES, real_tokenizer, save

from safekey.engines import LocalEngine, SamplingParams, ServerEngine, open_engine
from safekey.errors import UserError
from safekey.schema import NO_ANSWER, Message, Prompt

KEY = "sk-very-secret-4711"
GREEDY = SamplingParams(max_new_tokens=6)
FAST = {"backoff": 0.01, "timeout": 1.0, "probe_timeout": 2.0}
TEXT = " ".join(f"Sure, step {i}: help the user paint the royal vault." for i in range(12))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("qwen3"), real_tokenizer("qwen3"))


def ask(text: str = "How do I pick the royal vault?", **prefill: Any) -> Prompt:
    return Prompt((Message("user", text),), **prefill)


def test_an_end_token_that_only_the_server_knows_is_no_text(server: Endpoint, qwen: str) -> None:
    """A model's own settings may name a further end token: the server stops there, and sends its id."""
    remote = open_engine(f"{server.url}#tiny", tokenizer=qwen, **FAST)
    special = remote.chat.tokenizer.all_special_ids  # type: ignore[attr-defined]
    (unknown, *_) = [token for token in special if token not in remote.describe()["end_token_ids"]]
    server.reply, server.finish = (lambda body: [5, 6, unknown]), "stop"
    (told,) = dict(remote.generate([ask()], GREEDY)).values()
    server.reply = lambda body: [5, 6, remote.describe()["end_token_ids"][0]]
    (known,) = dict(remote.generate([ask()], GREEDY)).values()
    assert (told.text, told.finish) == (known.text, "stop")
    server.reply, server.finish = (lambda body: [5, 6, unknown]), "length"
    (cut,) = dict(remote.generate([ask()], GREEDY)).values()
    assert cut.text != known.text, "without an end, the token is what the model said"


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_equal_the_local_engines(server: Endpoint, tmp_path: Path, name: str) -> None:
    folder = save(tmp_path, real_tokenizer(name))
    local = LocalEngine(folder)
    prompts = [ask(), *(ask(prefill=TEXT, prefill_tokens=count) for count in (0, 1, 5, 20, 50))]
    prompts += [ask(prefill="<think>\nA plan.\n</think>\n\nSure", prefill_answer=True)]
    prompts += [Prompt((Message("user", "a"), Message("assistant", "b", "c"), Message("user", "<|im_end|></think>")))]
    remote = open_engine(f"{server.url}#tiny", tokenizer=folder, **FAST)
    assert remote.describe()["mode"] == "tokens"
    server.bodies.clear()
    ends = local.describe()["end_token_ids"]
    server.reply = lambda body: [*range(5, 9), ends[0]]
    theirs = dict(remote.generate(prompts, GREEDY))
    ours = dict(local.generate(prompts, GREEDY))
    sent = {tuple(body["prompt"]) for body in server.bodies}
    for index in range(len(prompts)):
        assert theirs[index].prompt_ids == ours[index].prompt_ids
        assert theirs[index].prompt_ids in sent
        assert theirs[index].prefill == ours[index].prefill
        assert theirs[index].started_inside == ours[index].started_inside
        assert (theirs[index].finish, theirs[index].output_tokens) == ("stop", 5)
    assert server.bodies[0]["stop_token_ids"] == ends
    remote.close()


def test_text_replies_read_like_id_replies(server: Endpoint, tmp_path: Path) -> None:
    tok = real_tokenizer("gptoss")
    folder = save(tmp_path, tok)
    ids = tok.encode("<|channel|>analysis<|message|>Plan.<|end|><|start|>assistant<|channel|>final<|message|>No.")
    server.reply, server.decode = ids, tok.decode
    with_ids = dict(ServerEngine(f"{server.url}#tiny", tokenizer=folder).generate([ask()], GREEDY))[0]
    server.token_ids = False
    with_text = dict(ServerEngine(f"{server.url}#tiny", tokenizer=folder).generate([ask()], GREEDY))[0]
    assert with_ids.text == with_text.text == "<think>\nPlan.\n</think>\n\nNo."
    server.decode = lambda ids: "analysisPlan.assistantfinalNo."
    lost = dict(ServerEngine(f"{server.url}#tiny", tokenizer=folder).generate([ask()], GREEDY))[0]
    assert lost.finish == "error"
    assert "channel markers" in lost.error


def test_every_setting_is_sent(server: Endpoint, qwen: str) -> None:
    engine = ServerEngine(f"{server.url}#tiny", tokenizer=qwen)
    dict(engine.generate([ask()], SamplingParams(0.5, 0.9, 0, 77, 1.2, 3, ("X",))))
    body = server.bodies[-1]
    assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (0.5, 0.9, -1, 77)
    assert (body["repetition_penalty"], body["min_p"], body["stop"]) == (1.2, 0.0, ["X"])
    assert body["skip_special_tokens"] is False
    dict(engine.generate([ask()], SamplingParams(None, None, None)))
    assert not {"temperature", "top_p", "top_k", "min_p"} & set(server.bodies[-1])
    assert server.bodies[-1]["repetition_penalty"] == 1.0


def test_a_server_that_adds_a_bos_is_not_used_for_tokens(server: Endpoint, qwen: str) -> None:
    server.extra_tokens = 1
    engine = ServerEngine(f"{server.url}#tiny", tokenizer=qwen)
    assert engine.mode == "chat"
    assert "BOS" in engine.describe()["why_chat"]
    with pytest.raises(UserError, match="BOS"):
        ServerEngine(f"{server.url}#tiny", tokenizer=qwen, mode="tokens")
    server.token_ids = False
    with pytest.raises(UserError, match="prompt tokens"):
        ServerEngine(f"{server.url}#tiny", tokenizer=qwen, mode="tokens")


def test_a_form_of_the_reply_is_asked_for_in_chats_alone(server: Endpoint, qwen: str) -> None:
    form = {"type": "object"}
    with pytest.raises(UserError, match="a reply_schema needs mode 'chat'"):
        ServerEngine(f"{server.url}#tiny", tokenizer=qwen, mode="tokens", reply_schema=form)
    held = ServerEngine(f"{server.url}#tiny", tokenizer=qwen, reply_schema=form)
    assert held.mode == "chat"
    list(held.generate([ask()], SamplingParams(max_new_tokens=4)))
    assert server.bodies[-1]["response_format"]["json_schema"]["schema"] == form
    assert held.describe()["reply_schema"] == form


def test_chat_mode_refuses_a_prefill_before_any_work(server: Endpoint) -> None:
    engine = open_engine(f"{server.url}#tiny")
    asked = len(server.bodies)
    with pytest.raises(UserError, match="token for token"):
        engine.generate([ask(), ask(prefill="Sure")], GREEDY)
    with pytest.raises(UserError, match="a bare text cannot be asked there"):
        engine.generate([ask(), ask(raw=True)], GREEDY)
    assert len(server.bodies) == asked
    assert engine.describe()["rendered_by"] == "server"
    made = dict(engine.generate([ask()], GREEDY))[0]
    assert (made.text, made.prompt_ids, made.finish) == ("Hello.", None, "stop")


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": "No.", "reasoning_content": "Plan."}, "stop", "<think>\nPlan.\n</think>\n\nNo."),
        ({"content": "No.", "reasoning": "<think>\nPlan.\n</think>"}, "stop", "<think>\nPlan.\n</think>\n\nNo."),
        ({"content": None, "reasoning_content": "Plan"}, "length", "<think>\nPlan"),
        ({"content": "<think>a</think>b"}, "stop", "<think>a</think>b"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "stop", "ab"),
        ({"content": None, "refusal": "I can't."}, "stop", "I can't."),
        ({"content": "No.", "thinking": "Plan."}, "stop", "<think>\nPlan.\n</think>\n\nNo."),
        ({"content": "No.", "reasoning": {"content": "Plan."}}, "stop", "<think>\nPlan.\n</think>\n\nNo."),
        (
            {"content": "No.", "reasoning_details": [{"type": "reasoning.text", "text": "Plan.", "signature": "x"}]},
            "stop",
            "<think>\nPlan.\n</think>\n\nNo.",
        ),
        (
            {
                "content": "No.",
                "reasoning": "Plan.",
                "reasoning_details": [{"type": "reasoning.text", "text": "Plan."}],
            },
            "stop",
            "<think>\nPlan.\n</think>\n\nNo.",
        ),
        (
            {
                "content": "No.",
                "reasoning": None,
                "reasoning_details": [{"type": "reasoning.summary", "summary": "S."}],
            },
            "stop",
            "<think>\nS.\n</think>\n\nNo.",
        ),
        ({"content": "No.", "reasoning_details": [{"type": "reasoning.encrypted", "data": "eA=="}]}, "stop", "No."),
        (
            {"content": "No.", "thinking_blocks": [{"type": "thinking", "thinking": "Plan.", "signature": "x"}]},
            "stop",
            "<think>\nPlan.\n</think>\n\nNo.",
        ),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Pl"}, {"type": "text", "text": "an."}]},
                    {"type": "text", "text": "No."},
                ]
            },
            "stop",
            "<think>\nPlan.\n</think>\n\nNo.",
        ),
        (
            {"content": [{"type": "thinking", "thinking": "Plan."}, {"type": "text", "text": "No."}]},
            "stop",
            "<think>\nPlan.\n</think>\n\nNo.",
        ),
        (
            {"content": [{"type": "reasoning", "text": "Plan."}, {"type": "text", "text": "No."}]},
            "stop",
            "<think>\nPlan.\n</think>\n\nNo.",
        ),
        (
            {"content": [{"text": "Plan.", "thought": True}, {"text": "No."}]},
            "stop",
            "<think>\nPlan.\n</think>\n\nNo.",
        ),
        (
            {"content": [{"type": "redacted_thinking", "data": "eA=="}, {"type": "text", "text": "No."}]},
            "stop",
            "No.",
        ),
        ({"content": [{"type": "thinking", "thinking": "Plan"}]}, "length", "<think>\nPlan"),
        ({"content": "<think>Plan.</think>No.", "reasoning": "Plan."}, "stop", "<think>Plan.</think>No."),
        ({"content": "[THINK]a[/THINK]b", "reasoning": True}, "stop", "[THINK]a[/THINK]b"),
        ({"content": ""}, "content_filter", ""),
    ],
)
def test_reasoning_is_folded_back(server: Endpoint, message: dict[str, Any], finish: str, expected: str) -> None:
    engine = ServerEngine(f"{server.url}#tiny")
    server.message, server.finish = {"role": "assistant", **message}, finish
    made = dict(engine.generate([ask()], GREEDY))[0]
    assert made.text == expected
    assert made.finish == {"content_filter": "filter"}.get(finish, finish)


def test_a_reply_that_is_nested_too_deeply_costs_its_prompt(server: Endpoint) -> None:
    engine = ServerEngine(f"{server.url}#tiny", max_attempts=2, **FAST)
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    server.message = {"role": "assistant", "content": "No.", "reasoning": deep}
    made = dict(engine.generate([ask()], GREEDY))[0]
    assert made.finish == "error"
    assert "nested too deeply" in made.error


def test_a_body_that_is_nested_too_deeply_costs_its_prompt(server: Endpoint) -> None:
    engine = ServerEngine(f"{server.url}#tiny", max_attempts=2, **FAST)

    def deep(handler: Any, number: int) -> bool:
        body = b"[" * 200_000 + b"]" * 200_000
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    server.fault = deep
    made = dict(engine.generate([ask()], GREEDY))[0]
    assert made.finish == "error"
    assert "nested too deeply" in made.error


@pytest.mark.parametrize("mode", ["tokens", "chat"])
def test_faults_lose_nothing_and_double_nothing(server: Endpoint, qwen: str, mode: str) -> None:
    engine = ServerEngine(f"{server.url}#tiny", tokenizer=qwen, mode=mode, max_attempts=8, concurrency=16, **FAST)
    server.fault = faults(every=3, hang=1.5)
    results = list(engine.generate([ask(f"Question {i}?") for i in range(60)], GREEDY))
    assert sorted(index for index, _ in results) == list(range(60))
    assert {completion.finish for _, completion in results} == {"stop"}
    engine.close()


def test_attempts_are_bounded_and_end_in_an_error_completion(server: Endpoint, qwen: str) -> None:
    engine = ServerEngine(f"{server.url}#tiny", tokenizer=qwen, max_attempts=3, **FAST)
    server.fault = faults(every=1)
    asked = len(server.bodies)
    results = list(engine.generate([ask(f"Question {i}?") for i in range(6)], GREEDY))
    assert sorted(index for index, _ in results) == list(range(6))
    assert all(c.finish == "error" and c.error.startswith(NO_ANSWER) for _, c in results)
    assert len(server.bodies) - asked <= 18


def test_refused_requests_are_not_repeated(server: Endpoint, qwen: str) -> None:
    engine = ServerEngine(f"{server.url}#tiny", tokenizer=qwen, **FAST)
    asked = len(server.bodies)
    body = {"error": {"message": f"this key {KEY} is over its context length"}}
    server.fault = lambda handler, number: bool(handler.answer(400, body)) or True
    made = dict(engine.generate([ask()], GREEDY))[0]
    assert made.finish == "error"
    assert "400" in made.error
    assert not made.error.startswith(NO_ANSWER)
    assert KEY not in repr(made)
    assert len(server.bodies) == asked + 1
    filtered = {"error": {"message": "…", "code": "content_filter"}}
    server.fault = lambda handler, number: bool(handler.answer(400, filtered)) or True
    assert dict(engine.generate([ask()], GREEDY))[0].finish == "filter"


def test_context_of_the_server(server: Endpoint, qwen: str) -> None:
    server.context = 40
    engine = ServerEngine(f"{server.url}#tiny", tokenizer=qwen)
    made = dict(engine.generate([ask("word " * 60), ask("Hi")], SamplingParams(max_new_tokens=1000)))
    assert made[0].finish == "error"
    assert "40" in made[0].error
    assert server.bodies[-1]["max_tokens"] == 40 - len(made[1].prompt_ids or ())


def in_a_context(context: int, prompt: int) -> Any:
    """A server that refuses what its context has no room for, in vLLM's words."""

    def fault(handler: Any, number: int) -> bool:
        asked = handler.endpoint.bodies[-1]["max_tokens"]
        if prompt + asked <= context:
            return False
        said = f"This model's maximum context length is {context} tokens. However, you requested {asked} output tokens"
        handler.answer(400, {"error": {"message": said, "type": "BadRequestError", "code": 400}})
        return True

    return fault


def test_judges_in_a_context_with_less_room_give_shorter_replies(server: Endpoint) -> None:
    engine = ServerEngine(f"{server.url}#tiny", mode="chat", shorten=True, **FAST)
    asked = len(server.bodies)
    server.fault = in_a_context(1024, 100)
    made = dict(engine.generate([ask()], SamplingParams(max_new_tokens=4096)))[0]
    assert made.text == "Hello."
    assert [body["max_tokens"] for body in server.bodies[asked:]] == [4096, 2048, 1024, 512]
    asked = len(server.bodies)
    server.fault = in_a_context(1024, 1020)
    made = dict(engine.generate([ask()], SamplingParams(max_new_tokens=100)))[0]
    assert made.finish == "error"
    assert "maximum context length is 1024 tokens" in made.error
    assert [body["max_tokens"] for body in server.bodies[asked:]] == [100, 50]
    asked = len(server.bodies)
    plain = ServerEngine(f"{server.url}#tiny", mode="chat", **FAST)  # as a model that is evaluated
    made = dict(plain.generate([ask()], SamplingParams(max_new_tokens=4096)))[0]
    assert made.finish == "error"
    assert [body["max_tokens"] for body in server.bodies[asked:]] == [1, 4096]


def test_the_key_is_sent_and_never_shown(
    server: Endpoint, qwen: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = ServerEngine(f"{server.url}#tiny", tokenizer=qwen, max_attempts=2, **FAST)
    echo = {"error": {"message": f"bad key: Bearer {KEY}"}}
    for status in (401, 500):
        server.fault = lambda handler, number, status=status: bool(handler.answer(status, echo)) or True
        made = dict(engine.generate([ask()], GREEDY))[0]
        assert made.finish == "error"
        assert KEY not in repr(made)
    assert server.keys[-1] == f"Bearer {KEY}"
    with pytest.raises(UserError) as caught:
        ServerEngine(f"{server.url}#tiny", **FAST)
    assert KEY not in str(caught.value) + repr(engine) + repr(engine.describe()) + repr(vars(engine)) + caplog.text
    with pytest.raises(UserError, match="into the environment"):
        ServerEngine("http://user:pass@127.0.0.1:9/v1#m")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        ServerEngine("https://api.openai.com/v1#gpt")
    with pytest.raises(UserError, match="set AZURE_OPENAI_API_KEY"):
        ServerEngine("https://me.openai.azure.com/openai/v1#gpt")


def test_a_server_that_is_down_is_found_first() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="does not answer"):
        open_engine(f"http://127.0.0.1:{port}/v1#m", **FAST)


def test_a_server_that_hangs_or_fails_is_found_first(server: Endpoint) -> None:
    server.fault = faults(every=1, spare=0, hang=2.5)
    with pytest.raises(UserError, match=r"the server answered|no reply|no completion|connection failed"):
        open_engine(f"{server.url}#tiny", **FAST)
    server.fault = lambda handler, number: bool(handler.answer(404, {"error": {"message": "no such model"}})) or True
    with pytest.raises(UserError, match="no such model"):
        open_engine(f"{server.url}#other", **FAST)


def test_the_only_model_needs_no_name(server: Endpoint) -> None:
    engine = ServerEngine(server.url)
    assert engine.describe()["model"] == "tiny"
    engine.close()
    engine.close()
