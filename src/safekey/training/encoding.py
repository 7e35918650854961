"""Encode an `Example` as tokens: render it once, then map character spans to token spans by offsets.

One encoded row (R1 template; X includes the template's `<think>\\n`)::

    input_ids   [<bos>, <User>, How, ..., <Assistant>, <think>, \\n, Okay, ',', so, ..., '.', Hmm, ..., '.', ..., <eos>]
    spans        |------------- query ---------------------------|  |-- understanding --|  |- key -|
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from safekey.errors import RowProblem, UserError
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example, Message, Spans
from safekey.text.chat import (
    DEFAULT_DATE,
    ChatFormat,
    Rendered,
    begins_twice,
    chat_format,
    literal_ranges,
    tokenize,
    tokenize_after,
)
from safekey.text.thinking import thinking_span


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row as tokens.

    Attributes:
        input_ids: the whole row: prompt, response and end-of-turn token.
        spans: where X, U and K lie in `input_ids`.
        harmful: the row's label; None takes the row out of the safety heads' loss.
        response_start: index of the first token with an SFT loss; default: the end of X. It is smaller where the model
            itself emits the thinking opener, which belongs to X but has to be learnt.
        name: where the row came from, for messages.
        thinking_end: index after the last token of the thinking; None if unknown.
    """

    input_ids: list[int]
    spans: Spans
    harmful: bool | None = None
    response_start: int | None = None
    name: str = ""
    thinking_end: int | None = None

    @property
    def first_target(self) -> int:
        """Index of the first token with an SFT loss (at least 1: nothing precedes the first token)."""
        start = self.spans.query.stop if self.response_start is None else self.response_start
        return max(1, start)


class EncodeError(UserError):
    """A row cannot be encoded; `problem` names it."""

    def __init__(self, problem: RowProblem):
        super().__init__(str(problem))
        self.problem = problem


def encode(
    example: Example,
    tokenizer: Any,
    max_length: int = 8192,
    *,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    today: str = DEFAULT_DATE,
) -> Encoded:
    """Encode one row with the model's own chat template.

    A token belongs to the span that holds its first non-space character; U and K exclude surrounding white space
    (docs/segmentation.md). A row longer than `max_length` loses its end, never a part of U or K; a row that was
    cut has no end-of-turn token.

    Args:
        example: the row, segmented or not (a row without spans takes part in SFT only).
        tokenizer: a fast tokenizer with a chat template.
        max_length: longest row in tokens.
        chat_template_kwargs: extra variables for the template.
        today: ISO date for templates with a clock.

    Raises:
        EncodeError: U and K, or any response at all, do not fit into `max_length`; an offset is impossible; or the
            template refuses the turns.
        UserError: the tokenizer or its template cannot be used.
    """
    chat = trainable_format(tokenizer, chat_template_kwargs, today)
    try:
        prompt = chat.render(example.prompt)
    except UserError as error:
        raise EncodeError(_problem(example, "prompt", str(error))) from error
    thinking, answer = _parts(example)
    text = chat.opener + thinking + chat.closer + answer + chat.end
    start = len(chat.opener)  # of the thinking, in `text`
    answer_start = start + len(thinking) + len(chat.closer)
    literal = [
        *literal_ranges(chat, thinking, start),
        *literal_ranges(chat, answer, answer_start),
    ]
    prompt_ids = tokenize(tokenizer, prompt)[0]
    response_ids, offsets = tokenize_after(tokenizer, prompt, prompt_ids, Rendered(text, tuple(literal)))
    firsts = [_first_character(text, begin, end) for begin, end in offsets]
    base = len(prompt_ids)
    query_end = base + next((i for i, at in enumerate(firsts) if at is not None and at >= start), len(firsts))

    def place(offset: int) -> int:  # from an offset into the canonical literal to one into `text`
        inside = offset - len(THINK_OPEN)
        after = offset - (len(example.response) - len(answer))
        return answer_start + after if after >= 0 else start + max(0, min(inside, len(thinking)))

    thought = _token_slice(firsts, start, start + len(thinking), base).stop or query_end
    understanding, key = slice(0, 0), slice(0, 0)
    if example.understanding_end is not None and example.key_sentence_end is not None:
        u_end, k_end = example.understanding_end, example.key_sentence_end
        if not 0 <= u_end <= k_end <= len(example.response):
            raise EncodeError(_problem(example, "understanding_end", f"offsets {u_end}, {k_end} leave the response"))
        thinking_end = start + len(thinking)
        understanding = _token_slice(firsts, start, min(place(u_end), thinking_end), base)
        k_start = place(u_end)
        if k_start <= thinking_end and not text[k_start:thinking_end].strip():
            k_start = answer_start  # K lies outside the thinking: its tags are not part of it
        key = _token_slice(firsts, k_start, place(k_end), base)
    ids = prompt_ids + response_ids
    if len(ids) > max_length:
        if max(key.stop, understanding.stop, base + 1) > max_length:
            need = max(key.stop, understanding.stop, base + 1)
            reason = f"needs {need} tokens up to its key sentence, max_length is {max_length}: raise it or drop the row"
            raise EncodeError(_problem(example, "response", reason))
        ids = ids[:max_length]
    if understanding.start == understanding.stop or key.start == key.stop:
        understanding, key = slice(query_end, query_end), slice(query_end, query_end)
    spans = Spans(slice(0, query_end), understanding, key)
    return Encoded(ids, spans, example.harmful, base, _where(example), min(thought, len(ids)))


def trainable_format(tokenizer: Any, template_kwargs: Mapping[str, Any] | None, today: str) -> ChatFormat:
    """Return the chat format of a template that leaves room for the thinking.

    Raises:
        UserError: it closes the thinking before the response, or cannot be used at all.
    """
    chat = chat_format(tokenizer, template_kwargs, today)
    if chat.closed:
        end = chat.render((Message("user", "question"),)).text[-24:]
        raise UserError(
            f"the chat template of tokenizer {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__} "
            f"closes the thinking before the response (the prompt ends with {end!r}): pass chat_template_kwargs with "
            "enable_thinking: true"
        )
    return chat


def encode_all(
    examples: Iterable[Example], tokenizer: Any, max_length: int = 8192, **options: Any
) -> tuple[list[Encoded], list[RowProblem]]:
    """Encode rows; return those that cannot be encoded as problems. `options` are those of `encode`."""
    rows: list[Encoded] = []
    problems: list[RowProblem] = []
    for example in examples:
        try:
            rows.append(encode(example, tokenizer, max_length, **options))
        except EncodeError as error:
            problems.append(error.problem)
    return rows, problems


def check_chat_template(
    tokenizer: Any, *, chat_template_kwargs: Mapping[str, Any] | None = None, today: str = DEFAULT_DATE
) -> None:
    """Check at start-up that training sees what inference sees, token for token.

    Raises:
        UserError: the prompt differs from `tokenizer.apply_chat_template(tokenize=True)`, loses a turn, begins with
            two BOS tokens, or a response does not decode back; the text names the template's fault.
    """
    chat = trainable_format(tokenizer, chat_template_kwargs, today)
    name = f"the chat template of {getattr(tokenizer, 'name_or_path', '') or 'the tokenizer'}"
    prompt = (Message("user", "Zebra question?"),)
    ids = tokenize(tokenizer, chat.render(prompt))[0]
    turns = [turn.to_dict() for turn in prompt]
    theirs = tokenizer.apply_chat_template(
        turns, chat_template=chat.template, add_generation_prompt=True, return_dict=False, **chat.template_kwargs
    )
    if ids != list(theirs):
        raise UserError(f"{name} gives other tokens through apply_chat_template than through its own rendered text")
    if begins_twice(tokenizer, ids):
        raise UserError(f"{name} puts 2 BOS tokens at the start of a prompt, expected one")
    if "Zebra question?" not in chat.render(prompt).text:
        raise UserError(f"{name} drops the user's turn")
    thinking, answer = "The user asks. Hmm, careful.", "An answer."
    row = encode(
        Example(prompt, f"<think>\n{thinking}\n</think>\n\n{answer}", understanding_end=22, key_sentence_end=36),
        tokenizer,
        chat_template_kwargs=chat_template_kwargs,
        today=today,
    )
    body = tokenizer.decode(row.input_ids[row.spans.query.stop :])
    if thinking not in body or answer not in body:
        raise UserError(f"{name}: a response does not survive encoding, it decodes to {body[:80]!r}")


def _parts(example: Example) -> tuple[str, str]:
    """Split the canonical form into thinking and answer, without stripping them."""
    response = example.response
    close = thinking_span(response)[1] - 1  # the closing tag stands on a line of its own
    if not response.startswith(THINK_OPEN) or not response.startswith(THINK_CLOSE, close):
        reason = "expected the canonical '<think>\\n…\\n</think>\\n\\n…', as load_examples writes it"
        raise EncodeError(_problem(example, "response", reason))
    return response[len(THINK_OPEN) : close], response[close + len(THINK_CLOSE) :]


def _first_character(text: str, begin: int, end: int) -> int | None:
    """Return the offset of a token's first non-space character; None when it has none."""
    for at in range(begin, end):
        if not text[at].isspace():
            return at
    return None


def _token_slice(firsts: list[int | None], begin: int, end: int, base: int) -> slice:
    """Return the slice of the tokens whose first non-space character lies in [begin, end)."""
    inside = [i for i, at in enumerate(firsts) if at is not None and begin <= at < end]
    return slice(base + inside[0], base + inside[-1] + 1) if inside else slice(0, 0)


def _where(example: Example) -> str:
    return f"{example.file}:{example.row}" if example.file else example.id


def _problem(example: Example, field: str, reason: str) -> RowProblem:
    return RowProblem(example.file or "(no file)", example.row, field, reason)
