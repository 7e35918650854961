"""Recognise the layout of published completions, and bring each into one record for an answer.

XSTest's CSV            id, type, prompt, completion, annotation_1, annotation_2, agreement, final_label
JailbreakBench artifact {"parameters": {"method": "PAIR", "model": …}, "jailbreaks": [{"index": 0, "goal": …, …}]}
HarmBench completions   {"plum_theft": [{"test_case": …, "generation": …}], …}
safekey's own           a run folder, or its completions.jsonl
rows                    one object (or line of a table) for each answer: a request, a response

Nothing is judged here, and nothing dropped: what cannot be used becomes a problem of its row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safekey.data.contents import file_bytes
from safekey.data.read import RawRow, read_rows
from safekey.errors import DataError, UserError
from safekey.evals.benchmarks.columns import column_of, columns_found, is_reply, plain
from safekey.evals.imported.labels import Said, human_columns, said_in
from safekey.evals.records.rows import COMPLETION, COMPLETIONS

Layout = Literal["xstest", "jailbreakbench", "harmbench", "safekey", "rows"]
RESPONSES = (
    "response", "completion", "generation", "output", "model_response", "model_output", "model_answer",
    "target_response", "assistant_response", "reply", "answer",
)  # fmt: skip
"""Columns of an answer, the most certain first."""
_ENDS = ("finish_reason", "stop_reason", "finish")
_CUT = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filter",
    "filter": "filter",
}
_VERDICTS = ("jailbroken", "jailbroken_llama_guard1", "label", "gpt4_label", "strmatch_label")
_OURS = {"benchmark", "item", "epoch", "request", *COMPLETION}
_PLAIN_TEXTS = ("behavior", "goal", "prompt", "request", "question")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a file.

    Attributes:
        row: what was asked: the file's row without the answer and without what was said of it.
        response: the answer; None: the file has none.
        finish: "stop", "length" or "filter": how it ended, where the file says so.
        said: what people said of it.
        verdicts: what a model or a rule said of it in the file; kept, and no label.
    """

    row: RawRow
    response: str | None = None
    finish: str = "stop"
    said: tuple[Said, ...] = ()
    verdicts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Published:
    """What a file of completions holds.

    Attributes:
        layout: as what it was read.
        source: the file.
        answers: one for each answer; empty for safekey's own rows.
        ours: rows of a completions.jsonl of safekey's.
        model: the model that answered, "" where the file does not say.
        attack: what the attack is called, "" where the file does not say.
        facts: what the file says of itself.
        notes: how it was read.
        says_ends: whether the file says how answers ended.
    """

    layout: Layout
    source: str
    answers: list[Answer] = field(default_factory=list)
    ours: list[dict[str, Any]] = field(default_factory=list)
    model: str = ""
    attack: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    says_ends: bool = False


def read_published(
    path: str, columns: Mapping[str, str | None] | None = None, requests: str | None = None
) -> Published:
    """Read a file of completions, or the run folder of an evaluation.

    Args:
        path: the file.
        columns: "response", "label" or "rater" → the column's name; others are for `safekey eval`'s reader.
        requests: a file with the plain request of each id, for HarmBench's layout, which has ids alone.

    Raises:
        DataError: the file cannot be read.
        UserError: no column holds an answer, or `requests` is for another layout.
    """
    place = Path(path).expanduser()
    if place.is_dir() and (place / COMPLETIONS).is_file():
        place = place / COMPLETIONS
    if not place.is_file():
        raise DataError(f"{path}: no such file" if not place.is_dir() else f"{path}: is a folder without {COMPLETIONS}")
    columns = columns or {}
    found = _nested(place, requests) if place.name.lower().removesuffix(".gz").endswith(".json") else None
    if found is not None:
        return found
    if requests is not None:
        raise UserError(f"--requests {requests}: is for HarmBench's completions, and {path} has another layout")
    rows, notes = read_rows(str(place))
    there = {str(name) for row in rows for name in row.fields}
    if there >= _OURS:
        return Published(
            "safekey", str(place), ours=_ours(place, rows), model=_model_of(rows), notes=notes, says_ends=True
        )
    layout: Layout = "xstest" if {"type", "prompt", "completion", "final_label"} <= there else "rows"
    answers = _answers(str(place), rows, columns, notes)
    says = any(column_of(row.fields, _ENDS) for row in rows)
    model = _model_of(rows) or (
        place.name.partition(".")[0].removeprefix("xstest_v2_completions_") if layout == "xstest" else ""
    )
    return Published(layout, str(place), answers, model=model, notes=notes, says_ends=says)


def _nested(place: Path, requests: str | None) -> Published | None:
    """Return what a file that is one JSON object holds: an artifact or HarmBench's completions; None for another."""
    notes: list[str] = []
    try:
        value = json.loads(file_bytes(str(place), place, notes).decode("utf-8", "surrogateescape").lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return None  # `read_rows` says what is wrong with it
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("jailbreaks"), list):
        return _artifact(place, value, notes)
    lists = list(value.values())
    if lists and all(isinstance(each, list) and each and all(map(_is_case, each)) for each in lists):
        return _harmbench(place, value, requests, notes)
    return None


def _is_case(value: Any) -> bool:
    return isinstance(value, dict) and {"test_case", "generation"} <= value.keys()


def _artifact(place: Path, value: Mapping[str, Any], notes: list[str]) -> Published:
    said = value.get("parameters")
    facts = (
        {name: one for name, one in said.items() if isinstance(one, str | int | float)}
        if isinstance(said, dict)
        else {}
    )
    answers = []
    for number, row in enumerate(value["jailbreaks"], 1):
        if not isinstance(row, dict):
            answers.append(Answer(RawRow(number, problem=f"no object: found {row!r:.60}")))
            continue
        asked = {name: row.get(name) for name in ("index", "goal", "behavior", "category", "prompt") if name in row}
        answers.append(_answer(number, asked, row.get("response"), row))
    notes.append(
        f"{place}: 'jailbroken' is the word of a judging model, not of a person: kept with each answer, no label"
    )
    return Published("jailbreakbench", str(place), answers, model=str(facts.get("model", "")),
                     attack=str(facts.get("method", "")), facts=facts, notes=notes)  # fmt: skip


def _harmbench(place: Path, value: Mapping[str, Any], requests: str | None, notes: list[str]) -> Published:
    texts = _requests(requests) if requests is not None else {}
    unknown = [name for name in value if name not in texts]
    if requests is not None and unknown:
        raise UserError(
            f"--requests {requests}: has no request for {len(unknown)} of {len(value)} ids of {place} "
            f"({', '.join(unknown[:5])}): expected a column of ids (BehaviorID) and one of requests (Behavior)"
        )
    answers: list[Answer] = []
    for name, cases in value.items():
        for place_in, case in enumerate(cases, 1):
            asked = {"behavior_id": name if len(cases) == 1 else f"{name}-{place_in}", "behaviour": name}
            asked |= {"test_case": case["test_case"], **({"goal": texts[name]} if texts else {})}
            answers.append(_answer(len(answers) + 1, asked, case["generation"], case))
    if not texts:
        notes.append(
            f"{place}: holds ids and no plain requests: the judge is told the test case itself, which is right for "
            "requests without an attack; --requests harmbench_behaviors_text_all.csv names the requests"
        )
    return Published("harmbench", str(place), answers, model=place.name.partition(".json")[0], notes=notes)


def _requests(path: str) -> dict[str, str]:
    rows, _ = read_rows(path)
    found = {}
    for row in rows:
        key = column_of(row.fields, ("behavior_id", "id", "index"))
        text = column_of(row.fields, _PLAIN_TEXTS)
        if key and text:
            found[str(row.fields[key])] = str(row.fields[text])
    return found


def _answer(number: int, asked: dict[str, Any], response: Any, row: Mapping[str, Any]) -> Answer:
    verdicts = {name: row[name] for name in _VERDICTS if name in row}
    raw = RawRow(number, asked)
    try:
        json.dumps([asked, response], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raw = RawRow(number, problem="broken text: not valid UTF-8 (or half of a surrogate pair)")
    if response is not None and not isinstance(response, str):
        raw = RawRow(number, column="response", problem=f"no answer: expected text, found {response!r:.60}")
    return Answer(raw, response if isinstance(response, str) else None, verdicts=verdicts)


def _ours(place: Path, rows: Iterable[RawRow]) -> list[dict[str, Any]]:
    """Return the rows of a completions.jsonl; every one must be whole.

    Raises:
        UserError: one is not, or its text was dropped.
    """
    kept = []
    for row in rows:
        if row.problem or not row.fields.keys() >= _OURS:
            why = row.problem or f"no row of a {COMPLETIONS}: lacks {', '.join(sorted(_OURS - row.fields.keys()))}"
            raise UserError(f"{place}, line {row.number}: {why}")
        if "redacted" in row.fields:
            raise UserError(f"{place}, line {row.number}: its text was dropped (--redact): there is nothing to judge")
        kept.append(dict(row.fields))
    return kept


def _answers(source: str, rows: Sequence[RawRow], columns: Mapping[str, str | None], notes: list[str]) -> list[Answer]:
    readable = [row for row in rows if not row.problem]
    response = columns.get("response") or next(
        (name for name in RESPONSES if any(plain(str(own)) == plain(name) for row in readable for own in row.fields)),
        "",
    )
    if not any(plain(str(own)) == plain(response) for row in readable for own in row.fields):
        raise UserError(
            f"{source}: no column holds answers: expected one of {', '.join(RESPONSES)}; found "
            f"{columns_found(row.fields for row in rows[:100])}. Name it with --column response=NAME"
        )
    human = human_columns([row.fields for row in readable], columns, notes, source)
    answers = []
    for row in rows:
        if row.problem:
            answers.append(Answer(row))
            continue
        own = next((name for name in row.fields if plain(str(name)) == plain(response)), "")
        value = row.fields.get(own)
        apart = {
            own,
            *human.all,
            *(name for name in row.fields if is_reply(str(name)) and plain(str(name)) in map(plain, RESPONSES)),
        }
        verdicts = {name: row.fields[name] for name in _VERDICTS if name in row.fields and name not in human.all}
        apart |= {"epoch"} if human.rater else set()  # a label file: its prompts are what they are in every sample
        asked = {name: each for name, each in row.fields.items() if name not in apart and name not in verdicts}
        end = column_of(row.fields, _ENDS)
        text = value if isinstance(value, str) or value is None else None
        problem = "" if value is None or isinstance(value, str) else f"no answer: expected text, found {value!r:.60}"
        answers.append(Answer(
            RawRow(row.number, column=own, problem=problem) if problem else RawRow(row.number, asked), text,
            _CUT.get(str(row.fields[end]).lower(), "stop") if end else "stop",
            said_in(row.fields, human), verdicts,
        ))  # fmt: skip
    return answers


def _model_of(rows: Sequence[RawRow]) -> str:
    names = {str(row.fields[name]) for row in rows if (name := column_of(row.fields, ("model", "model_name")))}
    return re.sub(r"\s+", " ", names.pop()) if len(names) == 1 else ""
