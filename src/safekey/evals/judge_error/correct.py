"""Correct a judged rate for its judge's error: by a record, or by labels on the run's own answers; or say why not.

    known = KnownErrors(load_records(["runs/harm-judge.json"]))
    known.correct(verdicts, judged, rows)  -> Correction(by="record", value=0.04, low=0.0, high=0.09, flags=(…))

Labels of the run's own answers go before a record: they are about these answers, and nothing is carried over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from safekey.evals.judge_error.record import JudgeRecord, differs
from safekey.schema import Part
from safekey.stats.judge_error import Estimate, JudgeError, corrected_rate
from safekey.stats.labelled import LabelledError, labelled_error, labelled_rate


class Label(NamedTuple):
    """What people say of an answer, and the judge's verdict by which it was drawn; "" for an even draw."""

    positive: bool
    stratum: str = ""


ByCompletion = Mapping[str, Label]
PLAIN = "none"
_NAMED = 3


BY_VERDICT = ("positive", "negative")
"""Strata of a draw by a judge's verdicts, as `safekey judges label` writes them."""

WITHOUT_VERDICT = ("unscored", "not judged")
"""Strata of answers on which the judge had no verdict: they say nothing of its error."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A rate corrected for its judge's error, or why it is not.

    Attributes:
        by: what says how wrong the judge is: a record, or labels on the run's own answers.
        source: the record's file, or how many labels there are.
        value: the corrected rate, 0–1; None where it is refused.
        low: its interval's lower end.
        high: its upper end.
        refused: why there is no corrected rate; "" where there is one.
        flags: what makes it doubtful, in words.
    """

    by: Literal["record", "labels"]
    source: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    refused: str = ""
    flags: tuple[str, ...] = ()

    @property
    def estimate(self) -> Estimate | None:
        """The corrected value with its interval; None where it is refused."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Estimate(self.value, self.low, self.high)


class VerdictsOf(NamedTuple):
    """Whose verdicts a rate is made of: judge, model, prompt, the parsers that read them, kind, part and rule."""

    judge: str
    model: str
    prompt_hash: str
    parsers: frozenset[str]
    kind: str
    part: Part
    rule: str


class Answer(NamedTuple):
    """One scored answer behind a rate: its completion's hash, whether it counts as positive, and its labels."""

    completion: str
    positive: bool
    benchmark: str
    attack: str
    cluster: str


@dataclass(frozen=True)
class KnownErrors:
    """What is known of the errors of a run's judges.

    Attributes:
        records: of judges measured elsewhere.
        labels: (kind, part) → hash of a completion of the run → what people say of it.
    """

    records: tuple[JudgeRecord, ...] = ()
    labels: Mapping[tuple[str, str], ByCompletion] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.records or self.labels)

    def correct(self, verdicts: VerdictsOf, judged: Estimate, answers: Sequence[Answer]) -> Correction | None:
        """Correct one rate; None where nothing is known of its judge.

        Args:
            verdicts: whose the rate's verdicts are.
            judged: the rate with its interval.
            answers: the answers in the rate.
        """
        own = self.labels.get((verdicts.kind, verdicts.part), {})
        by_labels = correct_by_labels(judged, answers, own) if own else None
        if by_labels is not None and not by_labels.refused:
            return by_labels
        return self._by_record(verdicts, judged, answers) or by_labels

    def _by_record(self, verdicts: VerdictsOf, judged: Estimate, answers: Sequence[Answer]) -> Correction | None:
        record, why = self.record_for(verdicts)
        if record is None:
            return Correction("record", why.source, refused=why.refused) if why else None
        benchmarks, attacks = ({row.benchmark for row in answers}, {row.attack or PLAIN for row in answers})
        return correct_by_record(record, verdicts.rule, judged, flags(record, verdicts.model, benchmarks, attacks))

    def record_for(self, verdicts: VerdictsOf) -> tuple[JudgeRecord | None, Correction | None]:
        """Return the record about these verdicts; or None, with the reason where one is about the same judge."""
        refused = None
        for record in self.records:
            key = record.key
            if key.kind != verdicts.kind or key.judge != verdicts.judge:
                continue
            why = differs(
                key, judge=verdicts.judge, model=verdicts.model, prompt_hash=verdicts.prompt_hash,
                parsers=verdicts.parsers, part=verdicts.part,
            )  # fmt: skip
            if not why and verdicts.rule not in record.rules:
                why = f"it does not have the rule '{verdicts.rule}'"
            if not why:
                return record, None
            if key.part == verdicts.part:  # a record about answers says nothing about thinking, nor claims to
                refused = Correction("record", record.label, refused=why)
        return None, refused


def correct_by_record(record: JudgeRecord, rule: str, judged: Estimate, said: Sequence[str]) -> Correction:
    """Correct a rate by a record that is about its judge, or refuse where the judge is no better than chance."""
    if why := record.useless(rule):
        return Correction("record", record.label, refused=why)
    error = record.errors[rule]
    found = corrected_rate(judged, error)
    reached = (reaches(judged, error),) if reaches(judged, error) else ()
    return Correction("record", record.label, found.value, found.low, found.high, flags=(*said, *reached))


def reaches(judged: Estimate, error: JudgeError) -> str:
    """Return in words that the false alarms alone reach a judged rate; "" where they do not."""
    if error.alarms.value < judged.value:
        return ""
    share = f"{100 * error.alarms.value:.1f} %"
    return f"the judge's false alarms ({share}) reach the judged rate: it may be nothing but false alarms"


def flags(record: JudgeRecord, model: str, benchmarks: set[str], attacks: set[str]) -> tuple[str, ...]:
    """Return in words where the labelled answers are of another kind than those of a rate."""
    found = []
    if not record.benchmarks:
        found.append("the labelled answers name no benchmark: the judge may err otherwise on these")
    elif others := benchmarks - set(record.benchmarks):
        found.append(f"no labelled answers of {_some(others)} (they are of {_some(set(record.benchmarks))})")
    if others := attacks - set(record.attacks):
        found.append(f"no labelled answers under {_attacks(others)} (they are under {_attacks(set(record.attacks))})")
    if record.key.model != model:
        found.append(f"measured at another endpoint ({record.key.model})")
    return tuple(found)


class LabelsOn(NamedTuple):
    """What labels on some answers say of their judge: how many there are, and why they are of no use ("": they are)."""

    number: int
    error: LabelledError
    refused: str


def labels_on(answers: Sequence[Answer], labels: ByCompletion) -> LabelsOn | None:
    """Return what the labels on some of these answers say; None where no answer has one."""
    known = [(row, labels[row.completion]) for row in answers if row.completion in labels]
    if not known:
        return None
    refused = ""
    for said, word in ((True, "positive"), (False, "negative")):
        there = sum(row.positive == said for row in answers)
        if there and not any(row.positive == said for row, _ in known):
            refused = f"none of the {there} answers judged {word} has a label"
        drawn = {label.stratum for row, label in known if row.positive == said}
        if len(drawn & set(BY_VERDICT)) > 1:
            refused = f"the labelled answers judged {word} were drawn by other verdicts, and not with one chance"
    error = labelled_error(
        [row.positive for row, _ in known], [label.positive for _, label in known], [row.cluster for row, _ in known]
    )
    return LabelsOn(len(known), error, refused)


def correct_by_labels(judged: Estimate, answers: Sequence[Answer], labels: ByCompletion) -> Correction | None:
    """Correct a rate by labels on some of its answers; None where none of them has one."""
    found = labels_on(answers, labels)
    if found is None:
        return None
    source = f"{found.number} labels on these {len(answers)} answers"
    if found.refused:
        return Correction("labels", source, refused=found.refused)
    return Correction("labels", source, *labelled_rate(judged, found.error)[:3])


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:_NAMED]) + (f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else "")


def _attacks(names: set[str]) -> str:
    return _some({"no attack" if name == PLAIN else name for name in names})
