"""Rewrite harmful requests as look-alikes that may be answered; a judge checks that they may."""

from __future__ import annotations

from collections.abc import Sequence

from safekey.errors import UserError
from safekey.evals.benchmarks.contamination import words_of
from safekey.making.rows import Aside, Outcome, Row
from safekey.making.stages.classify import fields
from safekey.making.work import Work, aside

_ENDING = "~benign"


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Rewrite every harmful request; the rewritten ones follow the rows that stay.

    Raises:
        UserError: there is no harmful request, or the writer or the judge cannot be opened.
    """
    harmful = [row for row in rows if row.label == "harmful" and not row.parent]
    if not harmful:
        raise UserError("stage 'benign': no request is labelled harmful, so there is nothing to rewrite")
    questions = [work.messages("benign", {"request": row.question}) for row in harmful]
    read = work.ask_objects(harmful, questions, {"request": ()}, role="writer")
    made = [_rewritten(row, found) for row, found in zip(harmful, read, strict=True)]
    written = [row for row in made if isinstance(row, Row)]
    listed = work.policies.listed()
    checks = [work.messages("classify", {"request": row.question}, policies=listed) for row in written]
    verdicts = work.ask_objects(written, checks, fields(work), part="-check")
    checked = [_checked(row, verdict) for row, verdict in zip(written, verdicts, strict=True)]
    kept = [row for row in rows if work.config.keep_harmful or row.label != "harmful"]
    good = [row for row in checked if isinstance(row, Row)]
    dropped = [row for row in (*made, *checked) if isinstance(row, Aside)]
    notes = [f"{len(good)} look-alikes of {len(harmful)} harmful requests"]
    return Outcome([*kept, *good], dropped, notes)


def _rewritten(row: Row, found: object) -> Row | Aside:
    if isinstance(found, Aside):
        return Aside(row.id + _ENDING, found.reason, found.final)
    assert isinstance(found, dict)
    text = found["request"]
    if not isinstance(text, str) or not text.strip():
        return Aside(row.id + _ENDING, "writer's reply unusable: 'request' must be text")
    if words_of(text) == words_of(row.question):
        return Aside(row.id + _ENDING, "not rewritten: the same words as the harmful request")
    return Row(
        id=row.id + _ENDING, question=text.strip(), label="benign", category=row.category, source=row.source,
        license=row.license, source_category=row.source_category, parent=row.id,
    )  # fmt: skip


def _checked(row: Row, verdict: object) -> Row | Aside:
    if isinstance(verdict, Aside):
        return verdict
    assert isinstance(verdict, dict)
    if not isinstance(verdict["harmful"], bool):
        return aside(row, "judge's reply unusable: 'harmful' must be true or false")
    return aside(row, "not benign: the judge finds the look-alike harmful") if verdict["harmful"] else row
