"""gpt-oss's channels where a header is missing, cut short, or only its words are left."""

from __future__ import annotations

import pytest

from safekey.text.harmony import with_think_tags
from safekey.text.thinking import split_response, split_thinking

A, F, C = (f"<|channel|>{name}<|message|>" for name in ("analysis", "final", "commentary"))
START = "<|start|>assistant"

# text, whether the prompt opened the analysis, thinking, answer, state
CASES = [
    # no header, or not a whole one, behind the thinking
    (f"{A}Tea.<|end|>Boil water.<|return|>", False, "Tea.", "Boil water.", "closed"),
    (f"{A}Tea.<|end|>\n\nboil water.", False, "Tea.", "boil water.", "closed"),
    (f"{A}Tea.<|end|> Boil water.", False, "Tea.", "Boil water.", "closed"),
    (f"{A}Tea.<|end|>{START}<|message|>Boil water.<|return|>", False, "Tea.", "Boil water.", "closed"),
    (f"{A}Tea.<|end|><|message|>Boil water.", False, "Tea.", "Boil water.", "closed"),
    (f"{A}Tea.<|end|>{START}Boil water.<|return|>", False, "Tea.", "Boil water.", "closed"),
    (f"{A}Tea.<|end|>{START}<|channel|>final Boil water.", False, "Tea.", "Boil water.", "closed"),
    ("Tea.<|end|>Boil water.", True, "Tea.", "Boil water.", "closed"),
    (f"Tea.<|end|>{START}<|message|>Boil water.", True, "Tea.", "Boil water.", "closed"),
    # the message ends with nothing more
    (f"{A}Tea.<|end|>{START}", False, "Tea.", "", "unclosed"),
    (f"{A}Tea.<|end|>{START}<|channel|>", False, "Tea.", "", "unclosed"),
    (f"{A}Tea.<|end|>{START}<|channel|>final", False, "Tea.", "", "unclosed"),
    (f"{A}Tea.<|return|>", False, "Tea.", "", "unclosed"),
    ("Tea.<|end|>", True, "Tea.", "", "unclosed"),
    (f"{A}It says <|end|>, then more.", False, "It says <|end|>, then more.", "", "unclosed"),
    (f"{A}It says `<|end|>` then.", False, "It says `<|end|>` then.", "", "unclosed"),
    (f"{A}It says <|end|> and goes on.", False, "It says <|end|> and goes on.", "", "unclosed"),
    # the first header is missing: a final message follows, so this is not it
    (f"Tea.<|end|>{START}{F}Boil water.", False, "Tea.", "Boil water.", "closed"),
    (f"Tea.<|end|>{START}{A}More.<|end|>{START}{F}Boil water.", False, "Tea.\n\nMore.", "Boil water.", "closed"),
    # no <|message|>
    ("<|channel|>analysis We think.<|end|>" + START + F + "Boil water.", False, "We think.", "Boil water.", "closed"),
    ("<|channel|>analysis\nWe think.", False, "We think.", "", "unclosed"),
    # commentary
    (f"{A}a<|end|>{START}{C}I look.<|end|>", False, "a", "I look.", "closed"),
    (f"{C}I look.<|end|>{START}{A}b<|end|>{START}{F}c", False, "b", "I look.\n\nc", "closed"),
    (f"{A}a<|end|>{START} to=functions.f<|channel|>commentary<|message|>{{}}<|call|>", False, "a", "{}", "closed"),
    (f"{A}a<|end|>{START}<|channel|>analysis to=python code<|message|>1+1<|call|>", False, "a\n\n1+1", "", "unclosed"),
    # another model's end token behind think tags
    ("Tea.</think>Boil water.<|end|>", True, "Tea.", "Boil water.<|end|>", "closed"),
    ("Tea.</think>Boil water.<|end|>", False, "Tea.", "Boil water.<|end|>", "closed"),
    # quotes at the border
    (f'{A}I say "no"<|end|>{START}{F}"No", I say.', False, 'I say "no"', '"No", I say.', "closed"),
    # only the words of the headers are left
    (
        "analysisThe user asks for tea.assistantfinalBoil water.",
        False,
        "The user asks for tea.",
        "Boil water.",
        "closed",
    ),
    ("analysisWe think.assistantanalysisMore.assistantfinalNo.", False, "We think.\n\nMore.", "No.", "closed"),
    ("analysisThe user asks", False, "The user asks", "", "unclosed"),
    ("finalBoil water.", False, "", "finalBoil water.", "absent"),
    ("Analysis: the water boils.", False, "", "Analysis: the water boils.", "absent"),
    ("analysis of tea", False, "", "analysis of tea", "absent"),
    ("The assistantfinal word.", False, "", "The assistantfinal word.", "absent"),
]


@pytest.mark.parametrize(
    ("text", "inside", "thinking", "answer", "state"),
    [case for case in CASES if case[0] != "Tea.<|end|>Boil water."],  # nothing says that it is gpt-oss's
)
def test_split(text: str, inside: bool, thinking: str, answer: str, state: str) -> None:
    parts = split_thinking(text, inside)
    assert (parts.thinking, parts.answer, parts.state) == (thinking, answer, state)
    assert "".join(text[s.start : s.end] for s in parts.spans) == text


@pytest.mark.parametrize(
    ("text", "inside", "thinking", "answer", "state"), [case for case in CASES if "</think>" not in case[0]]
)
def test_think_tags_split_where_the_channels_do(
    text: str, inside: bool, thinking: str, answer: str, state: str
) -> None:
    translated = with_think_tags(text, "analysis" if inside else "")
    assert split_response(translated, opened=inside) == (thinking, answer, state)
