"""A teacher writes thinking and answer with the policy of the request in view, and without a mention of it.

Its thinking comes in a field of its own or in tags (docs/engines.md); what it writes is used as it is, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from safekey.making.prompting import mark_of
from safekey.making.replies import finish, read_reply
from safekey.making.rows import Aside, Outcome, Row
from safekey.making.work import Work
from safekey.schema import Completion, Prompt


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Ask the teacher about every request."""
    prompts = [
        Prompt(work.messages("deliberate", _texts(row), policy=work.policies.of(row.category).text)) for row in rows
    ]
    replies = work.ask("teacher", rows, prompts)
    return Outcome.split(_read(row, reply, work) for row, reply in zip(rows, replies, strict=True))


def _texts(row: Row) -> dict[str, str]:
    return {"request": row.question}


def _read(row: Row, reply: Completion, work: Work) -> Row | Aside:
    read = read_reply(row, reply)
    if isinstance(read, Aside):
        return read
    policy = work.policies.of(row.category)
    system = work.messages("deliberate", _texts(row), policy="")[0].content
    return finish(row, *read, [policy.text, system], policy, mark_of(_texts(row)))
