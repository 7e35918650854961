"""Turn a `Prompt` into the exact token ids to continue, and generated ids into text.

A prefill of 3 tokens inside the thinking, on a template that does not open it (Qwen3)::

    <|im_start|>user\\nHow ...?<|im_end|>\\n<|im_start|>assistant\\n     the template's
    <think>\\n                                                         the opener
    Sure | , |  here                                                  exactly 3 tokens of the prefill

Prefills have their thinking in ``<think>…</think>``, whatever the model's own tags are (`ChatFormat.tags`). Generated
text keeps the model's tags, which `text/thinking.py` knows; `text/harmony.py` translates gpt-oss's channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safekey.errors import UserError
from safekey.schema import CLOSE_TAG, OPEN_TAG, THINK_OPEN, Completion, Prompt
from safekey.text.chat import ChatFormat, Rendered, begins_twice, literal_ranges, tokenize, tokenize_after
from safekey.text.harmony import PrefillPiece, prefill_pieces, with_think_tags

_CONTEXT = 4  # tokens before a text that affect how it decodes: a character has at most four bytes
_BROKEN = "\ufffd"


@dataclass(frozen=True, slots=True)
class Placed:
    """A prompt as tokens.

    Attributes:
        ids: the tokens to continue: those of the template, then perhaps an opener and the prefill.
        template_tokens: number of tokens of the template.
        prefill: the prefilled text; a character that is cut in two belongs to the completion.
        prefill_tokens: number of tokens of the prefill: as many as asked, or all that the text has.
        started_inside: whether the model continues inside an open thinking part.
        channel: for gpt-oss, the channel in which the model continues; "" when the model chooses it.
    """

    ids: tuple[int, ...]
    template_tokens: int
    prefill: str = ""
    prefill_tokens: int = 0
    started_inside: bool = False
    channel: str = ""


def place(prompt: Prompt, chat: ChatFormat) -> Placed:
    """Render a prompt to the ids to continue.

    Args:
        prompt: the turns, and perhaps a prefill.
        chat: the model's chat format.

    Raises:
        UserError: the template cannot render the turns, or the prefill cannot stand where it is asked to.
    """
    tokenizer = chat.tokenizer
    if prompt.raw:
        return _bare(prompt, chat)
    so_far = chat.render(prompt.messages)
    ids = tokenize(tokenizer, so_far)[0]
    template_tokens = len(ids)
    if begins_twice(tokenizer, ids):
        raise UserError("the chat template puts 2 BOS tokens at the start of a prompt, expected one")
    left = prompt.prefill_tokens if prompt.prefill_tokens is not None else -1  # -1: no limit
    shown, counted, channel = "", 0, ""
    for piece in _pieces(prompt, chat):
        if left == 0:
            break
        more = tokenize_after(tokenizer, so_far, ids, _rendered(piece, chat))[0]
        if piece.counted:
            more = more[:left] if left > 0 else more
            left -= len(more) if left > 0 else 0
            counted += len(more)
            read = decode_after(tokenizer, ids, more).rstrip(_BROKEN)
            # A SentencePiece-like tokenizer puts a space of its own before words that follow a control token.
            shown += read if piece.text.startswith(" ") else read.removeprefix(" ")
        else:
            shown += piece.shown
            channel = piece.channel
        shift = len(so_far.text)
        added = tuple((a + shift, b + shift) for a, b in _rendered(piece, chat).literal)
        so_far = Rendered(so_far.text + piece.text, so_far.literal + added)
        ids = ids + more
    inside = channel == "analysis" if chat.harmony else _inside(chat, tokenizer, ids[template_tokens:])
    return Placed(tuple(ids), template_tokens, shown, counted, inside, channel)


def _bare(prompt: Prompt, chat: ChatFormat) -> Placed:
    """Return the tokens of the only turn's text alone, behind the BOS token where the tokenizer begins every text so.

    Strings of control tokens in it are text, as in any turn of a user.
    """
    if len(prompt.messages) != 1 or prompt.prefill:
        raise UserError("a prompt without a chat template is one text: it has no further turns and no prefill")
    text = prompt.messages[0].content
    ids = tokenize(chat.tokenizer, Rendered(text, tuple(literal_ranges(chat, text, 0))))[0]
    bos = chat.tokenizer.bos_token_id
    begins = bos is not None and list(chat.tokenizer("")["input_ids"][:1]) == [bos]
    placed = ([bos] if begins else []) + list(ids)
    if not placed:
        raise UserError("a prompt without a chat template is empty: there is nothing to continue")
    return Placed(tuple(placed), len(placed))


def _pieces(prompt: Prompt, chat: ChatFormat) -> list[PrefillPiece]:
    """Cut the prefill into its own text (counted) and the headers around it (not counted)."""
    text = prompt.prefill
    if not text or prompt.prefill_tokens == 0:
        return []
    if prompt.prefill_tokens is not None and prompt.prefill_tokens < 0:
        raise UserError(f"prefill_tokens is {prompt.prefill_tokens}, expected 0 or more")
    if chat.closed and (not prompt.prefill_answer or CLOSE_TAG in text):
        raise UserError(
            "the chat template closes the thinking before the response (it is switched off), so no thinking can be "
            "prefilled: pass chat_template_kwargs with enable_thinking: true, or prefill the answer"
        )
    if chat.harmony:
        return prefill_pieces(text, chat, answer=prompt.prefill_answer)
    if chat.opened or not prompt.prefill_answer:  # the thinking is open already
        text = text.removeprefix(THINK_OPEN).removeprefix(OPEN_TAG)
    for ours, theirs in zip((OPEN_TAG, CLOSE_TAG), chat.tags, strict=True):
        text = text.replace(ours, theirs)
    if not prompt.prefill_answer:
        return [PrefillPiece(chat.opener), PrefillPiece(text, counted=True)]
    if chat.opened and chat.tags[1] not in text:
        raise UserError(
            "this model's chat template opens the thinking itself, so a prefill of the answer would land inside the "
            f"thinking: begin the prefill with the thinking and its {CLOSE_TAG} (for none: '{CLOSE_TAG}\\n\\n…')"
        )
    return [PrefillPiece(text, counted=True)]


def _rendered(piece: PrefillPiece, chat: ChatFormat) -> Rendered:
    """Mark control-token strings of a prefill as text, except the think tags, which stay control tokens."""
    if not piece.counted:
        return Rendered(piece.text)
    ranges = literal_ranges(chat, piece.text, 0)
    return Rendered(piece.text, tuple(r for r in ranges if piece.text[slice(*r)] not in chat.tags))


def _inside(chat: ChatFormat, tokenizer: Any, said: list[int]) -> bool:
    """Whether the thinking is open at the end of the model's turn (tags in a user's turn do not count)."""
    text = _decode(tokenizer, said)
    opened, closed = (text.rfind(tag) for tag in chat.tags)
    return chat.opened if opened == closed == -1 else opened > closed


def decode_after(tokenizer: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """Decode ids that follow other ids, control tokens included.

    Decoded alone, a SentencePiece-like tokenizer would drop the first space, and a character cut in two would be lost.
    """
    context = list(before[-_CONTEXT:])
    head = _decode(tokenizer, context).rstrip(_BROKEN)
    whole = _decode(tokenizer, [*context, *ids])
    return whole[len(head) :] if whole.startswith(head) else _decode(tokenizer, list(ids))


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def completed(
    chat: ChatFormat, placed: Placed, ids: Sequence[int], ends: Sequence[int], stop: Sequence[str] = ()
) -> Completion:
    """Make the completion of a placed prompt from the ids generated for it.

    Args:
        chat: the chat format.
        placed: the prompt.
        ids: the generated ids, up to and including the token that ended the completion; later ids are ignored.
        ends: the ids that end a completion.
        stop: strings that end one.
    """
    cut = next((at for at, token in enumerate(ids) if token in ends), None)
    text = decode_after(chat.tokenizer, placed.ids, list(ids[:cut]))
    count = len(ids) if cut is None else cut + 1
    return finished(chat, placed, text, "length" if cut is None else "stop", count, stop)


def finished(
    chat: ChatFormat, placed: Placed, text: str, finish: str, tokens: int | None, stop: Sequence[str] = ()
) -> Completion:
    """Make the completion of a placed prompt from the text generated for it; harmony's channels become think tags."""
    hits = [at for at in (text.find(string) for string in stop) if at >= 0]
    if hits:
        text, finish = text[: min(hits)], "stop"
    if chat.harmony:
        text = with_think_tags(text, placed.channel)
    return Completion(
        text=text,
        finish="length" if finish == "length" else "stop",
        prefill=placed.prefill,
        started_inside=placed.started_inside,
        prompt_ids=placed.ids,
        output_tokens=tokens,
    )


def template_hash(chat: ChatFormat) -> str:
    """Return the sha256 of the chat template as it is rendered, with its fixed date."""
    return hashlib.sha256(chat.template.encode()).hexdigest()


def too_long(tokens: int, context: int) -> str:
    """Return the error for a prompt that leaves no room to generate."""
    return f"the prompt has {tokens} tokens, which fills the model's context of {context}"


def failed(reason: str, placed: Placed | None = None) -> Completion:
    """Make the completion of a prompt that could not be continued."""
    if placed is None:
        return Completion("", "error", error=reason)
    return Completion("", "error", placed.prefill, placed.started_inside, placed.ids, error=reason)
