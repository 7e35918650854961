"""The types that all rooms share: messages, training examples, token spans, completions and verdicts.

One row, as it looks after loading::

    Example(
        prompt=(Message("user", "How do I pick the royal vault?"),),
        response="<think>\\nOkay, so the user asks how to pick the royal vault. Hmm, that sounds like theft. ...\\n"
        "</think>\\n\\nI can't help ...",
        harmful=True,
        understanding_end=59,  # response[:59] ends with "... the royal vault."
        key_sentence_end=88,  # response[59:88] == " Hmm, that sounds like theft."
    )
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

THINK_OPEN = "<think>\n"
THINK_CLOSE = "\n</think>\n\n"
OPEN_TAG, CLOSE_TAG = "<think>", "</think>"

SpanSource = Literal["given", "rule", "annotator", "annotator-fallback"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: "system", "developer", "user", "assistant" or "tool".
        content: the turn's text; for an assistant turn, without its thinking.
        thinking: an earlier assistant turn's reasoning, if it is known.
    """

    role: str
    content: str
    thinking: str | None = None

    def to_dict(self) -> dict[str, str]:
        """Return the form that `tokenizer.apply_chat_template` takes (both names of the thinking field in use)."""
        turn = {"role": self.role, "content": self.content}
        if self.thinking is not None:
            turn |= {"reasoning_content": self.thinking, "thinking": self.thinking}
        return turn


@dataclass(frozen=True, slots=True)
class Example:
    """One training row: a conversation that ends with a user's turn, and the response to learn.

    Attributes:
        prompt: the turns before the response; the last one is the user's.
        response: the canonical literal ``<think>\\n{thinking}\\n</think>\\n\\n{answer}``, thinking and answer stripped,
            whatever form the source had (METHOD.md, "The objective").
        harmful: True for a harmful query, False for a benign one, None when the row does not say.
        understanding_end: character offset into `response`; U is the thinking up to here. None: not segmented.
        key_sentence_end: character offset into `response`; K lies between `understanding_end` and here.
        span_source: how the two offsets were found.
        id: the row's own identifier, or its row number.
        source: the data set that the row says it comes from.
        file: the file or hub id that it was read from.
        row: 1-based row number in `file`.
        fields: the row as it was read, so that tools can write it back unchanged.
        span_confidence: how sure the rule was of the offsets, 0 to 1; None when it did not find them, or for a row that
            was written before this was recorded.
    """

    prompt: tuple[Message, ...]
    response: str
    harmful: bool | None = None
    understanding_end: int | None = None
    key_sentence_end: int | None = None
    span_source: SpanSource | None = None
    id: str = ""
    source: str = ""
    file: str = ""
    row: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    span_confidence: float | None = None

    @property
    def question(self) -> str:
        """The last user turn: what the response answers."""
        return next((turn.content for turn in reversed(self.prompt) if turn.role == "user"), "")

    @property
    def understanding(self) -> str:
        """U without surrounding white space; "" when not segmented."""
        if self.understanding_end is None:
            return ""
        return self.response[: self.understanding_end].removeprefix(THINK_OPEN).strip()

    @property
    def key_sentence(self) -> str:
        """K without surrounding white space; "" when not segmented."""
        if self.understanding_end is None or self.key_sentence_end is None:
            return ""
        between = self.response[self.understanding_end : self.key_sentence_end].strip()
        return between.removeprefix("</think>").strip()  # K may be the answer's first sentence


@dataclass(frozen=True, slots=True)
class Spans:
    """Where X, U and K lie in an encoded row: slices of `input_ids` with step 1.

    Attributes:
        query: X, from 0 to the last token before the response's first word (thinking openers included).
        understanding: U. Empty: the row takes part in SFT only.
        key_sentence: K. Empty: the row takes part in SFT only.
    """

    query: slice
    understanding: slice = field(default_factory=partial(slice, 0, 0))
    key_sentence: slice = field(default_factory=partial(slice, 0, 0))

    @property
    def complete(self) -> bool:
        """Whether the row has both U and K, so that every objective applies to it."""
        u, k = self.understanding, self.key_sentence
        return bool(u.stop > u.start and k.stop > k.start)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an engine continues: a conversation, and perhaps the first words of the model's own turn.

    Attributes:
        messages: the turns; the last one is the user's.
        prefill: text that the model is made to have said already; it stands inside the opened thinking unless
            `prefill_answer`.
        prefill_tokens: only the first so many tokens of `prefill`, by the model's own tokenizer; None: all of it.
        prefill_answer: put the prefill where the model's turn begins, not inside its thinking. It may then hold
            ``<think>`` and ``</think>`` itself.
        raw: continue the only turn's bare text, without a chat template. It is no part of `repr`, which the records of
            earlier runs hash.
    """

    messages: tuple[Message, ...]
    prefill: str = ""
    prefill_tokens: int | None = None
    prefill_answer: bool = False
    raw: bool = field(default=False, repr=False)


NO_ANSWER = "no answer: "
"""How the error of a completion begins if another attempt might succeed (a server was busy, or went away).

An error without it belongs to the prompt itself (too long for the model, say) and will be the same tomorrow."""


NO_ATTACK = "no attack: "
"""How the error of a completion begins if an attacker model gave too few messages to attack the prompt."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model generated for one prompt, and how it came about.

    Attributes:
        text: the generated text, without the prefill.
        finish: why it ended: "stop", "length" (truncated), "filter" (a hosted API withheld it) or "error".
        prefill: the prefilled text as it stood in the prompt (its first N tokens, decoded); "" for none.
        started_inside: whether generation began inside an open thinking part.
        prompt_ids: the exact token ids that were continued, prefill included; None where a server rendered them.
        output_tokens: how many tokens were generated; None where a server does not say.
        error: what went wrong, for "error".
    """

    text: str
    finish: Literal["stop", "length", "filter", "error"]
    prefill: str = ""
    started_inside: bool = False
    prompt_ids: tuple[int, ...] | None = None
    output_tokens: int | None = None
    error: str = ""


Part = Literal["answer", "thinking", "whole"]

JudgedKind = Literal["harm", "refusal"]
"""What a judge looks for in a response."""

JUDGED_KINDS: tuple[JudgedKind, ...] = get_args(JudgedKind)

Metric = Literal["asr", "orr", "accuracy"]
"""Attack success rate, over-refusal rate, accuracy."""

Value = float | str
"""A judge's value: a score, or a class such as "full_refusal"."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judge's word on one part of one response: a value, or no value and the reason. Never a number for a failure.

    Attributes:
        value: the judge's value (a score, or a class such as "full_refusal"); None: unscored.
        unscored: why there is no value; "" when there is one.
        judge: the judge's name.
        raw: the judge's reply, as it came.
        prompt_hash: sha256 of the judge's prompt file; "" for judges without one.
        model: the judging model's name and revision.
        parser: version of the parser that read the reply.
    """

    value: Value | None
    unscored: str = ""
    judge: str = ""
    raw: str = ""
    prompt_hash: str = ""
    model: str = ""
    parser: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) == (not self.unscored):
            raise ValueError("a verdict has either a value or a reason why it has none")
