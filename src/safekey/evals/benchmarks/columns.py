"""Two tables, from which columns and labels of benchmark files are read; nothing is guessed.

Column names are compared without regard to case, spaces, "-" and "_": "Correct Answer" is "correct_answer".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from safekey.options import unknown

Label = Literal["harmful", "benign", "other"]
Row = Mapping[str, Any]

# Field → the column names that may hold it; the first column with a value is read.
COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": (
        "forbidden_prompt", "adversarial", "prompt", "goal", "behavior", "request", "question", "query", "instruction",
        "problem", "text", "input",
    ),
    "conversation": ("conversation", "conversations", "messages", "turns", "dialogue", "chat", "jailbreak_turns"),
    "objective": ("objective", "plain_query", "vanilla"),
    "target": ("target", "harmful_target", "prefill", "prefix"),
    "context": ("context_string", "context"),
    "category": (
        "category", "semantic_category", "l2_name", "type", "subject", "subdomain", "high_level_domain", "behavior",
    ),
    "id": (
        "id", "task_id", "unique_id", "behavior_id", "question_id", "record_id", "index", "conversation_hash", "uuid",
    ),
    "attack": ("attack", "attack_type", "tactic"),
    "behaviour": ("behaviour", "behaviour_id", "cluster"),  # "behavior" is a request or a category in published files
    "problem": ("problem", "question", "prompt"),
    "answer": ("answer", "final_answer", "correct_answer", "gold", "expected_answer"),
    "solution": ("solution",),
    "options": ("options", "choices"),
    "incorrect": ("incorrect_answer_1", "incorrect_answer_2", "incorrect_answer_3"),
    "answer_index": ("answer_index",),
    "code": ("prompt",),
    "test": ("test", "tests"),
    "entry_point": ("entry_point",),
    "canonical": ("canonical_solution",),
    "label": ("data_type", "harmfulness", "label", "split_type", "split", "type", "harmful", "is_harmful"),
}  # fmt: skip

LABEL_WORDS: dict[str, Label] = {
    **dict.fromkeys(("harmful", "unsafe", "toxic", "malicious", "asr", "adversarial_harmful", "true", "1"), "harmful"),
    **dict.fromkeys(("benign", "safe", "harmless", "orr", "adversarial_benign", "false", "0"), "benign"),
    "controversial": "other",
    "vanilla_harmful": "other",  # of WildJailbreak's kinds only the adversarial ones are asked
    "vanilla_benign": "other",
}


def plain(name: str) -> str:
    """Return a column name without case, spaces, "-" and "_"."""
    return "".join(letter for letter in name.lower() if letter not in " -_")


def named_columns(columns: Mapping[str, str | None] | None) -> dict[str, tuple[str, ...]]:
    """Return `COLUMNS` with the user's column names; None as a name: do not look for this field.

    Raises:
        UserError: a key that is not in `COLUMNS`.
    """
    table = dict(COLUMNS)
    for key, name in (columns or {}).items():
        if key not in COLUMNS:
            raise unknown(key, COLUMNS, "--column")
        table[key] = (name,) if name else ()
        if key == "prompt":  # the user's one name for the question, for every kind of benchmark
            table["problem"] = table["code"] = table[key]
    return table


def column_of(row: Row, names: Iterable[str]) -> str | None:
    """Return the row's name for the first of these columns that holds a value, or None."""
    own = {plain(str(name)): str(name) for name in row}
    for name in names:
        found = name if name in row else own.get(plain(name))
        if found is not None and _holds(row[found]):
            return found
    return None


def value_of(row: Row, names: Iterable[str]) -> Any:
    """Return the value of the first of these columns that holds one, or None."""
    found = column_of(row, names)
    return None if found is None else row[found]


def text_of(row: Row, names: Iterable[str]) -> str:
    """Return the same as text: "" for none; a list is joined by ", "."""
    value = value_of(row, names)
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return "" if value is None else str(value)


def label_of(row: Row, names: Iterable[str]) -> Label | None:
    """Return the label in a row's first readable label column, or None when there is none.

    XSTest's first release has no label: its unsafe prompts have the types "contrast_…", its safe ones other types.
    """
    for name in names:
        found = column_of(row, (name,))
        if found is None:
            continue
        word = str(row[found]).strip().lower().removesuffix(".0")
        if word in LABEL_WORDS:
            return LABEL_WORDS[word]
        if plain(name) == "type" and column_of(row, ("focus", "id_v1", "id_v2", "note")):
            return "harmful" if word.startswith("contrast") else "benign"
    return None


def columns_found(rows: Iterable[Row]) -> str:
    """Return the names of the columns of these rows, for a message."""
    return ", ".join(dict.fromkeys(str(name) for row in rows for name in row)) or "none"


def _holds(value: Any) -> bool:
    """Whether a cell holds anything: not None, NaN (pandas' missing cell), "" or an empty list."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list | tuple | dict):
        return bool(value)
    return value is not None and value == value
