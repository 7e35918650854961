"""What the process of a job leaves in the job's folder: that it works, where, and how it ended.

`arms/sft/seed-0/.job.json`, rewritten at the beginning and at the end of each attempt:

    {"status": "ended", "host": "node7", "pid": 812, "slurm": "4711", "restarts": 1, "code": 1, "state": "CANCELLED"}
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from safekey import run_folder

FILE = ".job.json"
PROCESS = ".process.json"


def begin(folder: Path, **more: Any) -> None:
    """Record that this process works on a job, with whatever else is known of it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / FILE, {"status": "running", **_process(), **more})


def end(folder: Path, code: int, **more: Any) -> None:
    """Record how the attempt ended that `begin` recorded."""
    known = read(folder)
    _write(folder / FILE, {**known, "status": "ended", "ended": run_folder.now(), "code": code, **more})


def read(folder: Path) -> dict[str, Any]:
    """Return the record of the last attempt; empty before the first."""
    return run_folder.read_json(folder / FILE)


def sign_in(grid: Path) -> None:
    """Record that this process runs the grid."""
    _write(grid / PROCESS, _process())


def runs(grid: Path) -> bool | None:
    """Whether a process runs the grid; None when it was started on another machine."""
    return alive(run_folder.read_json(grid / PROCESS))


def alive(record: dict[str, Any]) -> bool | None:
    """Whether the process of a record still lives; None when it is another machine's."""
    if not record:
        return False
    if record.get("host") != socket.gethostname():
        return None
    import psutil  # type: ignore[import-untyped]

    try:
        return bool(abs(psutil.Process(int(record["pid"])).create_time() - float(record["created"])) < 2)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def saved(train: Path | None, evaluation: Path) -> list[int]:
    """Return how far a job is that would go on now: steps of the newest checkpoint, trained or not, rows, verdicts."""
    steps = [0]
    if train is not None:
        numbers = (path.name.removeprefix("checkpoint-") for path in train.glob("checkpoint-*"))
        steps += [int(number) for number in numbers if number.isdigit()]
    trained = train is None or run_folder.read_json(train / run_folder.RUN).get("status") == "finished"
    return [max(steps), int(trained), *(_lines(evaluation / name) for name in ("completions.jsonl", "verdicts.jsonl"))]


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def _process() -> dict[str, Any]:
    import psutil

    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "created": psutil.Process().create_time(),
        "began": run_folder.now(),
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    with suppress(OSError):  # a full disk ends the job with a better message than this one
        run_folder.write_json(path, {"format": run_folder.FORMAT, **record})
