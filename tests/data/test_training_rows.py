"""Rows whose thinking stands elsewhere, columns that nobody reads, and what is said about them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from safekey.cli.app import main
from safekey.data import Examples, canonical, load_examples, split_response, write_jsonl
from safekey.schema import Message
from safekey.text.thinking import split_thinking

THINKING, ANSWER = "The user asks for tea.", "Boil water."
LITERAL = canonical(THINKING, ANSWER)
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"
ROW = {"question": "Tea?", "response": LITERAL}
ASKED = {"role": "user", "content": "Tea?"}


def load(tmp_path: Path, *rows: Any) -> Examples:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_examples(path)


def problem(tmp_path: Path, row: Any) -> str:
    loaded = load(tmp_path, row)
    assert not loaded
    return str(loaded.problems[0])


def say(**turn: Any) -> dict[str, Any]:
    return {"messages": [ASKED, {"role": "assistant", **turn}]}


@pytest.mark.parametrize(
    "row",
    [
        ROW | {"response": f"[THINK]{THINKING}[/THINK]{ANSWER}"},
        ROW | {"response": f"<thinking>\n{THINKING}\n</thinking>\n{ANSWER}"},
        ROW | {"response": f"<reasoning>{THINKING}</reasoning>{ANSWER}"},
        ROW | {"response": f"◁think▷{THINKING}◁/think▷{ANSWER}"},
        ROW | {"response": f"<|begin_of_thought|>{THINKING}<|end_of_thought|><|begin_of_solution|>{ANSWER}"},
        ROW | {"response": f"<|channel|>analysis<|message|>{THINKING}{FINAL}{ANSWER}"},
        ROW | {"response": ANSWER, "thinking": f"[THINK]{THINKING}[/THINK]"},
        ROW | {"response": ANSWER, "reasoning_details": [{"type": "reasoning.text", "text": THINKING}]},
        ROW | {"response": ANSWER, "reasoning": [{"type": "text", "text": THINKING}]},
        ROW | {"response": [{"type": "thinking", "thinking": THINKING}, {"type": "text", "text": ANSWER}]},
        say(
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": THINKING}]},
                {"type": "text", "text": ANSWER},
            ]
        ),
        say(content=[{"type": "reasoning", "text": THINKING}, {"type": "text", "text": ANSWER}]),
        say(content=[{"type": "thinking", "thinking": THINKING}, {"type": "text", "text": ANSWER}], thinking=THINKING),
        say(content=ANSWER, reasoning_details=[{"type": "reasoning.summary", "summary": THINKING}]),
        say(content=ANSWER, thinking_blocks=[{"type": "thinking", "thinking": THINKING, "signature": "x"}]),
        say(content=f"[THINK]{THINKING}[/THINK]{ANSWER}"),
    ],
)
def test_thinking_is_found_wherever_it_stands(tmp_path: Path, row: dict[str, Any]) -> None:
    loaded = load(tmp_path, row)
    assert not loaded.problems, loaded.describe_problems()
    assert (loaded[0].response, loaded[0].question) == (LITERAL, "Tea?")
    assert not loaded.notes
    assert write_jsonl(loaded, tmp_path / "out.jsonl") == 1
    assert load_examples(tmp_path / "out.jsonl")[0].response == LITERAL


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (
            ROW | {"response": f"Sure. <think>{THINKING}</think> {ANSWER}"},
            "late thinking: words to the user stand before",
        ),
        (
            ROW | {"response": f"<think>a</think>b<think>{THINKING}</think>c"},
            "late thinking: the answer holds <think> again",
        ),
        (
            ROW | {"response": f"<think>a</think>b[THINK]{THINKING}[/THINK]c"},
            "late thinking: the answer holds [THINK] again",
        ),
        (ROW | {"response": "b<think>a</think>c", "reasoning": "a"}, "late thinking"),
        (ROW | {"response": f"b [THINK]{THINKING}[/THINK] c"}, "late thinking"),
        (say(content="b<think>a</think>"), "late thinking"),
        (
            say(content=[{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "<think>b</think>c"}]),
            "two thinkings",
        ),
        (say(content=[{"type": "thinking", "thinking": "a"}], reasoning="b"), "two thinkings"),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "a"}]}, ASKED]},
            "only the assistant",
        ),
        (ROW | {"response": "[THINK]a"}, "no </think>"),
        (ROW | {"response": "<thinking>a</thinking>"}, "no answer"),
        (ROW | {"reasoning": 3}, "expected a string, found int"),
    ],
)
def test_late_and_doubtful_thinking_is_a_problem_of_its_row(tmp_path: Path, row: dict[str, Any], text: str) -> None:
    assert text in problem(tmp_path, row)


@pytest.mark.parametrize(
    "response",
    [
        "<think>a</think><think>b</think>c",
        "<think>\n\n</think>\n<think>b</think>c",
        "<thinking>a</thinking>\n<reflection>b</reflection>c",
        "<think>a `</think>` b</think>c",
        "<think>a</think>b `<think>x</think>` c",
        "<think>a</think>b <thinking>x</thinking> c",
        "<think>a</think>b\n```\n<think>x</think>\n```",
        "a</think>b",
    ],
)
def test_a_usable_row_is_read_as_the_evaluator_reads_it(tmp_path: Path, response: str) -> None:
    example = load(tmp_path, ROW | {"response": response})[0]
    theirs = split_thinking(response, False)
    assert split_response(example.response)[:2] == (theirs.thinking, theirs.answer)


def test_a_block_that_may_be_thinking_is_said(tmp_path: Path) -> None:
    row = ROW | {"response": "<think>a</think>b <thinking>x</thinking> c"}
    loaded = load(tmp_path, ROW, row, row)
    assert len(loaded) == 3
    assert len(loaded.notes) == 1
    assert "rows.jsonl, row 2 and 1 more: the answer holds <thinking>, and so perhaps thinking" in loaded.notes[0]


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>",
        "<|eot_id|>",
        "<｜end▁of▁sentence｜>",
        "</s>",
        "<|return|>",
        "<|endoftext|>",
        "<end_of_turn>",
        "[/INST]",
    ],
)
def test_a_chat_token_in_a_text_is_said_and_kept(tmp_path: Path, token: str) -> None:
    loaded = load(tmp_path, ROW, ROW | {"response": LITERAL + token})
    assert [example.response for example in loaded] == [LITERAL, LITERAL + token]
    assert f"row 2: the text holds the chat token '{token}'" in loaded.notes[0]
    asked = load(tmp_path, ROW | {"question": f"Tea?{token}"})
    assert f"row 1: the text holds the chat token '{token}'" in asked.notes[0]
    assert not load(tmp_path, ROW | {"response": LITERAL + " <s>old</s> price, a < b, x[INSTALL]"}).notes


# Columns

BEFORE = (Message("user", "Coffee?"), Message("assistant", "Grind beans."))


@pytest.mark.parametrize(
    "history",
    [
        [["Coffee?", "Grind beans."]],
        [["Coffee?", "<think>\nBeans.\n</think>\n\nGrind beans."]],
        [{"role": "user", "content": "Coffee?"}, {"role": "assistant", "content": "Grind beans."}],
        [{"from": "human", "value": "Coffee?"}, {"from": "gpt", "value": "Grind beans."}],
        [{"user": "Coffee?", "assistant": "Grind beans."}],
        [{"question": "Coffee?", "answer": "Grind beans."}],
    ],
)
@pytest.mark.parametrize("layout", ["alpaca", "question", "csv"])
def test_a_history_belongs_to_the_prompt(tmp_path: Path, history: Any, layout: str) -> None:
    if layout == "csv":
        with (tmp_path / "rows.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["question", "response", "history"], ["Tea?", LITERAL, json.dumps(history)]])
        loaded = load_examples(tmp_path / "rows.csv")
    else:
        alpaca = {"instruction": "Tea?", "input": "", "output": LITERAL, "system": "Be brief."}
        loaded = load(tmp_path, (alpaca if layout == "alpaca" else ROW) | {"history": history})
    example = loaded[0]
    thought = "Beans." if "Beans.\\n" in json.dumps(history) else None
    before = (BEFORE[0], Message("assistant", "Grind beans.", thought))
    system = (Message("system", "Be brief."),) if layout == "alpaca" else ()
    assert example.prompt == (*system, *before, Message("user", "Tea?"))
    assert not loaded.notes
    assert "history" in next(iter(loaded.columns.values())).read
    write_jsonl(loaded, tmp_path / "out.jsonl")
    assert load_examples(tmp_path / "out.jsonl")[0].prompt == example.prompt


@pytest.mark.parametrize("history", [[], "", None])
def test_an_empty_history_is_none(tmp_path: Path, history: Any) -> None:
    loaded = load(tmp_path, ROW | {"history": history})
    assert loaded[0].prompt == (Message("user", "Tea?"),)
    assert not loaded.notes


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"history": "They spoke of coffee."}, "history"),
        ({"history": [["a", "b", "c"]]}, "history"),
        ({"tools": [{"name": "kettle"}]}, "tools"),
        ({"context": "Coffee first."}, "context"),
        ({"input": "Green."}, "input"),
        ({"prompt": "Read first", "query": "Not read"}, "question"),
        (say(content=LITERAL), "question"),
        (say(content=LITERAL) | {"history": [["Coffee?", "Beans."]]}, "history"),
        (
            {
                "messages": [{"role": "system", "content": "a"}, ASKED, {"role": "assistant", "content": LITERAL}],
                "system": "b",
            },
            "system",
        ),
    ],
)
def test_a_column_that_may_belong_to_the_prompt_is_said(tmp_path: Path, extra: dict[str, Any], name: str) -> None:
    loaded = load(tmp_path, ROW | extra, ROW | extra)
    assert len(loaded) == 2
    said = [note for note in loaded.notes if f"column '{name}' is not read, and 2 rows hold something in it" in note]
    assert len(said) == 1


def test_what_was_read_is_counted(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, ROW | {"topic": "tea", "harmful": False}, ROW | {"topic": "", "note": None}, {"question": "x"}
    )
    (line,) = loaded.reading()
    assert line.endswith("rows.jsonl: 2 of 3 rows used; columns read: question, response, harmful; not read: topic (1)")


def test_the_verbs_print_it_once_for_each_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ROW | {"topic": "tea", "tools": [{"name": "kettle"}], "harmful": bool(i % 2)} for i in range(4)]
    load(tmp_path, *rows)
    path = str(tmp_path / "rows.jsonl")
    assert main(["data", "validate", path]) == 0
    out = capsys.readouterr().out
    assert out.count("columns read: question, response, harmful") == 1
    assert out.count("columns not read: topic (4 rows), tools (4 rows)") == 1
    assert out.count("column 'tools' is not read") == 1
    assert main(["data", "inspect", path, "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("columns read: question, response, harmful; not read: topic (4), tools (4)") == 1
    assert out.count("column 'tools' is not read") == 1
    assert main(["data", "validate", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"][path]["columns_read"] == ["question", "response", "harmful"]
    assert document["files"][path]["columns_not_read"] == {"topic": 4, "tools": 4}
