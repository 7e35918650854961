"""Make the stub of vLLM an executable, and look at what its starts left."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil


def executable(folder: Path) -> Path:
    """Write the stub as an executable script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vllm"
    source = Path(__file__).with_name("stub.py").read_text(encoding="utf-8")
    path.write_text(f"#!{sys.executable} -S\n{source}", encoding="utf-8")
    path.chmod(0o755)
    return path


def starts(seen: Path) -> list[dict[str, Any]]:
    """What each start of the stub was given."""
    return [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []


def alive(seen: Path) -> list[int]:
    """The processes of all starts that still run."""
    return [pid for start in starts(seen) for pid in start["pids"] if _runs(pid)]


def _runs(pid: int) -> bool:
    """Whether a process runs; one that ends while it is asked about does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(seen: Path, seconds: float = 20.0) -> bool:
    """Whether every process of every start ends within some seconds."""
    end = time.monotonic() + seconds
    while alive(seen) and time.monotonic() < end:
        time.sleep(0.1)
    return not alive(seen)


def temporary() -> set[str]:
    """The temporary folders of servers."""
    import tempfile

    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("safekey-vllm-")}
