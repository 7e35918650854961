"""One line from a log: what the real vLLM 0.32 printed, shortened."""

# ruff: noqa: E501 - lines of logs

from __future__ import annotations

import pytest

from safekey.engines.vllm.causes import PORT_TAKEN, cause_of, last_message

WORKER = "(Worker pid=12143) ERROR 11-25 19:03:32 [multiproc_executor.py:1063] "
API = "(APIServer pid=4702) "
LOST = f"{API}RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}"
ULIMIT = f"{API}WARNING 11-25 18:56:38 [system_utils.py:255] Found ulimit of 20000 with errors like `OSError: [Errno 24] Too many`"
LENGTH = (
    "  Value error, User-specified max_model_len (99999) is greater than the derived max_model_len (8192). To allow "
    "overriding, be careful. [type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]"
)
CASES = {
    "option": (
        "usage: vllm [-h]\nvllm: error: unrecognized arguments: --tensor-parallel-sise=2",
        "unrecognized arguments: --tensor-parallel-sise=2",
        "no such option",
    ),
    "value": (
        "usage: vllm serve\nvllm serve: error: argument --max-model-len: invalid human_readable_int value: 'banana'",
        "argument --max-model-len: invalid human_readable_int value: 'banana'",
        "--help=all",
    ),
    "length": (
        f"{ULIMIT}\npydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n{LENGTH}\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/value_error",
        "User-specified max_model_len (99999) is greater than the derived max_model_len (8192)",
        "a smaller --engine-option max_model_len",
    ),
    "heads": (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Value error, Total number of "
        "attention heads (9) must be divisible by tensor parallel size (7). [type=value_error, input_value=1]",
        "Total number of attention heads (9) must be divisible by tensor parallel size (7)",
        "tensor_parallel_size",
    ),
    "cache": (
        "(EngineCore pid=10823) ERROR 11-25 19:01:48 [core.py:1510] ValueError: To serve at least one request with the "
        f"model's max seq len (8192), 0.35 GiB KV cache is needed, which is larger than available.\n{LOST}",
        "To serve at least one request with the model's max seq len (8192)",
        "VLLM_CPU_KVCACHE_SPACE",
    ),
    "room": (
        f"{WORKER}ValueError: Available memory on node 0 (6.73/23.54 GiB) on kv cache allocation is less than requested "
        f"memory for kv (4000.0 GiB).\n{LOST}",
        "Available memory on node 0",
        "VLLM_CPU_KVCACHE_SPACE",
    ),
    "gpu": (
        "(EngineCore pid=1) ERROR 11-25 19:01:48 [core.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to "
        f"allocate 2.00 GiB.\n{LOST}",
        "OutOfMemoryError: CUDA out of memory",
        "less memory",
    ),
    "head size": (
        f"{WORKER}RuntimeError: Unsupported CPU attention configuration: head_dim=24 isa=1 kv_cache_idx=0\n"
        f"{API}ERROR 11-25 19:05:20 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered "
        "an issue. See stack trace (above) for the root cause.",
        "Unsupported CPU attention configuration: head_dim=24",
        "--engine local",
    ),
    "seeded sample": (
        f"{WORKER}RuntimeError: CPU Generator does not use offset\n"
        f"{API}ERROR 11-26 02:21:14 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered "
        "an issue. See stack trace (above) for the root cause.",
        "CPU Generator does not use offset",
        "enable_chunked_prefill",
    ),
    "killed": (
        "(EngineCore pid=1) ERROR 11-25 22:12:14 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly "
        "(exit code: -9), shutting down executor.\n"
        "(EngineCore pid=1) ERROR 11-25 22:12:14 [core.py:1512] RuntimeError: Executor failed.\n"
        f"{API}ERROR 11-25 22:12:14 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered "
        "an issue. See stack trace (above) for the root cause.",
        "a process of it was killed (SIGKILL)",
        "VLLM_CPU_KVCACHE_SPACE",
    ),
    "worker": (
        "(EngineCore pid=1) ERROR 11-25 22:12:14 [multiproc_executor.py:315] Worker proc VllmWorker-1 died unexpectedly "
        "(exit code: 3), shutting down executor.\nRuntimeError: Executor failed.",
        "a process of it ended with exit code 3",
        "",
    ),
    "package": (
        "Traceback (most recent call last):\nModuleNotFoundError: No module named 'vllm'",
        "No module named 'vllm'",
        "not complete",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cause_of_a_failed_start(case: str) -> None:
    text, why, advice = CASES[case]
    found = cause_of(text, 1)
    assert why in found.why
    assert advice in found.advice
    assert "\n" not in str(found)
    assert len(str(found)) < 600


def test_a_killed_server() -> None:
    assert str(cause_of("loading\n", 128 + 9)).startswith("it was killed (SIGKILL); out of memory? Give its cache less")
    assert cause_of("what is this", 3).why == "it ended with exit code 3, and said: what is this"
    assert cause_of("", 0).why == "it ended with exit code 0"


def test_a_port_that_somebody_took() -> None:
    assert PORT_TAKEN.search(f"{API}OSError: [Errno 98] Address already in use")


def test_the_last_message() -> None:
    said = f"{API}INFO 11-25 18:48:58 [model.py:2152] Using max model len 2048\n{{'a': 1}}\n\n"
    assert last_message(said) == "Using max model len 2048"
