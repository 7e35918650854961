"""Slurm's commands as scripts that print what a test has written into files: for states that no small cluster shows."""

from __future__ import annotations

from pathlib import Path

_SCRIPTS = {
    "squeue": '[ -e "$D/squeue.fail" ] && { cat "$D/squeue.fail" >&2; exit 1; }; cat "$D/squeue.out"',
    "scontrol": 'if [ "$2" = show ]; then [ -e "$D/scontrol.fail" ] && { cat "$D/scontrol.fail" >&2; exit 1; }; '
    '[ -e "$D/job-$4" ] && { cat "$D/job-$4"; exit 0; }; echo "slurm_load_jobs error: Invalid job id specified" >&2; '
    'exit 1; fi; echo "$@" >> "$D/scontrol.seen"',
    "scancel": 'echo "$@" >> "$D/scancel.seen"',
    "sbatch": '[ -e "$D/sbatch.fail" ] && { cat "$D/sbatch.fail" >&2; exit 1; }; cp "$1" "$D/script"; '
    'env > "$D/env"; echo "Submitted batch job 41"',
    "srun": "exit 1",
    "sinfo": "printf 'main\\nshort\\n'",
    "sacct": '[ -e "$D/sacct.out" ] && cat "$D/sacct.out" || { echo "accounting is disabled" >&2; exit 1; }',
}


class FakeSlurm:
    """The scripts in `home/bin`, and what they say."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir(parents=True)
        for name, script in _SCRIPTS.items():
            path = self.bin / name
            path.write_text(f"#!/bin/sh\nD={home}\n{script}\n")
            path.chmod(0o755)
        self.queue({})

    def queue(self, states: dict[str, str], names: dict[str, str] | None = None, reason: str = "None") -> None:
        """Let squeue show these jobs, by number."""
        self.answers("squeue")
        lines = (f"{number}|{state}|{reason}|n1|{(names or {}).get(number, 'x')}\n" for number, state in states.items())
        (self.home / "squeue.out").write_text("".join(lines))

    def knows(self, number: str, state: str, **fields: str) -> None:
        """Let `scontrol show job` know a job."""
        words = {"JobId": number, "JobName": "x", "JobState": state, "Reason": "None", **fields}
        (self.home / f"job-{number}").write_text(" ".join(f"{key}={value}" for key, value in words.items()) + "\n")

    def fails(self, command: str, text: str) -> None:
        """Let a command fail with an error on stderr."""
        (self.home / f"{command}.fail").write_text(text + "\n")

    def answers(self, command: str) -> None:
        """Let a command work again."""
        (self.home / f"{command}.fail").unlink(missing_ok=True)

    def seen(self, command: str) -> str:
        """Return how a command was called."""
        path = self.home / f"{command}.seen"
        return path.read_text() if path.exists() else ""
