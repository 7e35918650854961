"""The record of a judge's error: what `safekey judges validate` writes and `--judge-record` reads. It holds no texts.

    {"version": 1, "record": "judge error",
     "key": {"judge": "harm_1to5", "model": "openai/gpt-4.1", "revision": "", "prompt_hash": "9f2c…", "parser": "1",
             "kind": "harm", "part": "answer", "rule": "≥ 4", "threshold": 0.5, "data_sha256": "77ab…"},
     "rules": {"≥ 4": {"clusters": [[1, 0, 0, 0, 31], [0, 0, 0, 1, 80], …], "sensitivity": [0.91, 0.8, 0.96], …}},
     "data": {"answers": 187, "requests": 180, "benchmarks": {"strongreject": 187}, "attacks": {"none": 187}, …}, …}

A cluster's five numbers: positives that the judge found, positives that it missed, its false alarms, its correct
passes, and how many requests have these counts. Everything else of a rule follows from them.

Of answers that were drawn by the judge's own verdicts a rule holds shares in place of clusters, each with its interval:

    {"drawn": {"share": [0.21, 0.17, 0.26], "confirmed": […], "missed": […], "correlation": 0.0}, …}

how many of all answers the judge calls positive, and how many true positives are among those that it calls positive,
and negative.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.options import check_logins
from safekey.stats.judge_error import Counts, Estimate, JudgeError, judge_error
from safekey.stats.labelled import LabelledError, error_by_verdict
from safekey.terminal import printable

VERSION = 1
WHAT = "judge error"
_ENDPOINT = ("http://", "https://")
_LARGEST = 16 << 20  # bytes of a record
_MOST = 1_000_000  # requests


@dataclass(frozen=True, slots=True)
class JudgeKey:
    """What a record is about; a run's verdicts must have the same.

    Attributes:
        judge: the judge's name.
        model: the judging model, as verdicts name it; "" for a judge without one.
        revision: the part of the model's name that fixes its weights; "" where the name has none.
        prompt_hash: of the judge's prompt; "" for none.
        parser: the version of what reads the judge's replies.
        kind: "harm" or "refusal".
        part: the part of an answer.
        rule: the headline's rule, such as "≥ 4".
        threshold: the least grade of people that counted as positive; None for yes or no.
        data_sha256: of the labelled answers.
    """

    judge: str
    model: str
    revision: str
    prompt_hash: str
    parser: str
    kind: str
    part: str
    rule: str
    threshold: float | None
    data_sha256: str

    @property
    def who(self) -> str:
        """The judge in words."""
        return self.judge + (f" ({self.model})" if self.model else "")


@dataclass(frozen=True)
class JudgeRecord:
    """A judge's error as it was measured.

    Attributes:
        key: what it is about.
        rules: the judge's rules → counts of each request; () for answers drawn by its verdicts.
        drawn: rule → its error, for answers drawn by its verdicts.
        benchmarks: where the labelled requests come from → answers; empty where the labels did not say.
        attacks: the attacks on them → answers.
        document: the whole record, as it is written.
        name: the file that it came from, for messages.
    """

    key: JudgeKey
    rules: Mapping[str, tuple[Counts, ...]]
    benchmarks: Mapping[str, int]
    attacks: Mapping[str, int]
    document: Mapping[str, Any]
    name: str = ""
    drawn: Mapping[str, JudgeError] = field(default_factory=dict)

    @cached_property
    def errors(self) -> Mapping[str, JudgeError]:
        """The judge's error by rule; rules that lack labels of one kind are left out."""
        counted = {rule: error for rule, counts in self.rules.items() if (error := error_of(counts)) is not None}
        return {**counted, **self.drawn}

    @property
    def error(self) -> JudgeError | None:
        """The error by the headline's rule; None where labels of one kind are missing."""
        return self.errors.get(self.key.rule)

    @property
    def label(self) -> str:
        """The file's name without its folder: results are shared, and the folder is this machine's."""
        return Path(self.name).name

    def useless(self, rule: str = "") -> str:
        """Return in words why nothing can be corrected by a rule (default: the headline's); "" where it can."""
        error = self.errors.get(rule or self.key.rule)
        if error is None:
            return "its labels are all of one kind, so one of its two errors is unknown"
        if error.usable:
            return ""
        gain = error.gain
        return (
            f"sensitivity + specificity − 1 is {gain.value:.2f} (95 % interval {gain.low:.2f} to {gain.high:.2f}): not "
            "shown to be above 0, so this judge is not shown to be better than chance"
        )


def error_of(counts: Iterable[Counts]) -> JudgeError | None:
    """Return a judge's error; None where there are no positives or no negatives."""
    try:
        return judge_error(counts)
    except ValueError:
        return None


def revision_of(model: str) -> str:
    """Return the revision in a model's name, as "1f3a" in "guard@1f3a"; an endpoint's is behind the "#"."""
    name = model.partition("#")[2] if model.startswith(_ENDPOINT) else model
    return name.rpartition("@")[2] if "@" in name else ""


def packed(clusters: Iterable[Counts]) -> list[list[int]]:
    """Return counts of clusters as a record holds them: equal ones once, with their number."""
    return [[*counts, times] for counts, times in sorted(Counter(clusters).items(), reverse=True)]


def load_records(files: Sequence[str]) -> tuple[JudgeRecord, ...]:
    """Read records; one that cannot correct anything is refused.

    Raises:
        UserError: a file is no record, its judge is no better than chance, or two are about the same judge.
    """
    found = [read_record(file) for file in files]
    for record in found:
        if why := record.useless():
            raise UserError(f"{record.name}: cannot correct the rates of {record.key.who}: {why}")
    for place, record in enumerate(found):
        for other in found[:place]:
            if same_judge(record.key, other.key):
                raise UserError(
                    f"{record.name} and {other.name} are both about {record.key.who} on '{record.key.part}': give one"
                )
    return tuple(found)


def read_record(file: str | Path) -> JudgeRecord:
    """Read one record.

    Raises:
        UserError: the file cannot be read, is no record, or its numbers contradict one another.
    """
    check_logins(str(file), "--judge-record")
    path = Path(file).expanduser()
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--judge-record {file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(_no_record(file, "it is no JSON")) from None
    if not isinstance(document, dict) or document.get("record") != WHAT:
        raise UserError(_no_record(file, f'it has no "record": "{WHAT}"'))
    if document.get("version") != VERSION:
        raise UserError(
            f"--judge-record {file}: has version {str(document.get('version'))[:20]}, this safekey reads {VERSION}: "
            "validate the judge again"
        )
    try:
        return record_from(document, str(file))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(_no_record(file, f"{type(error).__name__}: {str(error)[:80]}")) from None


def _no_record(file: str | Path, why: str) -> str:
    return printable(f"--judge-record {file}: is no record of `safekey judges validate` ({why})")


def record_from(document: Mapping[str, Any], name: str = "") -> JudgeRecord:
    """Return the record that a document holds.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    about = document["key"]
    key = JudgeKey(**{each.name: about[each.name] for each in fields(JudgeKey)})
    if not all(isinstance(value, str) for name_, value in asdict(key).items() if name_ != "threshold"):
        raise ValueError("key: expected texts")
    given = document["rules"].items()
    rules = {str(rule): _clusters(rule, own["clusters"]) if "clusters" in own else () for rule, own in given}
    drawn = {str(rule): _drawn(own["drawn"]) for rule, own in given if "clusters" not in own}
    if key.rule not in rules:
        raise ValueError(f"rules: lacks the key's '{key.rule}'")
    answers = {rule: sum(map(sum, counts)) for rule, counts in rules.items()}
    if len(set(answers.values())) > 1:
        raise ValueError("rules: the counts of two rules have different sums")
    data = document["data"]
    return JudgeRecord(key, rules, _numbers(data["benchmarks"]), _numbers(data["attacks"]), document, name, drawn)


def _drawn(own: Mapping[str, Any]) -> JudgeError:
    share, confirmed, missed = (Estimate(*map(float, own[name])) for name in ("share", "confirmed", "missed"))
    for found in (share, confirmed, missed):
        if not 0 <= found.low <= found.value <= found.high <= 1:
            raise ValueError("drawn: expected shares within their intervals")
    return error_by_verdict(share, LabelledError(confirmed, missed, float(own["correlation"])))


def _clusters(rule: str, rows: Iterable[Sequence[int]]) -> tuple[Counts, ...]:
    found: list[Counts] = []
    for row in rows:
        first, second, third, fourth, times = row
        if (
            not all(type(number) is int and 0 <= number <= 10_000_000 for number in row)
            or len(found) + times > 10_000_000
        ):
            raise ValueError(f"rule '{rule}': expected whole numbers from 0")
        found += [(first, second, third, fourth)] * times
    return tuple(found)


def _numbers(found: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in found.items()}


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one judging model; two endpoints do where the model's name is the same there."""
    if one == other:
        return True
    ours, theirs = (name.partition("#") for name in (one, other))
    return all(name.startswith(_ENDPOINT) for name in (one, other)) and ours[2] == theirs[2] != ""


def same_judge(one: JudgeKey, other: JudgeKey) -> bool:
    """Whether two records are about one judge: its model, its prompt, and the part that it judges."""
    named = ("judge", "prompt_hash", "part", "kind")
    same = all(getattr(one, name) == getattr(other, name) for name in named)
    return same and same_model(one.model, other.model)


def differs(key: JudgeKey, *, judge: str, model: str, prompt_hash: str, parsers: Iterable[str], part: str) -> str:
    """Return in words how verdicts differ from a record's key; "" where they are of the same judge.

    Args:
        key: the record's.
        judge: the verdicts' judge; `model`, `prompt_hash` and `part` theirs.
        parsers: the parser versions of verdicts with a value; what follows "+" says how one reply was read.
    """
    if key.judge != judge:
        return f"it is of the judge {key.judge}, these verdicts are of {judge}"
    if not same_model(key.model, model):
        return f"it is of the model {key.model or 'none'}, these verdicts are of {model or 'none'}"
    if key.prompt_hash != prompt_hash:
        both = f"{key.prompt_hash[:8] or 'none'}, these verdicts: {prompt_hash[:8] or 'none'}"
        return f"it is of another prompt, or only one of the two is with --judge-structured ({both})"
    others = {parser.partition("+")[0] for parser in parsers} - {key.parser.partition("+")[0]}
    if others:
        return f"its replies were read by parser {key.parser or 'none'}, these by {', '.join(sorted(others)) or 'none'}"
    if key.part != part:
        return f"it is about the part '{key.part}', these verdicts are about '{part}'"
    return ""
