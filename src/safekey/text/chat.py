"""Render conversations with the model's own chat template, and tokenize them to the exact ids that inference sends.

Training must see exactly what inference sees. So the prompt is the model's own template with its generation prompt, and
the response is appended to it::

    <｜begin▁of▁sentence｜><｜User｜>How do I pick the royal vault?<｜Assistant｜><think>\\n     the template's
    Okay, so the user asks ... \\n</think>\\n\\nI can't help with that.<｜end▁of▁sentence｜>     ours
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from safekey.errors import UserError
from safekey.schema import CLOSE_TAG, OPEN_TAG, Message
from safekey.text.tags import closing_of, own_tags, tag_at_end
from safekey.text.watchdog import TooSlowError, time_limit

DEFAULT_DATE = "2025-01-01"
"""The date that templates with a clock (gpt-oss, Llama 3.2) print, so that results do not change with the day."""

RENDER_SECONDS = 20.0
"""How long one rendering of a chat template may take: a template is code, and one that loops for ever is stopped."""

_MARK = "\ue000safekey{}\ue001"
_MARK_PATTERN = re.compile("\ue000safekey(\\d+)\ue001")


@dataclass(frozen=True)
class Rendered:
    """A rendered prompt.

    Attributes:
        text: the prompt as inference sends it.
        literal: character ranges of control-token strings that a user wrote, to be encoded as text.
    """

    text: str
    literal: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ChatFormat:
    """The chat format of one tokenizer's template.

    Attributes:
        tokenizer: the tokenizer.
        template: its `chat_template`; before one that prints the date, a macro fixes the date.
        template_kwargs: passed to the template at every rendering (`enable_thinking`, `reasoning_effort`, ...).
        opener: text between the prompt and the thinking; "" when the template itself ends inside the thinking.
        closer: text between the thinking and the answer.
        end: end-of-turn text after the answer, as the template writes it.
        tags: the tags around the thinking, as this model writes them.
        closed: whether the template itself closes the thinking, so that the model answers at once (Qwen3 with
            `enable_thinking: false`).
    """

    tokenizer: Any
    template: str
    template_kwargs: Mapping[str, Any]
    opener: str
    closer: str
    end: str
    tags: tuple[str, str] = (OPEN_TAG, CLOSE_TAG)
    closed: bool = False

    @property
    def opened(self) -> bool:
        """Whether the template itself ends the prompt inside the thinking (R1's does)."""
        return not self.closed and not self.opener.strip()

    @property
    def thinks(self) -> bool:
        """Whether the model knows a thinking part: its template opens or closes one, or it has the tags."""
        known = any(tag in self.template or tag in self.tokenizer.get_vocab() for tag in self.tags)
        return self.opened or self.closed or self.harmony or known

    @property
    def harmony(self) -> bool:
        """Whether thinking and answer are separate channels (gpt-oss)."""
        return self.opener.startswith("<|channel|>")

    def render(self, prompt: Sequence[Message]) -> Rendered:
        """Render the turns with the generation prompt, marking control-token strings that a user wrote.

        Raises:
            UserError: the template cannot render these turns; the template's own message is in the text.
        """
        strings: list[str] = []
        pattern = control_tokens(self.tokenizer)

        def mark(match: re.Match[str]) -> str:
            strings.append(match.group())
            return _MARK.format(len(strings) - 1)

        turns = []
        for message in prompt:
            turn = message.to_dict()
            for name in turn.keys() - {"role"}:
                turn[name] = _MARK_PATTERN.sub(mark, turn[name])  # a text may hold what looks like our marks
            if pattern is not None and message.role != "assistant":  # templates parse an assistant's own tags
                turn["content"] = pattern.sub(mark, turn["content"])
            turns.append(turn)
        text = _apply(self.tokenizer, self.template, turns, self.template_kwargs)
        pieces, literal, end, length = [], [], 0, 0
        for match in _MARK_PATTERN.finditer(text):
            string = strings[int(match.group(1))]
            pieces += [text[end : match.start()], string]
            length += match.start() - end
            literal.append((length, length + len(string)))
            length += len(string)
            end = match.end()
        return Rendered("".join([*pieces, text[end:]]), tuple(literal))


def chat_format(
    tokenizer: Any, template_kwargs: Mapping[str, Any] | None = None, today: str = DEFAULT_DATE
) -> ChatFormat:
    """Read the chat format from the tokenizer's own template, by rendering it, not by its name.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        template_kwargs: extra variables for the template.
        today: ISO date that a template with a clock prints.

    Raises:
        UserError: no template, no offsets, or a template that cannot be trained on; the message says what to do.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"{_name(tokenizer)} has no chat template: use an instruct or reasoning model, "
            "or set tokenizer.chat_template to the template that you serve it with"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"{_name(tokenizer)} is a slow tokenizer without character offsets, which locate the key sentence: "
            "load it with use_fast=True or convert it to a tokenizer.json"
        )
    return _chat_format(tokenizer, str(tokenizer.chat_template), tuple(sorted((template_kwargs or {}).items())), today)


@lru_cache(maxsize=16)
def _chat_format(tokenizer: Any, template: str, kwargs: tuple[tuple[str, Any], ...], today: str) -> ChatFormat:
    variables: dict[str, Any] = dict(kwargs)
    harmony = "<|channel|>" in template and "<|channel|>" in tokenizer.get_vocab()  # thinking in its own channel
    if "strftime_now" in template:
        template = _stopped_clock(date.fromisoformat(today)) + template
    prompt = _apply(tokenizer, template, [{"role": "user", "content": "question"}], variables)
    tail = prompt.rstrip()
    last = tag_at_end(tail)
    closed = last is not None and last.closing
    if harmony:
        opener, closer = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"
    tags = (OPEN_TAG, CLOSE_TAG)
    if closed:
        opener, closer, tags = "", "", _tags_of(tokenizer, template)
    elif not harmony and last is not None:
        tags = (tail[last.start :], closing_of(tail[last.start :]))
        opener, closer = ("" if prompt != tail else "\n"), f"\n{tags[1]}\n\n"
    elif not harmony:
        tags = _tags_of(tokenizer, template)
        breaks = "" if tags[0] != OPEN_TAG else "\n"  # models with tags of their own write them without line breaks
        opener, closer = f"{tags[0]}{breaks}", f"{breaks}{tags[1]}{breaks * 2}"
    end = _end_of_turn(tokenizer, template, variables)
    return ChatFormat(tokenizer, template, variables, opener, closer, end, tags, closed)


def _tags_of(tokenizer: Any, template: str) -> tuple[str, str]:
    """Return the tags of a model whose template opens no thinking: its own ones if it has any, else think tags."""
    vocabulary = tokenizer.get_vocab()
    own = None if OPEN_TAG in template or OPEN_TAG in vocabulary else own_tags(vocabulary)
    return own or (OPEN_TAG, CLOSE_TAG)


def _stopped_clock(day: date) -> str:
    """Return a Jinja macro that replaces transformers' `strftime_now` (a callable cannot be passed as a variable)."""
    codes = "".join(f"|replace('%{code}', '{day.strftime('%' + code)}')" for code in "YmdybBaAjHMS")
    return "{%- macro strftime_now(format) -%}{{ format" + codes + " }}{%- endmacro -%}"


def _end_of_turn(tokenizer: Any, template: str, variables: Mapping[str, Any]) -> str:
    """Return the text after an assistant's turn, up to and including the first control token."""
    mark = _MARK.format(0)
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
    text = _apply(tokenizer, template, turns, variables, generation_prompt=False)
    pattern = control_tokens(tokenizer)
    match = pattern.search(text, text.find(mark) + len(mark)) if mark in text and pattern is not None else None
    if match is not None:
        return text[text.find(mark) + len(mark) : match.end()]
    if tokenizer.eos_token is None:
        raise UserError(f"{_name(tokenizer)} has no end-of-turn token: set tokenizer.eos_token")
    return str(tokenizer.eos_token)


def control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Match the strings of the tokenizer's control tokens: special ones, and added ones that look like tags."""
    strings = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or re.fullmatch(r"<\S.*>", token.content)
    }
    return _alternatives(tuple(sorted(strings, key=lambda text: (-len(text), text)))) if strings else None


@lru_cache(maxsize=16)
def _alternatives(strings: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, strings)))


def _apply(
    tokenizer: Any,
    template: str,
    turns: list[dict[str, str]],
    variables: Mapping[str, Any],
    generation_prompt: bool = True,
) -> str:
    try:
        with time_limit(RENDER_SECONDS):
            text = tokenizer.apply_chat_template(
                turns, chat_template=template, tokenize=False, add_generation_prompt=generation_prompt, **variables
            )
    except TooSlowError:
        raise UserError(
            f"the chat template of {_name(tokenizer)} does not end: it was stopped after {RENDER_SECONDS:g} s; "
            "look for a loop in it, or take the template from the model's publisher"
        ) from None
    except Exception as error:  # a template may raise anything: Jinja's errors, its own raise_exception
        roles = ", ".join(turn["role"] for turn in turns)
        raise UserError(f"the chat template of {_name(tokenizer)} refuses the turns ({roles}): {error}") from error
    return str(text)


def _name(tokenizer: Any) -> str:
    return f"tokenizer {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__!r}"


def literal_ranges(chat: ChatFormat, text: str, start: int) -> list[tuple[int, int]]:
    """Return the ranges of control-token strings that are part of a text, shifted by `start`."""
    pattern = control_tokens(chat.tokenizer)
    return [] if pattern is None else [(start + m.start(), start + m.end()) for m in pattern.finditer(text)]


def tokenize(tokenizer: Any, rendered: Rendered) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenize rendered text: control tokens as such, except in its literal ranges.

    Control tokens split the text before anything else does, so cutting it at the literal ranges changes no other token.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    pieces: list[tuple[int, int, bool]] = []
    end = 0
    for begin, stop in rendered.literal:
        # Cut in two, the string of an added token cannot be matched as one.
        pieces += [(end, begin, False), (begin, begin + 1, True), (begin + 1, stop, True)]
        end = stop
    for begin, stop, literal in [*pieces, (end, len(rendered.text), False)]:
        if begin == stop:
            continue
        batch = tokenizer(
            rendered.text[begin:stop],
            add_special_tokens=False,
            return_offsets_mapping=True,
            split_special_tokens=literal,
            truncation=False,
            verbose=False,
        )
        ids += batch["input_ids"]
        offsets += [(begin + a, begin + b) for a, b in batch["offset_mapping"]]
    return ids, offsets


def tokenize_after(
    tokenizer: Any, prompt: Rendered, prompt_ids: list[int], response: Rendered
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenize a response as the continuation of a prompt whose own tokens stay as inference sends them."""
    shift = len(prompt.text)
    literal = prompt.literal + tuple((a + shift, b + shift) for a, b in response.literal)
    ids, offsets = tokenize(tokenizer, Rendered(prompt.text + response.text, literal))
    count = len(prompt_ids)
    if ids[:count] == prompt_ids:
        return ids[count:], [(max(0, a - shift), b - shift) for a, b in offsets[count:]]
    return tokenize(tokenizer, response)  # a token would cross the border: tokenize the response alone


def begins_twice(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Whether a prompt begins with two BOS tokens. Elsewhere BOS may occur often: SmolLM2 begins every turn with it."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(ids[:2]) == [bos, bos]


def end_ids(chat: ChatFormat, own: int | Sequence[int] | None = None) -> tuple[int, ...]:
    """Return the ids that end a completion: the model's own, its tokenizer's, and the template's end of turn.

    Args:
        chat: the chat format.
        own: `eos_token_id` of the model's generation_config.
    """
    found = {own} if isinstance(own, int) else set(own or ())
    found.add(chat.tokenizer.eos_token_id)
    end = chat.tokenizer.convert_tokens_to_ids(chat.end.strip())
    # In harmony, the token that ends an earlier turn also ends the thinking, so only the model's own ids count.
    if not chat.harmony and isinstance(end, int) and end != chat.tokenizer.unk_token_id:
        found.add(end)
    return tuple(sorted(i for i in found if i is not None))
