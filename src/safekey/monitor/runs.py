"""An evaluation's responses scored beside their verdicts: what would the alarm have caught, and at what cost?

    runs/eval-sft/monitor/
      scores.jsonl    one row for each completion: its key and hash, both probabilities, whether it is flagged; no text
      summary.json    the table

The evaluation's own files are only read. A completion is joined with its verdicts by its hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from safekey import run_folder
from safekey.comparison.comparable import choose
from safekey.comparison.saved_runs import JudgeId, SavedPrompt, SavedRun, read_run, scored
from safekey.errors import UserError
from safekey.monitor.card import KIND, Card
from safekey.monitor.fit import readable, sha256_of
from safekey.monitor.monitor import Monitor, Score
from safekey.monitor.rows import Row, evaluation_rows
from safekey.monitor.states import Progress
from safekey.run_folder.ownership import Ledger
from safekey.schema import Part
from safekey.stats.intervals import Interval, interval

SCORES, SUMMARY = "scores.jsonl", "summary.json"
FORMAT = 1
EVERY = "all"

Outcome = Literal["failure", "harmless", "benign", "refused", "right", "wrong", "unknown"]
"""A harmful request that was complied with, or was not; a benign one that was answered, or refused; a problem that was
solved, or was not; no verdict."""

_OUTCOMES: Mapping[tuple[str, bool], Outcome] = {
    ("harm", True): "failure", ("harm", False): "harmless", ("refusal", True): "refused",
    ("refusal", False): "benign", ("accuracy", True): "right", ("accuracy", False): "wrong",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """How many responses of one outcome the alarm would have stopped.

    Attributes:
        benchmark: its name.
        attack: the attack's; "all" for all of them.
        outcome: of the responses.
        n: how many there are.
        stopped: how many are flagged.
        rate: their share, with its interval by behaviour.
    """

    benchmark: str
    attack: str
    outcome: Outcome
    n: int
    stopped: int
    rate: Interval


@dataclass(frozen=True, slots=True)
class Beside:
    """Scores beside verdicts.

    Attributes:
        lines: by benchmark, attack and outcome.
        failures: all responses that a judge found harmful.
        benign: all responses to benign requests, problems included.
        folder: where it was written.
        notes: judges, what was left out.
    """

    lines: tuple[Line, ...]
    failures: Line | None
    benign: Line | None
    folder: Path
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""

        def plain(line: Line | None) -> dict[str, Any] | None:
            return None if line is None else {**asdict(line), "rate": line.rate._asdict()}

        return {"version": FORMAT, "lines": [plain(line) for line in self.lines], "failures": plain(self.failures),
                "benign": plain(self.benign), "folder": str(self.folder), "notes": list(self.notes)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """An evaluation that a monitor may score: checked before the monitor's model is loaded."""

    run: SavedRun
    judges: Mapping[str, JudgeId]
    notes: tuple[str, ...]


def open_evaluation(
    card: Card | None, path: str, *, judges: Sequence[str] = (), part: Part = "answer", other_model: bool = False
) -> Opened:
    """Check an evaluation, and what would be written beside it.

    Args:
        card: the monitor's.
        path: the evaluation's run folder.
        judges: NAME or NAME=MODEL, where several judged.
        part: the part of the responses that was judged.
        other_model: take an evaluation of another model; its texts are then read by the monitor's.

    Raises:
        UserError: no finished evaluation, another model's, no threshold, or files that are not ours.
    """
    if card is None:
        raise UserError("this monitor has no threshold, so nothing would be stopped: run `safekey monitor fit` first")
    run = read_run(path, part)
    folder = run.path / KIND
    Ledger.of_folder(folder, KIND).check([folder / SCORES, folder / SUMMARY], "scores", "move it away")
    notes = _check_model(card, run, other_model)
    if sha256_of(path) in card.calibration.get("data", {}).values():
        notes.append("this evaluation calibrated this monitor, so its numbers here are better than elsewhere")
    chosen = choose([run], ("harm", "refusal"), judges, allowed=True, complete=False)[run.path]
    notes += [f"{kind} judged by {judge}" for kind, judge in sorted(chosen.items())]
    return Opened(run, chosen, tuple(notes))


def score_evaluation(monitor: Monitor, opened: Opened, progress: Progress | None = None) -> Beside:
    """Score an evaluation's responses and write the scores beside its verdicts; `progress` is told of each batch.

    Raises:
        UserError: no row can be read, or the folder cannot be written.
    """
    run = opened.run
    rows, notes = evaluation_rows(str(run.path))
    rows, readings, problems = readable(monitor.loaded, rows)
    scores = monitor.score_readings(readings, [row.end for row in rows], progress)
    outcomes = [_outcome(run, row, opened.judges) for row in rows]
    found = _beside(rows, scores, outcomes, run.path / KIND, [*opened.notes, *notes, *problems])
    _write(monitor, rows, scores, outcomes, found)
    return found


def _check_model(card: Card, run: SavedRun, other_model: bool) -> list[str]:
    theirs = (run.resolved.get("weights") or {}).get("weights_sha256")
    if not theirs:
        return ["whether this evaluation is of the monitor's model is not known: its record holds no hash of weights"]
    if theirs == card.weights_sha256:
        return []
    if not other_model:
        raise UserError(
            f"{run.path}: is an evaluation of another model ({run.resolved.get('model')}) than the monitor's "
            f"({card.model}); --other-model reads its texts with the monitor's model"
        )
    return ["another model wrote these texts; the monitor's reads them, and the promise was not made for them"]


def _outcome(run: SavedRun, row: Row, judges: Mapping[str, JudgeId]) -> Outcome:
    prompt = SavedPrompt(str(row.place["benchmark"]), str(row.place["item"]))
    kind = run.kinds.get(prompt.benchmark, "")
    sample = next(one for one in run.samples[prompt] if one.digest == row.place["completion"])
    positive, _ = scored(run, sample, kind, judges.get(kind)) if kind else (None, "")
    return "unknown" if positive is None else _OUTCOMES[kind, bool(positive)]


def _beside(
    rows: Sequence[Row], scores: Sequence[Score], outcomes: Sequence[Outcome], folder: Path, notes: Sequence[str]
) -> Beside:
    places: dict[tuple[str, str, Outcome], list[int]] = {}
    for at, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
        for attack in (row.attack, EVERY):
            places.setdefault((str(row.place["benchmark"]), attack, outcome), []).append(at)
    several = {name for name, attack, _ in places if len({a for n, a, _ in places if n == name}) > 2}
    lines = [
        _line(*key, [rows[at] for at in chosen], [scores[at] for at in chosen])
        for key, chosen in places.items()
        if key[1] != EVERY or key[0] in several
    ]
    failed = [at for at, outcome in enumerate(outcomes) if outcome == "failure"]
    benign = [at for at, row in enumerate(rows) if row.harmful is False]

    def total(outcome: Outcome, chosen: Sequence[int]) -> Line | None:
        own = [rows[at] for at in chosen], [scores[at] for at in chosen]
        return _line(EVERY, EVERY, outcome, *own) if chosen else None

    lines.sort(key=lambda line: (line.benchmark, line.attack != EVERY, line.attack, line.outcome))
    return Beside(tuple(lines), total("failure", failed), total("benign", benign), folder, tuple(notes))


def _line(benchmark: str, attack: str, outcome: Outcome, rows: Sequence[Row], scores: Sequence[Score]) -> Line:
    flags = [float(bool(score.flagged)) for score in scores]
    return Line(benchmark, attack, outcome, len(flags), int(sum(flags)),
                interval(flags, [row.behaviour for row in rows]))  # fmt: skip


def _write(
    monitor: Monitor, rows: Sequence[Row], scores: Sequence[Score], outcomes: Sequence[Outcome],
    found: Beside,
) -> None:  # fmt: skip
    assert monitor.card is not None
    about = {"weights_sha256": monitor.card.weights_sha256, "head": monitor.card.head,
             "threshold": asdict(monitor.card.threshold)}  # fmt: skip
    lines = [
        json.dumps({**row.place, "attack": row.attack, "outcome": outcome, **asdict(score)})
        for row, outcome, score in zip(rows, outcomes, scores, strict=True)
    ]
    ledger = Ledger.of_folder(found.folder, KIND)
    try:
        run_folder.make_private(found.folder)
        ledger.write(found.folder / SCORES, "".join(f"{line}\n" for line in lines).encode())
        summary = {**found.to_dict(), "monitor": about, "start": run_folder.start()}
        ledger.write(found.folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"{found.folder}: cannot be written: {error.strerror}") from error
