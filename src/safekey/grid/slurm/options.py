"""Read `--slurm-option NAME=VALUE`: options of sbatch, by their long names; those that the grid sets are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from safekey.errors import UserError

FLAG = "--slurm-option"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_OURS = {
    **dict.fromkeys(("job-name", "output", "error", "open-mode", "comment"), "the grid sets it"),
    "array": "the grid submits one job for each arm and seed; --jobs N bounds how many at a time",
    **dict.fromkeys(("wrap", "input", "export-file", "parsable", "test-only", "wait", "help", "usage", "version",
                     "quiet", "verbose"), "it does not fit a job of the grid"),
    "chdir": "recipes and data are found from the folder in which the grid is started",
}  # fmt: skip
_ONE = ("nodes", "ntasks", "ntasks-per-node", "ntasks-per-gpu", "ntasks-per-core", "ntasks-per-socket")
_TRUE, _FALSE = ("true", "yes"), ("false", "no")


def parse(given: Sequence[str]) -> dict[str, str]:
    """Return ["partition=gpu", "time=12:00:00"] as a table.

    Raises:
        UserError: a word of another form, a name that is none, an option that the grid sets, or a value with a newline.
    """
    found: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        name = name.strip().removeprefix("--").replace("_", "-")
        if not equals or not value.strip():
            raise UserError(f"{FLAG} {word!r:.80}: expected NAME=VALUE, such as partition=gpu (a flag: exclusive=true)")
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
            raise UserError(f"{FLAG} {name}: its value holds a newline or another control character: give one line")
        if len(name) < 2 or not _NAME.fullmatch(name):
            raise UserError(f"{FLAG} {word!r:.80}: expected the long name of an sbatch option, such as partition")
        if name in _OURS:
            raise UserError(f"{FLAG} {name}: {_OURS[name]}")
        if name in _ONE and value.strip() != "1":
            raise UserError(
                f"{FLAG} {name}={value:.40}: a job of the grid is one process on one node: for several GPUs in a job "
                "use --launch with --num-processes, and gres=gpu:N"
            )
        found[name] = value.strip()
    return found


def for_sbatch(options: Mapping[str, str]) -> dict[str, str | bool]:
    """Return the options as submitit writes them: True for a flag without value; a flag that is off is left out."""
    return {
        name: True if value.lower() in _TRUE else value
        for name, value in options.items()
        if value.lower() not in _FALSE and name not in _ONE
    }


def margin(options: Mapping[str, str], limit: float) -> float:
    """Return how many seconds before its time limit a job stops, to save: those of `signal=…@SECONDS`, else 3 minutes.

    Args:
        options: the user's.
        limit: of the job, in seconds; the margin is at most a fifth of it.
    """
    found = re.search(r"@(\d+)", options.get("signal", ""))
    return min(float(found.group(1)) if found else 180.0, limit / 5)


def cpus(options: Mapping[str, str]) -> int:
    """Return how many CPUs a job has: Slurm's default is one."""
    text = options.get("cpus-per-task", "1")
    return int(text) if text.isdigit() and int(text) else 1
