"""Carry the judges' errors into a comparison: which record or labels hold for which metric and arm, and what they give.

    errors = read_errors(saved, chosen, kinds, clusters, records=["runs/harm-judge.json"])
    errors.difference("safekey", "sft", "asr", keys, ours, theirs, judged)  -> Correction(value=-0.32, low=-0.44, …)

What runs keep of their judges' errors is used, and what the user gives goes before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from safekey.comparison.saved_runs import JudgeId, SavedPrompt, SavedRun, scored
from safekey.comparison.types import Key
from safekey.evals.judge_error.correct import (
    Answer,
    ByCompletion,
    Correction,
    KnownErrors,
    VerdictsOf,
    correct_by_labels,
    correct_by_record,
    flags,
    labels_on,
    reaches,
)
from safekey.evals.judge_error.fit import check_fit
from safekey.evals.judge_error.kept import joined, kept_errors
from safekey.evals.judge_error.own_labels import Found, labels_of_runs
from safekey.evals.judge_error.record import JudgeRecord, load_records
from safekey.evals.judges.table import judge_named
from safekey.evals.records.reading import lines
from safekey.evals.records.rows import COMPLETIONS
from safekey.evals.summary.summary import METRIC
from safekey.schema import JUDGED_KINDS, Metric, Part
from safekey.stats.judge_error import Estimate, corrected_difference
from safekey.stats.labelled import labelled_difference


class _Known(NamedTuple):
    """A record and what makes it doubtful here, or why there is none."""

    record: JudgeRecord | None
    rule: str
    model: str
    refused: Correction | None


class _Answers(NamedTuple):
    """An arm's judged answers on one metric, in the order of prompts, with the prompt of each."""

    keys: tuple[Key, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Errors:
    """What is known of the judges' errors in a comparison; nothing by default.

    Attributes:
        known: metric → its record.
        answers: arm and metric → the judged answers; only of metrics with labels.
        labels: metric → hash of a completion → what people say of it.
        attacks: prompt → the attack on it.
        notes: why something that runs keep is not used.
    """

    known: Mapping[Metric, _Known] = field(default_factory=dict)
    answers: Mapping[tuple[str, Metric], _Answers] = field(default_factory=dict)
    labels: Mapping[Metric, ByCompletion] = field(default_factory=dict)
    attacks: Mapping[Key, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def rate(self, arm: str, metric: Metric, keys: Collection[Key], judged: Estimate) -> Correction | None:
        """Return an arm's corrected rate on these prompts; None where nothing is known of the judge."""
        by_labels = correct_by_labels(judged, self._of(arm, metric, keys), self.labels.get(metric, {}))
        if by_labels is not None and not by_labels.refused:
            return by_labels
        known = self.known.get(metric)
        if known is None:
            return by_labels
        if known.record is None:
            return by_labels or known.refused
        return correct_by_record(known.record, known.rule, judged, self._flags(known, keys))

    def difference(
        self, arm: str, reference: str, metric: Metric, keys: Collection[Key],
        ours: Estimate, theirs: Estimate, judged: Estimate,
    ) -> Correction | None:  # fmt: skip
        """Return the corrected difference of two arms on these prompts; None where nothing is known of the judge.

        Labels are used where both arms have them for both verdicts; a record otherwise.

        Args:
            arm: its name.
            reference: the other arm's.
            metric: "asr" or "orr".
            keys: the prompts that both answered.
            ours: the arm's judged rate on them.
            theirs: the reference's.
            judged: the judged difference with its paired interval.
        """
        labels = self.labels.get(metric, {})
        first, second = (labels_on(self._of(name, metric, keys), labels) for name in (arm, reference))
        if first is not None and second is not None and not first.refused and not second.refused:
            found = labelled_difference((ours, first.error), (theirs, second.error), judged)
            source = f"{first.number} labels on {arm} and {second.number} on {reference}"
            return Correction("labels", source, found.value, found.low, found.high)
        known = self.known.get(metric)
        if known is None or known.record is None:
            return None if known is None else known.refused
        if why := known.record.useless(known.rule):
            return Correction("record", known.record.label, refused=why)
        error = known.record.errors[known.rule]
        carried = corrected_difference(judged, error)
        reached = tuple(
            f"{name}: {why}" for name, rate in ((arm, ours), (reference, theirs)) if (why := reaches(rate, error))
        )
        said = (*self._flags(known, keys), *reached)
        return Correction("record", known.record.label, *carried[:3], flags=said)

    def _of(self, arm: str, metric: Metric, keys: Collection[Key]) -> list[Answer]:
        own = self.answers.get((arm, metric))
        wanted = set(keys)
        return [] if own is None else [row for key, row in zip(*own, strict=True) if key in wanted]

    def _flags(self, known: _Known, keys: Iterable[Key]) -> tuple[str, ...]:
        assert known.record is not None
        there = list(keys)
        return flags(known.record, known.model, {key[0] for key in there}, {self.attacks[key] for key in there})


def read_errors(
    saved: Mapping[str, Sequence[SavedRun]],
    chosen: Mapping[Path, Mapping[str, JudgeId]],
    kinds: Mapping[str, str],
    clusters: Mapping[SavedPrompt, str],
    *,
    part: Part,
    records: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Errors:
    """Read what is known of the judges' errors.

    Args:
        saved: arm → its runs.
        chosen: run folder → kind → the judge whose verdicts count.
        kinds: benchmark → what it is judged for.
        clusters: the prompts that are compared, with their behaviours.
        part: the part of the responses that verdicts are about.
        records: files of `safekey judges validate`.
        labels: files of people's labels of these runs' answers.

    Raises:
        UserError: a record is of another judge, labels are about other answers, or a file cannot be read.
    """
    runs = [run for group in saved.values() for run in group]
    given = KnownErrors(load_records(records), _given_labels(runs, labels, kinds, part))
    whose = {kind: [_verdicts(run, kind, part, chosen) for run in runs] for kind in JUDGED_KINDS if kind in
             {kinds[prompt.benchmark] for prompt in clusters}}  # fmt: skip
    check_fit(given.records, (), (part,), [own for group in whose.values() for own in group])
    kept = [kept_errors(run.path) for run in runs]
    known: dict[Metric, _Known] = {}
    notes: list[str] = []
    for kind, verdicts in whose.items():
        found = _record(kind, verdicts, given, kept, notes)
        if found is not None:
            known[METRIC[kind]] = found
    every = _labels(kept, given, list(whose), part)
    attacks = {(prompt.benchmark, prompt.item): runs[0].attacks[prompt] for prompt in clusters}
    answers = {
        (arm, METRIC[kind]): _answers(group, kind, kinds, chosen, clusters)
        for arm, group in saved.items()
        for kind in whose
        if METRIC[kind] in every
    }
    return Errors(known, answers, every, attacks, tuple(notes))


def _given_labels(runs: Sequence[SavedRun], files: Sequence[str], kinds: Mapping[str, str], part: Part) -> Found:
    def rows() -> Iterator[Mapping[str, Any]]:
        for run in runs:
            yield from lines(run.path / COMPLETIONS, lambda row: row)

    return labels_of_runs(files, rows(), kinds, [part]) if files else {}


def _verdicts(run: SavedRun, kind: str, part: Part, chosen: Mapping[Path, Mapping[str, JudgeId]]) -> VerdictsOf:
    judge = chosen[run.path].get(kind)
    if judge is None:
        return VerdictsOf("", "", "", frozenset(), kind, part, "")
    rule = judge_named(kind, judge.name).rules[0].name
    parsers = frozenset(run.parsers.get(judge, ()))
    return VerdictsOf(judge.name, judge.model, judge.prompt, parsers, kind, part, rule)


def _record(
    kind: str, verdicts: Sequence[VerdictsOf], given: KnownErrors, kept: Sequence[KnownErrors], notes: list[str]
) -> _Known | None:
    """Return the record about every run's judge of one kind: the user's, else the one that runs keep."""
    named, rule, model = METRIC[kind].upper(), verdicts[0].rule, verdicts[0].model
    sources = [given] * len(verdicts) if any(record.key.kind == kind for record in given.records) else list(kept)
    found: dict[str, JudgeRecord] = {}
    refused: Correction | None = None
    for own, source in zip(verdicts, sources, strict=True):
        record, why = source.record_for(own)
        if record is not None:
            found.setdefault(f"{record.key}", record)
        refused = refused or why
    if refused is not None:
        return _Known(None, rule, model, refused)
    if len(found) > 1:
        names = ", ".join(record.label for record in list(found.values())[:3])
        notes.append(
            f"{named} is not corrected: the runs keep different records ({names}): give one with --judge-record"
        )
        return None
    return _Known(next(iter(found.values())), rule, model, None) if found else None


def _labels(
    kept: Sequence[KnownErrors], given: KnownErrors, kinds: Sequence[str], part: Part
) -> dict[Metric, ByCompletion]:
    together = KnownErrors()
    for own in (*kept, given):
        together = joined(together, KnownErrors((), own.labels))
    found = {METRIC[kind]: together.labels.get((kind, part), {}) for kind in kinds}
    return {metric: labels for metric, labels in found.items() if labels}


def _answers(
    runs: Sequence[SavedRun],
    kind: str,
    kinds: Mapping[str, str],
    chosen: Mapping[Path, Mapping[str, JudgeId]],
    clusters: Mapping[SavedPrompt, str],
) -> _Answers:
    keys: list[Key] = []
    answers: list[Answer] = []
    for run in runs:
        for prompt, cluster in clusters.items():
            if kinds[prompt.benchmark] != kind:
                continue
            for sample in run.samples[prompt]:
                value, _ = scored(run, sample, kind, chosen[run.path].get(kind))
                if value is not None:
                    keys.append((prompt.benchmark, prompt.item))
                    answers.append(
                        Answer(
                            sample.digest, value == 1.0, prompt.benchmark, run.attacks[prompt], cluster or prompt.item
                        )
                    )
    return _Answers(tuple(keys), tuple(answers))
