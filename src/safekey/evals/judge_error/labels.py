"""Read what people said of answers: label files of ours, and published layouts; several people to one label.

    labels = read_labels(["labels.jsonl"], "harm")
    labels.answers[0]  -> Labelled(request="How …", response="I can't …", positive=False, raters=2, …)

One row of a label file is one judgement of one person::

    {"request": "How …", "response": "I can't …", "part": "answer", "kind": "harm", "label": 0, "rater": "ada",
     "id": "l-7", "benchmark": "strongreject", "item": "row-1", "epoch": 1, "completion": "77ab…", "category": "fraud",
     "attack": "none"}

Only request, response and label are needed; `words.py` has the names that other files give to them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from safekey.data.read import RawRow, read_rows
from safekey.errors import RowProblem, UserError
from safekey.evals.benchmarks.columns import column_of, columns_found, holds, text_of
from safekey.evals.judge_error.raters import Labelled, Said, check_grades, settle
from safekey.evals.judge_error.words import KNOWN, OF_KIND, named, rater_columns, said
from safekey.options import check_logins
from safekey.schema import JudgedKind, Part
from safekey.stats.agreement import Agreement

_HASH = re.compile(r"[0-9a-f]{64}")
_SHOWN = 5  # values or problems that a message names

Columns = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Labels:
    """The labelled answers of one or more files.

    Attributes:
        answers: those with a label.
        kind: what the labels are about.
        part: the part of an answer that they are about.
        threshold: the least grade that counts as positive; None where labels are yes or no.
        files: name → sha256 of each file.
        columns: what was read → the column.
        left_out: why rows or answers have no label → how many.
        agreement: of several people; None where each answer was judged by one.
        problems: rows that cannot be read, with the reason.
        notes: on how the files were read.
    """

    answers: tuple[Labelled, ...]
    kind: JudgedKind
    part: Part
    threshold: float | None
    files: Mapping[str, str]
    columns: Mapping[str, str]
    left_out: Mapping[str, int] = field(default_factory=dict)
    agreement: Agreement | None = None
    problems: tuple[RowProblem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """A hash of requests, responses and labels, whatever file they came in and in whatever order."""
        rows = sorted(json.dumps([row.request, row.response, row.positive]) for row in self.answers)
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def read_labels(
    files: Sequence[str],
    kind: JudgedKind,
    *,
    part: Part = "answer",
    unnamed_part: Part | None = None,
    columns: Mapping[str, str | None] | None = None,
    threshold: float | None = None,
    benchmark: str = "",
) -> Labels:
    """Read the labels of one kind and part from files.

    Args:
        files: JSONL, JSON, CSV, TSV or Parquet; all together are one set.
        kind: "harm" or "refusal".
        part: the part of an answer; rows that name another one are left out and counted.
        unnamed_part: the part of rows that name none; None: `part`.
        columns: field → the column's name, where it has another one than `words.COLUMNS` lists.
        threshold: the least grade that counts as positive, for graded labels.
        benchmark: of rows that name none.

    Raises:
        UserError: a file cannot be read, has no column of requests, responses or labels, labels of the other kind, or
            grades without a threshold; or no answer has a label.
    """
    table = named(columns or {})
    unnamed = {"part": unnamed_part or part, "benchmark": benchmark}
    reader = _Reader(kind, part, table, bool((columns or {}).get("label")), unnamed)
    sums: dict[str, str] = {}
    notes: list[str] = []
    for file in files:
        check_logins(file, "FILE")
        rows, said_of_it = read_rows(str(Path(file).expanduser()))
        notes += said_of_it
        reader.read(file, rows)
        local = Path(file).expanduser()
        sums[local.name] = hashlib.sha256(local.read_bytes()).hexdigest() if local.is_file() else ""
    check_grades(files, reader.said, threshold)
    answers, agreed = settle(reader.said, threshold, reader.left_out)
    if not answers:
        why = ", ".join(f"{reason} {count}" for reason, count in reader.left_out.items()) or "the file has no rows"
        raise UserError(f"{', '.join(files)}: no answer has a label of '{kind}' on '{part}' ({why})")
    return Labels(
        tuple(answers), kind, part, threshold, sums, dict(reader.columns), dict(reader.left_out), agreed,
        tuple(reader.problems), tuple(notes),
    )  # fmt: skip


class _Reader:
    """Reads the rows of files as labels of one kind and part; keeps what it left out, and why."""

    def __init__(
        self, kind: JudgedKind, part: Part, table: Columns, label_named: bool, unnamed: Mapping[str, str]
    ) -> None:
        self.kind, self.part, self.table, self._label_named, self._unnamed = kind, part, table, label_named, unnamed
        self.said: list[Said] = []
        self.left_out: Counter[str] = Counter()
        self.columns: dict[str, str] = {}
        self.problems: list[RowProblem] = []

    def read(self, file: str, rows: Sequence[RawRow]) -> None:
        """Read one file's rows."""
        fields = [row.fields for row in rows if not row.problem]
        for name in ("request", "response"):
            if not any(column_of(row, self.table[name]) for row in fields):
                raise UserError(
                    f"{file}: no column of {name}s: expected one of {', '.join(self.table[name][:8])}, …; found "
                    f"{columns_found(fields[:50])}. Name it: --column {name}=COLUMN"
                )
        sources = self._label_columns(fields)
        if not sources:
            raise UserError(
                f"{file}: no column of people's labels: expected one of {', '.join(self.table['label'])}, or "
                f"annotation_1, human_score_1, …; found {columns_found(fields[:50])}. Name it: --column label=COLUMN"
            )
        for row in rows:
            if row.problem:
                self._problem(file, row, row.column, row.problem)
            else:
                self._row(file, row, sources)

    def _label_columns(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return the columns of labels: the settled one first, then one for each person."""
        names = list(dict.fromkeys(str(name) for row in rows for name in row))
        some = dict.fromkeys(names, "x")
        settled = self.table["label"] if self._label_named else (*OF_KIND[self.kind], *self.table["label"])
        first = column_of(some, settled)
        people = [] if self._label_named else [name for name in rater_columns(names) if name != first]
        return ([first] if first else [""]) + people if first or people else []

    def _row(self, file: str, row: RawRow, sources: Sequence[str]) -> None:
        fields, own = row.fields, self.table
        about = {name: text_of(fields, own[name]) for name in own if name not in ("label", "rater")}
        for name in own:
            if (column := column_of(fields, own[name])) and name not in ("completion", "label"):
                self.columns.setdefault(name, column)
        about["completion"] = about["completion"] if _HASH.fullmatch(about["completion"]) else ""
        about |= {name: about[name] or value for name, value in self._unnamed.items()}
        about["id"] = about["id"] or f"{Path(file).name}:{row.number}"
        if not about["request"].strip() or not about["response"].strip():
            self.left_out["without a request or a response"] += 1
        elif about["kind"] in OF_KIND and about["kind"] != self.kind:
            self.left_out[f"labels of {about['kind']}"] += 1
        elif about["part"] in get_args(Part) and about["part"] != self.part:
            self.left_out[f"labels of the part '{about['part']}'"] += 1
        else:
            self._labels(file, row, sources, about)

    def _labels(self, file: str, row: RawRow, sources: Sequence[str], about: dict[str, str]) -> None:
        found = 0
        named_by = text_of(row.fields, self.table["rater"])
        answer = about["completion"] or (_same_answer(about) if named_by else f"{file}:{row.number}")
        for place, column in enumerate(sources):
            value = row.fields.get(column) if column else None
            if not holds(value):
                if named_by and place == 0 and column:
                    self.said.append(Said(answer, about, named_by, None))
                continue
            kind, grade = said(value, column)
            if kind is not None and kind != self.kind:
                raise UserError(
                    f"{file}, row {row.number}, field '{column}': '{str(value)[:40]}' is about {kind}, but the judge "
                    f"judges {self.kind}: give a judge of {kind}, or name the column of labels: --column label=COLUMN"
                )
            if grade is None:
                self._problem(file, row, column, f"'{str(value)[:40]}' is no label: expected {KNOWN}")
                continue
            rater = text_of(row.fields, self.table["rater"]) if place == 0 else column
            self.columns.setdefault("label" if place == 0 else f"rater {place}", column)
            self.said.append(Said(answer, about, rater, grade))
            found += 1
        if not found:
            self.left_out["without a label (skipped)"] += 1

    def _problem(self, file: str, row: RawRow, column: str, reason: str) -> None:
        self.problems.append(RowProblem(file, row.number, column, reason))
        self.left_out["rows that cannot be read"] += 1


def _same_answer(about: Mapping[str, str]) -> str:
    """Identify an answer whose people have rows of their own, in a file without hashes of completions."""
    return json.dumps([about[name] for name in ("benchmark", "item", "epoch", "request", "response")])


def problem_lines(problems: Sequence[RowProblem]) -> list[str]:
    """Return a line for each of the first problems, and how many there are more."""
    lines = [str(problem) for problem in problems[:_SHOWN]]
    return lines + ([f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else [])
