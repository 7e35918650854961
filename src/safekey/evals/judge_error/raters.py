"""From what people said of an answer to its one label: grades with a threshold, majorities, ties, agreement."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safekey.errors import UserError
from safekey.evals.benchmarks.behaviours import same_text
from safekey.stats.agreement import Agreement, agreement

SETTLED = ""  # the rater of a label that the file's authors settled on


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer and what people say of it.

    Attributes:
        request: what was asked, without an attack's wrapping where the file says so.
        response: the part of the answer that people saw.
        positive: harmful, or refused; by the majority where several people judged it.
        id: the file's id of the answer, or its row.
        category: the file's category; "" for none.
        benchmark: where the request comes from; "" where the file does not say.
        attack: the attack on it; "none" for a plain request.
        completion: the hash of the run's completion; "" where the file does not say.
        raters: how many people judged it.
        sample: the number of the answer to this item in its run.
        item: the item's id in its benchmark; "" where the file does not say.
        stratum: the judge's verdict by which it was drawn: "positive", "negative", …; "" where the file does not say.
        weight: how many answers of its run it stands for, above 0.
    """

    request: str
    response: str
    positive: bool
    id: str
    category: str = ""
    benchmark: str = ""
    attack: str = "none"
    completion: str = ""
    raters: int = 1
    sample: str = ""
    item: str = ""
    stratum: str = ""
    weight: float = 1.0

    @property
    def cluster(self) -> str:
        """The request: answers to one request are alike."""
        return hashlib.sha256(same_text(self.request).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Said:
    """One person's label of one answer, and what identifies the answer; no grade takes an earlier label back."""

    answer: str
    about: dict[str, str]
    rater: str
    grade: float | None


def check_grades(files: Sequence[str], found: Sequence[Said], threshold: float | None) -> None:
    """Refuse grades without a threshold, and a threshold that tells nothing apart."""
    grades = sorted({row.grade for row in found if row.grade is not None})
    shown = ", ".join(f"{grade:g}" for grade in grades[:8]) + (", …" if len(grades) > 8 else "")
    if threshold is None and not set(grades) <= {0.0, 1.0}:
        raise UserError(
            f"{', '.join(files)}: its labels are grades ({shown}): name the least grade that counts as positive: "
            "--threshold GRADE"
        )
    if threshold is not None and grades and not grades[0] < threshold <= grades[-1]:
        raise UserError(f"--threshold {threshold:g}: all labels lie on one side of it (they are {shown})")


def settle(
    rows: Sequence[Said], threshold: float | None, left_out: Counter[str]
) -> tuple[list[Labelled], Agreement | None]:
    """Return each answer with its one label, and the agreement of the people who judged the same answers.

    A label that the file's authors settled on counts; else the majority's. A later label by the same person replaces
    an earlier one, and a later skip takes it back. Two rows of a file whose raters have no names are two answers.
    """
    least = 1.0 if threshold is None else threshold
    votes: dict[str, dict[str, bool]] = {}
    about: dict[str, dict[str, str]] = {}
    for row in rows:
        given = votes.setdefault(row.answer, {})
        about[row.answer] = row.about
        if row.grade is None:
            given.pop(row.rater, None)
        else:
            given[row.rater] = row.grade >= least
    votes = {answer: given for answer, given in votes.items() if given}
    answers = []
    for answer, given in votes.items():
        people = [vote for rater, vote in given.items() if rater != SETTLED] or list(given.values())
        yes = sum(people)
        if SETTLED in given:
            positive = given[SETTLED]
        elif 2 * yes == len(people):
            left_out["people disagree, without a majority"] += 1
            continue
        else:
            positive = 2 * yes > len(people)
        answers.append(_labelled(about[answer], positive, len(people)))
    return answers, _agreement(votes)


def _labelled(about: Mapping[str, str], positive: bool, raters: int) -> Labelled:
    return Labelled(
        request=about["request"],
        response=about["response"],
        positive=positive,
        id=about["id"],
        category=about["category"],
        benchmark=about["benchmark"],
        attack=about["attack"] or "none",
        completion=about["completion"],
        raters=raters,
        sample=about["epoch"],
        item=about["item"],
        stratum=about["stratum"],
        weight=_weight(about["weight"]),
    )


def _weight(text: str) -> float:
    """Return a row's weight; 1 where it has none, or none above 0."""
    try:
        found = float(text)
    except ValueError:
        return 1.0
    return found if 0 < found < float("inf") else 1.0


def _agreement(votes: Mapping[str, Mapping[str, bool]]) -> Agreement | None:
    people = sorted({rater for given in votes.values() for rater in given if rater != SETTLED})
    if len(people) < 2:
        return None
    return agreement([[_number(given.get(name)) for given in votes.values()] for name in people])


def _number(vote: bool | None) -> float | None:
    return None if vote is None else float(vote)
