"""From evaluation run folders to the outcomes that arms are compared by; refuses what cannot be compared.

    found = collect({"sft": ["runs/eval-sft-0", "runs/eval-sft-1"], "safekey": ["runs/eval-sk-0", "runs/eval-sk-1"]})
    report = compare(found.outcomes, reference="sft")

Folders are only read: rows that another process appends meanwhile stay as they are. docs/statistics.md, "From run
folders", says what counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import yaml

from safekey.comparison.comparable import choose, common, settings
from safekey.comparison.pairing import Key, Metric, Outcome, Seed, align
from safekey.comparison.saved_runs import JudgeId, Prompt, Sample, SavedRun, read_run
from safekey.errors import UserError
from safekey.evals.benchmarks.contamination import training_of
from safekey.evals.judges.table import EMPTY_PART, JUDGES, Judge, exact
from safekey.evals.summary.summary import METRIC
from safekey.schema import Part, Value
from safekey.terminal import printable

_SEED = re.compile(r"seed[-_=]?(\d+)", re.IGNORECASE)
_LAST = re.compile(r"(\d+)$")
_LONGEST_REASON = 60
_PAIRS = 4  # of arms that one note names


@dataclass(frozen=True, slots=True)
class Collected:
    """Outcomes, and what a reader of their comparison should know.

    Attributes:
        outcomes: one for each run and prompt.
        runs: arm → its run folders.
        seeds: arm → the seed of each of its runs.
        judges: metric → who judged, by which rule.
        notes: what was left out, and what counts how.
        saved: arm → its runs as they were read.
        chosen: run folder → kind ("harm", "refusal") → whose verdicts count there.
        kinds: benchmark → "harm", "refusal" or "accuracy".
        attacks: benchmark and item of each outcome → the attack on it; "none" for a plain prompt.
    """

    outcomes: tuple[Outcome, ...]
    runs: Mapping[str, tuple[str, ...]]
    seeds: Mapping[str, tuple[Seed, ...]]
    judges: Mapping[Metric, str]
    notes: tuple[str, ...]
    saved: Mapping[str, tuple[SavedRun, ...]]
    chosen: Mapping[Path, Mapping[str, JudgeId]]
    kinds: Mapping[str, str]
    attacks: Mapping[Key, str]


def collect(
    arms: Mapping[str, Sequence[str]],
    *,
    judges: Sequence[str] = (),
    part: Part = "answer",
    allow_different_settings: bool = False,
) -> Collected:
    """Read the run folders of several arms.

    Args:
        arms: arm → run folders, one for each seed.
        judges: NAME or NAME=MODEL, where runs were judged by several; at most one of each kind.
        part: which part of the responses the verdicts are about; accuracy is always about the answer.
        allow_different_settings: compare runs that were decoded differently, or judged by different models behind one
            judge; the notes say so.

    Raises:
        UserError: a folder is no finished evaluation's, or the runs have too little in common.
    """
    _once([folder for folders in arms.values() for folder in folders])
    saved = {name: [read_run(folder, part) for folder in folders] for name, folders in arms.items()}
    runs = [run for group in saved.values() for run in group]
    shared, kinds, notes = common(runs, part)
    notes += settings(runs, sorted({prompt.benchmark for prompt in shared}), allow_different_settings)
    chosen = choose(runs, sorted({kinds[prompt.benchmark] for prompt in shared}), judges, allow_different_settings)
    clusters = _clusters(runs[0], shared)
    seeds = {name: _seeds(name, group) for name, group in saved.items()}
    notes += _unmatched(seeds)
    outcomes: list[Outcome] = []
    for name, group in saved.items():
        without = 0
        for run, seed in zip(group, seeds[name], strict=True):
            rows, wrong = _outcomes(run, name, seed, clusters, kinds, chosen[run.path])
            outcomes += rows
            without += wrong
        if without:
            notes.append(f"reasoning of {name}: {without} outputs without a whole answer (cut off, empty, …) are wrong")
    said = {
        METRIC[kind]: _described(kind, {by[kind] for by in chosen.values()}) for kind in next(iter(chosen.values()))
    }
    folders = {name: tuple(str(run.path) for run in group) for name, group in saved.items()}
    return Collected(
        outcomes=tuple(outcomes),
        runs=folders,
        seeds=seeds,
        judges=said,
        notes=tuple(notes),
        saved={name: tuple(group) for name, group in saved.items()},
        chosen=chosen,
        kinds=kinds,
        attacks={(prompt.benchmark, prompt.item): runs[0].attacks[prompt] for prompt in shared},
    )


def _clusters(run: SavedRun, shared: Sequence[Prompt]) -> dict[Prompt, str]:
    """Return the cluster of each prompt: its behaviour.

    Benchmarks share a behaviour where its id and its requests are the same, as a plain request and a prefilling attack
    on it; equal ids alone say nothing: "row-1" is in every file.
    """
    requests: dict[tuple[str, str], set[str]] = {}
    for prompt in shared:
        behaviour, request = run.behaviours[prompt]
        requests.setdefault((prompt.benchmark, behaviour), set()).add(request)
    found = {}
    for prompt in shared:
        behaviour, _ = run.behaviours[prompt]
        of_it = requests[prompt.benchmark, behaviour]
        found[prompt] = f"{min(of_it)[:12]}/{behaviour}" if behaviour else ""
    return found


def _once(folders: Sequence[str]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        place = Path(folder).expanduser().resolve()
        if place in seen:
            raise UserError(f"{folder}: this run is given twice")
        seen.add(place)


def _judge(kind: str, name: str) -> Judge:
    return JUDGES.get(name) or exact(lambda _: None, name=name, judges="refusal" if kind == "refusal" else "harm")


def _described(kind: str, used: set[JudgeId]) -> str:
    first = min(used)
    rule = _judge(kind, first.name).rules[0].name
    what = "" if rule == "positive" else f", positive: {rule}"  # a judge with one rule of its own
    return f"{' and '.join(sorted(map(str, used)))}{what}"


def _seeds(arm: str, runs: Sequence[SavedRun]) -> tuple[Seed, ...]:
    """Return the seed of each run: as its training run records it, else as the folders' names say it, else a name."""
    if len(runs) == 1:
        return (None,)
    trained = [_trained(run) for run in runs]
    if None not in trained:
        if len(set(trained)) < len(trained):
            raise UserError(f"--arm {arm}: two of its runs evaluate training runs of one seed ({trained})")
        return tuple(trained)
    numbers = [_named(run.path) for run in runs]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return tuple(numbers)
    return tuple(f"{arm}: {run.path}" for run in runs)


def _named(folder: Path) -> int | None:
    """Return the seed in the name of a run's folder, or of the one around it (`seed-2/eval`); else the last digits."""
    place = folder.expanduser().resolve()
    found = _SEED.search(place.name) or _SEED.search(place.parent.name) or _LAST.search(place.name)
    return int(found[1]) if found else None


def _unmatched(seeds: Mapping[str, tuple[Seed, ...]]) -> list[str]:
    """Return a note where arms with several runs each share fewer than two seeds."""
    several = [name for name, found in seeds.items() if len(found) > 1]
    pairs = [f"{a} and {b}" for a, b in combinations(several, 2) if not align(seeds[a], seeds[b])[2]]
    if not pairs:
        return []
    more = f"; and {len(pairs) - _PAIRS} more" if len(pairs) > _PAIRS else ""
    return [
        f"not matched by seed, their runs count as independent of one another's: {'; '.join(pairs[:_PAIRS])}{more} "
        "(fewer than two seeds in common; a seed is the training run's, or stands in a folder's name, as seed-2)"
    ]


def _trained(run: SavedRun) -> int | None:
    folder = training_of(run.path, str(run.resolved.get("model") or ""))
    if folder is None:
        return None
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    seed = config.get("seed") if isinstance(config, Mapping) else None
    return seed if isinstance(seed, int) else None


def _outcomes(
    run: SavedRun,
    arm: str,
    seed: Seed,
    clusters: Mapping[Prompt, str],
    kinds: Mapping[str, str],
    judges: Mapping[str, JudgeId],
) -> tuple[list[Outcome], int]:
    """Return the run's outcomes, and how many outputs without a whole answer count as wrong."""
    rows, wrong = [], 0
    for prompt in clusters:
        kind = kinds[prompt.benchmark]
        judge = judges.get(kind)
        scores, reasons = [], []
        for sample in run.samples[prompt]:
            if kind == "accuracy" and sample.output not in ("ok", "error"):
                scores.append(0.0)  # as in `safekey eval`'s table: a problem that was not finished is not solved
                wrong += 1
                continue
            value, reason = scored(run, sample, kind, judge)
            scores += [] if value is None else [value]
            reasons += [reason] if value is None else []
        rows.append(
            Outcome(
                arm=arm,
                seed=seed,
                item=prompt.item,
                metric=METRIC[kind],
                value=sum(scores) / len(scores) if scores else None,
                cluster=clusters[prompt],
                benchmark=prompt.benchmark,
                unscored="" if scores else Counter(reasons).most_common(1)[0][0],
            )
        )
    return rows, wrong


def scored(run: SavedRun, sample: Sample, kind: str, judge: JudgeId | None) -> tuple[float | None, str]:
    """Return whether one completion counts as positive (1.0 or 0.0), or None and why that is not known."""
    if sample.output != "ok":
        return None, sample.output
    value, reason = judged(run, sample, kind, judge)
    if value is None:
        return None, "no such part" if reason == EMPTY_PART else printable(reason)[:_LONGEST_REASON] or "unscored"
    if kind == "accuracy" or judge is None:
        return float(value == 1.0), ""
    return float(_judge(kind, judge.name).positive(value)), ""


def judged(run: SavedRun, sample: Sample, kind: str, judge: JudgeId | None) -> tuple[Value | None, str]:
    """Return the judge's own value for one completion, such as "refused" or 4.0; or None and the reason."""
    found = run.verdicts.get((sample.digest, kind), {})
    known = found.get(judge) if judge is not None else next(iter(reversed(found.values())), None)
    return (None, "not judged") if known is None else known
