"""From evaluation run folders to the outcomes that arms are compared by; refuses what cannot be compared.

    found = collect({"sft": ["runs/eval-sft-0", "runs/eval-sft-1"], "safekey": ["runs/eval-sk-0", "runs/eval-sk-1"]})
    result = compare(found.outcomes, reference="sft")

Folders are only read. docs/statistics.md, "From run folders", says what counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from safekey.comparison.comparable import choose, common, settings
from safekey.comparison.draws import variance
from safekey.comparison.judge_error import Errors, read_errors
from safekey.comparison.pairing import align
from safekey.comparison.saved_runs import (
    JudgeId,
    SavedPrompt,
    SavedRun,
    behaviour_names,
    prefills,
    read_runs,
    scored,
    verdicts_due,
)
from safekey.comparison.types import Key, Outcome, Seed, is_apart
from safekey.errors import UserError
from safekey.evals.attacks.best_of_n import without_draw
from safekey.evals.judges.table import judge_named
from safekey.evals.summary.summary import METRIC
from safekey.schema import Metric, Part

_SEED = re.compile(r"seed[-_=]?(\d+)", re.IGNORECASE)
_LAST = re.compile(r"(\d+)$")
_PAIRS = 4  # of arms that one note names


@dataclass(frozen=True, slots=True)
class Collected:
    """Outcomes, and how they were obtained.

    Attributes:
        outcomes: one for each run and prompt.
        runs: arm → its run folders.
        seeds: arm → the seed of each of its runs.
        judges: metric → the judge and its rule.
        notes: what was left out, and how some outputs are counted.
        saved: arm → its runs as they were read.
        chosen: run folder → kind ("harm", "refusal") → the judge whose verdicts count there.
        kinds: benchmark → "harm", "refusal" or "accuracy".
        attacks: benchmark and item of each prompt, and of each outcome → the attack on it; "none" for a plain prompt.
        apart: the benchmarks that prefill, which are compared separately.
        errors: what is known of the judges' errors.
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
    apart: frozenset[str] = frozenset()
    errors: Errors = field(default_factory=Errors)


def collect(
    arms: Mapping[str, Sequence[str]],
    *,
    judges: Sequence[str] = (),
    part: Part = "answer",
    allow_different_settings: bool = False,
    judge_records: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Collected:
    """Read the run folders of several arms.

    Args:
        arms: arm → run folders, one for each seed.
        judges: NAME or NAME=MODEL, where runs were judged by several; at most one of each kind.
        part: which part of the responses the verdicts are about; accuracy is always about the answer.
        allow_different_settings: compare runs that were decoded differently, or judged by different models behind one
            judge; the notes say so.
        judge_records: files of `safekey judges validate`: what is known of the judges' errors.
        labels: files of people's labels of these runs' answers.

    Raises:
        UserError: a folder is no finished evaluation's, the runs have too little in common, a record is of another
            judge, or labels are about other answers.
    """
    saved = read_runs(arms, part)
    runs = [run for group in saved.values() for run in group]
    shared, kinds, notes = common(runs, part)
    notes += settings(runs, sorted({prompt.benchmark for prompt in shared}), allow_different_settings)
    chosen = choose(runs, sorted({kinds[prompt.benchmark] for prompt in shared}), judges, allow_different_settings)
    clusters = behaviour_names(runs[0], shared)
    seeds = {name: _seeds(name, group) for name, group in saved.items()}
    notes += _unmatched(seeds)
    notes += variance(saved.values())
    errors = read_errors(saved, chosen, kinds, clusters, part=part, records=judge_records, labels=labels)
    notes += errors.notes
    notes += [
        f"{run.path}: `safekey judge` with {run.judging} did not finish: it runs now, or was stopped. "
        f"`safekey judge {run.path}` goes on"
        for run in runs
        if run.judging
    ]
    untrained = _untrained(saved)
    outcomes: list[Outcome] = []
    for name, group in saved.items():
        without = cut = 0
        for run, seed in zip(group, seeds[name], strict=True):
            about: dict[str, Any] = {"arm": name, "seed": seed, "untrained": name in untrained}
            rows, wrong, stated = _outcomes(run, about, clusters, kinds, chosen[run.path])
            outcomes += rows
            without += wrong
            cut += stated
        if without:
            notes.append(f"reasoning of {name}: {without} outputs without a whole answer (cut off, empty, …) are wrong")
        if cut:
            notes.append(f"reasoning of {name}: {cut} outputs were cut off behind their answer, and count by it")
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
        attacks={
            (prompt.benchmark, item): runs[0].attacks[prompt]
            for prompt in shared
            for item in (prompt.item, without_draw(prompt.item))
        },
        apart=frozenset(row.benchmark for row in outcomes if is_apart(row)),
        errors=errors,
    )


def _described(kind: str, used: set[JudgeId]) -> str:
    first = min(used)
    rule = judge_named(kind, first.name).rules[0].name
    what = "" if rule == "positive" else f", positive: {rule}"  # a judge with one rule of its own
    return f"{' and '.join(sorted(map(str, used)))}{what}"


def _seeds(arm: str, runs: Sequence[SavedRun]) -> tuple[Seed, ...]:
    """Return the seed of each run: as its training run records it, else as the folders' names say it, else a name."""
    if len(runs) == 1:
        return (None,)
    trained = [run.training_config.get("seed") for run in runs]
    if all(isinstance(seed, int) for seed in trained):
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


def _untrained(saved: Mapping[str, Sequence[SavedRun]]) -> set[str]:
    """Return the arms that evaluate the model that another arm's training started from."""
    runs = [run for group in saved.values() for run in group]
    starts = {_place(run.training_config.get("model_name_or_path")) for run in runs} - {""}
    return {
        arm
        for arm, group in saved.items()
        if all(run.training is None and _place(run.resolved.get("model")) in starts for run in group)
    }


def _place(model: Any) -> str:
    return str(Path(model).expanduser().resolve()) if isinstance(model, str) and model else ""


def _outcomes(
    run: SavedRun,
    about: Mapping[str, Any],
    clusters: Mapping[SavedPrompt, str],
    kinds: Mapping[str, str],
    judges: Mapping[str, JudgeId],
) -> tuple[list[Outcome], int, int]:
    """Return the run's outcomes, how many outputs without a whole answer are wrong, and how many state their answer.

    The draws of best_of_n on one prompt are one outcome, like several samples: N of them shall not count N times.
    """
    rows, wrong, stated = [], 0, 0
    groups: dict[SavedPrompt, list[SavedPrompt]] = {}
    for prompt in clusters:
        groups.setdefault(SavedPrompt(prompt.benchmark, without_draw(prompt.item)), []).append(prompt)
    for prompt, draws in groups.items():
        kind, cluster = kinds[prompt.benchmark], clusters[draws[0]]
        samples = [sample for draw in draws for sample in run.samples[draw]]
        found = [scored(run, sample, kind, judges.get(kind)) for sample in samples]
        wrong += sum(value is not None and bool(reason) for value, reason in found)
        ends = zip(samples, found, strict=True)
        stated += sum(sample.output != "ok" and value is not None and not why for sample, (value, why) in ends)
        values = [value for value, _ in found if value is not None]
        rows.append(
            Outcome(
                **about,
                item=prompt.item,
                metric=METRIC[kind],
                value=sum(values) / len(values) if values else None,
                cluster=cluster,
                benchmark=prompt.benchmark,
                unscored="" if values else Counter(reason for _, reason in found).most_common(1)[0][0],
                apart=prefills(run, prompt.benchmark),
                due=verdicts_due(run, samples, kind, judges.get(kind)),
            )
        )
    return rows, wrong, stated
