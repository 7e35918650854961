"""What a limit is about and was not measured: benchmarks without a verdict, or not run, or that do not exist"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safekey.comparison.collect import Collected
from safekey.comparison.limits import TITLES, Limit, metric_measured, metric_of
from safekey.comparison.saved_runs import prefills
from safekey.comparison.types import Outcome
from safekey.errors import UserError, did_you_mean
from safekey.evals.benchmarks.catalog import BENCHMARKS
from safekey.evals.records.folder import EvalRun
from safekey.schema import Metric


def unmeasured(found: Collected, arm: str) -> dict[str, tuple[Metric | None, str, bool]]:
    """Return benchmarks of an arm without a verdict, or that not all its runs have: metric, why, if it prefills."""
    runs = found.saved[arm]
    counted = {row.benchmark for row in found.outcomes}
    gone: dict[str, tuple[Metric | None, str, bool]] = {}
    for name in sorted({prompt.benchmark for run in runs for prompt in run.samples} - counted):
        everywhere = all(any(prompt.benchmark == name for prompt in run.samples) for run in runs)
        why = "not judged: `safekey judge RUN` goes on" if everywhere else "not every run has it"
        known = next((run.benchmarks[name] for run in runs if name in run.benchmarks), None)
        metric = metric_measured(known) if known else metric_of(name)
        gone[name] = metric, why, any(prefills(run, name) for run in runs)
    return gone


def counts(name: str, metric: Metric | None, alone: bool, limit: Limit, rows: Sequence[Outcome]) -> bool:
    """Whether a benchmark without a value is part of what a limit is about; one of unknown kind always is."""
    if limit.benchmark:
        return name == limit.benchmark
    return metric in (None, limit.metric) and not (alone and rows)


def not_run(runs: Sequence[str]) -> dict[str, str]:
    """Return the benchmarks of a suite that an evaluation did not run, and why."""
    found: dict[str, str] = {}
    for run in runs:
        left = EvalRun(Path(run).expanduser()).record.get("left_out")
        found |= {str(name): str(why) for name, why in left.items()} if isinstance(left, Mapping) else {}
    return found


def check_benchmarks(limits: Sequence[Limit], found: Collected) -> None:
    """Check that each benchmark that is named exists: in the table, or in the runs."""
    known = {row.name for row in BENCHMARKS} | found.kinds.keys()
    runs = [run for group in found.saved.values() for run in group]
    known |= {name for run in runs for name in run.benchmarks}
    for limit in limits:
        if limit.benchmark and limit.benchmark not in known:
            near = did_you_mean(limit.benchmark, known)
            raise UserError(f"there is no benchmark '{limit.benchmark}'{near} (`safekey benchmarks` lists them)")
        for row in (run.benchmarks[limit.benchmark] for run in runs if limit.benchmark in run.benchmarks):
            if (measured := metric_measured(row)) != limit.metric:
                raise UserError(f"{row.name} measures {TITLES[measured]}, not {TITLES[limit.metric]}")
