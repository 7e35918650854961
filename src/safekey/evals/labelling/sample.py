"""Draw a run's answers for people to label: more of what is rare, by the judge's verdicts, with the weight of each.

    draw = draw_answers(open_run("runs/eval-r1-7b"), Wanted(kind="harm", sample=100))
    draw.strata["positive"]  -> Stratum(answers=40, drawn=40), of weight 1.0
    draw.strata["negative"]  -> Stratum(answers=560, drawn=60), of weight 9.33: each stands for so many answers

A judge that finds 1 answer in 20 harmful would have 5 positive ones in 100 drawn evenly: nobody could say from them
what its "harmful" is worth. So its positive and its negative answers make up nearly half each, as far as there are so
many, and what it gave no verdict on a tenth. Within a stratum every answer has the same chance. The weight is the
number of the stratum's answers for each drawn one: shares of the whole run are weighted means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from safekey.errors import UserError
from safekey.evals.labelling.answers import Answer, Strata, benchmarks, candidates, judged_strata
from safekey.evals.records.folder import EvalRun
from safekey.schema import JudgedKind, Part

EVEN = "all"
SHARES: Mapping[str, float] = {"positive": 0.45, "negative": 0.45, "unscored": 0.1, "not judged": 0.1, EVEN: 1.0}
"""Stratum → its share of the sample, where all are there and large enough; the shares that are left are scaled up.

"positive" and "negative": by the judge's headline rule; "unscored": it was asked and gave no verdict; "all": there are
no strata.
"""
SAMPLE, SEED = 100, 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be drawn; what is None was not said.

    Attributes:
        kind: "harm" or "refusal"; None: that of the run's benchmarks, if they are of one kind.
        part: the part of the responses that is labelled; None: the answer.
        benchmark: answers of this one alone; None: of all of the kind.
        sample: how many, at least 1; None: SAMPLE, or all where there are fewer.
        seed: which draw, and which order; None: SEED.
        judge: whose verdicts make the strata, as NAME or NAME=MODEL; None: the only one.
        even: draw every answer with the same chance, whatever the judge said.
    """

    kind: JudgedKind | None = None
    part: Part | None = None
    benchmark: str | None = None
    sample: int | None = None
    seed: int | None = None
    judge: str | None = None
    even: bool | None = None


@dataclass(frozen=True, slots=True)
class Stratum:
    """How many answers a stratum has, and how many of them are drawn."""

    answers: int
    drawn: int

    @property
    def weight(self) -> float:
        """How many answers of the run one drawn answer stands for; 0 where none is drawn."""
        return self.answers / self.drawn if self.drawn else 0.0


@dataclass(frozen=True)
class Draw:
    """The drawn answers.

    Attributes:
        kind: what is labelled.
        part: the part of the responses.
        benchmark: the only benchmark, or "".
        sample: how many were asked for.
        seed: which draw.
        judge: whose verdicts make the strata; "" where nobody judged, and for an even draw.
        even: whether there are no strata.
        strata: key of SHARES → its size; strata without answers are left out.
        left_out: why answers are no candidates → how many: outputs without a whole answer, and empty parts.
        answers: those drawn, in the order in which they are shown.
    """

    kind: JudgedKind
    part: Part
    benchmark: str
    sample: int
    seed: int
    judge: str
    even: bool
    strata: Mapping[str, Stratum]
    left_out: Mapping[str, int]
    answers: tuple[Answer, ...]

    def weight(self, answer: Answer) -> float:
        """How many answers of the run this one stands for, at least 1."""
        return self.strata[answer.stratum].weight


def labelled(run: EvalRun, wanted: Wanted) -> tuple[JudgedKind, Part, str]:
    """Return what is labelled: the kind, the part, and the only benchmark, or "".

    Raises:
        UserError: the run has no such answers, or of both kinds.
    """
    return benchmarks(run, wanted.kind, wanted.benchmark)[0], wanted.part or "answer", wanted.benchmark or ""


def draw_answers(run: EvalRun, wanted: Wanted) -> Draw:
    """Draw answers of a finished run; the same run, verdicts and settings give the same draw.

    Raises:
        UserError: the run's texts were dropped, or it has no such answers.
    """
    kind, part, only = labelled(run, wanted)
    names = benchmarks(run, wanted.kind, wanted.benchmark)[1]
    by = Strata("", {}, EVEN) if wanted.even else judged_strata(run, kind, part, wanted.judge)
    found, left_out = candidates(run, names, part, by)
    if not found:
        why = ", ".join(f"{count} {name}" for name, count in left_out.items())
        raise UserError(f"{run.path}: no {part} of {', '.join(names)} to label ({why or 'no completions'})")
    groups = {name: [one for one in found if one.stratum == name] for name in SHARES}
    seed = SEED if wanted.seed is None else wanted.seed
    sample = wanted.sample or SAMPLE
    sizes = allocate({name: len(group) for name, group in groups.items()}, sample)
    drawn = [
        one
        for name, group in groups.items()
        for one in sorted(group, key=lambda each: _lot(seed, "draw", each))[: sizes[name]]
    ]
    strata = {name: Stratum(len(group), sizes[name]) for name, group in groups.items() if group}
    shown = tuple(sorted(drawn, key=lambda each: _lot(seed, "order", each)))
    return Draw(kind, part, only, sample, seed, by.judge, bool(wanted.even), strata, left_out, shown)


def saved_answers(run: EvalRun, part: Part, wanted: Mapping[str, str]) -> tuple[Answer, ...]:
    """Return the answers of an earlier draw, from the run.

    Args:
        run: a finished run.
        part: the part of the responses.
        wanted: hash of the completion → stratum, in the order in which they are shown.

    Raises:
        UserError: the run holds other answers now.
    """
    found = {one.completion: one for one in candidates(run, None, part, Strata("", wanted, None))[0]}
    gone = [digest for digest in wanted if digest not in found]
    if gone:
        raise UserError(
            f"{run.path}: {len(gone)} of the {len(wanted)} answers that were drawn are not in it (generated "
            "anew, or the draw is of another run): give another --output for a new draw"
        )
    return tuple(found[digest] for digest in wanted)


def allocate(sizes: Mapping[str, int], sample: int) -> dict[str, int]:
    """Return how many answers to draw of each stratum: by SHARES, and what a small stratum lacks from the others.

    Each stratum that has answers gets at least one, as far as `sample` goes.
    """
    left, drawn = min(sample, sum(sizes.values())), dict.fromkeys(sizes, 0)
    for name in sorted((name for name, size in sizes.items() if size), key=lambda name: -SHARES[name])[:left]:
        drawn[name] = 1
    while sum(drawn.values()) < left:  # the stratum that lacks most of its share, relative to it
        open_ones = [name for name, size in sizes.items() if drawn[name] < size]
        drawn[min(open_ones, key=lambda name: drawn[name] / SHARES[name])] += 1
    return drawn


def _lot(seed: int, what: str, answer: Answer) -> str:
    """Return a number that looks random, the same on every machine, for an answer."""
    return hashlib.sha256(f"{seed}/{what}/{answer.completion}".encode()).hexdigest()
