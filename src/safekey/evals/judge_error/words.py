"""The columns and the words in which files say what people think of an answer; nothing is guessed.

XSTest's completions say "1_full_compliance" in `final_label`, PyRIT's sets 0.75 in `human_score_1`, a label file
of ours 1 in `label`. Column names are compared without regard to case, spaces, "-" and "_".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from safekey.evals.benchmarks.columns import (
    BENIGN_WORDS,
    FLAGS,
    HARMFUL_WORDS,
    NEUTRAL,
    PLAIN,
    WEAK_PLAIN,
    plain,
)
from safekey.options import unknown
from safekey.schema import JudgedKind

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "request": ("request", *PLAIN, *WEAK_PLAIN, *NEUTRAL),
    "response": (
        "response", "completion", "generation", "assistant_response", "model_response", "model_output", "output",
        "reply", "answer",
    ),
    "label": (
        "final_label", "human_majority", "majority", "human_label", "human_score", "human", "gold_label", "label",
    ),
    "rater": ("rater", "rater_id", "annotator", "annotator_id", "worker_id"),
    "kind": ("kind",),
    "part": ("part",),
    "id": ("id", "index", "uid"),
    "category": ("category", "harm_category", "semantic_category", "type"),
    "benchmark": ("benchmark",),
    "item": ("item",),
    "epoch": ("epoch",),
    "attack": ("attack", "attack_type"),
    "completion": ("completion_hash", "completion"),
    "stratum": ("stratum",),
    "weight": ("weight",),
}  # fmt: skip
"""Field → the columns that may hold it; the first one with a value is read."""

OF_KIND: Mapping[JudgedKind, tuple[str, ...]] = {
    "harm": (
        "response_harm_label", "response_harmfulness", "is_response_harmful", "is_harmful", "is_response_safe",
        "is_safe",
    ),
    "refusal": ("response_refusal_label", "response_refusal", "is_response_refusal", "is_refusal"),
}  # fmt: skip
"""Columns that say in their name what they are about."""

RATERS = re.compile(r"(?:(?:human|annotation|annotator|rater)(?:score|label)?|label)\d+")
"""Columns of one person each: annotation_1, human_score_2, human3 (without "_")."""

_SAFE = ("issafe", "isresponsesafe")

_SHOWN: Mapping[JudgedKind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "harm": (
        ("harmful", "unsafe", "jailbroken", "harm"),
        ("unharmful", "safe", "harmless", "benign", "not_harmful", "not_jailbroken"),
    ),
    "refusal": (
        ("refusal", "refused", "full_refusal", "partial_refusal", "3_partial_refusal"),
        ("compliance", "complied", "full_compliance", "1_full_compliance", "not_refusal", "not_refused"),
    ),
}
_ALSO: Mapping[JudgedKind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "harm": (HARMFUL_WORDS, BENIGN_WORDS),
    "refusal": (("refuses",), ("complies",)),
}
KNOWN = "1 and 0, true and false, yes and no, grades (with --threshold), " + "; ".join(
    f"{kind}: {', '.join((*yes, *no))}" for kind, (yes, no) in _SHOWN.items()
)
"""What a cell may say, for a message."""


def _bare(word: str) -> str:
    """Return a word without case, spaces, "-", "_" and a class's number in front: "3_Partial refusal"."""
    return plain(word).lstrip("0123456789")


_WORDS: Mapping[str, tuple[JudgedKind, bool]] = {
    _bare(word): (kind, yes)
    for table in (_SHOWN, _ALSO)
    for kind, (positive, negative) in table.items()
    for words, yes in ((positive, True), (negative, False))
    for word in words
}


def named(columns: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Return `COLUMNS` with the user's names.

    Raises:
        UserError: a key that is not in `COLUMNS`.
    """
    table = dict(COLUMNS)
    for key, name in columns.items():
        if key not in COLUMNS:
            raise unknown(key, COLUMNS, "--column")
        table[key] = (name,) if name else ()
    return table


def said(value: Any, column: str = "") -> tuple[JudgedKind | None, float | None]:
    """Return what a cell says: the kind that it is about (None: any), and 1.0, 0.0 or a grade.

    The second is None where the cell holds something else.

    Args:
        value: the cell.
        column: its column: in "is_safe" a plain yes or 1 means that the answer is harmless.
    """
    kind, grade = _said(value)
    if kind is None and grade is not None and plain(column) in _SAFE:
        return "harm", 1 - grade
    return kind, grade


def _said(value: Any) -> tuple[JudgedKind | None, float | None]:
    if isinstance(value, bool | int | float):
        number = float(value)
    else:
        text = str(value).strip()
        word = text.lower().removesuffix(".0")
        if _bare(word) in _WORDS:
            kind, yes = _WORDS[_bare(word)]
            return kind, float(yes)
        if word in FLAGS:
            return None, float(FLAGS[word])
        try:
            number = float(text)
        except ValueError:
            return None, None
    return None, number if math.isfinite(number) else None


def rater_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that hold one person's label each, in their order."""
    return [name for name in names if RATERS.fullmatch(plain(name))]
