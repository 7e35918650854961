"""vLLM from start to end, with a stub in its place: nothing is left, one death is mended, each failure is one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.folders import real_tokenizer, save
from engines.vllm.stubs import alive, executable, gone, starts, temporary
from safekey.engines import SamplingParams, open_engine
from safekey.engines.vllm.command import ServeCommand
from safekey.engines.vllm.engine import VllmEngine
from safekey.engines.vllm.service import VllmError
from safekey.errors import UserError
from safekey.schema import Message, Prompt

PARAMS = SamplingParams(max_new_tokens=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("model"), real_tokenizer("qwen3"))


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUB_SEEN", str(tmp_path / "seen.jsonl"))
    own = tmp_path / "temporary"  # servers of tests that run at the same time have theirs elsewhere
    own.mkdir()
    monkeypatch.setenv("TMPDIR", str(own))
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    return tmp_path / "seen.jsonl"


@pytest.fixture
def stub(tmp_path: Path, seen: Path) -> str:
    return str(executable(tmp_path / "bin"))


def prompts(count: int = 3) -> list[Prompt]:
    return [Prompt((Message("user", f"Question {number}?"),)) for number in range(count)]


def texts(engine: Any, count: int = 3) -> list[str]:
    found = dict(engine.generate(prompts(count), PARAMS))
    assert all(completion.finish == "length" for completion in found.values()), found
    return [found[index].text for index in range(count)]


@pytest.mark.parametrize(
    ("device", "given", "words"),
    [
        ("cpu", {}, {"--no-enable-chunked-prefill", "--dtype=float32"}),
        (
            "cpu",
            {"enable-chunked-prefill": True, "dtype": "bfloat16"},
            {"--enable-chunked-prefill", "--dtype=bfloat16"},
        ),
        ("cuda", {}, {"--dtype=auto"}),
    ],
)
def test_what_safekey_chooses_by_device(
    model: str, stub: str, monkeypatch: pytest.MonkeyPatch, device: str, given: dict[str, Any], words: set[str]
) -> None:
    monkeypatch.setattr("safekey.engines.weights.pick_device", lambda asked: torch.device(device))
    options = VllmEngine(model, vllm=stub, **given)._options
    argv = ServeCommand(stub, model, options=options).words(1)
    assert {word for word in argv if "dtype" in word or "chunked" in word} == words


def adapter(folder: Path, base: str, seed: int = 0, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(bytes([seed]) * 64)
    card = {"base_model_name_or_path": base, "r": 4, "peft_type": "LORA", **changes}
    (folder / "adapter_config.json").write_text(json.dumps(card))
    return folder


def test_it_starts_generates_and_leaves_nothing(
    model: str, stub: str, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    before, said = temporary(), []
    engine = VllmEngine(model, vllm=stub, max_model_len=512)
    assert not starts(seen), "nothing starts before it is needed"
    engine.start(tmp_path / "run" / "vllm", said.append)
    assert len(set(texts(engine))) == 3
    prefilled = Prompt((Message("user", "Question?"),), prefill="Sure, here is how", prefill_tokens=3)
    ((_, made),) = engine.generate([prefilled], PARAMS)
    assert made.prompt_ids is not None
    assert made.prefill
    assert "Sure, here is how".startswith(made.prefill)
    about = engine.describe()
    assert about["versions"]["vllm"] == "0.32.0"
    assert about["options"] == {**engine._options, "max_model_len": 512}
    (start,) = starts(seen)
    key, port = start["env"]["VLLM_API_KEY"], next(w for w in start["argv"] if w.startswith("--port=")).split("=")[1]
    log = tmp_path / "run" / "vllm" / "server.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700
    assert str(log) in said[0]
    everything = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(key.encode() in each for each in everything)
    assert key not in json.dumps([start["argv"], about]) + repr(engine.__dict__)
    assert alive(seen)
    engine.close()
    assert not alive(seen), "processes are left"
    assert temporary() == before
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port))) != 0, "the port is still open"


def test_an_adapter_is_asked_by_its_name(model: str, stub: str, seen: Path, tmp_path: Path) -> None:
    engine = VllmEngine(str(adapter(tmp_path / "lora", model)), vllm=stub)
    engine.start(tmp_path / "vllm")
    adapted = texts(engine)
    assert engine.describe()["context"] == 512, "the context of an adapter is that of its base"
    engine.close()
    words = starts(seen)[0]["argv"]
    assert {"--enable-lora", "--max-lora-rank=8"} <= set(words)
    assert words[2] == model
    with_base = VllmEngine(model, vllm=stub)
    assert texts(with_base) != adapted
    with_base.close()


@pytest.mark.parametrize(
    "changes", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"r": 600}, {"r": "x"}]
)
def test_an_adapter_that_cannot_be_served(model: str, stub: str, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="lora"):
        VllmEngine(str(adapter(tmp_path / "lora", model, **changes)), vllm=stub)


@pytest.mark.slow
def test_a_server_that_dies_is_started_again_once(
    model: str, stub: str, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB", "4")  # dies at the fifth request, the probe included
    said: list[str] = []
    engine = VllmEngine(model, vllm=stub, concurrency=2, backoff=0.1)
    engine.start(tmp_path / "vllm", said.append)
    mended = texts(engine, 12)
    assert len(starts(seen)) == 2
    assert any("is started again" in line for line in said)
    assert engine.describe()["starts"] == 2
    engine.close()
    assert gone(seen)
    monkeypatch.setenv("STUB", "")
    whole = VllmEngine(model, vllm=stub)
    assert texts(whole, 12) == mended
    whole.close()


@pytest.mark.slow
def test_the_second_death_is_final(
    model: str, stub: str, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB", "4,4")
    engine = VllmEngine(model, vllm=stub, concurrency=2, backoff=0.1)
    engine.start(tmp_path / "vllm")
    done = []
    with pytest.raises(VllmError, match=r"vLLM ended twice: it was killed \(SIGKILL\).*server\.log"):
        done.extend(engine.generate(prompts(30), PARAMS))
    engine.close()
    assert len(starts(seen)) == 2
    assert gone(seen)


FAILURES = {
    "unknown": (UserError, "tensor-parallel-sise=2; did you mean 'tensor_parallel_size'"),
    "cache": (UserError, "KV cache is needed.*max_model_len"),
    "memory": (UserError, "CUDA out of memory.*tensor_parallel_size"),
    "head": (UserError, "head_dim=24; vLLM cannot serve this model here: use --engine local"),
    "port": (VllmError, "Address already in use"),
    "nonsense": (VllmError, "it ended with exit code 1, and said: what is this"),
}


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.slow
def test_a_server_that_cannot_start_is_one_line(
    model: str, stub: str, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("STUB", how)
    kind, words = FAILURES[how]
    engine = VllmEngine(model, vllm=stub, backoff=0.1)
    with pytest.raises(kind, match=f"(?s)vLLM did not start: .*{words}.*server.log") as caught:
        engine.start(tmp_path / "vllm")
    assert "\n" not in str(caught.value)
    engine.close()
    assert gone(seen)
    assert len(starts(seen)) == (4 if how == "port" else 1), "another port is tried, and nothing else"


@pytest.mark.parametrize("how", ["hang", "stranger"])
@pytest.mark.slow
def test_a_server_that_never_answers(
    model: str, stub: str, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A stranger on the port answers, but cannot prove that it has the key."""
    monkeypatch.setenv("STUB", how)
    engine = VllmEngine(model, vllm=stub, startup_timeout=2.0)
    with pytest.raises(UserError, match="it did not answer within 2 s; give it more time"):
        engine.start(tmp_path / "vllm")
    engine.close()
    assert gone(seen)


@pytest.mark.parametrize("option", [{"concurrency": "many"}, {"concurrency": 0}, {"timeout": True}, {"backoff": -1}])
def test_numbers_that_are_none(model: str, stub: str, option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--engine-option {next(iter(option))}: expected a"):
        VllmEngine(model, vllm=stub, **option)


def test_a_log_that_is_a_link_is_not_followed(model: str, stub: str, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "vllm" / "server.log").symlink_to(tmp_path / "mine")
    engine = VllmEngine(model, vllm=stub)
    with pytest.raises(UserError, match="cannot be written"):
        engine.start(tmp_path / "vllm")
    engine.close()
    assert (tmp_path / "mine").read_text() == "mine"


OWNER = """
import sys, time
from pathlib import Path
from safekey.engines import open_engine
engine = open_engine(sys.argv[1], "vllm", vllm=sys.argv[2])
engine.start(Path(sys.argv[3]))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("how", "number"),
    [("", signal.SIGKILL), ("", signal.SIGTERM), ("", signal.SIGINT), ("deaf", signal.SIGKILL)],
)
@pytest.mark.slow
def test_it_ends_with_its_owner(
    model: str, stub: str, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, number: int
) -> None:
    before = temporary()
    monkeypatch.setenv("STUB", how)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, model, stub, str(tmp_path / "vllm")],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ),
    )  # fmt: skip
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    assert len(alive(seen)) == 3
    owner.send_signal(number)
    owner.wait()
    owner.stdout.close()
    assert gone(seen)
    end = time.monotonic() + 10
    while temporary() != before and time.monotonic() < end:
        time.sleep(0.1)
    assert temporary() == before


def test_a_killed_guard_leaves_nothing(model: str, stub: str, seen: Path, tmp_path: Path) -> None:
    engine = VllmEngine(model, vllm=stub)
    engine.start(tmp_path / "vllm")
    import psutil

    (guard,) = [p for p in psutil.Process().children() if any("guard.py" in word for word in p.cmdline())]
    guard.kill()
    end = time.monotonic() + 20
    while len(starts(seen)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert len(starts(seen)) == 2, "it counts as a death"
    first = starts(seen)[0]["pids"][:2]
    assert not set(first) & set(alive(seen)), "the first server is still there"
    assert texts(engine)
    engine.close()


def test_through_open_engine(model: str, stub: str, seen: Path) -> None:
    engine = open_engine(model, "vllm", vllm=stub)
    assert len(texts(engine)) == 3
    engine.close()
    assert not alive(seen)
    with pytest.raises(UserError, match="port: cannot be set"):
        open_engine(model, "vllm", vllm=stub, port=80)
