"""Read the rows that an analysis looks at: a data file's, or the saved generations of an evaluation; find U and K.

rows = read_rows("rows.jsonl")             a file that `safekey train` reads, too
rows = read_rows("runs/eval-sft")          the run folder of an evaluation: what the model itself wrote
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safekey.analysis.rows import Row, RowKind, Rows, attack_of
from safekey.analysis.saved_rows import rows_of_run
from safekey.data.formats import pick
from safekey.data.load import Examples, load_examples
from safekey.data.segment import segment
from safekey.errors import UserError
from safekey.evals.benchmarks.behaviours import Asked, behaviours, plain_id, same_text
from safekey.evals.benchmarks.columns import COLUMNS
from safekey.run_folder.ownership import kind_of
from safekey.schema import Example


def read_rows(path: str, *, group: str | None = None, limit: int | None = None, **reading: Any) -> Rows:
    """Read the rows of a file, or of an evaluation's run folder.

    Args:
        path: as for `load_examples`, or a run folder of `safekey eval`.
        group: the column of the file that names each row's behaviour. Default: a column "behaviour", else the
            objective, else the request itself.
        limit: only the first so many usable rows.
        reading: options of `load_examples`, for a file.

    Raises:
        UserError: nothing can be read, no row is usable, or there is no such column.
    """
    folder = Path(path).expanduser()
    kind = kind_of(folder) if folder.is_dir() else ""
    if kind and kind != "evaluation":
        raise UserError(f"{path}: is the folder of another verb ({kind}): give a data file, or an evaluation's folder")
    if kind:
        if group:
            raise UserError(f"{path}: an evaluation names its behaviours itself: leave --group away")
        rows, notes = rows_of_run(path)
    else:
        rows, notes = _of_file(path, group, reading)
    return Rows(path, tuple(rows[:limit]), tuple(notes))


def _of_file(path: str, group: str | None, reading: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    loaded: Examples = load_examples(path, **reading)
    if not loaded:
        raise UserError(f"{path}: none of its {loaded.rows_read} rows can be used; the first: {loaded.problems[0]}")
    if group and not any(group in example.fields for example in loaded):
        found = ", ".join(dict.fromkeys(name for example in loaded[:100] for name in example.fields))
        raise UserError(f"{path}: no column '{group}' for the behaviour (--group); columns found: {found}")
    asked = [_asked(example, group) for example in loaded]
    named = behaviours(asked)
    rows = [
        Row(segment(example), _kind(example), name, attack_of(example.fields))
        for example, name in zip(loaded, named, strict=True)
    ]
    if not loaded.problems:
        return rows, []
    return rows, [f"{path}: {len(loaded.problems)} rows cannot be used; the first: {loaded.problems[0]}"]


def _asked(example: Example, group: str | None) -> Asked:
    fields, attack = example.fields, attack_of(example.fields)
    item = plain_id(example.id, attack)
    _, given = pick(fields, (group,) if group else COLUMNS["behaviour"])
    _, objective = pick(fields, ("objective",))
    said = str(objective or "") or same_text(example.question)
    return Asked("", item, "" if given is None else plain_id(str(given), attack), said)


def _kind(example: Example) -> RowKind:
    return "unlabelled" if example.harmful is None else "harmful" if example.harmful else "benign"
