"""Say in one line why vLLM did not start or ended, from what its log says.

The log of a server that cannot start has many lines; the first exception is the cause, later ones only tell that a
process of the server is gone::

    (EngineCore pid=4930) ERROR 11-25 18:49:13 [core.py:1100] ValueError: No available memory for the cache blocks. ...
    (APIServer pid=4702) RuntimeError: Engine core initialization failed. See root cause above. ...
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_LONGEST = 280  # characters of a cause
_MOST = 400_000  # bytes of a log's end that are read
_LINE = re.compile(r"^(?:\([^)]*pid=\d+\)\s?)?(?:(?:ERROR|CRITICAL|WARNING|INFO)\s[\d\- :]+\[[^\]]*\]\s?)?")
_ERROR = re.compile(r"^(?:[\w.]+\.)?([A-Z]\w*(?:Error|Exception|Interrupt)|AssertionError): ?(.*)")
_USAGE = re.compile(r"^vllm(?: \w+)*: error: (.*)")
_FOLLOWS = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "Failed core proc",
    "EngineDeadError",
    "Executor failed",
)
_WORKER = re.compile(r"Worker proc \S+ died unexpectedly \(exit code: (-?\d+)\)")

# What the user can do, by what the cause says. The first that fits is given.
_HELP = "see `vllm serve --help=all`"
_MEMORY = "(on a CPU the environment variable VLLM_CPU_KVCACHE_SPACE, in GiB)"
_ADVICE: tuple[tuple[str, str], ...] = (
    (r"unrecognized arguments", "vLLM has no such option"),
    (r"argument --|invalid choice|invalid \w+ value|expected (?:one|at least)|ignored explicit argument", _HELP),
    (
        r"max_model_len.*greater than|larger than.*max_position|max seq len.*KV cache|estimated maximum model length",
        f"give a smaller --engine-option max_model_len=…, or its cache more memory: gpu_memory_utilization=… {_MEMORY}",
    ),
    (
        r"No available memory for the cache|less than desired GPU memory|memory for kv|KV cache",
        f"free memory, or change --engine-option gpu_memory_utilization=… {_MEMORY} or max_model_len=…",
    ),
    (
        r"out of memory|OutOfMemory|Cannot allocate memory|bad_alloc|not enough memory|DefaultCPUAllocator",
        "it needs less memory with --engine-option max_model_len=…, max_num_seqs=… or quantization=…, and less on each "
        "GPU with tensor_parallel_size=…",
    ),
    (r"[Hh]ead.?size|head_dim|head dim", "vLLM cannot serve this model here: use --engine local"),
    (
        r"Generator does not use offset",
        "on a CPU vLLM cannot sample where it reads prompts in pieces: leave out --engine-option "
        "enable_chunked_prefill=…, or give --temperature 0",
    ),
    (r"rchitectures? .*not supported|not supported for now", "vLLM cannot serve this model: use --engine local"),
    (r"LoRA|lora", "vLLM cannot serve this adapter as it is: merge it into its base model, or use --engine local"),
    (r"divisible|tensor.parallel|world size|NUMA|number of available", "choose another tensor_parallel_size"),
    (r"trust_remote_code|custom code", "only if you trust the model's code: --engine-option trust_remote_code=true"),
    (
        r"No module named 'safekey_keyed'",
        "its Python ignores PYTHONPATH, by which safekey guards the server: give --vllm another one",
    ),
    (r"No module named|ImportError|cannot open shared object", "this environment of vLLM is not complete"),
    (r"ValidationError|Value error|ValueError", _HELP),
    (r"killed \(SIGKILL\)", f"out of memory? Give its cache less: gpu_memory_utilization=… {_MEMORY}"),
)
PORT_TAKEN = re.compile(r"Address already in use|address already in use|EADDRINUSE")


class Cause(NamedTuple):
    """Why a server ended, and what the user can do about it; "" where nothing is known."""

    why: str
    advice: str

    def __str__(self) -> str:
        return f"{self.why}; {self.advice}" if self.advice else self.why


def text_since(log: Path, begin: int) -> str:
    """Return what a log says from a byte on, at most its last part."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(begin, end - _MOST))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def cause_of(text: str, code: int) -> Cause:
    """Return why a server ended.

    Args:
        text: its log.
        code: its exit code; above 128: the number of the signal that killed it, and 128.
    """
    lines = [_LINE.sub("", line) for line in text.splitlines()]
    why = next((found.group(1) for line in lines if (found := _USAGE.match(line))), "") or _exception(lines)
    why = why if why and not _follows(why) else _worker(text) or why
    if not why:
        said = [line.strip() for line in lines if line.strip()]
        how = f"it ended with exit code {code}" if code <= 128 else f"it was killed ({_signal(code - 128)})"
        why = f"{how}{', and said: ' + said[-1][:200] if said and code <= 128 else ''}"
    advice = next((then for pattern, then in _ADVICE if re.search(pattern, why)), "")
    return Cause(_short(" ".join(why.split())), advice)


def last_message(text: str) -> str:
    """Return the last line that a log says in words, without its head, for a display of progress."""
    for line in reversed(text.splitlines()):
        plain = _LINE.sub("", line).strip()
        if plain and not plain.startswith(("{", "[", "|", "INFO:")):
            return plain[:90]
    return ""


def _exception(lines: list[str]) -> str:
    """Return the first exception that does not only tell of another one."""
    found = ""
    for at, line in enumerate(lines):
        hit = _ERROR.match(line.strip())
        if hit is None:
            continue
        name, said = hit.groups()
        if name == "ValidationError":  # pydantic's: the reason is on the lines below
            said = _below(lines[at + 1 :]) or said
        words = (
            said
            if name in ("ValueError", "RuntimeError", "ValidationError", "AssertionError") and said
            else f"{name}: {said}"
        )
        if not _follows(f"{name} {said}"):
            return words
        found = found or words
    return found


def _follows(words: str) -> bool:
    """Whether an exception only tells of another one."""
    return any(each in words for each in _FOLLOWS)


def _worker(text: str) -> str:
    """Return how a worker ended that could say nothing itself; "" where none did."""
    found = _WORKER.search(text)
    if found is None:
        return ""
    code = int(found.group(1))
    return (
        f"a process of it was killed ({_signal(-code)})" if code < 0 else f"a process of it ended with exit code {code}"
    )


def _below(lines: Iterable[str]) -> str:
    for line in lines:
        plain = line.strip()
        if plain.startswith(("Value error, ", "Assertion failed, ")):
            return plain.partition(", ")[2].partition(" [type=")[0]
        if plain and not line.startswith(" "):
            continue
        if "[type=" in plain:
            return plain.partition(" [type=")[0]
    return ""


def _short(why: str) -> str:
    """Return the first sentences of a long message."""
    if len(why) <= _LONGEST:
        return why.rstrip(".")
    end = why.rfind(". ", 0, _LONGEST)
    return why[:end] if end > 0 else f"{why[:_LONGEST]}…"


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
