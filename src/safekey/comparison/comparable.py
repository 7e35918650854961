"""Check that several run folders may be compared: the same prompts, decoding and judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safekey.comparison.saved_runs import JudgeId, SavedPrompt, SavedRun
from safekey.errors import UserError
from safekey.schema import JUDGED_KINDS, Part


class NothingJudgedError(UserError):
    """The runs have prompts in common, and no verdict on the part in question."""


def common(runs: Sequence[SavedRun], part: Part) -> tuple[list[SavedPrompt], dict[str, str], list[str]]:
    """Return the prompts that all runs share and somebody judged, the kind of each benchmark, and notes.

    Raises:
        NothingJudgedError: nobody judged this part in any run.
        UserError: the runs have no prompt in common.
    """
    shared, notes = _shared(runs)
    kinds = {name: kind for run in runs for name, kind in run.kinds.items()}
    unjudged = sorted({prompt.benchmark for prompt in shared} - kinds.keys())
    shared = [prompt for prompt in shared if prompt.benchmark in kinds]
    parts = sorted(set().union(*(run.parts for run in runs)))
    if not shared or (parts and part not in parts):
        judged = f"only the {' and the '.join(parts)} was" if parts else "nothing was"
        raise NothingJudgedError(
            f"no verdicts on the {part}, {judged} judged: `safekey judge RUN --judge NAME=MODEL` judges"
        )
    if unjudged:
        notes.append(f"left out, without a verdict on the {part} in any run: {', '.join(unjudged)}")
    return shared, kinds, notes


def _shared(runs: Sequence[SavedRun]) -> tuple[list[SavedPrompt], list[str]]:
    """Return the prompts that every run was asked, and notes on the others."""
    benchmarks = [{prompt.benchmark for prompt in run.samples} for run in runs]
    common = set.intersection(*benchmarks)
    if not common:
        raise UserError("no benchmark in common: " + "; ".join(
            f"{run.path} has {', '.join(sorted(names)) or 'none'}" for run, names in zip(runs, benchmarks, strict=True)
        ))  # fmt: skip
    for name in sorted(common):
        _same_kind(name, runs)
    shared = set.intersection(*(set(run.samples) for run in runs))
    if not shared:
        raise UserError(f"no prompt in common, though all runs have {', '.join(sorted(common))}: other rows were drawn")
    for prompt in sorted(shared):
        for run in runs[1:]:
            if run.asked[prompt] != runs[0].asked[prompt]:
                raise UserError(
                    f"{prompt.benchmark}: '{prompt.item}' is one prompt in {runs[0].path} and another in {run.path}: "
                    "the benchmark files differ"
                )
    notes = []
    alone = sorted(set.union(*benchmarks) - common)
    if alone:
        notes.append(f"left out, benchmarks that not every run has: {', '.join(alone)}")
    every = {prompt for run in runs for prompt in run.samples if prompt.benchmark in common}
    fewer = Counter(prompt.benchmark for prompt in every - shared)
    if fewer:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(fewer.items()))
        notes.append(f"left out, prompts that not every run was asked: {counts}")
    return sorted(shared), notes


def _same_kind(name: str, runs: Sequence[SavedRun]) -> None:
    """Check that a benchmark is of one kind in all runs: two of the users' own may share a name."""
    known = [(run, run.benchmarks[name]) for run in runs if name in run.benchmarks]
    for run, benchmark in known[1:]:
        first_run, first = known[0]
        if (benchmark.scoring, benchmark.kind) != (first.scoring, first.kind):
            raise UserError(
                f"{name}: is '{first.own or first.scoring}' in {first_run.path} and "
                f"'{benchmark.own or benchmark.scoring}' in {run.path}: two benchmarks with one name"
            )


def settings(runs: Sequence[SavedRun], benchmarks: Sequence[str], allowed: bool) -> list[str]:
    """Compare every run's decoding with the first one's; seeds of sampling may differ."""
    first = _decoding(runs[0], benchmarks)
    notes = []
    for run in runs[1:]:
        other = _decoding(run, benchmarks)
        keys = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        if not keys:
            continue
        shown = "; ".join(f"{key}: {first.get(key)!r:.40} and {other.get(key)!r:.40}" for key in keys[:6])
        more = f"; and {len(keys) - 6} more" if len(keys) > 6 else ""
        said = f"{runs[0].path} and {run.path} were decoded with different settings ({shown}{more})"
        if not allowed:
            raise UserError(f"{said}: --allow-different-settings compares them nevertheless")
        notes.append(said)
    return notes


def _decoding(run: SavedRun, benchmarks: Sequence[str]) -> dict[str, Any]:
    weights = run.resolved.get("weights") or {}
    found = {"chat_template_kwargs": weights.get("chat_template_kwargs") or {}}
    found |= {f"adaptive.{key}": value for key, value in (run.resolved.get("adaptive") or {}).items()}
    for name in benchmarks:
        task = run.resolved["tasks"].get(name) or {}
        used = {"samples": task.get("samples"), **(run.sampling.get(name) or task.get("decoding") or {})}
        found |= {f"{name}.{key}": value for key, value in used.items() if key != "seed"}
    return found


def choose(
    runs: Sequence[SavedRun], kinds: Sequence[str], named: Sequence[str], allowed: bool, *, complete: bool = True
) -> dict[Path, dict[str, JudgeId]]:
    """Return the judge of each kind for each run: the one that all have in common, if need be of those named.

    Args:
        runs: all of them.
        kinds: "harm", "refusal"; accuracy has no choice.
        named: NAME or NAME=MODEL, as the user gave them.
        allowed: let different models behind one judge count as one.
        complete: whether a run that nobody judged is an error, or left without a judge.

    Raises:
        UserError: no such judge, none in common, or several and none named.
    """
    every = {judge for run in runs for kind in JUDGED_KINDS for judge in run.judges.get(kind, ())}
    for name in named:
        if not any(judge.answers_to(name) for judge in every):
            known = ", ".join(sorted(map(str, every))) or "none"
            raise UserError(f"--judge {name}: none of these runs was judged by it; there are: {known}")
    chosen: dict[Path, dict[str, JudgeId]] = {run.path: {} for run in runs}
    for kind in kinds:
        if kind == "accuracy":
            continue
        judged = [run for run in runs if complete or run.judges.get(kind)]
        for run, judge in zip(judged, _judges_of(kind, judged, named, allowed) if judged else (), strict=True):
            chosen[run.path][kind] = judge
    return chosen


def _judges_of(kind: str, runs: Sequence[SavedRun], named: Sequence[str], allowed: bool) -> list[JudgeId]:
    there = [list(run.judges.get(kind, ())) for run in runs]
    wanted = [name for name in named if any(judge.answers_to(name) for found in there for judge in found)]
    fitting = [
        [judge for judge in found if not wanted or any(judge.answers_to(name) for name in wanted)] for found in there
    ]
    for run, found in zip(runs, fitting, strict=True):
        if not found:
            missing = f"by {', '.join(wanted)}" if wanted else f"by any {kind} judge, as others were"
            raise UserError(f"{run.path}: was not judged {missing}: `safekey judge {run.path} --judge NAME=MODEL` does")
    common = [judge for judge in fitting[0] if all(judge in found for found in fitting)]
    if len(common) == 1:
        return common * len(runs)
    if common:
        names = ", ".join(map(str, common))
        raise UserError(f"several {kind} judges judged all runs ({names}): choose one with --judge NAME")
    said = "; ".join(
        f"{run.path}: {', '.join(map(str, found))}" for run, found in list(zip(runs, fitting, strict=True))[:4]
    )
    one = {found[0].name for found in fitting}
    alike = len(one) == 1 and all(len(found) == 1 for found in fitting)
    if alike and allowed:
        return [found[0] for found in fitting]
    way = ", or give --allow-different-settings" if alike else ""
    raise UserError(f"the runs have no {kind} judge in common ({said}): judge them alike with `safekey judge`{way}")
