"""From labelled answers and a judge's verdicts on them to the judge's error: rates, agreement, confusions, a record.

measured = measure(labels, judge, verdicts)
measured.record.error.sensitivity  -> Estimate(value=0.91, low=0.82, high=0.96)
measured.missed[0].response        -> an answer that people call harmful and the judge does not
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from safekey.errors import UserError
from safekey.evals.judge_error.correct import BY_VERDICT, WITHOUT_VERDICT
from safekey.evals.judge_error.labels import Labels
from safekey.evals.judge_error.raters import Labelled
from safekey.evals.judge_error.record import (
    VERSION,
    WHAT,
    JudgeKey,
    JudgeRecord,
    error_of,
    packed,
    record_from,
    revision_of,
)
from safekey.evals.judges.table import Judge, Rule
from safekey.evals.judges.verdicts import OpenJudge
from safekey.schema import Verdict
from safekey.stats.intervals import quantile, wilson
from safekey.stats.judge_error import Counts, Estimate
from safekey.stats.labelled import error_by_verdict, labelled_error
from safekey.stats.two_raters import alpha, kappa

_REASONS = 5
NO_CATEGORY = ""
_MOST_CHANGED = 0.05  # of the verdicts by which answers were drawn; models do not always say the same twice

Judged = tuple[Labelled, Verdict]


@dataclass(frozen=True)
class Measured:
    """A judge measured against people.

    Attributes:
        record: what is written.
        kappa: Cohen's κ of judge and people by the headline's rule; None where it is not defined.
        alpha: Krippendorff's α of the two.
        categories: category → counts by the headline's rule, one tuple for each request.
        missed: answers that people call positive and the judge does not.
        alarms: answers that the judge calls positive and people do not.
        unscored: reason → answers without a verdict.
    """

    record: JudgeRecord
    kappa: Estimate | None
    alpha: Estimate | None
    categories: Mapping[str, tuple[Counts, ...]]
    missed: tuple[Labelled, ...]
    alarms: tuple[Labelled, ...]
    unscored: Counter[str]


def measure(labels: Labels, opened: OpenJudge, verdicts: Sequence[Verdict]) -> Measured:
    """Measure a judge.

    Args:
        labels: what people say.
        opened: the judge.
        verdicts: its verdict on each answer.

    Raises:
        UserError: the judge gave no verdict at all, or its replies were read by two versions of a parser.
    """
    judge = opened.judge
    pairs = [(answer, made) for answer, made in zip(labels.answers, verdicts, strict=True) if made.value is not None]
    silent = [(answer, made) for answer, made in zip(labels.answers, verdicts, strict=True) if made.value is None]
    unscored = Counter(made.unscored[:120] for _, made in silent)
    if not pairs:
        why = "; ".join(f"{count}× {reason}" for reason, count in unscored.most_common(_REASONS))
        raise UserError(f"judge '{judge.name}' gave no verdict on any of {len(labels.answers)} answers ({why})")
    parsers = sorted({made.parser.partition("+")[0] for _, made in pairs})
    if len(parsers) > 1:
        raise UserError(
            f"the kept verdicts were read by parsers {', '.join(parsers)}: delete the file of verdicts, and ask again"
        )
    head = judge.rules[0]
    clusters = {rule.name: _clusters(pairs, rule) for rule in judge.rules}
    missed = tuple(answer for answer, made in pairs if answer.positive and not _says(head, made))
    alarms = tuple(answer for answer, made in pairs if not answer.positive and _says(head, made))
    categories = {} if is_drawn(labels) else _by_category(pairs, head)
    document = {
        "version": VERSION,
        "record": WHAT,
        "key": asdict(_key(labels, opened, parsers[0])),
        "rules": {head.name: _drawn(pairs, opened, head)}
        if is_drawn(labels)
        else {name: _rule(counts) for name, counts in clusters.items()},
        "data": _data(labels),
        "unscored": {
            "answers": len(silent),
            "positive": sum(answer.positive for answer, _ in silent),
            "reasons": dict(unscored.most_common(_REASONS)),
        },
        "categories": {name: _rule(counts) for name, counts in categories.items()},
        "confusions": {"missed": [row.id for row in missed], "false_alarms": [row.id for row in alarms]},
        "safekey": metadata.version("safekey"),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    both = () if is_drawn(labels) else clusters[head.name]
    return Measured(record_from(document), kappa(both), alpha(both), categories, missed, alarms, unscored)


def is_drawn(labels: Labels) -> bool:
    """Whether answers were drawn by a judge's verdicts, as `safekey judges label` does."""
    return any(answer.stratum in BY_VERDICT for answer in labels.answers)


def _drawn(pairs: Sequence[Judged], opened: OpenJudge, rule: Rule) -> dict[str, Any]:
    """Return what a record holds of answers that were drawn by this judge's own verdicts.

    The verdicts by which they were drawn count; that the judge still gives them shows that it is the same one.

    Raises:
        UserError: they were drawn by other verdicts, or people call all of them the same.
    """
    pairs = [pair for pair in pairs if pair[0].stratum not in WITHOUT_VERDICT]
    said = [answer.stratum == BY_VERDICT[0] for answer, _ in pairs]
    others = sum(answer.stratum not in BY_VERDICT for answer, _ in pairs)
    changed = sum(_says(rule, made) != yes for (_, made), yes in zip(pairs, said, strict=True))
    if others or changed > _MOST_CHANGED * len(pairs):
        raise UserError(
            f"these answers were drawn by other verdicts than those of '{opened.judge.name}' ({rule.name}), so shares "
            "among them are not shares of all answers: label an even draw (`safekey judges label RUN --even`)"
        )
    weights = [answer.weight for answer, _ in pairs]
    share = sum(weight for weight, yes in zip(weights, said, strict=True) if yes) / sum(weights)
    judged = Estimate(share, *wilson(share, len(pairs), quantile(0.05)))
    error = labelled_error(said, [answer.positive for answer, _ in pairs], [answer.cluster for answer, _ in pairs])
    try:
        found = error_by_verdict(judged, error)
    except ValueError:
        raise UserError("people call all of these answers the same: one of the judge's errors is unknown") from None
    counts = Counter((yes, answer.positive) for (answer, _), yes in zip(pairs, said, strict=True))
    return {
        "drawn": {"share": list(judged), "confirmed": list(error.confirmed), "missed": list(error.missed),
                  "correlation": error.correlation},
        "counts": {"hits": counts[True, True], "misses": counts[False, True],
                   "false_alarms": counts[True, False], "correct_passes": counts[False, False]},
        "sensitivity": list(found.sensitivity), "specificity": list(found.specificity), "gain": list(found.gain),
        "changed": changed,
    }  # fmt: skip


def _key(labels: Labels, opened: OpenJudge, parser: str) -> JudgeKey:
    judge: Judge = opened.judge
    return JudgeKey(
        judge=judge.name,
        model=opened.model,
        revision=revision_of(opened.model),
        prompt_hash=judge.prompt_hash(),
        parser=parser,
        kind=judge.judges,
        part=labels.part,
        rule=judge.rules[0].name,
        threshold=labels.threshold,
        data_sha256=labels.sha256,
    )


def _says(rule: Rule, made: Verdict) -> bool:
    return made.value is not None and rule.test(made.value)


def _clusters(pairs: Sequence[Judged], rule: Rule) -> tuple[Counts, ...]:
    """Return the counts of each request."""
    found: dict[str, list[int]] = {}
    for answer, made in pairs:
        place = (0 if answer.positive else 2) + (not _says(rule, made))
        found.setdefault(answer.cluster, [0, 0, 0, 0])[place] += 1
    return tuple((row[0], row[1], row[2], row[3]) for row in found.values())


def _by_category(pairs: Sequence[Judged], rule: Rule) -> dict[str, tuple[Counts, ...]]:
    names = sorted({answer.category for answer, _ in pairs})
    if names == [NO_CATEGORY]:
        return {}
    return {name: _clusters([pair for pair in pairs if pair[0].category == name], rule) for name in names}


def _rule(clusters: Sequence[Counts]) -> dict[str, Any]:
    """Return what a record holds of one rule; the numbers beside the clusters are for people."""
    hits, misses, alarms, passes = (sum(column) for column in zip(*clusters, strict=True))
    error = error_of(clusters)
    found = {"kappa": kappa(clusters), "alpha": alpha(clusters)}
    return {
        "counts": {"hits": hits, "misses": misses, "false_alarms": alarms, "correct_passes": passes},
        "sensitivity": list(error.sensitivity) if error else None,
        "specificity": list(error.specificity) if error else None,
        "gain": list(error.gain) if error else None,
        **{name: list(value) if value else None for name, value in found.items()},
        "clusters": packed(clusters),
    }


def _data(labels: Labels) -> dict[str, Any]:
    answers = labels.answers
    return {
        "files": dict(labels.files),
        "answers": len(answers),
        "positive": sum(answer.positive for answer in answers),
        "requests": len({answer.cluster for answer in answers}),
        "benchmarks": dict(Counter(answer.benchmark for answer in answers if answer.benchmark)),
        "attacks": dict(Counter(answer.attack for answer in answers)),
        "threshold": labels.threshold,
        "columns": dict(labels.columns),
        "left_out": dict(labels.left_out),
        "agreement": None if labels.agreement is None else asdict(labels.agreement),
    }
