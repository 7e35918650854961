"""From rendered text to the exact token ids that inference sends: one BOS, control tokens, a user's text as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from safekey.schema import Message
from safekey.text.chat import DEFAULT_DATE, ChatFormat, Rendered, chat_format, control_tokens


def prompt_ids(
    prompt: Iterable[Message],
    tokenizer: Any,
    *,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    today: str = DEFAULT_DATE,
) -> list[int]:
    """Return the token ids that inference sends for these turns: the template's, with its generation prompt."""
    return tokenize(tokenizer, chat_format(tokenizer, chat_template_kwargs, today).render(tuple(prompt)))[0]


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
        # Halved, an added token's string cannot be matched, whatever the tokenizer thinks of its status.
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
    return tokenize(tokenizer, response)  # a merge across the border: keep the prompt, tokenize the rest alone
