"""The rows that pass from stage to stage, and those that a stage sets aside with its reason.

One row of `stages/4-deliberate.jsonl`, and one of `set-aside.jsonl`::

    {"id": "requests:7", "question": "How do I pick the royal vault?", "label": "harmful", "category": "crime",
     "source": "requests.jsonl", "license": "CC-BY-4.0", "response": "<think>\\nThe user …\\n</think>\\n\\nI can't …"}
    {"stage": "4-deliberate", "id": "requests:9", "reason": "no thinking: the reply holds an answer alone"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from safekey.schema import Example, Message, SpanSource

Label = Literal["harmful", "benign", ""]


@dataclass(frozen=True, slots=True)
class Row:
    """One request on its way to a training row.

    Attributes:
        id: "FILE:ROW", unique in a run; a rewritten request has its parent's with an ending.
        question: the request.
        label: "harmful", "benign", or "" while it is not known.
        category: the name of the policy that the request falls under; "" for none.
        source: the data set that the row says it comes from, else the file or hub id.
        license: of the source; "" when nobody said.
        source_id, source_category: the row's own, as they were read.
        parent: the id of the request that this one is a rewrite of.
        response: thinking and answer in canonical form.
        scores: the judge's, by name, 1 to 5.
        understanding_end, key_sentence_end, span_source, span_confidence: as of `schema.Example`.
    """

    id: str
    question: str
    label: Label = ""
    category: str = ""
    source: str = ""
    license: str = ""
    source_id: str = ""
    source_category: str = ""
    parent: str = ""
    response: str = ""
    scores: Mapping[str, int] = field(default_factory=dict)
    understanding_end: int | None = None
    key_sentence_end: int | None = None
    span_source: SpanSource | None = None
    span_confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row for a file: what is empty is left out."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in found.items() if value not in ("", None, {})}

    def example(self) -> Example:
        """Return the row as a training example."""
        harmful = None if not self.label else self.label == "harmful"
        return Example(
            prompt=(Message("user", self.question),), response=self.response, harmful=harmful, id=self.id,
            understanding_end=self.understanding_end, key_sentence_end=self.key_sentence_end,
            span_source=self.span_source, span_confidence=self.span_confidence, source=self.source,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Aside:
    """A row that does not go on.

    Attributes:
        id: the row's.
        reason: why; counts take the words before the first colon.
        final: whether the same command would set it aside again; False: it is asked again (a server was busy).
    """

    id: str
    reason: str
    final: bool = True

    @property
    def kind(self) -> str:
        """The reason in short."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage gives: rows that go on, rows that do not, and what the user should know."""

    rows: Sequence[Row]
    aside: Sequence[Aside] = ()
    notes: Sequence[str] = ()

    @classmethod
    def split(cls, done: Iterable[Row | Aside], notes: Sequence[str] = ()) -> Outcome:
        """Part rows that go on from those that were set aside."""
        found = list(done)
        rows = [one for one in found if isinstance(one, Row)]
        return cls(rows, [one for one in found if isinstance(one, Aside)], notes)


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage in counts.

    Attributes:
        stage: "4-deliberate".
        rows_in, rows_out: numbers of rows; a stage that rewrites may give more than it got.
        aside: reason in short → number of rows.
        unanswered: how many of them the same command would ask again.
        notes: what the user should know.
    """

    stage: str
    rows_in: int
    rows_out: int
    aside: Mapping[str, int]
    unanswered: int
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, stage: str, rows_in: int, outcome: Outcome) -> StageReport:
        """Count one stage."""
        reasons = Counter(entry.kind for entry in outcome.aside)
        waiting = sum(not entry.final for entry in outcome.aside)
        return cls(stage, rows_in, len(outcome.rows), dict(reasons.most_common()), waiting, list(outcome.notes))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts for a file."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Return records as JSONL."""
    return b"".join(json.dumps(record, ensure_ascii=False).encode("utf-8") + b"\n" for record in records)


def tally(values: Iterable[str], unknown: str = "(none)") -> dict[str, int]:
    """Count values, the most frequent first, then by name."""
    counts = Counter(value or unknown for value in values)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
