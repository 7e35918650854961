"""Compare a grid's finished arms, and write compare.json and compare.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safekey.comparison.collect import Collected, collect
from safekey.comparison.compare import compare, split_apart
from safekey.comparison.tables import markdown_table
from safekey.comparison.types import ComparisonResult
from safekey.errors import UserError
from safekey.evals.request import ALLOWED_UNSCORED
from safekey.grid.folder import GridFolder, Job
from safekey.run_folder import read_record


@dataclass(frozen=True, slots=True)
class Results:
    """A grid's comparison.

    Attributes:
        report: every arm against the reference, without the prefilling attack.
        apart: the same on these alone; None where there are none.
        found: the outcomes of all, and notes.
        ground: a sentence about what all arms share: rows, steps, seeds.
        folders: arm → its evaluations.
    """

    report: ComparisonResult
    apart: ComparisonResult | None
    found: Collected
    ground: str
    folders: Mapping[str, Sequence[Path]]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        about = {"runs": self.found.runs, "seeds": self.found.seeds, "judges": self.found.judges}
        apart = None if self.apart is None else asdict(self.apart)
        return {"version": 1, "ground": self.ground, "notes": self.found.notes, **about, **asdict(self.report),
                "apart": apart}  # fmt: skip


def results(
    folder: GridFolder,
    reference: str,
    *,
    margin: float,
    judges: Sequence[str],
    allow_unscored: float = ALLOWED_UNSCORED,
) -> Results | None:
    """Compare a grid's finished evaluations; None while there are not two arms, the reference among them.

    Raises:
        UserError: the training runs had different rows or numbers of steps, or the evaluations cannot be compared.
    """
    runs = folder.evaluations()
    if reference not in runs or len(runs) < 2:
        return None
    settings = folder.settings
    jobs = [job for job in folder.jobs(list(settings["arms"]), settings["seeds"]) if job.done]
    ground = common_ground(jobs, folder.drawn)
    found = collect({arm: [str(run) for run in some] for arm, some in runs.items()}, judges=judges)
    together, alone = split_apart(found.outcomes)
    how: dict[str, Any] = {"margin": margin, "allow_unscored": allow_unscored, "errors": found.errors}
    report = compare(together, reference, **how)
    apart = compare(alone, reference, **how) if alone else None
    return Results(report, apart, found, ground, runs)


def common_ground(jobs: Sequence[Job], drawn: bool = False) -> str:
    """Return a sentence about the rows and steps that all trained arms share.

    Args:
        jobs: finished ones.
        drawn: each seed trains on its own draw of the rows; then only arms of one seed have to share them.

    Raises:
        UserError: they differ: other data files, another number of rows or of steps, or, in one seed, other rows.
    """
    seen: dict[tuple[str, int | None], tuple[str, Job]] = {}
    hashes: set[str] = set()
    words = ""
    for job in jobs:
        if job.train is None:
            continue
        record = read_record(job.train)
        if not record:  # deleted since
            continue
        files = {str(path): identity.get("sha256") for path, identity in (record.get("data") or {}).items()}
        found, steps = record.get("rows") or {}, (record.get("metrics") or {}).get("step")
        rows, own = found.get("trained_on"), job.seed if drawn else None
        known = {("data", own): json.dumps(files, sort_keys=True), ("rows", own): str(rows), ("steps", own): str(steps)}
        if "sha256" in found:  # a record of an earlier version has none
            known["rows of one seed", job.seed] = str(found["sha256"])
            hashes.add(found["sha256"])
        for (what, seed), value in known.items():
            first, other = seen.setdefault((what, seed), (value, job))
            if first != value:
                raise UserError(
                    f"{job.train} and {other.train} trained on different {what} ({value:.80} and {first:.80}): arms "
                    "can only be compared on the same ground; delete the odd folder and give the same command again"
                )
        words = f"every arm and seed: the same {rows} rows, {steps} steps; a seed gives every arm the same order"
        if drawn or len(hashes) > 1:
            how = "its own draw" if drawn else "its own choice (what is held out, or the limit's sample)"
            words = f"every arm of a seed: the same {rows} rows, {steps} steps, in the same order; each seed has {how}"
    return words


def write_results(folder: GridFolder, found: Results) -> None:
    """Write compare.json and compare.md."""
    folder.write_result("compare.json", json.dumps(found.to_dict(), indent=2, ensure_ascii=False, default=str) + "\n")
    text = f"{markdown_table(found.report)}\n"
    if found.apart is not None:
        text += f"\nPrefilling attack, apart:\n\n{markdown_table(found.apart)}\n"
    text += "".join(f"- note: {note}\n" for note in (found.ground, *found.found.notes) if note)
    folder.write_result("compare.md", text)
