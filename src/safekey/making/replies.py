"""From a model's reply to a row with a response, or to the reason why there is none; nothing is invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from safekey.evals.judges.table import JUDGES, JudgeInput
from safekey.making.journal import why_unusable
from safekey.making.leaks import find_leak
from safekey.making.policies import Policy
from safekey.making.rows import Aside, Row
from safekey.making.work import aside
from safekey.schema import Completion
from safekey.text.thinking import canonical, split_completion, split_response, thinking_in_answer


def read_reply(row: Row, reply: Completion) -> tuple[str, str] | Aside:
    """Return the thinking and the answer of a reply that thinks by itself, or the row set aside."""
    problem = why_unusable(reply)
    if problem:
        return aside(row, problem)
    parts = split_completion(reply)
    if parts.state == "absent" or not parts.thinking.strip():
        return aside(row, "no thinking: the reply holds an answer alone")
    if thinking_in_answer(parts):
        return aside(row, "unclear thinking: there is a tag of thinking in the answer")
    return parts.thinking, parts.answer


def finish(
    row: Row, thinking: str, answer: str, secrets: Sequence[str], policy: Policy | None = None, mark: str = ""
) -> Row | Aside:
    """Return the row with its response, unless it leaks the instructions or refuses a benign request.

    Args:
        row: the request.
        thinking, answer: as the model wrote them.
        secrets, policy, mark: see `leaks.find_leak`.
    """
    response = canonical(thinking, answer)
    again = split_response(response)
    if (again.thinking, again.answer) != (thinking.strip(), answer.strip()):
        return aside(row, "unclear thinking: a tag in the text would move the border of thinking and answer")
    leak = find_leak(f"{thinking}\n{answer}", row.question, secrets, policy, mark)
    if leak:
        return aside(row, leak)
    if row.label == "benign" and refuses(row.question, answer):
        return aside(row, "refusal: a benign request is refused")
    return replace(row, response=response)


def refuses(request: str, answer: str) -> bool:
    """Whether an answer holds a refusing phrase near its beginning."""
    decide = JUDGES["refusal_keywords"].decide
    assert decide is not None
    return decide(JudgeInput(request, answer)) == "full_refusal"
