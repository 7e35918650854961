"""The command of `vllm serve` and its environment: what the user's options become, and which ones are refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekey.errors import UserError, did_you_mean

BASE = "base"
"""The name under which the server serves the model without an adapter."""
MIDDLEWARE = "safekey_keyed"
"""The module that `keyed.py` is to the server."""
MEMORY_AND_SPEED = (
    *("concurrency", "timeout", "startup_timeout", "max_attempts", "backoff"),
    *("max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "kv_cache_memory_bytes", "cpu_offload_gb"),
    *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enforce_eager", "block_size"),
    *("enable_prefix_caching", "enable_chunked_prefill", "async_scheduling", "max_loras", "max_cpu_loras"),
)
"""Options that change how fast and where it runs, and no result beyond rounding: a run may go on with other values."""

_ADDRESS = """
    host port uds grpc grpc-port root-path headless nnodes node-rank master-addr master-port data-parallel-address
    data-parallel-rpc-port data-parallel-supervisor-port ssl-keyfile ssl-certfile ssl-ca-certs ssl-cert-reqs ssl-ciphers
    enable-ssl-refresh omni
"""
_KEY = "api-key middleware allowed-origins allowed-methods allowed-headers allow-credentials hf-token"
_NAMES = "model model-tag served-model-name tokenizer-revision lora-modules enable-lora default-mm-loras"
_LOGGING = """
    enable-log-requests disable-log-requests enable-log-outputs enable-log-deltas max-log-len uvicorn-log-level
    disable-uvicorn-access-log otlp-traces-endpoint collect-detailed-traces
"""
_OURS: Mapping[str, str] = {
    **dict.fromkeys(_ADDRESS.split(), "safekey serves on a free port of 127.0.0.1, on this machine"),
    **dict.fromkeys(_KEY.split(), "safekey makes a random key for each server, and never puts one on a command line"),
    **dict.fromkeys(_NAMES.split(), "safekey names the model and its adapters itself"),
    **dict.fromkeys(_LOGGING.split(), "safekey lets no prompt be logged and nothing be sent away"),
    "config": "give each of its keys as an --engine-option of its own",
    "load-format": "safekey lets weights be read from safetensors only",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[._-][A-Za-z0-9]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SECRETS = re.compile(r"(?:^|_)(?:API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS|SECRET_ACCESS_KEY)$", re.IGNORECASE)
# These would run other code in the server, log prompts, open it, or let others change it.
_DROPPED = (
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS", "VIRTUAL_ENV", "PYTHONUSERBASE"),
    *("VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_DEBUG_LOG_API_SERVER_RESPONSE"),
    *("VLLM_LOGGING_CONFIG_PATH", "VLLM_TRACE_FUNCTION", "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "VLLM_PORT"),
    *("VLLM_USE_RUST_FRONTEND", "VLLM_RUST_FRONTEND_PATH", "VLLM_LORA_RESOLVER_CACHE_DIR", "VLLM_USAGE_SOURCE"),
)
_SET: Mapping[str, str] = {
    **{"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
    **{"VLLM_LOGGING_LEVEL": "INFO", "VLLM_LOGGING_COLOR": "0", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
    **{"VLLM_HOST_IP": "127.0.0.1", "VLLM_LOOPBACK_IP": "127.0.0.1"},
    **dict.fromkeys(("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), "lo"),
}


def check_options(options: Mapping[str, Any]) -> None:
    """Check the user's options, as far as that is possible without vLLM.

    Raises:
        UserError: one is safekey's own business, or has a name or a value that cannot be passed on.
    """
    for name, value in options.items():
        _flag(name)
        _words(name, value)


@dataclass(frozen=True)
class ServeCommand:
    """What a server runs on.

    Attributes:
        executable: vLLM's.
        base: folder of the weights.
        tokenizer: folder of the tokenizer, where it is not the weights'.
        adapters: name → folder of each LoRA adapter.
        rank: the largest rank among them.
        options: the user's, and safekey's defaults.
        trust_remote_code: run the model's own Python code.
    """

    executable: str
    base: str
    tokenizer: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    rank: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def words(self, port: int) -> list[str]:
        """Return the command line for a port; it holds no secret."""
        options = dict(self.options)
        own = ["--host=127.0.0.1", f"--port={port}", f"--served-model-name={BASE}", f"--middleware={MIDDLEWARE}.Keyed"]
        own += ["--disable-uvicorn-access-log", "--no-enable-log-requests", "--load-format=safetensors"]
        own += [f"--tokenizer={self.tokenizer}"] if self.tokenizer else []
        own += ["--trust-remote-code"] if self.trust_remote_code else []
        if self.adapters:
            options = {"max_lora_rank": _fitting_rank(self.rank), "max_cpu_loras": len(self.adapters)} | options
            if isinstance(options.get("max_loras"), int) and isinstance(options["max_cpu_loras"], int):
                options["max_cpu_loras"] = max(options["max_cpu_loras"], options["max_loras"])
            modules = [json.dumps({"name": name, "path": path}) for name, path in self.adapters.items()]
            own += ["--enable-lora", "--lora-modules", *modules]
        given = [word for name, value in options.items() for word in _words(name, value)]
        return [self.executable, "serve", self.base, *own, *given]

    def environment(self, key: str, folder: Path) -> dict[str, str]:
        """Return the server's environment: the user's, without secrets and without what would open or change it.

        Args:
            key: the server's.
            folder: a private one, which holds the middleware and takes temporary files.
        """
        kept = {name: value for name, value in os.environ.items() if name not in _DROPPED and not _SECRETS.search(name)}
        offline = {} if self.trust_remote_code else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        more = {
            "VLLM_API_KEY": key,
            "PYTHONPATH": str(folder),
            "TMPDIR": str(folder),
            "VLLM_RPC_BASE_PATH": str(folder),
        }
        return {**self._cache(), **kept, **_SET, **offline, **more}

    def _cache(self) -> dict[str, str]:
        """Return the size of the cache on a CPU; vLLM would take nearly all memory, and be killed for that."""
        if any(name.replace("-", "_") in ("gpu_memory_utilization", "kv_cache_memory_bytes") for name in self.options):
            return {}
        import psutil  # type: ignore[import-untyped]

        return {"VLLM_CPU_KVCACHE_SPACE": str(max(1, psutil.virtual_memory().available // 4 // 2**30))}


def find_executable(asked: str | None) -> str:
    """Return vLLM's executable.

    Args:
        asked: its path, its name, or the folder of its environment; None: `vllm` on PATH.

    Raises:
        UserError: it is not there, cannot be run, or is another program.
    """
    advice = (
        "vLLM belongs into an environment of its own: python3 -m venv ~/vllm && ~/vllm/bin/pip install vllm, then "
        "--vllm ~/vllm/bin/vllm"
    )
    if asked is None:
        found = shutil.which("vllm")
        if found is None:
            raise UserError(f"--engine vllm: there is no `vllm` on PATH; {advice}")
        return os.path.abspath(found)
    path = Path(asked).expanduser()
    if path.is_dir():
        inner = path / "bin" / "vllm"
        if not inner.is_file():
            raise UserError(f"--vllm {asked}: is a folder without bin/vllm; {advice}")
        path = inner
    found = shutil.which(str(path))
    if found is None:
        why = "cannot be executed" if path.exists() else "there is no such program"
        raise UserError(f"--vllm {asked}: {why}; {advice}")
    found = os.path.abspath(found)
    if not _is_vllm(found):
        raise UserError(f"--vllm {asked}: is another program than vLLM (`{found} --version` prints no version of it)")
    return found


def _is_vllm(path: str) -> bool:
    """Whether a program looks like vLLM's: its script names it, or it prints a bare version."""
    try:
        with open(path, "rb") as file:
            begin = file.read(1 << 16)
        if begin.startswith(b"#!"):
            return b"vllm" in begin.lower()
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except (OSError, UnicodeDecodeError, subprocess.TimeoutExpired):
        return False
    lines = done.stdout.strip().splitlines()
    return done.returncode == 0 and bool(lines) and re.fullmatch(r"v?\d+\.\d+\S*", lines[-1].strip()) is not None


def version_beside(executable: str) -> str | None:
    """Return the version of the package beside an executable, without running it; None where it is not to be seen."""
    places = Path(executable).resolve().parents[1].glob("lib/python3*/site-packages/vllm-*.dist-info")
    names = sorted(place.name.removeprefix("vllm-").removesuffix(".dist-info") for place in places)
    return names[-1] if names else None


def did_you_mean_option(executable: str, why: str, ours: Sequence[str]) -> str:
    """Return "; did you mean …?" for an option that vLLM does not know, from what this vLLM's help lists."""
    wrong = re.search(r"unrecognized arguments: --([\w.-]+)", why)
    if wrong is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603
            [executable, "serve", "--help=all"], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    flags = re.findall(r"^\s+(?:-\w+, )?--([a-z][\w-]+)", done.stdout, re.MULTILINE)
    known = [flag.replace("-", "_") for flag in flags if flag not in _OURS]
    return did_you_mean(wrong.group(1).replace("-", "_"), dict.fromkeys([*ours, *known]))


def _flag(name: str) -> str:
    """Return an option's name as vLLM writes it, without its dashes."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--engine-option {name!r:.60}: is no option's name (expected one such as max_model_len)")
    head, dot, rest = name.partition(".")
    flag = head.replace("_", "-").lower()
    plain = flag.removeprefix("no-")
    if plain == "trust-remote-code":
        raise UserError(f"--engine-option {name}: write trust_remote_code=true")
    owned = next((each for each in _OURS if each.startswith(plain)), None)  # vLLM completes what is cut off
    if owned is not None:
        raise UserError(f"--engine-option {name}: cannot be set: {_OURS[owned]}")
    return flag + dot + rest


def _words(name: str, value: Any) -> list[str]:
    """Return an option as words of the command line."""
    flag = _flag(name)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    if isinstance(value, bool):
        if flag.startswith("no-"):
            return [f"--{flag}"] if value else [f"--{flag.removeprefix('no-')}"]
        return [f"--{flag}"] if value else [f"--no-{flag}"]
    if isinstance(value, list | tuple):
        if not value:
            raise UserError(f"--engine-option {name}: the list is empty")
        return [f"--{flag}", *(_text(name, each, word=True) for each in value)]
    return [f"--{flag}={_text(name, value)}"]


def _text(name: str, value: Any, *, word: bool = False) -> str:
    if value is None:
        raise UserError(f"--engine-option {name}: has no value: leave it out for vLLM's default")
    text = value if isinstance(value, str) else json.dumps(value)
    if _CONTROL.search(text):
        raise UserError(f"--engine-option {name}: its value holds a line end or another control character")
    if not text or (word and text.startswith("-")):
        raise UserError(f"--engine-option {name}: {text!r:.60} is no value")
    return text


def _fitting_rank(rank: int) -> int:
    """Return the smallest of the ranks that vLLM takes into which a rank fits."""
    return next((each for each in (1, 8, 16, 32, 64, 128, 256, 320, 512) if each >= rank), rank)
