"""Thinking between other tags than <think>: split right, and never taken for the answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safekey.text.tags import closing_of, own_tags, tag_at_end
from safekey.text.thinking import split_thinking, thinking_in_answer

PAIRS = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<ifm|think_fast>", "</ifm|think_fast>"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|think|>", "<|/think|>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|thinking_start|>", "<|thinking_end|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("[unused16]", "[unused17]"),
]
WEAK = [
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ("<thinking>", "</thinking>"),
    ("[THINKING]", "[/THINKING]"),
    ("[REASONING]", "[/REASONING]"),
]


def split(text: str, inside: bool = False) -> tuple[str, str, str]:
    parts = split_thinking(text, inside)
    assert "".join(text[s.start : s.end] for s in parts.spans) == text
    return parts.thinking, parts.answer, parts.state


@pytest.mark.parametrize(("begin", "end"), PAIRS + WEAK)
def test_a_pair_at_the_start_bounds_the_thinking(begin: str, end: str) -> None:
    want = ("The user asks for tea.", "Boil water.", "closed")
    assert split(f"{begin}\nThe user asks for tea.\n{end}\n\nBoil water.") == want
    assert split(f" \n{begin}The user asks for tea.{end}Boil water.") == want
    assert split(f"{begin}The user asks") == ("The user asks", "", "unclosed")
    assert split(f"{begin}a{end}\n{begin}b{end}c") == ("a\n\nb", "c", "closed")
    assert split(f"{begin}I write `{end}` last.{end}c") == (f"I write `{end}` last.", "c", "closed")
    assert split(f"{begin}a\n```\n{end}\n```\nb{end}c") == (f"a\n```\n{end}\n```\nb", "c", "closed")


@pytest.mark.parametrize(("begin", "end"), PAIRS + WEAK)
def test_the_template_opened_it(begin: str, end: str) -> None:
    want = ("The user asks for tea.", "Boil water.", "closed")
    assert split(f"The user asks for tea.\n{end}\n\nBoil water.", True) == want
    assert split(f"{begin}The user asks for tea.{end}Boil water.", True) == want
    assert split("The user asks for tea.", True) == ("The user asks for tea.", "", "unclosed")
    assert split(f"The user asks for tea.{end}\nBoil water.", False) == want  # nobody said that the prompt was open


@pytest.mark.parametrize(
    "text", ["<THINK>a</THINK>b", "<Think>a</Think>b", "<think >a</think >b", "<think\n>a</think>b"]
)
@pytest.mark.parametrize("old", ["think", "thinking", "reasoning"])
def test_case_and_white_space(text: str, old: str) -> None:
    text = text.replace("think", old).replace("THINK", old.upper()).replace("Think", old.title())
    assert split(text) == ("a", "b", "closed")


@pytest.mark.parametrize(("begin", "end"), PAIRS)
def test_a_models_own_tag_counts_in_mid_text(begin: str, end: str) -> None:
    assert split(f"Sure. {begin}Tea.{end} Water.") == ("Tea.", "Sure.\n\nWater.", "closed")
    assert split(f"Sure. {begin}Tea.") == ("", f"Sure. {begin}Tea.", "absent")


ASKED_FOR = [
    "Here is the element:\n\n<thinking>Plan the trip.</thinking>\n<answer>Rome</answer>\n\nThat is all.",
    "Put it into <thinking> and </thinking>.",
    "```xml\n<thinking>a</thinking>\n```\nThat is XML.",
    "```xml\n<think>a</think>\n```\nThat is how R1 writes.",
    "Use these tags:\n```\n<think>\n</think>\n```\nNothing else.",
    "<response>\n<reasoning>It rains.</reasoning>\n<answer>no</answer>\n</response>",
    "He wrote <thought>so</thought> and <reflection>why</reflection>.",
    "`<thinking>a</thinking>` is a pair of tags.",
    'The tags "<reasoning>" and "</reasoning>" bound it.',
    "A vector[think] of names.",
    "You close it with </thinking>, always.",
    "Here is my response: yes.",
]


@pytest.mark.parametrize("text", ASKED_FOR)
def test_tags_that_the_user_asked_for_stay_in_the_answer(text: str) -> None:
    assert split(text) == ("", text, "absent")
    for begin, end in PAIRS[:4]:
        assert split(f"{begin}Plan.{end}{text}")[:2] == ("Plan.", text)


@pytest.mark.parametrize(
    ("text", "inside", "want"),
    [
        # one tag opens, another one closes
        ("<think>a</thinking>b", False, ("a", "b", "closed")),
        ("<thinking>a</think>b", False, ("a", "b", "closed")),
        ("[THINK]a</think>b", False, ("a", "b", "closed")),
        # the thinking talks about other tags
        (
            "<think>I use <thinking>x</thinking> here.</think>b",
            False,
            ("I use <thinking>x</thinking> here.", "b", "closed"),
        ),
        ("I use <thinking>x</thinking> here.</think>b", True, ("I use <thinking>x</thinking> here.", "b", "closed")),
        ("<thinking>x</thinking> here.</think>b", True, ("<thinking>x</thinking> here.", "b", "closed")),
        ("<think>I end [/THINK] so.</think>b", False, ("I end [/THINK] so.", "b", "closed")),
        ("Plan.[/THINK]Write <think>x</think>.", True, ("Plan.", "Write <think>x</think>.", "closed")),
        # several blocks
        ("<thinking>a</thinking>\n<reflection>b</reflection>\nc", False, ("a\n\nb", "c", "closed")),
        ("<think>\n\n</think>\n\n<thinking>a</thinking>b", False, ("a", "b", "closed")),
        ("<think>a</think><thinking>b</thinking>c", False, ("a", "<thinking>b</thinking>c", "closed")),
        ("<think>a</think>[THINK]b[/THINK]c", False, ("a\n\nb", "c", "closed")),
        # what stands around the answer
        (
            "<|begin_of_thought|>a<|end_of_thought|>\n\n<|begin_of_solution|>\nb\n<|end_of_solution|>",
            False,
            ("a", "b", "closed"),
        ),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", False, ("a", "b", "closed")),
        ("a<|END_THINKING|><|START_RESPONSE|>b", True, ("a", "b", "closed")),
        ("<|channel>thought\na<channel|>b", False, ("a", "b", "closed")),
        ("Here is my thought process:\na\n\nHere is my response:\nb", False, ("a", "b", "closed")),
        ("Here's my thought process: a", False, ("a", "", "unclosed")),
        ("<reasoning>\na\n</reasoning>\n<answer>\nb\n</answer>", False, ("a", "<answer>\nb\n</answer>", "closed")),
        ('<think time="3">a</think>b', False, ("a", "b", "closed")),
        ('<thinking type="plan">a</thinking>b', False, ("a", "b", "closed")),
        (
            '<details type="reasoning" done="true">\n<summary>Thought for 4 s</summary>\na\n</details>\nb',
            False,
            ("<summary>Thought for 4 s</summary>\na", "b", "closed"),
        ),
        ("<details>a</details>b", False, ("", "<details>a</details>b", "absent")),
        ("a</details>b", True, ("a</details>b", "", "unclosed")),
        # broken up by us, or no tag at all
        ("<think>I write </ think>.</think>b", False, ("I write </ think>.", "b", "closed")),
        ("<no_think>a</no_think>b", False, ("", "<no_think>a</no_think>b", "absent")),
        ("<thinker>a</thinker>b", False, ("", "<thinker>a</thinker>b", "absent")),
    ],
)
def test_mixtures(text: str, inside: bool, want: tuple[str, str, str]) -> None:
    assert split(text, inside) == want


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([tag for pair in PAIRS + WEAK for tag in pair] + ["a", "\n", "`", '"', "```", " "])).map(
        "".join
    ),
    st.booleans(),
)
def test_the_parts_join_whatever_the_tags(text: str, inside: bool) -> None:
    thinking, answer, state = split(text, inside)
    assert state != "unclosed" or answer == ""
    assert state != "absent" or thinking == ""


def test_thinking_within_an_answer_is_named() -> None:
    def named(text: str) -> str:
        return thinking_in_answer(split_thinking(text, False))

    assert named("<think>a</think>b<think>c</think>d") == "<think>"
    assert named("Sure. <thinking>a</thinking>b") == "<thinking>"
    assert named("<think>a</think>b <thinking>c") == ""
    assert named("<think>a</think>b `<think>c</think>`") == ""
    assert named("<think>a</think>b\n```\n<think>c</think>\n```") == ""
    assert named("<think>a</think>b</think>c") == "</think>"
    assert named("<think>a</think>b\n<think>\nc") == "<think>"
    assert named("<think>a</think>b is the <think> tag") == ""
    assert named("Sure.\n<think>\nc") == "<think>"
    assert named("<think>a</think>b </thinking> c") == ""
    assert named("<think><thinking>a</thinking></think>b") == ""


@pytest.mark.parametrize(("begin", "end"), PAIRS + WEAK)
def test_the_tags_of_a_template(begin: str, end: str) -> None:
    found = tag_at_end(f"<|im_start|>assistant\n{begin}\n")
    assert found is not None
    assert not found.closing
    assert closing_of(begin) == end
    closed = tag_at_end(f"{begin}\n\n{end}\n\n")
    assert closed is not None
    assert closed.closing
    assert closed.kind == found.kind
    assert tag_at_end(f"{begin} so") is None
    words = {"a", "<s>", begin, end}
    assert own_tags(words) == ((begin, end) if (begin, end) in PAIRS else None)
    assert own_tags({begin}) is None


@pytest.mark.slow
def test_megabytes_of_other_tags_are_quick() -> None:
    for text in ("<thinking>" * 90_000, "[THINK][/THINK]" * 60_000, "</seed:think><thought>" * 40_000, "<\n" * 400_000):
        split(text, True)
        split(text, False)
