"""The command line and the environment of vLLM: what the user's options become, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from engines.vllm.stubs import executable
from safekey.engines import check_options
from safekey.engines.vllm.command import ServeCommand, find_executable
from safekey.engines.vllm.command import check_options as check
from safekey.errors import UserError


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_model_len", 4096, ["--max-model-len=4096"]),
        ("tensor-parallel-size", 2, ["--tensor-parallel-size=2"]),
        ("enforce_eager", True, ["--enforce-eager"]),
        ("enable_prefix_caching", False, ["--no-enable-prefix-caching"]),
        ("enforce_eager", "True", ["--enforce-eager"]),
        ("no_enable_prefix_caching", False, ["--enable-prefix-caching"]),
        ("lora_target_modules", ["q_proj", "v_proj"], ["--lora-target-modules", "q_proj", "v_proj"]),
        ("hf_overrides", {"a": 1}, ['--hf-overrides={"a": 1}']),
        ("hf_overrides.Key", 1, ["--hf-overrides.Key=1"]),
        ("gpu_memory_utilization", 0.5, ["--gpu-memory-utilization=0.5"]),
        ("dtype", "-x", ["--dtype=-x"]),
    ],
)
def test_options_become_words(name: str, value: Any, words: list[str]) -> None:
    made = ServeCommand("/bin/vllm", "/m", options={name: value}).words(1)
    assert made[-len(words) :] == words


@pytest.mark.parametrize(
    "name",
    [
        *("host", "port", "uds", "api_key", "api-key", "served_model_name", "middleware", "enable_log_requests"),
        *("no_enable_log_requests", "max_log_len", "config", "lora_modules", "hf_token", "ssl_keyfile", "model"),
        *("hos", "por", "api_k", "MIDDLEWARE", "middleware.a", "conf", "allowed_origins", "load_format", "uvicorn_log"),
    ],
)
def test_what_is_safekeys_own_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--engine-option {name}: cannot be set: "):
        check({name: 1})


def test_code_of_the_model_is_run_only_by_our_own_option() -> None:
    with pytest.raises(UserError, match="write trust_remote_code=true"):
        check({"no-trust-remote-code": False})
    words = ServeCommand("/bin/vllm", "/m").words(1)
    assert "--trust-remote-code" not in words
    assert "--trust-remote-code" in ServeCommand("/bin/vllm", "/m", trust_remote_code=True).words(1)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\u2028", ["x", "a\nb"], ["--port=1"], [], "", None])
def test_values_that_cannot_be_passed_on(value: Any) -> None:
    with pytest.raises(UserError, match="--engine-option max_model_len"):
        check({"max_model_len": value})


@pytest.mark.parametrize("name", ["--x", "a b", "x+", "", "a=b", "a\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match="is no option's name"):
        check({name: 1})


def test_the_check_knows_both_kinds_of_options() -> None:
    check_options("m", "vllm", {"concurrency": 4, "max_model_len": 10, "trust_remote_code": True})
    with pytest.raises(UserError, match="port: cannot be set"):
        check_options("m", "vllm", {"port": 4})


def test_the_command_line_holds_no_key_and_the_environment_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "VLLM_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, "secret-of-the-user")
    for name in ("PYTHONPATH", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_LOGGING_CONFIG_PATH"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    command = ServeCommand("/bin/vllm", "/m")
    found = command.environment("the-key", tmp_path)
    assert "secret-of-the-user" not in found.values()
    assert found["VLLM_API_KEY"] == "the-key"
    assert found["PYTHONPATH"] == str(tmp_path)
    assert found["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert found["TOKENIZERS_PARALLELISM"] == "false"
    assert found["VLLM_NO_USAGE_STATS"] == found["DO_NOT_TRACK"] == found["HF_HUB_OFFLINE"] == "1"
    assert found["VLLM_HOST_IP"] == "127.0.0.1"
    assert not {"VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_LOGGING_CONFIG_PATH"} & found.keys()
    words = command.words(8123)
    assert "the-key" not in " ".join(words)
    assert {"--host=127.0.0.1", "--port=8123", "--no-enable-log-requests", "--disable-uvicorn-access-log"} <= set(words)


def test_on_a_cpu_the_cache_leaves_memory_for_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    free = psutil.virtual_memory().available / 2**30
    given = int(ServeCommand("/bin/vllm", "/m").environment("k", tmp_path)["VLLM_CPU_KVCACHE_SPACE"])
    assert 1 <= given <= max(1, free / 2)
    for name in ("gpu_memory_utilization", "kv-cache-memory-bytes"):  # the user's own word
        own = ServeCommand("/bin/vllm", "/m", options={name: 0.5}).environment("k", tmp_path)
        assert "VLLM_CPU_KVCACHE_SPACE" not in own


def test_adapters() -> None:
    words = ServeCommand("/bin/vllm", "/m", adapters={"sft, seed 0": "/runs/a=b", "x": "/runs/c"}, rank=9).words(1)
    at = words.index("--lora-modules")
    assert [json.loads(word)["path"] for word in words[at + 1 : at + 3]] == ["/runs/a=b", "/runs/c"]
    assert {"--enable-lora", "--max-lora-rank=16", "--max-cpu-loras=2"} <= set(words)
    own = ServeCommand("/bin/vllm", "/m", adapters={"x": "/c"}, rank=8, options={"max_lora_rank": 64}).words(1)
    assert "--max-lora-rank=64" in own


def test_finding_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"there is no `vllm` on PATH; .*pip install vllm"):
        find_executable(None)
    stub = executable(tmp_path / "env" / "bin")
    assert find_executable(str(stub)) == str(stub)
    assert find_executable(str(tmp_path / "env")) == str(stub)
    monkeypatch.setenv("PATH", str(stub.parent))
    assert find_executable(None) == str(stub)
    with pytest.raises(UserError, match="there is no such program"):
        find_executable(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="a folder without bin/vllm"):
        find_executable(str(tmp_path))
    (tmp_path / "plain").write_text("vllm")
    with pytest.raises(UserError, match="cannot be executed"):
        find_executable(str(tmp_path / "plain"))
    for other in ("/bin/true", "/bin/cat", sys.executable):
        with pytest.raises(UserError, match="is another program than vLLM"):
            find_executable(other)
