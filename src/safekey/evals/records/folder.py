"""An evaluation's run folder: it describes itself, so the same command goes on where it stopped.

runs/eval-r1-7b-safety/
  resolved.yaml      what decides the results: model and weights, benchmark files, decoding, judges; no secrets
  run.json           status, starts with versions, the model as its engine describes it, notes, contamination
  completions.jsonl  one row for each completion, token ids and sampling settings included
  verdicts.jsonl     one row for each judge, part and completion
  metrics.json       every rate with its interval and counts
  logs/              Inspect's logs: `inspect view --log-dir …/logs`
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import yaml

import safekey
from safekey.errors import UserError
from safekey.evals.records.rows import RESOLVED, RunRows, close_rows, open_rows
from safekey.lock import hold

RUN = "run.json"
METRICS = "metrics.json"
LOGS = "logs"
_PACKAGES = ("inspect-ai", "torch", "transformers", "tokenizers", "peft", "openai", "math-verify", "datasets")
_SECRET = re.compile(r"(?:^|_)(?:api_?key|token|password|secret|authorization)$", re.IGNORECASE)


class EvalRun:
    """One evaluation's folder, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # Inspect's logs name it, and may be read from elsewhere
        self._lock: IO[str] | None = None

    @property
    def logs(self) -> Path:
        """Where Inspect's logs lie."""
        return self.path / LOGS

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says; empty before the run began."""
        return _read_json(self.path / RUN)

    @property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json says; empty before the run ended."""
        return _read_json(self.path / METRICS)

    @property
    def resolved(self) -> dict[str, Any]:
        """What decides the results.

        Raises:
            UserError: the folder is no evaluation's.
        """
        try:
            found = yaml.safe_load((self.path / RESOLVED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{self.path}: no evaluation's run folder (it holds no {RESOLVED})") from None
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{self.path / RESOLVED}: cannot be read: {error}") from error
        return found if isinstance(found, dict) else {}

    @property
    def rows(self) -> RunRows:
        """Completions and verdicts."""
        rows = open_rows(str(self.path))
        assert rows is not None, "the folder is begun before its rows are read"
        return rows

    def check(self, resolved: Mapping[str, Any]) -> None:
        """Refuse to go on with other settings.

        Raises:
            UserError: the keys that differ are named; or the folder holds something else.
        """
        if not (self.path / RESOLVED).is_file():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise UserError(f"{self.path}: is not empty and no evaluation's run folder: give another --output")
            return
        before, now = flat(self.resolved), flat(plain_values(resolved))
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if changed:
            shown = "; ".join(f"{key}: {before.get(key)!r:.60} then, {now.get(key)!r:.60} now" for key in changed[:6])
            more = f"; and {len(changed) - 6} more" if len(changed) > 6 else ""
            hint = " (`safekey judge` adds judges to a run)" if any(key.startswith("judges") for key in changed) else ""
            raise UserError(
                f"{self.path}: was made with other settings ({shown}{more}): "
                f"give another --output or the old settings{hint}"
            )

    def hold(self) -> None:
        """Keep other processes out until `release`.

        Raises:
            UserError: another process works here, or the folder cannot be written.
        """
        self._lock = hold(self.path, "safekey")

    def release(self) -> None:
        """Close the rows and let others in."""
        close_rows(str(self.path))
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def begin(self, resolved: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write the folder's own files; a run that goes on keeps its earlier starts."""
        starts = [*self.record.get("starts", []), {"time": now(), "versions": versions()}]
        text = yaml.safe_dump(plain_values(resolved), sort_keys=False, allow_unicode=True)
        write(self.path / RESOLVED, text)
        self.mark("running", **record, starts=starts)

    def mark(self, status: str, **more: Any) -> None:
        """Record how the run stands: "running", "interrupted", "failed" or "finished"."""
        write_json(self.path / RUN, {**self.record, **plain_values(more), "status": status, f"{status}_at": now()})


def write(path: Path, text: str) -> None:
    """Write beside, then rename: a run that dies here leaves the old file or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON that people can read, in one step."""
    write(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"safekey": safekey.__version__, "python": sys.version.split()[0]}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def plain_values(value: Any) -> Any:
    """Return what JSON can hold, without anything whose name says that it is a secret."""
    cleaned: Any = json.loads(json.dumps(value, default=str))
    return without_secrets(cleaned)


def without_secrets(value: Any) -> Any:
    """Return a value without anything whose name says that it is a secret."""
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items() if not _SECRET.search(key)}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value


def flat(value: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    """Return nested settings as "tasks.xstest-safe.sha256": value."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found |= flat(item, f"{head}{key}.")
        else:
            found[f"{head}{key}"] = item
    return found
