"""Find U and K of every row, by the rule or by the annotator, and write the rows that `safekey train` takes."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from safekey.data.annotate import annotate
from safekey.data.segment import segment
from safekey.data.write import read_records
from safekey.making.rows import Outcome, Row
from safekey.making.work import Work
from safekey.run_folder.records import write
from safekey.schema import Example


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Segment; a row without U or K stays, and takes part in SFT only, as `safekey data segment` has it."""
    notes: list[str] = []
    if work.config.segment_by == "annotator":
        found, notes = _by_annotator(rows, work)
    else:
        found = [segment(row.example()) for row in rows]
    empty = sum(not (one.understanding and one.key_sentence) for one in found)
    if empty:
        notes.append(f"{empty} rows have an empty U or K and take part in SFT only")
    done = [
        dataclasses.replace(
            row, understanding_end=one.understanding_end, key_sentence_end=one.key_sentence_end,
            span_source=one.span_source, span_confidence=one.span_confidence,
        )
        for row, one in zip(rows, found, strict=True)
    ]  # fmt: skip
    return Outcome(done, (), notes)


def _by_annotator(rows: Sequence[Row], work: Work) -> tuple[list[Example], list[str]]:
    config = work.config
    url, _, model = str(config.judge).partition("#")
    journal = work.folder / "journal" / f"{work.stage}.jsonl"
    annotated = annotate(
        [row.example() for row in rows], model=model, base_url=url, concurrency=config.concurrency,
        output=journal, max_attempts=config.attempts, timeout=config.timeout,
        backoff=config.backoff, progress=lambda done, total: work.progress(work.stage, done, total),
    )  # fmt: skip
    replies = read_records(journal)
    write(journal, "".join(json.dumps(replies[key], ensure_ascii=False) + "\n" for key in sorted(replies)))
    reasons = Counter(entry.reason for entry in annotated if entry.reason)
    notes = [f"the rule's spans were used in {count} rows: {reason}" for reason, count in reasons.most_common(5)]
    return [entry.example for entry in annotated], notes


def training_row(row: Row) -> dict[str, Any]:
    """Return the row as `rows.jsonl` has it: one that `load_examples` reads without options."""
    found: dict[str, Any] = {"id": row.id, "question": row.question, "response": row.response}
    if row.label:
        found["harmful"] = row.label == "harmful"
    more = {
        "category": row.category, "source": row.source, "license": row.license, "parent": row.parent,
        "understanding_end": row.understanding_end, "key_sentence_end": row.key_sentence_end,
        "span_source": row.span_source, "span_confidence": row.span_confidence, "scores": dict(row.scores),
    }  # fmt: skip
    return found | {name: value for name, value in more.items() if value not in ("", None, {})}
