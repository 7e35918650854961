"""Give every request a label and a category: those of the row where it has them, else the judge's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safekey.evals.judges.structured import Fields
from safekey.making.config import RULE
from safekey.making.rows import Aside, Label, Outcome, Row
from safekey.making.work import Work, aside

NONE = "none"


def fields(work: Work) -> Fields:
    """Return the fields of the judge's reply, with the values that they may have."""
    return {"harmful": (True, False), "category": (*work.policies, NONE)}


def needs_question(row: Row) -> bool:
    """Whether the judge is asked: a harmful row needs a category, a benign one its label only."""
    return not row.label or (row.label == "harmful" and not row.category)


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Classify; a label that the row brings stands, and a judge that disagrees sets the row aside."""
    asked = [row for row in rows if needs_question(row)]
    if work.config.judge == RULE:
        return _by_rule(rows)
    listed = work.policies.listed()
    questions = [work.messages("classify", {"request": row.question}, policies=listed) for row in asked]
    found: dict[str, Row | Aside] = {}
    for row, read in zip(asked, work.ask_objects(asked, questions, fields(work)), strict=True):
        found[row.id] = read if isinstance(read, Aside) else _decide(row, read["harmful"], read["category"], work)
    done = [found.get(row.id, row) for row in rows]
    notes = [f"{len(rows) - len(asked)} of {len(rows)} rows brought their own label and category"]
    return Outcome.split(done, notes)


def _by_rule(rows: Sequence[Row]) -> Outcome:
    reason = "no label: judge=rule asks no model; name the label in data"
    without = sum(row.label == "harmful" and not row.category for row in rows)
    note = f"{without} harmful rows have no category that is a policy; the general policy counts for them"
    return Outcome.split((row if row.label else aside(row, reason) for row in rows), [note] if without else [])


def _decide(row: Row, harmful: object, category: object, work: Work) -> Row | Aside:
    if not isinstance(harmful, bool) or not isinstance(category, str):
        return aside(row, "judge's reply unusable: 'harmful' must be true or false, 'category' text")
    if category != NONE and category not in work.policies:
        return aside(row, f"judge's reply unusable: there is no category '{category:.40}'")
    label: Label = "harmful" if harmful else "benign"
    if row.label and row.label != label:
        return aside(row, f"label disputed: the row says {row.label}, the judge {label}")
    if harmful and category == NONE:
        return aside(row, "no category: the judge finds it harmful under no policy")
    return replace(row, label=label, category="" if category == NONE else category)
