"""Which variance an interval over training seeds holds: of seeds alone, or of seeds and draws of the training rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from safekey.comparison.saved_runs import SavedRun
from safekey.run_folder import read_record

SAME = (
    "intervals hold the variance of training seeds on the same rows, and not that of another draw of the rows "
    "(safekey grid --rows drawn)"
)
DRAWN = "intervals hold the variance of training seeds and of the draw of the rows together: each seed has its own rows"
BOTH = "of some arms each seed has its own rows, of others all seeds have the same: intervals hold different variances"


def variance(arms: Iterable[Sequence[SavedRun]]) -> list[str]:
    """Return a note on what the seeds of arms vary; none where no arm has several trained runs with records."""
    found = {kind for kind in map(_drawn, arms) if kind is not None}
    return [{frozenset({False}): SAME, frozenset({True}): DRAWN}.get(frozenset(found), BOTH)] if found else []


def _drawn(runs: Sequence[SavedRun]) -> bool | None:
    """Whether each run of an arm drew its own rows, or names files of its own; None: one run, or not known."""
    if len(runs) < 2 or any(run.training is None or not run.training_config for run in runs):
        return None
    if any(run.training_config.get("rows") == "drawn" for run in runs):
        return True
    return len({_files(run) for run in runs}) > 1


def _files(run: SavedRun) -> frozenset[str]:
    """Return what identifies the data of a run: the sha256 of its files; a hub id's revision is in its place."""
    data = read_record(run.training).get("data") or {} if run.training is not None else {}
    return frozenset(str(one.get("sha256") or one) for one in data.values() if isinstance(one, dict))
