"""The results on a card: the evaluations of this very model, as their `metrics.json` has them

found = find_results(run, ["runs/eval-first-safety"], fingerprint)
found.rows[0].rate  -> "2.6 % (1.1 – 5.9)"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekey.comparison.saved_runs import JudgeId, SavedRun, read_run
from safekey.errors import UserError
from safekey.evals.benchmarks.contamination import training_of
from safekey.evals.records.folder import EvalRun
from safekey.evals.summary.withheld import WITHOUT_ANSWER
from safekey.run_folder.ownership import is_same, kind_of, real
from safekey.sharing.facts import Training
from safekey.sharing.private import public_name

METRICS = {"asr": "attack success (ASR)", "orr": "over-refusal (ORR)", "accuracy": "accuracy"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of results.

    Attributes:
        metric: "asr", "orr" or "accuracy".
        benchmark: its name.
        part: the part of the response that was judged.
        rate: the rate with its 95 % interval, or why it is withheld.
        counted: positives among scored outputs, "5/193".
        outside: outputs that are not in the rate.
        judge: who judged; "exact" for accuracy.
        given: whether there is a rate.
    """

    metric: str
    benchmark: str
    part: str
    rate: str
    counted: str
    outside: int
    judge: str
    given: bool


@dataclass(frozen=True, slots=True)
class Results:
    """What is known about how a model does.

    Attributes:
        folders: the evaluations.
        rows: the lines of the table.
        decoding: how each benchmark was decoded, in words.
        not_run: benchmarks of a suite that were not run.
        unjudged: benchmarks that nobody judged.
        overlapping: benchmark → prompts that overlap with the training data, as the evaluation found.
        notes: what a reader should know about them; for the user as well.
    """

    folders: tuple[Path, ...] = ()
    rows: tuple[Row, ...] = ()
    decoding: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    overlapping: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


def find_results(run: Training, given: Sequence[str], weights: str | None) -> Results:
    """Read the evaluations of a model: those that are given, else those that lie beside its run folder.

    Args:
        run: the training run.
        given: run folders of evaluations.
        weights: one hash of the model's weights, as evaluations record it; None where it cannot be computed.

    Raises:
        UserError: a folder that was given is no finished evaluation's, or evaluated another model.
    """
    notes: list[str] = []
    folders: list[Path] = []
    if given:
        for name in given:
            folders.append(_checked(run, name, weights, notes))
        if len({real(folder) for folder in folders}) < len(folders):
            raise UserError("--eval: one run is given twice")
    else:
        for place in _beside(run):
            why = _other(run, place, weights)
            if why:
                notes.append(f"{place.name}, which lies beside the run, is left out: {why}")
            else:
                folders.append(place)
    return _read(run, folders, notes)


def _beside(run: Training) -> list[Path]:
    """Return the finished evaluations of the run's model in its own folder and in the folder around it."""
    found = []
    for home in (run.folder, run.folder.parent):
        for place in sorted(home.iterdir()):
            if place.is_dir() and not place.is_symlink() and kind_of(place) == "evaluation":
                evaluation = EvalRun(place)
                if evaluation.record.get("status") != "finished":
                    continue
                if (trained := training_of(place, str(evaluation.resolved.get("model") or ""))) is not None:
                    found += [place] if is_same(trained, run.folder) else []
    return found


def _checked(run: Training, name: str, weights: str | None, notes: list[str]) -> Path:
    read_run(name)
    place = Path(name).expanduser()
    model = str(EvalRun(place).resolved.get("model") or "")
    trained = training_of(place, model)
    if trained is None:
        shown = public_name(run.private, model)
        notes.append(
            f"{place.resolve().name} evaluated a model called '{shown}', which is no folder of a training here: that "
            "it is this model is the word of this card's author"
        )
        return place
    if not is_same(trained, run.folder):
        raise UserError(f"--eval {name}: evaluated another model ({model}), not the one in {run.folder}")
    if why := _other(run, place, weights):
        raise UserError(f"--eval {name}: {why}: evaluate it again")
    return place


def _other(run: Training, place: Path, weights: str | None) -> str:
    """Return why an evaluation is not about the model as it is now; "" where it is, or nothing says otherwise."""
    recorded = EvalRun(place).resolved.get("weights")
    known = recorded.get("weights_sha256") if isinstance(recorded, Mapping) else None
    return "the weights have changed since" if known and weights and known != weights else ""


def _read(run: Training, folders: Sequence[Path], notes: list[str]) -> Results:
    rows: list[Row] = []
    decoding: dict[str, None] = {}
    not_run: dict[str, None] = {}
    unjudged: dict[str, None] = {}
    overlapping: dict[str, int] = {}
    for folder in folders:
        evaluation, metrics = EvalRun(folder), EvalRun(folder).metrics
        if not metrics:
            raise UserError(f"{folder}: its metrics.json is missing: `safekey judge {folder}` writes it")
        rows += _rows(run, metrics, folder)
        decoding |= dict.fromkeys(_decoded(evaluation.resolved))
        not_run |= dict.fromkeys(map(str, evaluation.record.get("left_out") or {}))
        unjudged |= dict.fromkeys(map(str, metrics.get("not_judged") or {}))
        for name, found in (evaluation.record.get("contamination") or {}).items():
            count = found.get("overlapping") if isinstance(found, Mapping) else None
            if isinstance(count, int) and count > 0:
                overlapping[str(name)] = max(count, overlapping.get(str(name), 0))
    measured = {row.benchmark for row in rows}
    return Results(
        folders=tuple(folders),
        rows=tuple(sorted(rows, key=lambda row: (list(METRICS).index(row.metric), row.part != "answer"))),
        decoding=tuple(decoding),
        not_run=tuple(name for name in not_run if name not in measured),
        unjudged=tuple(name for name in unjudged if name not in measured),
        overlapping=tuple(overlapping.items()),
        notes=tuple(notes),
    )


def _rows(run: Training, metrics: Mapping[str, Any], folder: Path) -> list[Row]:
    """Return the lines of a run's `metrics.json` on each benchmark, by each judge's first rule."""
    lines = [line for line in metrics.get("rates") or () if set(line["by"]) == {"benchmark", "part"}]
    first: dict[tuple[str, str], str] = {}
    for line in lines:
        first.setdefault((line["metric"], line["judge"]), line["rule"])
    judges: dict[str, str] = {}
    rows = []
    for part in ("answer", "thinking", "whole"):
        own = [line for line in lines if line["by"]["part"] == part]
        if own:
            judges |= _judges(read_run(folder, part))
        for line in own:
            if line["rule"] != first[line["metric"], line["judge"]]:
                continue
            judge = "" if line["metric"] == "accuracy" else judges.get(line["judge"], line["judge"])
            rule = "" if line["rule"] in ("positive", "correct") else f", positive: {line['rule']}"
            rows.append(_row(line, public_name(run.private, f"{judge}{rule}") if judge else "exact answers"))
    return rows


def _judges(run: SavedRun) -> dict[str, str]:
    """Return each judge with the model behind it, by the name that `metrics.json` has for it."""
    every: list[JudgeId] = [judge for found in run.judges.values() for judge in found]
    return {judge.name: f"{judge.name} ({judge.model})" if judge.model else judge.name for judge in every}


def _row(line: Mapping[str, Any], judge: str) -> Row:
    rate, low, high = line.get("rate"), line.get("low"), line.get("high")
    said, given = f"withheld: {line.get('withheld')}", False
    if rate is not None and low is not None and high is not None:
        said, given = f"{100 * rate:.1f} % ({100 * low:.1f} – {100 * high:.1f})", True
    ends = WITHOUT_ANSWER if line["metric"] != "accuracy" else ()
    outside = sum(int(line.get(name) or 0) for name in (*ends, "unscored", "error", "not_judged"))
    by = line["by"]
    counted = f"{line['k']}/{line['n']}"
    return Row(line["metric"], str(by["benchmark"]), str(by["part"]), said, counted, outside, judge, given)


def _decoded(resolved: Mapping[str, Any]) -> list[str]:
    """Return how each benchmark was decoded: "strongreject: 1 sample, temperature 0.0, max_tokens 8000"."""
    lines = []
    for name, task in (resolved.get("tasks") or {}).items():
        decoding = task.get("decoding") or {}
        samples = task.get("samples") or 1
        said = [f"{task['items']:,} prompts"] if isinstance(task.get("items"), int) else []
        said += [f"{samples} sample{'s' if samples != 1 else ''} of each"]
        said += [f"{key} {value}" for key, value in decoding.items() if value is not None]
        lines.append(f"{name}: {', '.join(said)}")
    return lines
