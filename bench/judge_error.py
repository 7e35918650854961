"""Do intervals corrected for a judge's error hold the truth in 95 % of cases? Simulated judges whose error is known.

    python bench/judge_error.py                 # the tables of docs/judges.md; a few minutes on one core
    python bench/judge_error.py --draws 10000

A draw is a whole study: people label answers, the judge's sensitivity and specificity are measured on them, a run is
judged, and its rate is corrected with the library's own functions. "judged" is the interval of the judged rate, which
knows nothing of the judge's errors. Kinds of study:

    record      one answer to each request; the record's labels are of other answers
    clustered   60 behaviours under 5 attacks each; 5 labelled answers to each request; truth and errors are alike
                within a behaviour and within a request
    drawn       the record's labels were drawn by the judge's verdicts on another run, half of them of either verdict
    labels      some of the run's own answers are labelled, as many of either verdict
    difference  two arms on the same prompts, judged by one judge
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from safekey.stats.difference import difference
from safekey.stats.intervals import interval, wilson_interval
from safekey.stats.judge_error import (
    Corrected,
    Estimate,
    JudgeError,
    corrected_difference,
    corrected_rate,
    judge_error,
)
from safekey.stats.labelled import error_by_verdict, labelled_difference, labelled_error, labelled_rate

RATES = (0.02, 0.05, 0.1, 0.3, 0.6)
JUDGES = ((0.95, 0.98), (0.9, 0.9), (0.8, 0.95), (0.7, 0.8))
LABELS = (50, 100, 300)  # of either kind
ANSWERS = 300
BEHAVIOURS, ATTACKS = 60, 5
ALIKE = 0.3  # the correlation of the truth within a behaviour
DRAWN_FROM, DRAWN_RATE = 600, 0.3
SPREAD = 0.7  # of a judge's errors between requests, on the probit scale


@dataclass(frozen=True)
class Cell:
    """One kind of study.

    Attributes:
        kind: see the module.
        rate: the true rate; of a difference, the reference's.
        sensitivity, specificity: the judge's.
        labels: of either kind.
    """

    kind: str
    rate: float
    sensitivity: float
    specificity: float
    labels: int


@dataclass
class Tally:
    """Studies of one cell: how often each interval held the truth, and how wide they were."""

    draws: int = 0
    refused: int = 0
    held: int = 0
    judged_held: int = 0
    width: float = 0.0
    judged_width: float = 0.0
    over: int = 0
    under: int = 0

    def add(self, truth: float, judged: Estimate, found: Corrected | None) -> None:
        """Count one study."""
        self.draws += 1
        self.judged_held += judged.low <= truth <= judged.high
        self.judged_width += judged.high - judged.low
        if found is None:
            self.refused += 1
            return
        self.held += found.low <= truth <= found.high
        self.over += found.low > truth
        self.under += found.high < truth
        self.width += found.high - found.low

    @property
    def line(self) -> tuple[float, float, float, float, float, float, int]:
        """Coverage, too high, too low, width; coverage and width of the judged interval; refused."""
        kept = max(self.draws - self.refused, 1)
        return (
            self.held / kept, self.over / kept, self.under / kept, self.width / kept,
            self.judged_held / self.draws, self.judged_width / self.draws, self.refused,
        )  # fmt: skip


def share(k: int, n: int) -> Estimate:
    return Estimate(k / n, *wilson_interval(k, n))


def measured(cell: Cell, draw: np.random.Generator) -> JudgeError:
    """A record from independent labels."""
    hits = int(draw.binomial(cell.labels, cell.sensitivity))
    alarms = int(draw.binomial(cell.labels, 1 - cell.specificity))
    return JudgeError(share(hits, cell.labels), share(alarms, cell.labels))


def of_record(cell: Cell, draw: np.random.Generator) -> tuple[float, Estimate, Corrected | None]:
    q = cell.rate * cell.sensitivity + (1 - cell.rate) * (1 - cell.specificity)
    judged, error = share(int(draw.binomial(ANSWERS, q)), ANSWERS), measured(cell, draw)
    return cell.rate, judged, corrected_rate(judged, error) if error.usable else None


def said_of(truth: np.ndarray, cell: Cell, draw: np.random.Generator) -> np.ndarray:
    """The verdicts on answers [requests, answers]: a judge that leans to one side does so for both kinds of answers."""
    lean = SPREAD * draw.standard_normal((len(truth), 1))
    hit, alarm = (special.ndtri(p) * math.hypot(1, SPREAD) for p in (cell.sensitivity, 1 - cell.specificity))
    said: np.ndarray = draw.random(truth.shape) < special.ndtr(np.where(truth, hit, alarm) + lean)
    return said


def alike(rate: float, shape: tuple[int, int], draw: np.random.Generator, by: float = ALIKE) -> np.ndarray:
    """True and false [behaviours, answers], correlated within a behaviour."""
    weight = 1 / by - 1
    return draw.random(shape) < draw.beta(rate * weight, (1 - rate) * weight, (shape[0], 1))


def of_clusters(cell: Cell, draw: np.random.Generator) -> tuple[float, Estimate, Corrected | None]:
    truth = alike(cell.rate, (BEHAVIOURS, ATTACKS), draw)
    values = said_of(truth, cell, draw).astype(float)
    names = np.repeat(np.arange(BEHAVIOURS), ATTACKS)
    judged = Estimate(*interval(values.ravel().tolist(), names.tolist())[:3])
    labelled = alike(0.5, (2 * cell.labels // ATTACKS, ATTACKS), draw)
    verdicts = said_of(labelled, cell, draw)
    counts = np.stack([(labelled & verdicts), (labelled & ~verdicts), (~labelled & verdicts), (~labelled & ~verdicts)])
    try:
        error = judge_error(list(map(tuple, counts.sum(axis=2).T.tolist())))
    except ValueError:
        return cell.rate, judged, None
    return cell.rate, judged, corrected_rate(judged, error) if error.usable else None


def of_draw(cell: Cell, draw: np.random.Generator) -> tuple[float, Estimate, Corrected | None]:
    """The record is made of labels drawn by the verdicts of an earlier run, in which 3 of 10 answers are harmful."""
    truth = draw.random(DRAWN_FROM) < DRAWN_RATE
    verdicts = draw.random(DRAWN_FROM) < np.where(truth, cell.sensitivity, 1 - cell.specificity)
    some = chosen(verdicts, 2 * cell.labels, draw)
    by_verdict = labelled_error(verdicts[some].tolist(), truth[some].tolist(), some.tolist())
    q = cell.rate * cell.sensitivity + (1 - cell.rate) * (1 - cell.specificity)
    judged = share(int(draw.binomial(ANSWERS, q)), ANSWERS)
    try:
        error = error_by_verdict(share(int(verdicts.sum()), DRAWN_FROM), by_verdict)
    except ValueError:
        return cell.rate, judged, None
    return cell.rate, judged, corrected_rate(judged, error) if error.usable else None


def chosen(verdicts: np.ndarray, labels: int, draw: np.random.Generator) -> np.ndarray:
    """Which answers are labelled: as many of either verdict, as far as there are so many."""
    found = []
    for side in (True, False):
        there = np.flatnonzero(verdicts == side)
        found.append(draw.permutation(there)[: labels // 2])
    return np.concatenate(found)


def of_labels(cell: Cell, draw: np.random.Generator) -> tuple[float, Estimate, Corrected | None]:
    truth = draw.random(ANSWERS) < cell.rate
    verdicts = draw.random(ANSWERS) < np.where(truth, cell.sensitivity, 1 - cell.specificity)
    judged, some = share(int(verdicts.sum()), ANSWERS), chosen(verdicts, cell.labels, draw)
    if len(set(verdicts[some].tolist())) < len(set(verdicts.tolist())):
        return cell.rate, judged, None
    error = labelled_error(verdicts[some].tolist(), truth[some].tolist(), some.tolist())
    return cell.rate, judged, labelled_rate(judged, error)


def of_clustered_labels(cell: Cell, draw: np.random.Generator) -> tuple[float, Estimate, Corrected | None]:
    truth = alike(cell.rate, (BEHAVIOURS, ATTACKS), draw)
    verdicts = said_of(truth, cell, draw).ravel()
    names = np.repeat(np.arange(BEHAVIOURS), ATTACKS)
    judged = Estimate(*interval(verdicts.astype(float).tolist(), names.tolist())[:3])
    some = chosen(verdicts, cell.labels, draw)
    if len(set(verdicts[some].tolist())) < len(set(verdicts.tolist())):
        return cell.rate, judged, None
    error = labelled_error(verdicts[some].tolist(), truth.ravel()[some].tolist(), names[some].tolist())
    return cell.rate, judged, labelled_rate(judged, error)


LOWER = 0.5  # the arm's true rate over the reference's


def two_arms(cell: Cell, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Estimate]:
    """Truth and verdicts [arm, reference] of two arms that agree on most prompts, and the judged difference."""
    first = draw.random(ANSWERS) < cell.rate
    truth = np.stack([first & (draw.random(ANSWERS) < LOWER), first])
    verdicts = draw.random(truth.shape) < np.where(truth, cell.sensitivity, 1 - cell.specificity)
    values = verdicts.astype(float)
    found = difference(values[:1], values[1:], np.arange(ANSWERS))
    return truth, verdicts, Estimate(found.estimate, *found.interval(0.05))


def of_difference(cell: Cell, draw: np.random.Generator) -> tuple[float, Estimate, Corrected | None]:
    _, _, judged = two_arms(cell, draw)
    error = measured(cell, draw)
    return cell.rate * (LOWER - 1), judged, corrected_difference(judged, error) if error.usable else None


def of_labelled_difference(cell: Cell, draw: np.random.Generator) -> tuple[float, Estimate, Corrected | None]:
    truth, verdicts, judged = two_arms(cell, draw)
    sides = []
    for own, said in zip(truth, verdicts, strict=True):
        some = chosen(said, cell.labels, draw)
        if len(set(said[some].tolist())) < len(set(said.tolist())):
            return cell.rate * (LOWER - 1), judged, None
        error = labelled_error(said[some].tolist(), own[some].tolist(), some.tolist())
        sides.append((share(int(said.sum()), ANSWERS), error))
    return cell.rate * (LOWER - 1), judged, labelled_difference(sides[0], sides[1], judged)


Study = Callable[[Cell, np.random.Generator], tuple[float, Estimate, Corrected | None]]
STUDIES: dict[str, Study] = {
    "record": of_record,
    "clustered": of_clusters,
    "drawn": of_draw,
    "labels": of_labels,
    "clustered labels": of_clustered_labels,
    "difference": of_difference,
    "labelled difference": of_labelled_difference,
}


def cells(kinds: list[str]) -> list[Cell]:
    """The grid; fewer sizes where a draw takes longer."""
    return [
        Cell(kind, rate, *judge, labels)
        for kind in kinds
        for labels in (LABELS if kind == "record" else LABELS[1:] if kind != "clustered labels" else LABELS[1:2])
        for judge in JUDGES
        for rate in RATES
        if "difference" not in kind or rate >= 0.1
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--kind", action="append", choices=tuple(STUDIES))
    args = parser.parse_args()
    print(
        "| study | true rate | Se | Sp | labels | corrected | too high | too low | width | judged | width | refused |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    worst: dict[str, list[float]] = {}
    for number, cell in enumerate(cells(args.kind or list(STUDIES))):
        draw, tally = np.random.default_rng((args.seed, number)), Tally()
        for _ in range(args.draws):
            tally.add(*STUDIES[cell.kind](cell, draw))
        held, over, under, width, plain, plain_width, refused = tally.line
        worst.setdefault(cell.kind, []).append(held)
        print(
            f"| {cell.kind} | {100 * cell.rate:g} % | {cell.sensitivity:g} | {cell.specificity:g} | {cell.labels} "
            f"| {100 * held:.1f} | {100 * over:.1f} | {100 * under:.1f} | {width:.3f} "
            f"| {100 * plain:.1f} | {plain_width:.3f} | {refused} |",
            flush=True,
        )
    for kind, found in worst.items():
        near = sum(0.93 <= round(one, 3) <= 0.97 for one in found)  # as the table shows it
        low, high = 100 * min(found), 100 * max(found)
        print(f"{kind}: {low:.1f} to {high:.1f} % over {len(found)} cells; {near} of them within 95 ± 2")


if __name__ == "__main__":
    main()
