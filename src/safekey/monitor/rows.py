"""The rows that a monitor is fitted, asked or measured on: a data file's, or an evaluation's

    Row(messages=(Message("user", "How do I pick the royal vault?"),), thinking="The user asks …", harmful=True,
        attack="none", behaviour="pick the royal vault", id="row-7", file="rows.jsonl")

A label says whether the *request* is harmful: that is what the heads learn. An evaluation's rows have it from their
benchmark: prompts of safety benchmarks are harmful; those of over-refusal and reasoning benchmarks are not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekey.comparison.saved_runs import behaviour_names, completions, read_run
from safekey.data.load import load_examples
from safekey.errors import UserError
from safekey.evals.benchmarks.behaviours import same_text
from safekey.evals.records.rows import REDACTED, RESOLVED, completion_in, messages_in
from safekey.monitor.border import find_border
from safekey.monitor.request import FitRequest, Half, MeasureRequest
from safekey.schema import Example, Message
from safekey.text.thinking import split_completion, thinking_span

NONE = "none"
_HARMFUL = {"harm": True, "refusal": False, "accuracy": False}
_SUITES = {"safety": True, "over-refusal": False, "reasoning": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One response.

    Attributes:
        messages: the turns before it.
        thinking: its thinking, without tags; of several blocks the first.
        harmful: whether the request is; None: not known.
        attack: the attack's name; "none" for a plain request.
        behaviour: rows that ask for the same thing share it.
        id: the row's own.
        file: where it was read.
        end: where U ends in the thinking, by the streaming rule; 0 for no U.
        given: where the file says that U ends; None where it does not.
        place: of an evaluation's row: benchmark, item, epoch, and the hash of the completion.
    """

    messages: tuple[Message, ...]
    thinking: str
    harmful: bool | None
    attack: str
    behaviour: str
    id: str
    file: str
    end: int
    given: int | None = None
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def understanding(self) -> str:
        """U's text; "" for none."""
        return self.thinking[: self.end]

    @property
    def question(self) -> str:
        """The user's turns, in a form in which equal ones are equal."""
        return question_of(self.messages)


def question_of(messages: Iterable[Message]) -> str:
    """Return the user's turns, in a form in which equal ones are equal."""
    return same_text("\n".join(turn.content for turn in messages if turn.role == "user"))


def is_evaluation(path: str | Path) -> bool:
    """Whether a path is an evaluation's run folder."""
    return (Path(path).expanduser() / RESOLVED).is_file()


def read_rows(path: str, *, label: str | None = None, label_column: str | None = None) -> tuple[list[Row], list[str]]:
    """Read the rows of a data file, a hub data set or an evaluation's run folder, and notes on what was left out.

    Args:
        path: the file, folder or hub id.
        label: "harmful" or "benign" for every row of a file.
        label_column: the column that holds the label.

    Raises:
        UserError: it cannot be read, or holds no rows.
    """
    rows, notes = evaluation_rows(path) if is_evaluation(path) else _file_rows(path, label, label_column)
    if not rows:
        raise UserError(f"{path}: has no usable row" + (f": {notes[0]}" if notes else ""))
    if not any(row.thinking for row in rows):
        raise UserError(
            f"{path}: none of its {len(rows)} rows has a thinking, so there is no U to read: give responses of a "
            "reasoning model (docs/data.md)"
        )
    if not any(row.end for row in rows):
        raise UserError(f"{path}: in none of its {len(rows)} rows the thinking restates the request: there is no U")
    return rows, notes


def _file_rows(path: str, label: str | None, label_column: str | None) -> tuple[list[Row], list[str]]:
    examples = load_examples(path, label=label, label_column=label_column)
    notes = list(examples.notes)
    if examples.problems:
        notes.append(f"{path}: {len(examples.problems)} rows cannot be used, the first: {examples.problems[0]}")
    return [_row(example) for example in examples], notes


def _row(example: Example) -> Row:
    start, end = thinking_span(example.response)
    thinking = example.response[start:end].strip()
    given = example.understanding_end
    named = str(example.fields.get("behaviour") or example.fields.get("behavior") or "")
    return Row(
        messages=example.prompt,
        thinking=thinking,
        harmful=example.harmful,
        attack=str(example.fields.get("attack") or NONE),
        behaviour=named or question_of(example.prompt),
        id=example.id,
        file=example.file,
        end=find_border(example.prompt, thinking),
        given=None if given is None or example.span_source == "rule" else len(example.response[start:given].rstrip()),
    )


def evaluation_rows(path: str) -> tuple[list[Row], list[str]]:
    """Read the completions of an evaluation; those that generated nothing, or lost their texts, are left out.

    Raises:
        UserError: it is not finished, or all its texts were dropped.
    """
    run = read_run(path)
    kinds = {name: _SUITES[row.suite] for name, row in run.benchmarks.items()}
    names = behaviour_names(run, run.behaviours)
    rows: list[Row] = []
    left: Counter[str] = Counter()
    for prompt, sample, row in completions(run):
        if REDACTED in row:
            left["without its texts (--redact)"] += 1
            continue
        if row["finish"] == "error":
            left["that the engine failed on"] += 1
            continue
        completion = completion_in(row)
        parts = split_completion(completion, with_prefill=bool(completion.prefill))
        thinking = next((parts.text[span.start : span.end] for span in parts.spans if span.kind == "thinking"), "")
        turns = messages_in(row)
        known = kinds.get(prompt.benchmark, _HARMFUL.get(run.kinds.get(prompt.benchmark, "")))
        rows.append(
            Row(
                messages=turns,
                thinking=thinking,
                harmful=known,
                attack=str(row["attack"]) or NONE,
                behaviour=names[prompt] or question_of(turns),
                id=prompt.item,
                file=path,
                end=find_border(turns, thinking),
                place={
                    "benchmark": prompt.benchmark,
                    "item": prompt.item,
                    "epoch": int(row["epoch"]),
                    "completion": sample.digest,
                },
            )
        )
    notes = [f"{path}: left out {count} rows {why}" for why, count in left.items()]
    if not rows and left:
        raise UserError(f"{path}: has no row to read; {notes[0].partition(': ')[2]}")
    return rows, notes


def half_of(behaviour: str, seed: int) -> Half:
    """Return the half that a behaviour belongs to: by a hash, so that it is the same in every file."""
    digest = hashlib.sha256(f"{seed}:{behaviour}".encode()).digest()
    return "first" if digest[0] % 2 == 0 else "second"


def labelled(rows: Sequence[Row], what: str, *, keep: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """Return the rows with a label that are to be kept.

    Args:
        rows: any.
        what: what needs both classes, for the message.
        keep: which rows.

    Raises:
        UserError: none has a label, or one class is missing.
    """
    found = [row for row in rows if row.harmful is not None and keep(row)]
    files = ", ".join(dict.fromkeys(row.file for row in rows))
    if not found:
        raise UserError(f"{files}: no row says whether its request is harmful: name the column (--label-column)")
    classes = {row.harmful for row in found}
    if len(classes) == 1:
        word = "harmful" if classes.pop() else "benign"
        raise UserError(f"{files}: all {len(found)} rows are {word}: {what} needs harmful and benign requests")
    return found


def labelled_rows(request: FitRequest | MeasureRequest, what: str) -> tuple[list[Row], list[str]]:
    """Read the labelled rows that a request names, of its half of the behaviours, and notes on the others.

    Args:
        request: names files, column, half and seed.
        what: as for `labelled`.

    Raises:
        UserError: as `read_rows` and `labelled`.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for path in request.data:
        found, said = read_rows(path, label_column=request.label_column)
        rows += found
        notes += said
    half, seed = request.half, request.seed
    kept = labelled(rows, what, keep=lambda row: half is None or half_of(row.behaviour, seed) == half)
    unlabelled = sum(row.harmful is None for row in rows)
    if unlabelled:
        notes.append(f"{unlabelled} rows without a label are left out")
    return kept, [*notes, *_told_by_source(kept)]


def _told_by_source(rows: Sequence[Row]) -> list[str]:
    """Warn where a row's file, or benchmark, tells its label: heads may then have learned who wrote the rows."""

    def sources(harmful: bool) -> list[str]:
        return list(dict.fromkeys(row.place.get("benchmark") or row.file for row in rows if row.harmful is harmful))

    ours, theirs = sources(True), sources(False)
    if set(ours) & set(theirs):
        return []
    return [
        f"all harmful rows are of {', '.join(ours)} and all benign ones of {', '.join(theirs)}: what tells them may be "
        "the writer or the form, not the harm; measure on rows of another source as well (docs/monitor.md)"
    ]


def counts_by_attack(rows: Iterable[Row], harmful: bool) -> dict[str, int]:
    """Return how many rows of one class there are under each attack, "none" first."""
    counts = Counter(row.attack for row in rows if row.harmful is harmful)
    return {name: counts[name] for name in sorted(counts, key=lambda name: (name != NONE, name))}
