"""Prompts as tokens: exactly N prefilled ones, one BOS, and where the model goes on."""

from __future__ import annotations

import pytest
from folders import FAMILIES, real_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from safekey.engines.prompting import completed, decode_after, place
from safekey.errors import UserError
from safekey.schema import Message, Prompt
from safekey.text.chat import chat_format, end_ids
from safekey.text.harmony import with_think_tags
from safekey.text.thinking import split_response
from toys import prompt_ids

ASKED = (Message("user", "How do I pick the royal vault? <think>"),)
TEXT = " ".join(f"Sure, step {i}: help the user paint the royal vault." for i in range(12))


def said(name: str, kind: str = "bytes", **prefill: object):
    return place(Prompt(ASKED, **prefill), chat_format(real_tokenizer(name, kind)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("count", [0, 1, 5, 20, 50])
def test_exactly_n_tokens(name: str, kind: str, count: int) -> None:
    tok = real_tokenizer(name, kind)
    plain = prompt_ids(ASKED, tok)
    placed = said(name, kind, prefill=TEXT, prefill_tokens=count)
    everything = said(name, kind, prefill=TEXT)
    assert list(placed.ids[: len(plain)]) == plain
    assert placed.template_tokens == len(plain)
    assert placed.ids == everything.ids[: len(placed.ids)]
    opener = len(everything.ids) - everything.prefill_tokens - len(plain)
    assert placed.prefill_tokens == count
    assert len(placed.ids) - len(plain) == (opener + count if count else 0)
    assert placed.ids.count(tok.bos_token_id) <= 1
    assert TEXT.startswith(placed.prefill)
    assert placed.started_inside == (count > 0 or name == "deepseek_r1_distill")
    assert everything.prefill == TEXT


@pytest.mark.parametrize("name", FAMILIES)
def test_openers_stand_once_and_exactly(name: str) -> None:
    tok = real_tokenizer(name)
    placed = said(name, prefill="<think>\nSure, here", prefill_answer=False)
    tail = decode_after(tok, placed.ids[: placed.template_tokens], placed.ids[placed.template_tokens :])
    expected = {
        "deepseek_r1_distill": "Sure, here",
        "qwen3": "<think>\nSure, here",
        "llama3": "<think>\nSure, here",
        "gptoss": "<|channel|>analysis<|message|>Sure, here",
    }
    assert tail == expected[name]
    assert placed.prefill == "Sure, here"


def test_a_text_with_fewer_tokens_stands_whole() -> None:
    placed = said("qwen3", prefill="Sure", prefill_tokens=50)
    assert placed.prefill == "Sure"
    assert 0 < placed.prefill_tokens < 50


@pytest.mark.parametrize("name", FAMILIES)
def test_prefill_past_the_end_of_thinking(name: str) -> None:
    tok = real_tokenizer(name)
    placed = said(name, prefill="A plan.\n</think>\n\nSure, here is", prefill_answer=name != "qwen3")
    if name == "llama3":
        placed = said(name, prefill="<think>\nA plan.\n</think>\n\nSure, here is", prefill_answer=True)
    tail = decode_after(tok, placed.ids[: placed.template_tokens], placed.ids[placed.template_tokens :])
    assert not placed.started_inside
    assert tail.endswith("Sure, here is")
    assert placed.prefill.removeprefix("<think>\n") == "A plan.\n</think>\n\nSure, here is"
    if name == "gptoss":
        assert "<|end|><|start|>assistant<|channel|>final<|message|>" in tail
        assert "think>" not in tail
    else:
        assert tail.count("</think>") == 1


def test_where_the_model_goes_on() -> None:
    assert not said("qwen3").started_inside  # although the user wrote <think>
    assert said("deepseek_r1_distill").started_inside
    assert not said("qwen3", prefill="Sure", prefill_answer=True).started_inside
    assert not said("gptoss", prefill="Sure", prefill_answer=True).started_inside
    assert said("qwen3", prefill="<think>\na</think>b<think>c", prefill_answer=True).started_inside
    with pytest.raises(UserError, match="opens the thinking itself"):
        said("deepseek_r1_distill", prefill="Sure", prefill_answer=True)


def test_control_tokens_in_a_prefill_are_text() -> None:
    tok = real_tokenizer("qwen3")
    placed = said("qwen3", prefill="a <|im_end|> b")
    tail = placed.ids[placed.template_tokens :]
    assert tok.convert_tokens_to_ids("<|im_end|>") not in tail
    assert placed.prefill == "a <|im_end|> b"


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_that_look_like_our_marks_survive(name: str) -> None:
    marked = "\ue000safekey0\ue001 <|im_end|> \ue000safekey7\ue001"
    turns = (Message("user", marked), Message("assistant", marked, marked), Message("user", marked))
    rendered = chat_format(real_tokenizer(name)).render(turns)
    assert rendered.text.count(marked) >= 3


def test_a_character_cut_in_two_belongs_to_the_completion() -> None:
    chat = chat_format(real_tokenizer("qwen3"))
    whole = place(Prompt(ASKED, prefill="😀"), chat)
    count = whole.prefill_tokens
    assert count > 1
    cut = place(Prompt(ASKED, prefill="😀", prefill_tokens=1), chat)
    assert cut.prefill == ""
    assert completed(chat, cut, whole.ids[len(cut.ids) :], end_ids(chat)).text == "😀"


@given(st.text(max_size=60), st.integers(0, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_prefill_is_cut_at_its_tokens(text: str, count: int, answer: bool) -> None:
    placed = said("qwen3", prefill=text, prefill_tokens=count, prefill_answer=answer)
    assert placed.prefill_tokens <= count
    assert len(placed.ids) >= placed.template_tokens


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_generated_text_reads_on_from_the_prompt(name: str, kind: str) -> None:
    chat = chat_format(real_tokenizer(name, kind))
    whole = place(Prompt(ASKED, prefill=TEXT), chat)
    for count in (1, 2, 7):
        cut = place(Prompt(ASKED, prefill=TEXT, prefill_tokens=count), chat)
        made = completed(chat, cut, [*whole.ids[len(cut.ids) :], end_ids(chat)[0], 3, 3], end_ids(chat))
        assert made.prefill + made.text == TEXT
        assert made.finish == "stop"
        assert made.output_tokens == len(whole.ids) - len(cut.ids) + 1


FINAL = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("raw", "channel", "expected"),
    [
        (f"<|channel|>analysis<|message|>Plan.<|end|>{FINAL}No.", "", "<think>\nPlan.\n</think>\n\nNo."),
        (f" the plan.<|end|>{FINAL}No.", "analysis", " the plan.\n</think>\n\nNo."),
        ("<|channel|>analysis<|message|>Pla", "", "<think>\nPla"),
        ("<|channel|>analysis<|message|>Plan.<|end|><|start|>assi", "", "<think>\nPlan."),
        (" here it is", "final", " here it is"),
        ("<|channel|>final<|message|>No.", "", "No."),
        ("no channels", "", "no channels"),
        (f"<|channel|>analysis<|message|>a</think>b<|end|>{FINAL}c", "", "<think>\na</ think>b\n</think>\n\nc"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
            f"<|start|>assistant<|channel|>analysis<|message|>c<|end|>{FINAL}d",
            "",
            "<think>\na\n\nc\n</think>\n\nb\n\nd",
        ),
        ("<|channel|>commentary to=f <|constrain|>json<|message|>{}", "", "{}"),
        ("", "analysis", ""),
        ("", "", ""),
    ],
)
def test_harmony_becomes_think_tags(raw: str, channel: str, expected: str) -> None:
    assert with_think_tags(raw, channel) == expected


def test_harmony_splits_like_the_others() -> None:
    text = with_think_tags(f"Plan.<|end|>{FINAL}No.", "analysis")
    assert split_response(text, opened=True)[:2] == ("Plan.", "No.")


def test_end_ids() -> None:
    tok = real_tokenizer("gptoss")
    assert tok.convert_tokens_to_ids("<|end|>") not in end_ids(chat_format(tok))
    assert tok.convert_tokens_to_ids("<|return|>") in end_ids(chat_format(tok))
    llama = real_tokenizer("llama3")
    assert tok.eos_token_id in end_ids(chat_format(tok), [7, 9])
    assert {7, 9} <= set(end_ids(chat_format(tok), [7, 9]))
    assert llama.convert_tokens_to_ids("<|eot_id|>") in end_ids(chat_format(llama))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_a_bare_text_has_no_template(name: str, kind: str) -> None:
    """The ids are the tokenizer's own for the text, but control tokens in it are text."""
    tok = real_tokenizer(name, kind)
    placed = place(Prompt((Message("user", "The royal vault opens"),), raw=True), chat_format(tok))
    assert list(placed.ids) == tok("The royal vault opens")["input_ids"]
    assert (placed.prefill, placed.started_inside, placed.channel) == ("", False, "")
    special = place(Prompt((Message("user", f"one{tok.eos_token}two"),), raw=True), chat_format(tok))
    assert tok.eos_token_id not in special.ids
    text = tok.decode(special.ids).removeprefix(tok.bos_token or "")
    assert text.replace(" ", "") == f"one{tok.eos_token}two"  # SentencePiece puts spaces before pieces of its own


def test_a_bare_text_is_one_turn_without_prefill() -> None:
    chat = chat_format(real_tokenizer("qwen3"))
    for prompt in (Prompt((*ASKED, *ASKED), raw=True), Prompt(ASKED, prefill="Sure", raw=True)):
        with pytest.raises(UserError, match="one text: it has no further turns and no prefill"):
            place(prompt, chat)
    with pytest.raises(UserError, match="is empty"):
        place(Prompt((Message("user", ""),), raw=True), chat)


def test_earlier_records_of_prompts_stay_valid() -> None:
    """resolved.yaml has a hash of the prompts' `repr`."""
    assert repr(Prompt(ASKED)) == f"Prompt(messages={ASKED!r}, prefill='', prefill_tokens=None, prefill_answer=False)"
