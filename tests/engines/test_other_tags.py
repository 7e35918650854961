"""Models whose thinking stands between other tags than <think>: prompts, prefills, outputs and training rows."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from safekey.engines.prompting import completed, decode_after, place
from safekey.errors import UserError
from safekey.schema import Message, Prompt
from safekey.text import chat as chat_module
from safekey.text.chat import chat_format, end_ids, tokenize
from safekey.text.outputs import classify_output
from safekey.text.thinking import split_completion
from safekey.text.watchdog import TooSlowError, time_limit
from safekey.training.encoding import check_chat_template, encode
from toys import CHATML, example, tokenizer

PAIRS = [
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<thinking>", "</thinking>"),
]
ASKED = (Message("user", "How do I pick the royal vault?"),)


def made(template: str, words: tuple[str, ...] = ()) -> Any:
    """A tokenizer of its own: one that tests share would keep the words."""
    tok = tokenizer.__wrapped__("llama3", "bytes", template)
    tok.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *words]})
    return tok


def opening(begin: str) -> str:
    return CHATML.replace("assistant\\n'", f"assistant\\n{begin}\\n'")


@pytest.mark.parametrize(("begin", "end"), PAIRS)
@pytest.mark.parametrize("special", [True, False])
def test_a_template_that_opens_the_thinking(begin: str, end: str, special: bool) -> None:
    tok = made(opening(begin), (begin, end) if special else ())
    chat = chat_format(tok)
    assert chat.opened
    assert chat.tags == (begin, end)
    assert chat.closer == f"\n{end}\n\n"
    placed = place(Prompt(ASKED), chat)
    assert placed.started_inside
    ids = tok(f"The user asks.\n{end}\n\nNo.", add_special_tokens=False)["input_ids"]
    output = completed(chat, placed, [*ids, end_ids(chat)[0]], end_ids(chat))
    parts = split_completion(output)
    assert (parts.thinking, parts.answer, parts.state) == ("The user asks.", "No.", "closed")
    cut = completed(chat, placed, ids[:3], end_ids(chat))
    assert classify_output(cut) == "truncated"
    assert split_completion(cut).answer == ""


@pytest.mark.parametrize(("begin", "end"), PAIRS)
def test_prefills_use_the_models_own_tags(begin: str, end: str) -> None:
    tok = made(opening(begin), (begin, end))
    chat = chat_format(tok)
    closed = place(Prompt(ASKED, prefill="A plan.\n</think>\n\nSure", prefill_answer=True), chat)
    assert not closed.started_inside
    assert closed.prefill == f"A plan.\n{end}\n\nSure"
    inside = place(Prompt(ASKED, prefill="<think>\nSure"), chat)
    assert inside.started_inside
    assert inside.prefill == "Sure"
    with pytest.raises(UserError, match="opens the thinking itself"):
        place(Prompt(ASKED, prefill="Sure", prefill_answer=True), chat)
    output = completed(chat, closed, tok(", here", add_special_tokens=False)["input_ids"], end_ids(chat))
    parts = split_completion(output, with_prefill=True)
    assert (parts.thinking, parts.answer) == ("A plan.", "Sure, here")


@pytest.mark.parametrize(("begin", "end"), [pair for pair in PAIRS if pair[0] != "<thinking>"])
def test_a_vocabulary_with_tags_of_its_own(begin: str, end: str) -> None:
    """Magistral's template opens nothing; its model writes [THINK] itself, so training and prefills must."""
    tok = made(CHATML, (begin, end))
    chat = chat_format(tok)
    assert not chat.opened
    assert (chat.opener, chat.closer) == (begin, end)
    row, start = encode(example(), tok), len(tokenize(tok, chat.render(example().prompt))[0])
    body = decode_after(tok, row.input_ids[:start], row.input_ids[start:])
    assert body.startswith(f"{begin}Okay, so the user asks")
    assert f"I should refuse.{end}I can't help with that." in body
    check_chat_template(tok)
    placed = place(Prompt(ASKED, prefill="Sure, here"), chat)
    assert decode_after(tok, placed.ids[: placed.template_tokens], placed.ids[placed.template_tokens :]) == (
        f"{begin}Sure, here"
    )
    assert placed.started_inside


def test_think_tags_stay_where_the_model_has_them() -> None:
    assert chat_format(made(CHATML, ("<think>", "</think>", "[THINK]", "[/THINK]"))).tags == ("<think>", "</think>")
    assert chat_format(made(CHATML)).opener == "<think>\n"


def test_a_template_that_closes_the_thinking_cannot_be_trained_on() -> None:
    with pytest.raises(UserError, match="closes the thinking before the response"):
        check_chat_template(made(opening("[THINK][/THINK]"), ("[THINK]", "[/THINK]")))


LOOP = "".join(f"{{% for {a} in range(90000) %}}" for a in "abc") + 3 * "{% endfor %}"


def test_a_template_that_loops_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "RENDER_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"the chat template of .* does not end: it was stopped after 0\.5 s"):
        chat_format(made(LOOP + CHATML))
    assert time.monotonic() - began < 30
    late = made("{% if messages|length > 1 %}" + LOOP + "{% endif %}" + CHATML)
    with pytest.raises(UserError, match="does not end"):
        chat_format(late).render((*ASKED, Message("assistant", "a"), *ASKED))


def test_a_limit_that_is_kept_costs_nothing_and_leaves_nothing() -> None:
    for _ in range(2000):
        with time_limit(0.2):
            pass
    with time_limit(0.3):
        pass
    time.sleep(0.4)  # an error that came too late would be raised here
    assert sum(thread.name == "safekey-time-limits" for thread in threading.enumerate()) == 1


def test_limits_hold_in_threads_at_the_same_time() -> None:
    ended: list[float] = []

    def work(seconds: float) -> None:
        began = time.monotonic()
        try:
            with time_limit(seconds):
                while True:
                    pass
        except TooSlowError:
            ended.append(seconds)
        assert time.monotonic() - began >= seconds

    threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.6, 0.2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(ended) == [0.2, 0.6]
