"""Answers that the token limit cut off: behind a closed block or box they count, before its end they do not."""

from __future__ import annotations

import asyncio
import time

import pytest

from evals.saved_runs import completion
from safekey.evals.answers.cut_off import states_answer
from safekey.evals.judges.verdicts import NOT_WHOLE, check_answer

CODE = "```python\ndef add(a, b):\n    return a + b\n```\nThis works bec"


@pytest.mark.parametrize(
    ("kind", "answer", "stated"),
    [
        ("code", CODE, True),
        ("code", CODE.replace("```", "~~~~"), True),
        ("code", "````\ndef add(a, b):\n    return a + b\n````\nIt", True),
        (
            "code",
            "Like this:\n\n```py\nx = 1\n```\n\n```python\ndef add(a",
            True,
        ),  # read as any other: by what is there
        ("code", "```python\ndef add(a, b):\n    return a + b\n", False),
        ("code", "```python\ndef add(a, b):\n    return a + b\n``", False),
        ("code", "````python\ndef add(a, b):\n    return a + b\n```\n", False),
        ("code", "```python\n\n```\nHm", False),
        ("code", "def add(a, b):\n    return a + b\n\nThis", False),
        ("code", "The answer is \\boxed{4} and", False),
        ("math", "So \\boxed{\\frac{1}{2}}. We can also ch", True),
        ("math", "So \\fbox{2} he", True),
        ("math", "So \\boxed{\\text{\\{1, 2\\}}} and", True),
        ("math", "So \\boxed{\\frac{1}{2", False),
        ("math", "So \\boxed{} and", False),
        ("math", "The answer is 14, whi", False),
        ("integer", "$\\boxed{073}$ is", True),
        ("choice", "\\boxed{C} bec", True),
        ("choice", "Answer: C", False),
        ("math", "", False),
        ("math", None, False),
    ],
)
def test_what_states_its_answer(kind: str, answer: str | None, stated: bool) -> None:
    assert states_answer(kind, answer) is stated


def test_hostile_answers_take_no_time() -> None:
    began = time.process_time()
    for text in ("\\boxed{" * 100_000, "{" * 500_000, "```\n" * 200_000, "\\boxed{1" + "{}" * 200_000):
        assert states_answer("math", text) in (True, False)
        assert states_answer("code", text) in (True, False)
    assert time.process_time() - began < 60  # a guard against quadratic time (hours)


@pytest.mark.parametrize(
    ("answer", "finish", "value", "output"),
    [
        ("So \\boxed{4}. Let me also ch", "length", 1.0, "truncated"),
        ("So \\boxed{5}. Let me also ch", "length", 0.0, "truncated"),
        ("So \\boxed{4}. " * 200, "length", 1.0, "degenerate"),
        ("So the answer is 4", "length", None, "truncated"),
        ("So \\boxed{4}.", "stop", 1.0, "ok"),
    ],
)
def test_a_cut_off_answer_is_scored_by_its_content(answer: str, finish: str, value: float | None, output: str) -> None:
    row = completion("math500", "m", text=f"Hm.</think>\n\n{answer}", finish=finish, target="4")
    assert row["output"] == output
    verdict = asyncio.run(check_answer(row, "math"))
    assert verdict["value"] == value
    assert verdict["unscored"].startswith(NOT_WHOLE) == (value is None)


def test_a_box_in_the_thinking_is_no_answer() -> None:
    row = completion("math500", "m", text="So \\boxed{4}, and", finish="length", target="4")
    assert asyncio.run(check_answer(row, "math"))["value"] is None
