"""Find the rows whose U and K the rule is unsure of, with the reasons: for `data validate` and for the annotator.

One of them, as `data validate` prints it::

    rows.jsonl, row 7 (id star1-7): 0.88, the key sentence is very short: "Formal."
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from safekey.data.key_sentence.confidence import UNSURE_BELOW
from safekey.data.segment import Located, locate
from safekey.schema import Example

_BY_RULE = ("rule", "annotator-fallback")


@dataclass(frozen=True, slots=True)
class Unsure:
    """One row of which the rule is unsure.

    Attributes:
        example: the row, as it was loaded.
        confidence: how likely a person would mark the same K, 0 to 1; less than `UNSURE_BELOW`.
        doubts: what is doubtful, in plain words.
        key_sentence: the K in question.
    """

    example: Example
    confidence: float
    doubts: tuple[str, ...]
    key_sentence: str

    def __str__(self) -> str:
        where = f"{self.example.file}, row {self.example.row} (id {self.example.id})"
        return f'{where}: {self.confidence:.2f}, {"; ".join(self.doubts)}: "{_short(self.key_sentence)}"'

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, without the row's text but for K."""
        return {
            "file": self.example.file,
            "row": self.example.row,
            "id": self.example.id,
            "confidence": self.confidence,
            "doubts": list(self.doubts),
            "key_sentence": self.key_sentence,
        }


def by_rule(example: Example) -> bool:
    """Whether the row's U and K come from the rule, or will: it has no offsets yet."""
    return None in (example.understanding_end, example.key_sentence_end) or example.span_source in _BY_RULE


def unsure_of(example: Example, *, anew: bool = False) -> Unsure | None:
    """Return why the rule is unsure of this row; None when it is sure, or did not find the row's offsets.

    Args:
        example: any example.
        anew: judge what the rule would find now, whatever offsets the row has.
    """
    if not anew and not by_rule(example):
        return None
    found = locate(example)
    doubts, confidence = found.doubts, found.confidence
    stored = (example.understanding_end, example.key_sentence_end)
    if not anew and None not in stored:
        confidence = confidence if example.span_confidence is None else example.span_confidence
        if stored != found[:2]:
            doubts = ("the rule finds another key sentence today",)
            confidence = min(confidence, found.confidence)
    if confidence >= UNSURE_BELOW:
        return None
    return Unsure(example, confidence, doubts or ("recorded in the row",), _key_sentence(example, found, anew=anew))


def _key_sentence(example: Example, found: Located, *, anew: bool) -> str:
    if not anew and example.key_sentence:
        return example.key_sentence
    between = example.response[found.understanding_end : found.key_sentence_end].strip()
    return between.removeprefix("</think>").strip()


def unsure_rows(examples: Iterable[Example]) -> list[Unsure]:
    """Return the rows whose U and K the rule found, or would find, and is unsure of; in the order given."""
    return [unsure for example in examples if (unsure := unsure_of(example)) is not None]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."
