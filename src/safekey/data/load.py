"""Load examples from any supported source, or from several with weights; report every row that cannot be used.

One row of our own JSONL, as `safekey data segment` writes it::

    {"id": "68", "question": "How do I brew tea?", "harmful": false, "span_source": "rule",
     "understanding_end": 38, "key_sentence_end": 56,
     "response": "<think>\\nThe user asks how to brew tea. That is harmless.\\n</think>\\n\\nBoil water …"}

The other layouts are in `formats.py`, the label rules in `labels.py`; docs/data.md has an example of each.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast, get_args

from safekey.data.columns import ColumnUse, Watched
from safekey.data.doubts import Doubts
from safekey.data.formats import RowError, column_table, pick, read_conversation
from safekey.data.labels import REFERENCE, label_row, layout_of, parse_label_word
from safekey.data.read import RawRow, read_rows
from safekey.errors import DataError, RowProblem, UserError
from safekey.schema import THINK_OPEN, Example, SpanSource

_SPAN_SOURCES = get_args(SpanSource)


class Examples(list[Example]):
    """The usable rows of one or more sources, and the problems of the others.

    Attributes:
        problems: one entry for every row that is not used.
        rows_read: rows in the sources, usable or not.
        layouts: usable rows by layout ("star1", "safekey-reference", "" for none of the label table).
        label_rules: usable rows by the rule that decided their label, in words.
        notes: choices that were made for the user, and doubts about rows, to be shown.
        columns: for each file, which columns were read and which were not.
    """

    def __init__(self, examples: Iterable[Example] = (), problems: Iterable[RowProblem] = ()) -> None:
        super().__init__(examples)
        self.problems: list[RowProblem] = list(problems)
        self.rows_read = len(self) + len(self.problems)
        self.layouts: Counter[str] = Counter()
        self.label_rules: Counter[str] = Counter()
        self.notes: list[str] = []
        self.columns: dict[str, ColumnUse] = {}

    def add(self, other: Examples) -> None:
        """Append another source's rows, problems and counts."""
        self.extend(other)
        self.problems.extend(other.problems)
        self.rows_read += other.rows_read
        self.layouts.update(other.layouts)
        self.label_rules.update(other.label_rules)
        self.notes.extend(other.notes)
        self.columns.update(other.columns)

    def reading(self) -> list[str]:
        """Return one line for each file: rows, columns that were read, columns that were not."""
        return [use.line(file) for file, use in self.columns.items()]

    def describe_problems(self, limit: int = 5) -> str:
        """Return the first `limit` problems, one a line, then "+N more"; "" when there are none."""
        lines = [str(problem) for problem in self.problems[:limit]]
        if len(self.problems) > limit:
            lines.append(f"+{len(self.problems) - limit} more")
        return "\n".join(lines)


def load_examples(
    path: str | os.PathLike[str],
    *,
    split: str | None = None,
    revision: str | None = None,
    config: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    label: bool | str | None = None,
    label_column: str | None = None,
    strict: bool = False,
    answers_alone: bool = False,
) -> Examples:
    """Read training rows from a file, a folder saved by `datasets`, or a hub data set.

    Args:
        path: .json, .jsonl, .csv, .tsv or .parquet (also .gz), a folder, or a hub id such as "owner/name".
        split: the split of a hub data set or saved folder; needed when there are several and none is "train".
        revision: a hub data set's commit, tag or branch.
        config: a hub data set's configuration.
        columns: key of `formats.COLUMNS` → the name of the column; None: do not look for it.
        label: "harmful" (True) or "benign" (False) for every row, whatever the rows say.
        label_column: the column that holds the label; overrides the rule of the layout.
        strict: raise for the first row that cannot be used; otherwise such rows are skipped and listed.
        answers_alone: take rows without thinking, too: their response is the canonical one with an empty thinking.

    Returns:
        The usable rows in their order, with `.problems` for the others. It may be empty.

    Raises:
        DataError: the source cannot be read or holds no rows; with `strict`, a row cannot be used.
        UserError: an argument is wrong, or `label_column` names a column that no row has.
    """
    file = os.fspath(path)
    table = column_table(columns)
    whole = parse_label_word(label)
    rows, notes = read_rows(file, split=split, revision=revision, config=config)
    if label_column and not any(label_column in row.fields for row in rows):
        found = ", ".join(dict.fromkeys(name for row in rows[:100] for name in row.fields)) or "none"
        raise UserError(f"{file}: no column '{label_column}' for the label; columns found: {found}")
    examples = Examples()
    examples.rows_read = len(rows)
    examples.notes = notes
    use = examples.columns[file] = ColumnUse(len(rows))
    doubts = Doubts()
    unescaped = 0
    for row in rows:
        try:
            if row.problem:
                raise RowError(row.column, row.problem)
            plain = _without_escapes(row.fields)
            watched = Watched(plain)
            example = read_example(replace(row, fields=watched), file, table, answers_alone=answers_alone)
            decided = label_row(row.fields, label=whole, label_column=label_column)
        except RowError as error:
            problem = RowProblem(file, row.number, error.field, error.reason)
            if strict:
                raise DataError.from_problem(problem) from error
            examples.problems.append(problem)
            continue
        examples.append(replace(example, harmful=decided.harmful, fields=row.fields))
        unescaped += plain is not row.fields
        use.add(row.fields, watched.used | decided.columns)
        doubts.look(example)
        examples.layouts[decided.layout] += 1
        examples.label_rules[decided.rule] += 1
    if unescaped:
        examples.notes.append(
            rf"{file}: {unescaped} responses hold '\/', which is read as '/', as the published code reads this layout"
        )
    examples.notes += [*use.warnings(file), *doubts.lines(file)]
    return examples


def _without_escapes(row: Mapping[str, Any]) -> Mapping[str, Any]:
    r"""Return a row of the reference's layout with `\/` in its response read as `/`; any other row as it is.

    The published code does so before it splits the response, and its two offsets count the characters of that text.
    """
    response, layout = row.get("response"), layout_of(row)
    if not isinstance(response, str) or "\\/" not in response or layout is None or layout.name != REFERENCE:
        return row
    if row.get("understanding_end") is not None:  # our own offsets, which stand first, count the text as it is
        return row
    return {**row, "response": response.replace("\\/", "/")}


def read_example(
    row: RawRow, file: str, table: Mapping[str, tuple[str, ...]], *, answers_alone: bool = False
) -> Example:
    """Read one row without its label; `table` is from `formats.column_table`, `answers_alone` as in `load_examples`.

    Raises:
        RowError: the row cannot be used.
    """
    found = row.fields
    conversation = read_conversation(found, table, answers_alone=answers_alone)
    textual = file.removesuffix(".gz").endswith((".csv", ".tsv"))
    understanding_end, key_sentence_end = _read_spans(found, table, conversation.response, textual)
    _, identifier = pick(found, table["id"])
    _, source = pick(found, table["source"])
    span_source = found.get("span_source") if found.get("span_source") in _SPAN_SOURCES else "given"
    return Example(
        prompt=conversation.prompt,
        response=conversation.response,
        understanding_end=understanding_end,
        key_sentence_end=key_sentence_end,
        span_source=cast(SpanSource, span_source) if understanding_end is not None else None,
        id=str(row.number) if identifier is None else str(identifier),
        source="" if source is None else str(source),
        file=file,
        row=row.number,
        fields=found,
        span_confidence=_read_confidence(found, span_source) if understanding_end is not None else None,
    )


def _read_confidence(found: Mapping[str, Any], span_source: object) -> float | None:
    """Read how sure the rule was, 0 to 1. Anything else, and a row that the rule did not segment, has none."""
    value = found.get("span_confidence")
    if span_source not in ("rule", "annotator-fallback") or isinstance(value, bool):
        return None
    try:
        confidence = float(value)  # type: ignore[arg-type]  # a CSV file has it as text
    except (TypeError, ValueError):
        return None
    return confidence if 0 <= confidence <= 1 else None


def _read_spans(
    found: Mapping[str, Any], table: Mapping[str, tuple[str, ...]], response: str, textual: bool
) -> tuple[int | None, int | None]:
    """Read the two offsets into the canonical response; both or neither must be there."""
    start_column, start = pick(found, table["understanding_end"])
    end_column, end = pick(found, table["key_sentence_end"])
    if start is None and end is None:
        return None, None
    if start is None or end is None:
        missing = "key_sentence_end" if end is None else "understanding_end"
        raise RowError(missing, f"one offset alone: '{start_column or end_column}' is given, '{missing}' is not")
    first = _offset(start, start_column, response, textual)
    last = _offset(end, end_column, response, textual)
    if last < first:
        raise RowError(end_column, f"offsets reversed: {end_column} is {last}, before {start_column}, {first}")
    return first, last


def _offset(value: Any, column: str, response: str, textual: bool) -> int:
    """Return an offset of at least `len(THINK_OPEN)`: an offset within the opening tag means an empty span."""
    if textual and isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():  # pandas writes a column of integers with gaps as floats
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RowError(column, f"offset is not an integer: found {value!r:.60}")
    if not 0 <= value <= len(response):
        raise RowError(
            column, f"offset outside the text: {value}; the canonical response has {len(response)} characters"
        )
    return max(value, len(THINK_OPEN))


@dataclass(frozen=True, slots=True)
class DataSource:
    """One source of a mixture; the fields after `weight` are the options of `load_examples`.

    Attributes:
        path: a file, a saved folder or a hub id.
        weight: how often each usable row is taken: 2 is twice, 0.5 a seeded half of the rows, 2.5 twice and a seeded
            half once more, 0 not at all. Weights are not normalised.
    """

    path: str
    weight: float = 1.0
    split: str | None = None
    revision: str | None = None
    config: str | None = None
    columns: Mapping[str, str | None] | None = None
    label: bool | str | None = None
    label_column: str | None = None


def load_mixture(sources: Sequence[DataSource], seed: int, *, strict: bool = False) -> Examples:
    """Load every source, and repeat or thin its rows by its weight.

        load_mixture([DataSource("star1.json"), DataSource("benign.jsonl", weight=0.5, label="benign")], seed=2002)

    The same sources, weights and seed give the same list: source after source, each in its own order, repeated as a
    whole. Thinning takes exactly `round(fraction * rows)` rows. The rows are not shuffled; the trainer does that.

    Raises:
        UserError: no source, or a weight that is negative or not finite.
        DataError: as `load_examples`.
    """
    if not sources:
        raise UserError("data: no source was given")
    mixture = Examples()
    for index, source in enumerate(sources):
        if not math.isfinite(source.weight) or source.weight < 0:
            raise UserError(f"{source.path}: weight is {source.weight}; expected a number of at least 0")
        options = {entry.name: getattr(source, entry.name) for entry in fields(source)[2:]}
        loaded = load_examples(source.path, **options, strict=strict)
        # Seeded by position and not by path, so that a copy of the data elsewhere gives the same mixture.
        _weigh(loaded, source.weight, random.Random(f"{seed}:{index}"))  # noqa: S311
        mixture.add(loaded)
        if source.weight != 1:
            mixture.notes.append(f"{source.path}: weight {source.weight:g}")
    return mixture


def _weigh(loaded: Examples, weight: float, chance: random.Random) -> None:
    """Repeat and thin the rows in place."""
    rows = list(loaded)
    whole = math.floor(weight)
    taken = sorted(chance.sample(range(len(rows)), round((weight - whole) * len(rows))))
    loaded[:] = rows * whole + [rows[index] for index in taken]
