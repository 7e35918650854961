"""An evaluation's run folder. It holds all settings, so the same command continues where it stopped.

runs/eval-r1-7b-safety/
  resolved.yaml      what decides the results: model and weights, benchmark files, decoding, judges; no secrets
  run.json           status, starts with versions, the model as its engine describes it, notes, contamination
  completions.jsonl  one row for each completion, token ids and sampling settings included
  verdicts.jsonl     one row for each judge, part and completion
  metrics.json       every rate with its interval and counts
  judge-error/       with --judge-record or --labels: what is known of the judges' errors, without texts
  logs/              Inspect's logs: `inspect view --log-dir …/logs`
  vllm/              with --engine vllm: its log, for this user only
  labels/            what people said of its answers: `safekey judges label`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey import run_folder
from safekey.errors import UserError
from safekey.evals.records.rows import COMPLETIONS, RESOLVED, VERDICTS, RunRows, close_rows, open_rows
from safekey.run_folder.ownership import check_apart, kind_of

if TYPE_CHECKING:
    from filelock import BaseFileLock

METRICS = "metrics.json"
LOGS = "logs"
SERVER = "vllm"
JUDGE_ERROR = "judge-error"
_FILES = (RESOLVED, run_folder.RUN, COMPLETIONS, VERDICTS, METRICS, LOGS, SERVER, JUDGE_ERROR)


class EvalRun:
    """One evaluation's folder, locked by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # Inspect's logs name it, and may be read from elsewhere
        self._lock: BaseFileLock | None = None

    @property
    def logs(self) -> Path:
        """The folder of Inspect's logs."""
        return self.path / LOGS

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says; empty before the run began. See `run_folder.read_record`."""
        return run_folder.read_record(self.path)

    @property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json says; empty before the run ended."""
        return run_folder.read_json(self.path / METRICS)

    @property
    def resolved(self) -> dict[str, Any]:
        """What decides the results.

        Raises:
            UserError: the folder is no evaluation's, or a newer safekey wrote it.
        """
        run_folder.read_record(self.path)
        return run_folder.read_settings(self.path / RESOLVED, "evaluation's run folder")

    @property
    def rows(self) -> RunRows:
        """Completions and verdicts."""
        rows = open_rows(str(self.path))
        assert rows is not None, "the folder is begun before its rows are read"
        return rows

    def check(self, resolved: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> None:
        """Refuse another's folder, and to continue with other settings.

        A first try that generated nothing binds nobody: the corrected command begins anew.

        Args:
            resolved: what decides the results.
            inputs: what the user calls an input → its path.

        Raises:
            UserError: the keys that differ are named; the folder holds something else, or an input of this evaluation.
        """
        kind = kind_of(self.path)
        if run_folder.is_foreign(self.path) and kind != "evaluation":
            what = f"is the folder of another verb ({kind})" if kind else "is not empty and no evaluation's run folder"
            raise UserError(f"{self.path}: {what}: give another --output")
        check_apart(inputs or {}, [self.path / name for name in _FILES], "give another --output")
        if not (self.path / RESOLVED).is_file() or not self._has_rows:
            return
        changed = run_folder.changes(self.resolved, run_folder.without_secrets(resolved))
        if changed:
            shown = "; ".join(list(changed.values())[:6])
            more = f"; and {len(changed) - 6} more" if len(changed) > 6 else ""
            hint = " (`safekey judge` adds judges to a run)" if any(key.startswith("judges") for key in changed) else ""
            raise UserError(
                f"{self.path}: was made with other settings ({shown}{more}): "
                f"give another --output or the old settings{hint}"
            )

    @property
    def _has_rows(self) -> bool:
        files = (self.path / COMPLETIONS, self.path / VERDICTS)
        failed = self.record.get("status") == "failed"
        return not failed or any(file.is_file() and file.stat().st_size for file in files)

    def check_ours(self) -> None:
        """Check that the folder is an evaluation's.

        Raises:
            UserError: it is not.
        """
        _ = self.resolved
        if (kind := kind_of(self.path)) != "evaluation":
            what = f"is the folder of another verb ({kind})" if kind else "no evaluation of safekey wrote it"
            raise UserError(f"{self.path}: {what}")

    def hold(self) -> None:
        """Lock the folder until `release`.

        Raises:
            UserError: another process works here, or the folder cannot be written.
        """
        self._lock = run_folder.hold(self.path, "another safekey works here: wait for it, or end it")

    def release(self) -> None:
        """Close the rows and unlock the folder."""
        close_rows(str(self.path))
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def begin(self, resolved: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write the folder's own files; a run that continues keeps its earlier starts."""
        starts = [*self.record.get("starts", []), run_folder.start()]
        self.mark("running", **record, kind="evaluation", starts=starts)  # first: from here on the folder is ours
        run_folder.write_settings(self.path / RESOLVED, resolved)

    def note(self, **more: Any) -> None:
        """Add to the run's record, and leave how the run stands as it is."""
        run_folder.write_json(self.path / run_folder.RUN, {**self.record, **run_folder.without_secrets(more)})

    def mark(self, status: str, **more: Any) -> None:
        """Record how the run stands: "running", "interrupted", "failed" or "finished"."""
        run_folder.mark(self.path, status, **more)


def unfinished_judging(record: Mapping[str, Any]) -> str:
    """Return the judges of a `safekey judge` that runs, or was stopped, as run.json tells; "" for none."""
    return ", ".join(name for name, about in (record.get("judging") or {}).items() if about["status"] == "running")
