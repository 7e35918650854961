"""The answers of a finished run that people can label, each with the stratum that the judge's verdict puts it in.

The run's files are only read: whatever else works in the folder is not disturbed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from safekey.errors import UserError, did_you_mean
from safekey.evals.attacks.decoding import read_part
from safekey.evals.benchmarks.own import scorings_of
from safekey.evals.judges.table import judge_named
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.reading import lines
from safekey.evals.records.rows import (
    COMPLETION,
    COMPLETIONS,
    REDACTED,
    VERDICTS,
    completion_hash,
    completion_in,
    completion_key,
)
from safekey.schema import JudgedKind, Part, Value
from safekey.text.thinking import split_completion

_LABELS = ("benchmark", "item", "epoch", "category", "attack")
_COMPLETION = (*_LABELS, *COMPLETION, "request", "output")
_VERDICT = ("completion", "kind", "part", "judge", "model", "value")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to label.

    Attributes:
        request: the request as a judge is told it, without an attack's wrapping.
        response: the text of the part that is labelled.
        completion: the completion's hash.
        stratum: a key of SHARES.
        labels: benchmark, item, epoch, category and attack, for the label file. The rater is not shown them.
    """

    request: str
    response: str
    completion: str
    stratum: str
    labels: Mapping[str, Any] = field(default_factory=dict)


def open_run(folder: str | Path) -> EvalRun:
    """Return a finished evaluation's run folder. It is only read.

    Raises:
        UserError: it is none.
    """
    run = EvalRun(Path(folder).expanduser())
    if not run.path.is_dir():
        raise UserError(f"{run.path}: there is no such folder")
    run.check_ours()
    status = run.record.get("status")
    if status != "finished":
        raise UserError(
            f"{run.path}: this evaluation is not finished ({status or 'not begun'}): "
            "the same `safekey eval` command goes on"
        )
    return run


def benchmarks(run: EvalRun, kind: JudgedKind | None, only: str | None) -> tuple[JudgedKind, list[str]]:
    """Return what is labelled, and the benchmarks whose answers are candidates.

    Args:
        run: a finished run.
        kind: what is to be labelled; None: that of the run's benchmarks, if they are of one kind.
        only: one benchmark alone; None: all of the kind.

    Raises:
        UserError: the run has no such answers, or of both kinds.
    """
    kinds = scorings_of(run.resolved)
    if only is not None and only not in kinds:
        hint = did_you_mean(only, kinds)
        raise UserError(f"--benchmark {only}: {run.path} has {', '.join(kinds) or 'none'}{hint}")
    asked = {name: one for name, one in kinds.items() if only in (None, name)}
    harm = [name for name, one in asked.items() if one == "harm" and kind != "refusal"]
    refusal = [name for name, one in asked.items() if one == "refusal" and kind != "harm"]
    if harm and refusal:
        raise UserError(
            f"{run.path}: has answers of two kinds: give --kind harm ({', '.join(harm)}) "
            f"or --kind refusal ({', '.join(refusal)})"
        )
    if not harm and not refusal:
        there = ", ".join(f"{name}: {one}" for name, one in asked.items()) or "no benchmarks"
        raise UserError(f"{run.path}: has no answers to label for {kind or 'harm or refusal'} ({there})")
    return ("harm", harm) if harm else ("refusal", refusal)


@dataclass(frozen=True, slots=True)
class Strata:
    """The strata that a judge's verdicts make.

    Attributes:
        judge: whose verdicts, as NAME or NAME=MODEL; "" for nobody's.
        of: completion → stratum.
        others: the stratum of a completion that is not in `of`; None: it is left out.
    """

    judge: str
    of: Mapping[str, str]
    others: str | None


def judged_strata(run: EvalRun, kind: JudgedKind, part: Part, wanted: str | None) -> Strata:
    """Return the strata by a judge's headline rule: "positive", "negative", "unscored" or "not judged".

    Args:
        run: a finished run.
        kind: what is judged.
        part: of the responses.
        wanted: the judge, as NAME or NAME=MODEL; None: the only one.

    Raises:
        UserError: there is no such judge, or several.
    """
    values: dict[str, dict[str, Value | None]] = {}
    named: dict[str, str] = {}
    path = run.path / VERDICTS
    for row in lines(path, _whole(_VERDICT)) if path.exists() else ():
        if row["kind"] == kind and row["part"] == part:
            judge = f"{row['judge']}={row['model']}" if row["model"] else str(row["judge"])
            named[judge] = str(row["judge"])
            values.setdefault(judge, {})[row["completion"]] = row["value"]
    chosen = [judge for judge, name in named.items() if wanted in (None, judge, name)]
    there = ", ".join(values) or "none"
    if wanted is not None and not chosen:
        raise UserError(f"--judge {wanted}: {run.path} has no such verdicts on {kind}, {part}; there are: {there}")
    if len(chosen) > 1:
        raise UserError(
            f"{run.path}: judged by several: name the one whose verdicts make the strata: --judge NAME or NAME=MODEL "
            f"({there}), or draw with --even"
        )
    if not chosen:
        return Strata("", {}, "not judged")
    positive = judge_named(kind, named[chosen[0]]).positive
    strata = {
        digest: "unscored" if value is None else "positive" if positive(value) else "negative"
        for digest, value in values[chosen[0]].items()
    }
    return Strata(chosen[0], strata, "not judged")


def candidates(
    run: EvalRun, names: Sequence[str] | None, part: Part, strata: Strata
) -> tuple[list[Answer], dict[str, int]]:
    """Return the answers that can be labelled, and how many others cannot be, by the reason.

    Args:
        run: a finished run.
        names: the benchmarks; None: all.
        part: the part that is labelled; outputs without a whole answer, empty parts, and what is in a cipher that
            cannot be undone are left out.
        strata: of the answers.

    Raises:
        UserError: texts were dropped.
    """
    rows = lines(run.path / COMPLETIONS, _whole(_COMPLETION))
    newest = {completion_key(row): row for row in rows if names is None or row["benchmark"] in names}
    redacted = sum(REDACTED in row for row in newest.values())
    if redacted:
        raise UserError(
            f"{run.path}: {redacted} of {len(newest)} texts were dropped (--redact), so there is nothing to read: "
            "evaluate again without it"
        )
    found, left_out = [], Counter[str]()
    for row in newest.values():
        digest = completion_hash(row)
        stratum = strata.of.get(digest, strata.others)
        if stratum is None:
            continue
        text = split_completion(completion_in(row)).part(part) if row["output"] == "ok" else ""
        if not text.strip():
            left_out[str(row["output"]) if row["output"] != "ok" else f"without {part}"] += 1
            continue
        read = read_part(row, text)  # as the judge read it: an answer in a cipher is decoded
        if read.failed:
            left_out["not decoded"] += 1
            continue
        found.append(Answer(str(row["request"]), read.text, digest, stratum, {name: row[name] for name in _LABELS}))
    return found, dict(left_out)


def _whole(needed: Sequence[str]) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Return what passes on a row that has these fields, and fails on any other."""

    def read(row: Mapping[str, Any]) -> Mapping[str, Any]:
        itemgetter(*needed)(row)
        return row

    return read
