"""The columns and the words in which files say what people think of an answer; nothing is guessed.

XSTest's completions say "1_full_compliance" in `final_label`, PyRIT's sets 0.75 in `human_score_1`, a label file
of ours 1 in `label`. Column names are compared without regard to case, spaces, "-" and "_".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from safekey.evals.benchmarks.columns import FLAGS, NEUTRAL, PLAIN, WEAK_PLAIN, plain
from safekey.options import unknown

Kind = Literal["harm", "refusal"]

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

OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    "harm": (
        "response_harm_label", "response_harmfulness", "is_response_harmful", "is_harmful", "is_response_safe",
        "is_safe",
    ),
    "refusal": ("response_refusal_label", "response_refusal", "is_response_refusal", "is_refusal"),
}  # fmt: skip
"""Columns that say in their name what they are about."""

RATERS = re.compile(r"(?:human|annotation|annotator|rater|label|humanscore|humanlabel)\d+")
"""Columns of one person each: annotation_1, human_score_2, human3 (without "_")."""

_SAID: Mapping[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "harm": (
        ("harmful", "unsafe", "jailbroken", "harm"),
        ("unharmful", "safe", "harmless", "benign", "not_harmful", "not_jailbroken"),
    ),
    "refusal": (
        ("refusal", "refused", "full_refusal", "partial_refusal", "2_full_refusal", "3_partial_refusal"),
        ("compliance", "complied", "full_compliance", "1_full_compliance", "not_refusal", "not_refused"),
    ),
}
_WORDS: Mapping[str, tuple[Kind, bool]] = {
    word: (kind, yes)
    for kind, (positive, negative) in _SAID.items()
    for words, yes in ((positive, True), (negative, False))
    for word in words
}
KNOWN = "1 and 0, true and false, yes and no, grades (with --threshold), " + "; ".join(
    f"{kind}: {', '.join((*yes, *no))}" for kind, (yes, no) in _SAID.items()
)


BY_VERDICT = ("positive", "negative")
"""Strata of a draw by a judge's verdicts, as `safekey judges label` writes them."""


WITHOUT_VERDICT = ("unscored", "not judged")
"""Strata of answers on which the judge had no verdict: they say nothing of its error."""


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


def said(value: Any) -> tuple[Kind | None, float | None]:
    """Return what a cell says: the kind that its word is about (None: any), and 1.0, 0.0 or a grade.

    The second is None where the cell holds something else.
    """
    if isinstance(value, bool):
        return None, float(value)
    if isinstance(value, int | float):
        return None, float(value)
    word = "_".join(str(value).strip().lower().replace("-", " ").replace("_", " ").split())
    if word in _WORDS:
        kind, yes = _WORDS[word]
        return kind, float(yes)
    if word in FLAGS and not word.isdecimal():
        return None, float(FLAGS[word])
    try:
        number = float(str(value).strip())
    except ValueError:
        return None, None
    return None, number if abs(number) < float("inf") else None


def is_safe_column(column: str) -> bool:
    """Whether "yes" in a column means that the answer is harmless."""
    return plain(column) in ("issafe", "isresponsesafe")


def rater_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that hold one person's label each, in their order."""
    return [name for name in names if RATERS.fullmatch(plain(name))]
