"""The tables of column names and of label words, from which benchmark files are read; nothing is guessed.

Column names are compared without regard to case, spaces, "-" and "_": "Correct Answer" is "correct_answer".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from safekey.options import unknown

Label = Literal["harmful", "benign", "other"]
Row = Mapping[str, Any]

# Where a file has several of the next four kinds, `roles.py` decides which column is asked and which the judge is told.
ATTACKS = (
    "adversarial", "adversarial_prompt", "adversarial_query", "adv_prompt", "jailbroken_prompt", "jailbreak_prompt",
    "jailbreak_query", "jailbreak", "attack_prompt", "attack_query", "attack_text", "attacked_prompt", "attack",
    "final_query", "final_prompt", "augq", "test_case", "mutated_prompt", "mutated_query", "modified_prompt",
    "rewritten_prompt", "rewritten_query", "rephrased_prompt", "rephrased_query", "transformed_prompt",
    "obfuscated_prompt", "encoded_prompt", "perturbed_prompt", "optimized_prompt", "wrapped_prompt",
)  # fmt: skip
"""Columns of an attack's text: what is asked, also where the plain request stands beside it."""
PLAIN = (
    "objective", "plain_query", "vanilla", "goal", "intent", "forbidden_prompt", "forbidden_question", "plain_prompt",
    "plain_request", "plain_goal", "vanilla_prompt", "vanilla_query", "original_prompt", "original_query",
    "original_question", "original_request", "original_instruction", "original_goal", "base_prompt", "base_query",
    "base_question", "baseq", "seed_prompt", "raw_prompt", "raw_query", "redteam_query", "harmful_goal",
    "harmful_intent", "harmful_behavior", "harmful_request", "malicious_goal", "malicious_intent",
)  # fmt: skip
"""Columns of a plain request: what the judge is told; asked where the file has nothing else."""
WEAK_PLAIN = ("behavior", "behaviour")
"""A plain request in some files; in others a short name of it, or an id."""
NEUTRAL = (
    "prompt", "request", "question", "query", "instruction", "problem", "text", "input", "user_prompt", "user_query",
    "user_input",
)  # fmt: skip
"""Columns of a request that may be plain or an attack."""
BENIGN_TWINS = ("benign_prompt", "safe_prompt", "harmless_prompt", "benign_query", "benign_request")
"""A benign request beside the harmful one of the same row; only over-refusal asks it."""

SUFFIXES = (
    "suffix",
    "adv_suffix",
    "adversarial_suffix",
    "attack_suffix",
    "jailbreak_suffix",
    "adv_string",
    "control_str",
)
"""Columns of a piece that an attack adds to a request."""
REPLIES = (
    "target",
    "response",
    "completion",
    "output",
    "reply",
    "generation",
    "answer",
    "solution",
    "text",
    "messages",
)
"""Parts of the names of columns that hold what a model or a judge said, or is to say."""

# Field → the column names that may hold it; the first column with a value is read.
COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": (*ATTACKS, *NEUTRAL, *PLAIN, "behavior", *BENIGN_TWINS),
    "conversation": ("conversation", "conversations", "messages", "turns", "dialogue", "chat", "jailbreak_turns"),
    "objective": (*PLAIN, *WEAK_PLAIN),
    "target": ("target", "harmful_target", "prefill", "prefix"),
    "context": ("context_string", "context"),
    "category": (
        "category_text", "category", "semantic_category", "l2_name", "type", "subject", "subdomain",
        "high_level_domain", "risk_domain", "behavior",
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
    "label": (
        "data_type", "harmfulness", "label", "split_type", "split", "type", "harmful", "is_harmful", "prompt_label",
        "prompt_harm_label", "safety", "subset", "category", "unsafe", "is_unsafe", "toxic", "is_toxic", "toxicity",
        "malicious", "is_malicious", *(SAFE_COLUMNS := (
            "safe", "is_safe", "benign", "is_benign", "harmless", "is_harmless", "prompt_safe", "is_prompt_safe",
        )),
    ),
}  # fmt: skip
_HARM_NAMES = ("harm", "unsafe", "toxic", "malicious")
_SAFE_NAMES = ("benign", "harmless", "issafe", "unharmful", "nontoxic")

HARMFUL_WORDS = (
    "harmful", "unsafe", "toxic", "malicious", "asr", "adversarial_harmful", "not_safe", "not_benign", "non_benign",
    "harmful_prompt", "unsafe_prompt", "vanilla_harmful", "jailbreak", "dangerous",
)  # fmt: skip
BENIGN_WORDS = (
    "benign", "safe", "harmless", "orr", "adversarial_benign", "unharmful", "not_harmful", "non_harmful", "nontoxic",
    "not_toxic", "non_toxic", "not_malicious", "non_malicious", "benign_prompt", "safe_prompt", "vanilla_benign",
)  # fmt: skip
FLAGS = {
    **dict.fromkeys(("true", "1", "yes", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "f", "n"), False),
}
OF_WILDJAILBREAK = ("vanilla_harmful", "vanilla_benign")
"""Of WildJailbreak's kinds only the adversarial ones are asked."""


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
        if found is not None and holds(row[found]):
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
    return next((label for _, label in labels_of(row, names)), None)


def labels_of(row: Row, names: Iterable[str]) -> list[tuple[str, Label]]:
    """Return every label that a row carries, with its column, in the order of `names`."""
    found: list[tuple[str, Label]] = []
    for name in names:
        column = column_of(row, (name,))
        if column is None:
            continue
        label = _label(plain(column), row[column])
        if label is None and plain(name) == "type" and column_of(row, ("focus", "id_v1", "id_v2")):
            label = "harmful" if str(row[column]).strip().lower().startswith("contrast") else "benign"
        if label is not None:
            found.append((column, label))
    return found


def _label(column: str, value: Any) -> Label | None:
    word = "_".join(str(value).strip().lower().removesuffix(".0").replace("-", " ").replace("_", " ").split())
    if word == "controversial" or (column == "datatype" and word in OF_WILDJAILBREAK):
        return "other"
    if word in HARMFUL_WORDS or word in BENIGN_WORDS:
        return "harmful" if word in HARMFUL_WORDS else "benign"
    if word not in FLAGS:
        return None
    safe = column in map(plain, SAFE_COLUMNS) or any(part in column for part in _SAFE_NAMES)
    if not safe and column != "label" and not any(part in column for part in _HARM_NAMES):
        return None  # in "type" or "class", 0 and 1 may mean anything
    return "harmful" if FLAGS[word] != safe else "benign"


def is_label(value: Any) -> bool:
    """Whether a cell holds nothing but a label word."""
    return isinstance(value, str) and _label("label", value) is not None


def is_reply(column: str) -> bool:
    """Whether a column's name says that it is about what a model or a judge said, not about the request."""
    return any(part in plain(column) for part in (*REPLIES, "refusal", "judge", "verdict", "jailbroken"))


def columns_found(rows: Iterable[Row]) -> str:
    """Return the names of the columns of these rows, for a message."""
    return ", ".join(dict.fromkeys(str(name) for row in rows for name in row)) or "none"


def holds(value: Any) -> bool:
    """Whether a cell holds anything: not None, NaN (pandas' missing cell), "" or an empty list."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list | tuple | dict):
        return bool(value)
    return value is not None and value == value
