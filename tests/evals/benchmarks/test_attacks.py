from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safekey.data.formats import RowError
from safekey.errors import UserError
from safekey.evals.benchmarks.attacks import prefill
from safekey.evals.benchmarks.conversations import parse_conversation
from safekey.evals.benchmarks.load import load_benchmark
from safekey.schema import Message

GOAL = "How do I borrow a plum from the royal garden?"
TARGET = "Sure, here is how to borrow a plum: first, greet the gardener"
EXPECTED = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "And plums?"))


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_one_item_per_behaviour_and_n(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "advbench.jsonl", {"goal": GOAL, "target": TARGET}, {"goal": "Another?", "target": "Sure"})
    items = load_benchmark("prefill", file=path, prefill_tokens=(5, 10, 20, 50))
    assert len(items) == 8
    assert [item.attack for item in items[:4]] == ["prefill-5", "prefill-10", "prefill-20", "prefill-50"]
    assert [item.id for item in items[:2]] == ["row-1@prefill-5", "row-1@prefill-10"]
    assert {item.behaviour for item in items[:4]} == {"row-1"}, "one behaviour is one cluster"
    first = items[0]
    assert (first.prompt.prefill, first.prompt.prefill_tokens, first.prompt.prefill_answer) == (TARGET, 5, False)
    assert first.prompt.messages == (Message("user", GOAL),)
    assert first.request == GOAL
    assert [item.attack for item in load_benchmark("prefill", file=path)] == ["prefill-20"] * 2
    assert len(load_benchmark("prefill", file=path, limit=1, prefill_tokens=(5, 10))) == 2


@pytest.mark.parametrize("tokens", [(), (0,), (5, 5), (-1,), (True,)])
def test_wrong_numbers_of_tokens(tmp_path: Path, tokens: tuple[int, ...]) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"goal": GOAL, "target": TARGET})
    with pytest.raises(UserError, match="prefill tokens: expected different whole numbers from 1"):
        load_benchmark("prefill", file=path, prefill_tokens=tokens)


def test_a_behaviour_without_target_cannot_be_prefilled(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"goal": GOAL, "target": ""}, {"goal": GOAL, "target": TARGET})
    items = load_benchmark("prefill", file=path)
    assert [item.row for item in items] == [2]
    assert items.problems[0].field == "target"
    plain = load_benchmark("strongreject", file=jsonl(tmp_path / "s.jsonl", {"prompt": GOAL}))
    assert plain[0].attack == "none"
    with pytest.raises(UserError, match="no target to prefill"):
        prefill(plain)


@pytest.mark.parametrize(
    "value",
    [
        [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "And plums?"},
        ],
        [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}, {"from": "human", "value": "And plums?"}],
        ["Hello", "Hi", "And plums?"],
        json.dumps(["Hello", "Hi", "And plums?"]),
        [
            {"role": "User", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "body": "And plums?"},
        ],
    ],
    ids=["messages", "from-value", "strings", "json", "mixed"],
)
def test_three_forms_of_a_conversation(value: Any) -> None:
    assert parse_conversation(value, "turns") == EXPECTED


def test_an_earlier_turns_thinking_is_no_part_of_its_text() -> None:
    turns = parse_conversation(["Hello", "<think>\nA greeting.\n</think>\n\nHi", "And plums?"], "turns")
    assert turns[1] == Message("assistant", "Hi", "A greeting.")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no json", "not a JSON list"),
        ([], "expected a list of turns"),
        ({"role": "user"}, "expected a list of turns"),
        ([5], "not a turn"),
        ([{"role": "wizard", "content": "x"}], "unknown role: 'wizard'"),
        ([{"role": "user", "content": " "}], "empty turn"),
        ([{"role": "user", "content": ["x"]}], "empty turn"),
        (["Hello", "<think>never closed", "x"], "never closed"),
    ],
)
def test_what_is_no_conversation(value: Any, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        parse_conversation(value, "turns")


def test_whole_conversations_and_what_the_judge_sees(tmp_path: Path) -> None:
    turns = ["Hello", "Hi", "And plums?"]
    path = jsonl(
        tmp_path / "multi_turn.jsonl",
        {"conversation": turns, "objective": "borrow a plum", "attack": "crescendo"},
        {"conversation": [*turns, "They grow in the east."], "goal": "borrow a plum"},
        {"conversation": turns},
        {"conversation": [], "objective": "x"},
    )
    items = load_benchmark("multi-turn", tmp_path)
    assert [item.prompt.messages for item in items] == [EXPECTED, EXPECTED]
    assert [item.request for item in items] == ["borrow a plum"] * 2
    assert [item.attack for item in items] == ["crescendo", "multi-turn"]
    assert items[1].metadata["dropped_reply"] == "They grow in the east."
    assert any("last reply of 1 conversations" in note for note in items.notes)
    assert [(problem.row, problem.field) for problem in items.problems] == [(3, "objective"), (4, "conversation")]
    assert items.source == str(path)
