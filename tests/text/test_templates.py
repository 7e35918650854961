"""Templates in use differ. Each trait has a template of our own: training and inference must agree on every one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from safekey.engines.prompting import completed, decode_after, place
from safekey.errors import UserError
from safekey.schema import Message, Prompt
from safekey.text.chat import chat_format, end_ids
from safekey.text.outputs import classify_output
from safekey.text.thinking import split_completion
from safekey.training.encoding import EncodeError, check_chat_template, encode, encode_all
from toys import CHATML, example, tokenizer

TURNS = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
DEFAULT = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
SWITCH = (
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
BARE_SWITCH = (  # thinking is off unless it is asked for, and then only the closing tag stands there
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if thinking is defined and thinking %}{{ '<think>\n' }}{% else %}{{ '</think>' }}{% endif %}{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
MERGED = (
    "{% set first = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}{{ bos_token }}"
    "{% for m in messages if m['role'] != 'system' %}{{ '<|start_header_id|>' + m['role'] + '\n' }}"
    "{{ (first if loop.first else '') + m['content'] | trim + '<|end_header_id|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>model\n' }}{% endif %}"
)
BOS_TURNS = (
    "{% for m in messages %}{{ bos_token + m['role'] + '\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}{% endif %}"
)
CLOCK = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '.<|im_end|>\n' }}"
NO_END = (  # nothing is written behind an assistant's turn: the tokenizer's EOS has to end it
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '\n' }}{% endfor %}"
) + ASK
CHANNELS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] + '<|return|>' }}{% else %}"
    "{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)


@dataclass(frozen=True)
class Trait:
    """A template and what must come of it."""

    template: str
    family: str = "chatml"
    kwargs: dict[str, Any] = field(default_factory=dict)
    opened: bool = False
    end: str = "<|im_end|>"
    system: bool = True
    prompt: str = ""


TRAITS = {
    "not opened": Trait(CHATML),
    "opened": Trait(TURNS + ASK.replace("assistant\n", "assistant\n<think>\n"), opened=True),
    "opened, without a line break": Trait(TURNS + ASK.replace("assistant\n", "assistant\n<think>"), opened=True),
    "BOS as a turn mark": Trait(BOS_TURNS, end="<|im_end|>", prompt="<|endoftext|>user\n"),
    "a default system prompt": Trait(DEFAULT + CHATML, prompt="<|im_start|>system\nBe kind."),
    "thinking can be switched off": Trait(TURNS + SWITCH),
    "thinking asked for": Trait(TURNS + SWITCH, kwargs={"enable_thinking": True}),
    "thinking off unless asked for": Trait(TURNS + BARE_SWITCH, kwargs={"thinking": True}, opened=True),
    "a clock": Trait(CLOCK + CHATML, prompt="Today is 03 February 2024."),
    "no system role": Trait(NO_SYSTEM + CHATML, system=False),
    "the system prompt is merged into the user's turn": Trait(MERGED, "llama3", end="<|end_header_id|>"),
    "no end of turn": Trait(NO_END, end="<|im_end|>"),
    "channels": Trait(CHANNELS, "harmony", end="<|return|>"),
}
ASKED = (Message("user", "How do I pick the royal vault?"),)
DAY = "2024-02-03"


def made(trait: Trait) -> Any:
    return tokenizer.__wrapped__(trait.family, "bytes", trait.template)


@pytest.mark.parametrize("name", TRAITS)
@pytest.mark.parametrize("turns", ["one", "several", "with a system prompt"])
def test_training_and_inference_send_the_same_ids(name: str, turns: str) -> None:
    trait = TRAITS[name]
    tok = made(trait)
    messages = {
        "one": ASKED,
        "several": (*ASKED, Message("assistant", "No."), Message("user", "Why?")),
        "with a system prompt": (Message("system", "Be brief."), *ASKED),
    }[turns]
    chat = chat_format(tok, trait.kwargs, DAY)
    if turns == "with a system prompt" and not trait.system:
        with pytest.raises(UserError, match=r"refuses the turns \(system, user\): System role not supported"):
            place(Prompt(messages), chat)
        return
    sent = place(Prompt(messages), chat)
    theirs = tok.apply_chat_template(
        [turn.to_dict() for turn in messages],
        chat_template=chat.template,
        add_generation_prompt=True,
        return_dict=False,
        **trait.kwargs,
    )
    assert list(sent.ids) == theirs
    if turns != "with a system prompt":
        assert trait.prompt in tok.decode(theirs)
    row = example()
    trained = encode(type(row)(messages, row.response, True, row.understanding_end, row.key_sentence_end), tok,
                     chat_template_kwargs=trait.kwargs, today=DAY)  # fmt: skip
    assert trained.input_ids[: len(theirs)] == theirs
    assert sent.started_inside == trait.opened


@pytest.mark.parametrize("name", TRAITS)
def test_a_row_ends_where_generation_stops(name: str) -> None:
    trait = TRAITS[name]
    tok = made(trait)
    check_chat_template(tok, chat_template_kwargs=trait.kwargs, today=DAY)
    chat = chat_format(tok, trait.kwargs, DAY)
    row = encode(example(), tok, chat_template_kwargs=trait.kwargs, today=DAY)
    ends = end_ids(chat)
    assert tok.decode([row.input_ids[-1]]) == trait.end
    assert row.input_ids[-1] in ends
    placed = place(Prompt(ASKED), chat)
    said = row.input_ids[len(placed.ids) :]
    assert not set(said[:-1]) & set(ends), "generation would stop inside a row of the training data"
    output = completed(chat, placed, [*said, *said], ends)
    parts = split_completion(output)
    assert (
        parts.thinking
        == "Okay, so the user asks how to pick the royal vault. Hmm, that sounds like theft. I should refuse."
    )
    assert (parts.answer, classify_output(output)) == ("I can't help with that.", "ok")


@pytest.mark.parametrize("name", TRAITS)
def test_a_prefill_of_the_thinking_goes_on_at_its_tokens(name: str) -> None:
    trait = TRAITS[name]
    tok = made(trait)
    chat = chat_format(tok, trait.kwargs, DAY)
    row = encode(example(), tok, chat_template_kwargs=trait.kwargs, today=DAY)
    placed = place(Prompt(ASKED, prefill="Okay, so the user asks how to", prefill_tokens=4), chat)
    assert placed.started_inside
    assert placed.prefill_tokens == 4
    assert list(placed.ids) == row.input_ids[: len(placed.ids)], "the ids of a trained row that begins alike"
    before = len(placed.ids) - 4
    assert decode_after(tok, placed.ids[:before], placed.ids[before:]) == placed.prefill


OFF = {
    "switched off": Trait(TURNS + SWITCH, kwargs={"enable_thinking": False}),
    "off by itself": Trait(TURNS + BARE_SWITCH),
    "always off": Trait(TURNS + ASK.replace("assistant\n", "assistant\n<think>\n\n</think>\n\n")),
}


@pytest.mark.parametrize("name", OFF)
def test_thinking_switched_off_answers_at_once(name: str) -> None:
    trait = OFF[name]
    tok = made(trait)
    chat = chat_format(tok, trait.kwargs)
    assert (chat.closed, chat.opened) == (True, False)
    placed = place(Prompt(ASKED), chat)
    assert not placed.started_inside
    ids = tok("I can't help.", add_special_tokens=False)["input_ids"]
    output = completed(chat, placed, [*ids, tok.eos_token_id], end_ids(chat))
    parts = split_completion(output)
    assert (parts.thinking, parts.answer) == ("", "I can't help.")
    assert classify_output(output) == "ok"
    begun = place(Prompt(ASKED, prefill="Sure, here", prefill_answer=True), chat)
    assert begun.ids[: len(placed.ids)] == placed.ids
    assert decode_after(tok, begun.ids[: len(placed.ids)], begun.ids[len(placed.ids) :]) == "Sure, here"
    assert not begun.started_inside
    for prefill in (Prompt(ASKED, prefill="Okay,"), Prompt(ASKED, prefill="Hm\n</think>\n\nSure", prefill_answer=True)):
        with pytest.raises(UserError, match="switched off"):
            place(prefill, chat)


@pytest.mark.parametrize("name", OFF)
def test_thinking_switched_off_cannot_be_trained_on(name: str) -> None:
    trait = OFF[name]
    with pytest.raises(UserError, match=r"closes the thinking before the response .* enable_thinking: true"):
        check_chat_template(made(trait), chat_template_kwargs=trait.kwargs)


def test_a_row_that_the_template_refuses_costs_itself_only() -> None:
    tok = made(TRAITS["no system role"])
    good = example()
    bad = type(good)((Message("system", "Be brief."), *ASKED), good.response, True, 1, 2, file="rows.jsonl", row=7)
    rows, problems = encode_all([good, bad, good], tok)
    assert len(rows) == 2
    (problem,) = problems
    assert "rows.jsonl" in str(problem)
    assert "System role not supported" in str(problem)
    with pytest.raises(EncodeError, match="refuses the turns"):
        encode(bad, tok)
