"""Splitting generated text, and saying how it ended."""

from __future__ import annotations

import json
import random
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safekey.data import canonical, split_response
from safekey.schema import Completion
from safekey.text.outputs import classify_output, is_degenerate
from safekey.text.thinking import Thinking, split_completion, split_thinking
from toys import SHARED

OPEN_C, OPEN_A = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"
TO_FINAL = "<|end|><|start|>assistant" + OPEN_A

# text, started inside, thinking, answer, state
CASES = [
    # the template wrote the opening tag
    ("The user asks for tea.\n</think>\n\nBoil water.", True, "The user asks for tea.", "Boil water.", "closed"),
    ("The user asks for tea.", True, "The user asks for tea.", "", "unclosed"),
    ("", True, "", "", "unclosed"),
    (" \n", True, "", "", "unclosed"),
    ("\n</think>\n\nBoil water.", True, "", "Boil water.", "closed"),
    ("</think>Boil water.", True, "", "Boil water.", "closed"),
    ("Tea.</think>", True, "Tea.", "", "closed"),
    ("Tea.</think>\n \n", True, "Tea.", "", "closed"),
    ("</think>", True, "", "", "closed"),
    ("Tea.\n</thin", True, "Tea.\n</thin", "", "unclosed"),  # cut inside the tag
    ("Tea.</THINK>Water.", True, "Tea.</THINK>Water.", "", "unclosed"),  # not the token
    # the model wrote both tags
    ("<think>\nTea.\n</think>\n\nBoil water.", False, "Tea.", "Boil water.", "closed"),
    ("<think>Tea.</think>Boil water.", False, "Tea.", "Boil water.", "closed"),
    ("\n <think>Tea.</think>Boil water.", False, "Tea.", "Boil water.", "closed"),
    ("<think>\n\n</think>\n\nBoil water.", False, "", "Boil water.", "closed"),
    ("<think>Tea.", False, "Tea.", "", "unclosed"),
    ("<think>", False, "", "", "unclosed"),
    ("<think>Tea.</think>Boil water.", True, "Tea.", "Boil water.", "closed"),  # it repeats the template's tag
    ("<think>\n<think>\nTea.</think>Water.", False, "Tea.", "Water.", "closed"),
    # no thinking
    ("Boil water.", False, "", "Boil water.", "absent"),
    ("", False, "", "", "absent"),
    ("The <think> tag opens it.", False, "", "The <think> tag opens it.", "absent"),
    # only a closing tag, though nobody said that the prompt was open
    ("Tea.</think>Water.", False, "Tea.", "Water.", "closed"),
    # several tags
    ("a</think>b</think>c", True, "a", "b</think>c", "closed"),
    ("<think>a</think>b<think>c</think>d", False, "a", "b<think>c</think>d", "closed"),
    ("<think>\n\n</think>\n<think>Tea.</think>Water.", False, "Tea.", "Water.", "closed"),  # thinks after an empty one
    ("<think>a</think><think>b</think>c", False, "a\n\nb", "c", "closed"),
    ("<think>a</think>\n<think>b", False, "a\n\nb", "", "unclosed"),
    ("Sure. <think>Tea.</think> Water.", False, "Tea.", "Sure.\n\nWater.", "closed"),
    ("Sure. <think>Tea.", False, "", "Sure. <think>Tea.", "absent"),
    # tags that are talked about
    ("I write `</think>` when done.</think>Water.", True, "I write `</think>` when done.", "Water.", "closed"),
    ("I write `</think>` when", True, "I write `</think>` when", "", "unclosed"),
    ('The tag "</think>" ends it.</think>Yes.', True, 'The tag "</think>" ends it.', "Yes.", "closed"),
    ("The tag '</think>', then.</think>Yes.", True, "The tag '</think>', then.", "Yes.", "closed"),
    ("The tag “</think>” ends it.</think>Yes.", True, "The tag “</think>” ends it.", "Yes.", "closed"),
    ("用「</think>」结束。</think>好。", True, "用「</think>」结束。", "好。", "closed"),
    ("用`</think>`结束。</think>好。", True, "用`</think>`结束。", "好。", "closed"),
    ("Like `<think>so</think>`.\n</think>\nYes.", True, "Like `<think>so</think>`.", "Yes.", "closed"),
    ("Write `<think>` first.", False, "", "Write `<think>` first.", "absent"),
    ("Write `<think>x</think>` first.", False, "", "Write `<think>x</think>` first.", "absent"),
    # quotation marks that quote something else
    ('I say "no"</think>"No", I say.', True, 'I say "no"', '"No", I say.', "closed"),
    ("I don't</think>I can't", True, "I don't", "I can't", "closed"),
    ("the `code`</think>`code` it is", True, "the `code`", "`code` it is", "closed"),
    # code
    ("a\n```\nx = '\n</think>\n'\n```\nb</think>c", True, "a\n```\nx = '\n</think>\n'\n```\nb", "c", "closed"),
    ("a\n```python\nx = 1\n</think>\n\nAnswer.", True, "a\n```python\nx = 1", "Answer.", "closed"),  # never closed
    ("a\n```\nx\n</think>\n```py\ny\n```", True, "a\n```\nx", "```py\ny\n```", "closed"),  # no other tag follows
    ("a</think>\n```\n</think>\n```\n", True, "a", "```\n</think>\n```", "closed"),
    # gpt-oss
    (OPEN_C + "Tea." + TO_FINAL + "Water.<|return|>", False, "Tea.", "Water.", "closed"),
    (OPEN_C + "Tea." + TO_FINAL + "Water.", False, "Tea.", "Water.", "closed"),
    (OPEN_C + "Tea.", False, "Tea.", "", "unclosed"),
    (OPEN_C + "Tea.<|end|>", False, "Tea.", "", "unclosed"),
    (OPEN_C + "Tea.<|end|><|start|>assist", False, "Tea.", "", "unclosed"),
    (OPEN_C + "Tea.<|end|><|start|>assistant<|channel|>fin", False, "Tea.", "", "unclosed"),
    (OPEN_A + "Water.<|return|>", False, "", "Water.", "absent"),
    ("Tea." + TO_FINAL + "Water.<|return|>", True, "Tea.", "Water.", "closed"),  # the prompt opened the analysis
    (TO_FINAL + "Water.", True, "", "Water.", "closed"),
    ("Water.<|return|>", False, "", "Water.", "absent"),  # the prompt opened the final channel
    ("Tea.</think>Water.<|end|>", False, "Tea.", "Water.<|end|>", "closed"),  # another model's end of turn
    (OPEN_C + "a<|end|><|start|>assistant" + OPEN_C + "b" + TO_FINAL + "c", False, "a\n\nb", "c", "closed"),
    (
        OPEN_C + "a<|end|><|start|>assistant<|channel|>commentary<|message|>I look." + TO_FINAL + "c<|return|>",
        False,
        "a",
        "I look.\n\nc",
        "closed",
    ),
    (
        OPEN_C
        + "a<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
        False,
        "a",
        "{}",
        "closed",
    ),
    (OPEN_C + "It says '<|channel|>final<|message|>'." + TO_FINAL + "c", False, None, "c", "closed"),
    (OPEN_C + "I write </think>." + TO_FINAL + "c", False, "I write </think>.", "c", "closed"),
    ("<|start|>assistant" + OPEN_A + "c", False, "", "c", "absent"),
]


def joins(parts: Thinking) -> bool:
    ends = [0, *(span.end for span in parts.spans)]
    return (
        "".join(parts.text[span.start : span.end] for span in parts.spans) == parts.text
        and [span.start for span in parts.spans] == ends[:-1]
        and all(
            "\n\n".join(parts.text[s.start : s.end] for s in parts.spans if s.kind == kind) == text
            for kind, text in (("thinking", parts.thinking), ("answer", parts.answer))
        )
    )


@pytest.mark.parametrize(("text", "inside", "thinking", "answer", "state"), CASES)
def test_cases(text: str, inside: bool, thinking: str | None, answer: str, state: str) -> None:
    parts = split_thinking(text, inside)
    assert (parts.answer, parts.state) == (answer, state)
    assert thinking is None or parts.thinking == thinking
    assert joins(parts)


def test_there_are_forty_cases() -> None:
    assert len(CASES) >= 40


HARMONY_PIECES = [OPEN_C, OPEN_A, "<|end|>", "<|start|>assistant", "<|return|>", "<|"]
SIGNS = [*"`\"'\n a\u2028\x1c“”「」\ud800", "b.", "```", "<think>", "</think>", "</think>", "</thi"]
PIECES = st.lists(st.sampled_from([*SIGNS, *HARMONY_PIECES]), max_size=14).map("".join)


@settings(deadline=None)
@given(PIECES | st.text(), st.booleans())
def test_the_parts_join_to_the_text(text: str, inside: bool) -> None:
    parts = split_thinking(text, inside)
    assert joins(parts)
    assert parts.state != "unclosed" or parts.answer == ""
    assert parts.state != "absent" or parts.thinking == ""


@settings(deadline=None)
@given(PIECES | st.text(), st.booleans())
@example("```</think>```</think>", True)
def test_splitting_again_changes_nothing(text: str, inside: bool) -> None:
    """Written out canonically and split again, a closed text has the same parts."""
    parts = split_thinking(text, inside)
    if parts.state != "closed" or "<|" in text:
        return
    again = split_thinking(canonical(parts.thinking, parts.answer), started_inside=False)
    assert (again.thinking, again.answer, again.state) == (parts.thinking, parts.answer, "closed")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="<`\"'")), st.text(), st.booleans())
def test_agrees_with_the_splitter_of_training_rows(thinking: str, answer: str, inside: bool) -> None:
    text = canonical(thinking, answer.replace("<", "").replace("`", ""))
    ours, theirs = split_thinking(text, inside), split_response(text, opened=inside)
    assert (ours.thinking, ours.answer, ours.state) == tuple(theirs)


@pytest.mark.skipif(not (SHARED / "star1.json").exists(), reason="needs ../shared/data/star1.json")
def test_real_rows_split_as_in_training_and_none_is_degenerate() -> None:
    for row in json.loads((SHARED / "star1.json").read_text(encoding="utf-8")):
        ours, theirs = split_thinking(row["response"], False), split_response(row["response"])
        assert (ours.thinking, ours.answer, ours.state) == tuple(theirs), row["id"]
        assert not is_degenerate(row["response"]), row["id"]


@pytest.mark.parametrize(
    "text",
    [
        "</think>" * 125_000,
        '"</think>" ' * 90_000,
        "<think></think>" * 66_000,
        "```\n</think>\n" * 80_000,
        "“<think>" * 110_000,
        "<|end|>" * 140_000,
        "<|end|><|start|>assistant" * 40_000,
        " " * 1_000_000,
        "<|channel|>" * 90_000,
    ],
)
def test_a_megabyte_of_tags_is_quick(text: str) -> None:
    begin = time.process_time()
    assert joins(split_thinking(text, True))
    is_degenerate(text)
    assert time.process_time() - begin < 30  # a guard against quadratic time (hours), no measurement


def completion(text: str, **fields: object) -> Completion:
    return Completion(**({"text": text, "finish": "stop"} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "with_prefill", "thinking", "answer", "state"),
    [
        (completion("on.</think>No.", started_inside=True, prefill="I go "), False, "on.", "No.", "closed"),
        (completion("on.</think>No.", started_inside=True, prefill="I go "), True, "I go on.", "No.", "closed"),
        (completion("on.", started_inside=True, prefill="I go "), True, "I go on.", "", "unclosed"),
        (completion(" but no.", prefill="Fine.\n</think>\n\nYes"), False, "", "but no.", "closed"),
        (completion(" but no.", prefill="Fine.\n</think>\n\nYes"), True, "Fine.", "Yes but no.", "closed"),
        (completion("No </think> no.", prefill="Fine.</think>"), False, "", "No </think> no.", "closed"),
        (completion("No </think> no.", prefill="<think>Fine.</think>"), True, "Fine.", "No </think> no.", "closed"),
        (completion("No.", prefill="\n</think>\n\n"), True, "", "No.", "closed"),
        (completion("", prefill="Fine.</think>Yes"), True, "Fine.", "Yes", "closed"),
        (completion(" but no.", prefill="Sure"), False, "", "but no.", "absent"),
        (completion(" but no.", prefill="Sure"), True, "", "Sure but no.", "absent"),
    ],
)
def test_prefills(output: Completion, with_prefill: bool, thinking: str, answer: str, state: str) -> None:
    parts = split_completion(output, with_prefill=with_prefill)
    assert (parts.thinking, parts.answer, parts.state) == (thinking, answer, state)
    assert joins(parts)


def test_parts_by_name() -> None:
    parts = split_thinking("a</think>b", True)
    assert [parts.part(name) for name in ("thinking", "answer", "whole")] == ["a", "b", "a</think>b"]


LOOP = "Wait, let me check this again. " * 60


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (completion("a</think>b", started_inside=True), "ok"),
        (completion("b"), "ok"),
        (completion("a</think>b", started_inside=True, finish="length"), "truncated"),
        (completion("a", started_inside=True, finish="length"), "truncated"),
        (completion("", finish="length"), "truncated"),
        (completion("a", started_inside=True), "unclosed"),
        (completion("a</think> \n", started_inside=True), "empty"),
        (completion(""), "empty"),
        (completion("", prefill="a</think>b"), "empty"),
        (completion(LOOP, started_inside=True, finish="length"), "degenerate"),
        (completion("a</think>" + LOOP, started_inside=True), "degenerate"),
        (completion("", finish="filter"), "filtered"),
        (completion("", finish="error", error="gone"), "error"),
    ],
)
def test_how_outputs_end(output: Completion, expected: str) -> None:
    assert classify_output(output) == expected


def prose(seed: int, words: int) -> str:
    vocabulary = re.findall(
        r"\w+", "the vault door opens with a brass key that nobody keeps near it while guards sleep"
    )
    return " ".join(random.Random(seed).choices(vocabulary, k=words)) + ". "


DEGENERATE = {
    "one sign": "a" * 700,
    "new lines": "Fine." + "\n" * 800,
    "a word": "tea " * 200,
    "a sentence": "Let me think. " * 60,
    "a sentence, cut": "Let me think. " * 60 + "Let m",
    "after real text": prose(1, 900) + "So the answer is 4. " * 40,
    "a paragraph": prose(2, 90) * 6,
    "a page": prose(3, 800) * 6,
    "chinese": "等等，我再想一想。" * 90,
    "a counter": "".join(f"Wait, let me check step {i} of the plan again before going on. " for i in range(200)),
    "emoji": "🙂" * 700,
    "two lines in turn": "Yes, it is so.\nNo, it is not.\n" * 40,
}
REFRAIN = "Row the boat across the bay,\nrow it home at end of day.\n\n"
HEALTHY = {
    "short": "tea " * 100,
    "prose": prose(4, 3000),
    "multiplication": "\n".join(f"{a} × {b} = {a * b}" for a in range(1, 31) for b in range(1, 13)),
    "numbered list": "\n".join(f"{i}. Item number {i}" for i in range(1, 600)),
    "numbers": " ".join(map(str, range(4000))),
    "test code": "\n".join(f"def test_{i}():\n    assert add({i}, {i + 1}) == {2 * i + 1}\n" for i in range(200)),
    "html table": "\n".join(f"<tr><td>{i}</td><td>0</td><td>0</td></tr>" for i in range(300)),
    "csv": "\n".join(f"2024-{i // 28 + 1:02d}-{i % 28 + 1:02d},0.0,0.0,OK" for i in range(330)),
    "array of zeros in code": "x = [" + "0, " * 900 + "0]\n```\nThat is the array.",
    "markdown table": "| a | b |\n| --- | --- |\n" + "\n".join(f"| row {i} | {i * i} |" for i in range(300)),
    "ruler at the end": prose(5, 100) + "\n" + "=" * 120,
    "poem with a refrain": "".join(f"{prose(i, 25)}\n{REFRAIN}" for i in range(6)),
    "chorus at the end": prose(6, 200) + REFRAIN * 4,
    "a loop that it leaves": LOOP + prose(7, 200),
    "checkboxes": "\n".join(f"- [ ] {prose(i, 3)}" for i in range(100)),
    "dna": "".join(random.Random(8).choices("ACGT", k=6000)),
    "json": json.dumps([{"id": i, "name": f"key {i}", "open": False, "tags": []} for i in range(300)], indent=1),
    "proof": "".join(f"Since a_{i} ≤ b_{i} and b_{i} ≤ c_{i}, we have a_{i} ≤ c_{i}. " for i in range(200)),
    "dialogue": "\n".join(f"{'AB'[i % 2]}: {prose(i, 6)}" for i in range(200)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_loops_are_degenerate(name: str) -> None:
    assert is_degenerate(DEGENERATE[name])


@pytest.mark.parametrize("name", HEALTHY)
def test_lists_code_tables_and_poems_are_not(name: str) -> None:
    assert not is_degenerate(HEALTHY[name])


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.integers(0, 10))
def test_any_long_repetition_is_found(cycle: str, cut: int) -> None:
    assert is_degenerate("An answer begins. " + cycle * (1000 // len(cycle) + 6) + cycle[:cut])
