"""Which Slurm job does which job of the grid: `slurm.json` in the grid's folder, and job names that no other grid uses.

{"path": "/home/me/runs/grid-my", "token": "3fa9c1d2", "jobs": {"sft, seed 0": {"id": "4711", "settings": "9b0c…"}}}
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safekey import run_folder
from safekey.grid.folder import Job
from safekey.grid.slurm.commands import Seen

FILE = "slurm.json"
_DECIDES = ("recipe", "overrides", "values", "base_sha256", "evaluation", "launch", "processes")


class Record:
    """The record of one grid. Only the process that holds the grid's lock writes it.

    Attributes:
        jobs: for each job of the grid that was submitted, its Slurm job (`id`), what it was submitted with, and how it
            was `seen` to end.
    """

    def __init__(self, grid: Path) -> None:
        self._path = grid / FILE
        found = run_folder.read_json(self._path)
        run_folder.check_format(self._path, found)
        self.exists = bool(found)
        self.jobs: dict[str, dict[str, Any]] = dict(found.get("jobs") or {})
        moved = found.get("path") != str(grid)  # a copy must not take the original's jobs for its own
        self._token = secrets.token_hex(4) if moved or not found.get("token") else str(found["token"])

    def write(self) -> None:
        """Write it, in one step."""
        about = {"format": run_folder.FORMAT, "path": str(self._path.parent), "token": self._token}
        run_folder.write_json(self._path, {**about, "jobs": self.jobs})

    def name_of(self, job: Job) -> str:
        """Return the name under which a job of the grid is submitted: found in the queue, it is this job."""
        arm = re.sub(r"[^A-Za-z0-9._+-]", "_", job.arm)[:40]
        return f"safekey-{self._token}-{arm}" + ("" if job.seed is None else f"-{job.seed}")

    def id_of(self, job: Job) -> str | None:
        """Return the number of the job's last Slurm job."""
        found = self.jobs.get(str(job), {}).get("id")
        return None if found is None else str(found)

    def adopt(self, job: Job, known: Mapping[str, Seen]) -> str | None:
        """Return the number of the live Slurm job of a job, also of one whose number was not recorded any more."""
        number = self.id_of(job)
        if number is not None and number in known and known[number].live:
            return number
        name = self.name_of(job)
        return next((seen.id for seen in known.values() if seen.live and seen.name == name), None)


def digest(resolved: Mapping[str, Any], arm: str) -> str:
    """Return a hash of everything that decides the result of an arm's jobs."""
    about = {key: resolved.get(key) for key in _DECIDES}
    text = json.dumps([about, resolved["arms"].get(arm)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
