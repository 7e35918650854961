"""Answers that hold what may be thinking are named; they are judged as they are."""

from __future__ import annotations

from evals.saved_runs import completion
from safekey.evals.summary.doubts import thinking_in_answers


def test_blocks_in_answers_are_counted_by_benchmark_and_tag() -> None:
    texts = [
        "Plan.</think>No.",
        "Plan.</think>Sure. <thinking>more</thinking> No.",
        "Plan.</think>Sure. <thinking>still more</thinking> No.",
        "Plan.</think>Sure. <think>more</think> No.",
        "Plan.</think>Write `<think>x</think>`.",
        "<thinking>never closed",
    ]
    rows = [completion("strongreject", f"q{i}", text=text) for i, text in enumerate(texts)]
    rows.append(completion("xstest-safe", "q9", text="Sure. <scratchpad>a</scratchpad> b", started_inside=False))
    lines = thinking_in_answers(rows)
    assert [line.split(", and so")[0] for line in lines] == [
        "strongreject: 2 answers hold <thinking>",
        "strongreject: 1 answers hold <think>",
        "xstest-safe: 1 answers hold <scratchpad>",
    ]
    assert not thinking_in_answers(rows[:1])
