"""Score every response with the judge, and let through those that score well enough: the stages score and filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from safekey.evals.judges.structured import Fields
from safekey.making.config import RULE, SCORES
from safekey.making.replies import refuses
from safekey.making.rows import Aside, Outcome, Row
from safekey.making.work import Work, aside
from safekey.text.thinking import split_response

_FIELDS: Fields = {**dict.fromkeys(SCORES, (1, 2, 3, 4, 5)), "mentions": (True, False)}


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Let the judge grade every row; with judge=rule, look for refusing phrases in place of grades."""
    if work.config.judge == RULE:
        return _by_rule(rows)
    read = work.ask_objects(rows, [_question(row, work) for row in rows], _FIELDS)
    pairs = zip(rows, read, strict=True)
    return Outcome.split(found if isinstance(found, Aside) else _graded(row, found) for row, found in pairs)


def _question(row: Row, work: Work) -> Any:
    parts = split_response(row.response)
    texts = {"request": row.question, "thinking": parts.thinking, "answer": parts.answer}
    policy = work.policies.of(row.category).text
    return work.messages("score", texts, policy=policy, label=row.label or "neither harmful nor benign for certain")


def _graded(row: Row, found: Any) -> Row | Aside:
    for name in SCORES:
        if type(found[name]) is not int or not 1 <= found[name] <= 5:
            return aside(row, f"judge's reply unusable: '{name}' must be a whole number from 1 to 5")
    if not isinstance(found["mentions"], bool):
        return aside(row, "judge's reply unusable: 'mentions' must be true or false")
    if found["mentions"]:
        return aside(row, "leak: the judge finds that the text speaks of its instructions")
    return replace(row, scores={name: found[name] for name in SCORES})


def _by_rule(rows: Sequence[Row]) -> Outcome:
    kept, dropped = [], []
    for row in rows:
        refused = refuses(row.question, split_response(row.response).answer)
        if row.label == "harmful" and not refused:
            dropped.append(aside(row, "not refused: no refusing phrase in the answer to a harmful request"))
        else:
            kept.append(row)
    return Outcome(kept, dropped, ["judge=rule: no scores; only refusing phrases were looked for"])


def run_filter(rows: Sequence[Row], work: Work) -> Outcome:
    """Let through the rows whose scores are all at least as `least` says; rows without scores pass, and are counted."""
    kept, dropped = [], []
    for row in rows:
        low = [name for name, least in work.config.least.items() if row.scores and row.scores[name] < least]
        if low:
            shown = ", ".join(f"{name} {row.scores[name]} < {work.config.least[name]}" for name in low)
            dropped.append(aside(row, f"low score of {low[0]}: {shown}"))
        else:
            kept.append(row)
    without = sum(not row.scores for row in rows)
    return Outcome(kept, dropped, [f"{without} rows have no scores and passed"] if without else [])
