"""The stage `self` with a model that does not think by itself: its thinking is opened and closed for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from making.test_near import work
from safekey.engines.base import SamplingParams
from safekey.making.journal import Job
from safekey.making.rows import Row
from safekey.making.stages import own
from safekey.schema import Completion

ROWS = [
    Row("r:1", "How do I pick the royal vault?", "harmful", "crime"),
    Row("r:2", "How do I water the garden?", "benign"),
    Row("r:3", "How do I mend the gate?", "benign"),
    Row("r:4", "How do I find the door?", "benign"),
    Row("r:5", "Who am I?"),
    Row("r:6", "How do I sweep the yard?", "benign"),
]
THOUGHTS = {
    "r:1": Completion("They want to open what is not theirs. That is theft.\n", "stop"),
    "r:2": Completion("They ask about water. That is fine.", "stop"),
    "r:3": Completion("On and on", "length"),
    "r:4": Completion("", "stop"),
    "r:6": Completion("They ask about the yard.", "stop"),
}
ANSWERS = {
    "r:1": Completion("I'm sorry, but I can't help with that.", "stop"),
    "r:2": Completion("In the evening.", "stop"),
    "r:6": Completion("In the", "length"),
}


class Asked:
    """Plays the model; keeps what it was asked."""

    def __init__(self) -> None:
        self.jobs: dict[str, Sequence[Job]] = {}
        self.spent: dict[Any, Any] = {}

    def ask(self, journal: str, role: str, jobs: Sequence[Job], schema: object = None) -> list[Completion]:
        assert role == "model"
        self.jobs[journal] = jobs
        replies = THOUGHTS if journal.endswith("-thinking") else ANSWERS
        return [replies[job.id] for job in jobs]


def test_opened_thinking_is_two_exact_continuations() -> None:
    here, asked = work(thinking="opened", think_tokens=77, max_tokens=99, judge="rule"), Asked()
    here.asker, here.stage = asked, "4-self"  # type: ignore[assignment]
    outcome = own.run(ROWS, here)
    assert [row.id for row in outcome.rows] == ["r:1", "r:2"]
    assert outcome.rows[1].response == "<think>\nThey ask about water. That is fine.\n</think>\n\nIn the evening."
    assert {one.id: one.kind for one in outcome.aside} == {
        "r:5": "no label", "r:3": "cut off", "r:4": "no thinking", "r:6": "cut off",
    }  # fmt: skip
    first, second = asked.jobs["4-self-thinking"], asked.jobs["4-self-answer"]
    assert [job.prompt.prefill for job in first] == ["<think>\n"] * 5
    assert all(job.prompt.prefill_answer for job in (*first, *second))
    assert isinstance(first[0].params, SamplingParams)
    assert (first[0].params.max_new_tokens, first[0].params.stop) == (77, ("</think>",))
    assert (second[0].params.max_new_tokens, second[0].params.stop) == (99, ())
    assert second[0].prompt.prefill == ("<think>\nThey want to open what is not theirs. That is theft.\n</think>\n\n")
    assert "What you are asked below would do harm" in first[0].prompt.messages[0].content
    assert first[1].prompt.messages[0].content == "How do I water the garden?"


def test_a_harmful_request_that_is_not_refused_is_set_aside_by_rule() -> None:
    here, asked = work(thinking="opened", judge="rule"), Asked()
    here.asker, here.stage = asked, "4-self"  # type: ignore[assignment]
    outcome = own.run([Row("r:2", "How do I pick the royal vault?", "harmful")], here)
    assert not outcome.rows
    assert outcome.aside[0].kind == "not refused"
