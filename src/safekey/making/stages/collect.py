"""Collect requests from files and hub data sets, with the source and licence of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safekey.data.formats import COLUMNS, ROLES, RowError, column_table, pick
from safekey.data.labels import label_row, parse_label_word
from safekey.data.read import RawRow, read_rows
from safekey.errors import UserError
from safekey.making.rows import Aside, Label, Outcome, Row
from safekey.making.work import Work

_TABLE = {
    **COLUMNS,
    "prompt": (*COLUMNS["prompt"], "request", "goal", "behavior", "forbidden_prompt", "text"),
    "license": ("license", "licence"),
    "category": ("category",),
}
_SURROGATE = re.compile("[\ud800-\udfff]")


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Read every source; a row without one usable request is set aside.

    Raises:
        UserError: a source cannot be read, or no row of all sources holds a request.
    """
    found: list[Row] = []
    problems: list[Aside] = []
    notes: list[str] = []
    stems: dict[str, int] = {}
    for source in work.config.source_tables():
        path = str(source["path"])
        options = {key: source.get(key) for key in ("split", "revision", "config")}
        raw, said = read_rows(path, **options)
        shown = _name(path)
        notes += [note.replace(path, shown) for note in said]
        stem = Path(path).name.partition(".")[0] or path
        stems[stem] = stems.get(stem, 0) + 1
        prefix = stem if stems[stem] == 1 else f"{stem}.{stems[stem]}"
        table = column_table(source.get("columns"), _TABLE)
        if not source.get("license") and not Path(path).exists():
            source["license"] = _hub_license(path, source.get("revision"))
        before = len(found)
        for row in raw:
            try:
                found.append(_read(row, f"{prefix}:{row.number}", source, table, work))
            except RowError as error:
                problems.append(Aside(f"{prefix}:{row.number}", f"unusable: {error.field or 'row'}: {error.reason}"))
        notes.append(f"{shown}: {len(found) - before} requests of {len(raw)} rows")
        if all(not row.license for row in found[before:]):
            notes.append(f"{shown}: no licence is known; name it in the recipe: data=[{{path: …, license: …}}]")
    if not found:
        raise UserError(f"no row holds a request; the first: {problems[0].id}: {problems[0].reason}")
    limit = work.config.limit
    if limit is not None and limit < len(found):
        notes.append(f"limit={limit}: the first {limit} of {len(found)} requests")
        found = found[:limit]
    return Outcome(found, problems, notes)


def _name(path: str) -> str:
    """Return a file's name without its folder; a hub id whole."""
    return Path(path).name if Path(path).exists() else path


def _hub_license(name: str, revision: object) -> str:
    """Return the licence on a hub data set's card; "" when it has none or the hub cannot be asked."""
    from huggingface_hub import constants, dataset_info

    if constants.HF_HUB_OFFLINE:
        return ""
    try:
        card = dataset_info(name, revision=None if revision is None else str(revision), timeout=10).card_data
    except Exception:  # a card is no reason to stop: the licence is then not known, and the card of the rows says so
        return ""
    license = card.get("license") if card is not None else None
    return ", ".join(map(str, license)) if isinstance(license, list) else str(license or "")


def _read(row: RawRow, name: str, source: Mapping[str, Any], table: Mapping[str, Sequence[str]], work: Work) -> Row:
    if row.problem:
        raise RowError(row.column, row.problem)
    question = _request(row.fields, table)
    label = label_row(row.fields, label=parse_label_word(source.get("label"))).harmful
    own = _text(row.fields, table["category"])
    wanted = str(source.get("category") or own)
    return Row(
        id=name,
        question=question,
        label=_label(label),
        category=work.policies.named(wanted) if wanted else "",
        source=str(source.get("source") or _text(row.fields, table["source"]) or _name(str(source["path"]))),
        license=str(source.get("license") or _text(row.fields, table["license"])),
        source_id=_text(row.fields, table["id"]),
        source_category=own,
    )


def _label(harmful: bool | None) -> Label:
    return "" if harmful is None else "harmful" if harmful else "benign"


def _request(fields: Mapping[str, Any], table: Mapping[str, Sequence[str]]) -> str:
    """Return the only user turn of a row."""
    column, value = pick(fields, table["messages"])
    if not column:
        column, value = pick(fields, table["prompt"])
    if not column:
        raise RowError("prompt", f"no request: found the columns {', '.join(fields) or 'none'}; name it with columns")
    if isinstance(value, list):
        value = _only_turn(value, column)
    if not isinstance(value, str):
        raise RowError(column, f"not text: expected a string, found {type(value).__name__}")
    if _SURROGATE.search(value):
        raise RowError(column, "broken characters: the text is not valid Unicode")
    if not value.strip():
        raise RowError(column, "empty request")
    return value.strip()


def _only_turn(turns: Sequence[Any], column: str) -> Any:
    """Return the user's turn of a conversation that has one."""
    if not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError(column, "not a conversation: expected turns with a role and a content")
    said = [(ROLES.get(str(turn.get("role") or turn.get("from"))), turn) for turn in turns]
    asked = [turn.get("content", turn.get("value")) for role, turn in said if role == "user"]
    if len(asked) != 1:
        raise RowError(column, f"not one request: the conversation has {len(asked)} user turns, expected 1")
    if any(role == "system" for role, _ in said):
        raise RowError(column, "not one request: the conversation has a system turn")
    return asked[0]


def _text(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    value = pick(fields, names)[1]
    text = "" if value is None or value != value else str(value)
    return _SURROGATE.sub("\ufffd", text).strip()
