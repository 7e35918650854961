"""From published answers to the rows of a run folder; prompts are read as `safekey eval` reads them"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from safekey.errors import RowProblem
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.items import Item
from safekey.evals.benchmarks.load import Items, items_of
from safekey.evals.imported.labels import Said, label_row
from safekey.evals.imported.layouts import Answer, Published
from safekey.evals.records.rows import Row, completion_row

NOT_THERE = "the file holds no answer to this prompt"


@dataclass(slots=True)
class Imported:
    """One benchmark's rows of an import.

    Attributes:
        benchmark: what the rows are.
        items: its prompts, in order.
        rows: for completions.jsonl.
        labels: for labels.jsonl.
        samples: the most answers to one prompt.
        problems: rows that cannot be used.
        notes: how they were read.
        warnings: what makes numbers doubtful.
        reading: which column became what, as plain values.
    """

    benchmark: Benchmark
    items: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    samples: int = 1
    problems: list[RowProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reading: dict[str, Any] = field(default_factory=dict)


def import_answers(
    found: Published,
    answers: Sequence[Answer],
    benchmark: Benchmark,
    model: str,
    attack: str,
    columns: Mapping[str, str | None],
    label_kind: str,
) -> Imported:
    """Return the rows of one benchmark.

    Answers to one prompt are its samples; rows that differ only in who labelled are one answer with several labels.

    Args:
        found: the file.
        answers: those of this benchmark.
        benchmark: what the rows are.
        model: the model that answered.
        attack: how the attack is called where the rows do not say; "" for none.
        columns: as `--column`, for the reader of benchmark files.
        label_kind: "harm" or "refusal": what people's labels are about.

    Raises:
        UserError: no row can be used, or its columns do not fit.
    """
    groups = _by_prompt(answers)
    first = [group[0].row for group in groups]
    unusable = [answer.row for answer in answers if answer.row.problem]
    items = items_of(benchmark, [*first, *unusable], found.source, columns=columns)
    made = Imported(benchmark, problems=items.problems, notes=items.notes, warnings=items.warnings)
    made.reading = items.reading.to_dict()
    of = {group[0].row.number: _distinct(group) for group in groups}
    for item in items:
        named = replace(item, attack=attack) if attack and item.attack == "none" else item
        made.items.append(named.id)
        made.samples = max(made.samples, len(of[item.row]))
        for epoch, (answer, said) in enumerate(of[item.row], 1):
            row = _row(named, epoch, answer, model)
            made.rows.append(row)
            _add_labels(made, row, answer, said, label_kind, found.source)
    _say_counts(made, items, found)
    return made


def _by_prompt(answers: Iterable[Answer]) -> list[list[Answer]]:
    """Return the usable answers, those to the same prompt together, in the file's order."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        if not answer.row.problem:
            key = json.dumps([[str(name), str(value)] for name, value in sorted(answer.row.fields.items())])
            groups.setdefault(key, []).append(answer)
    return list(groups.values())


def _distinct(group: Sequence[Answer]) -> list[tuple[Answer, tuple[Said, ...]]]:
    """Return each answer with what was said of it; a row that only adds another rater is no answer of its own."""
    found: list[tuple[Answer, tuple[Said, ...]]] = []
    for answer in group:
        raters = {one.rater for one in answer.said}
        same = next(
            (place for place, (other, said) in enumerate(found) if other.response == answer.response
             and answer.said and said and not raters & {one.rater for one in said}), None,
        )  # fmt: skip
        if same is None:
            found.append((answer, answer.said))
        else:
            found[same] = (found[same][0], (*found[same][1], *answer.said))
    return found


def _row(item: Item, epoch: int, answer: Answer, model: str) -> Row:
    metadata = {
        **item.metadata, "benchmark": item.benchmark, "behaviour": item.behaviour, "category": item.category,
        "attack": item.attack, "request": item.request,
    }  # fmt: skip
    if answer.verdicts:
        metadata["published_verdicts"] = dict(answer.verdicts)
    missing = answer.response is None
    record = {
        "text": answer.response or "", "finish": "error" if missing else answer.finish, "prefill": "",
        "started_inside": False, "prompt_ids": None, "output_tokens": None, "error": NOT_THERE if missing else "",
        "prompt_sha256": None, "rendered_by": "imported", "sampling": {},
    }  # fmt: skip
    messages = [{"role": turn.role, "content": turn.content} for turn in item.prompt.messages]
    return completion_row(metadata, item.id, epoch, item.target, model, record, "", messages)


def _add_labels(made: Imported, row: Row, answer: Answer, said: Sequence[Said], kind: str, source: str) -> None:
    for one in said if answer.response is not None else ():
        try:
            made.labels.append(label_row(row, one, kind))
        except ValueError as error:
            made.problems.append(RowProblem(source, answer.row.number, one.column, str(error)))


def _say_counts(made: Imported, items: Items, found: Published) -> None:
    """Say how many answers are missing, empty or repeated, and what the file does not say."""
    name, rows = made.benchmark.name, made.rows
    if missing := sum(row["error"] == NOT_THERE for row in rows):
        made.warnings.append(
            f"{name}: {missing} of {len(rows)} prompts have no answer in {found.source}: no verdict is possible"
        )
    if empty := sum(not row["text"].strip() and not row["error"] for row in rows):
        made.warnings.append(f"{name}: {empty} of {len(rows)} answers are empty: counted as 'empty', in no rate")
    if made.samples > 1:
        several = sum(row["epoch"] == 2 for row in rows)
        made.notes.append(f"{name}: {several} prompts have several answers, up to {made.samples}: they are its samples")
    pairs = [(row["item"], row["text"]) for row in rows if row["text"]]
    if repeated := len(pairs) - len(set(pairs)):
        made.notes.append(
            f"{name}: {repeated} answers repeat an earlier answer to the same prompt word for word; each counts"
        )
    if not found.says_ends:
        made.warnings.append(f"{name}: {found.source} does not say which answers were cut off: all count as whole")
    if found.layout == "jailbreakbench" and items.problems:
        made.warnings.append(
            f"{name}: {len(items.problems)} rows cannot be used (an attack that found no prompt has none): they are in "
            "no rate here, and JailbreakBench's own rate counts them as not jailbroken"
        )
