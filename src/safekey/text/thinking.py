"""Split a response into thinking and answer, and write the canonical form. Training rows and generated text alike.

    split_thinking("The user asks for tea.\\n</think>\\n\\nBoil water.", started_inside=True)
    -> thinking "The user asks for tea.", answer "Boil water.", state "closed"

    "<think>\\nThe user asks for tea.\\n</think>\\n\\nBoil water."        the canonical form, which all loaders write

The template may have written the opening tag; the text may stop inside the thinking, quote the tags, think twice, or
use gpt-oss's channels. `Thinking.spans` holds the offsets of the parts, so nothing of the text is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from safekey.schema import THINK_CLOSE, THINK_OPEN, Completion, Part
from safekey.text.harmony import harmony_messages, is_harmony
from safekey.text.tags import THINK, Tags, tag_at_end

ThinkState = Literal["closed", "unclosed", "absent"]
SpanKind = Literal["thinking", "answer", "gap"]
Ranges = list[tuple[int, int]]

# What some models write around the answer; it belongs to neither part.
_ANSWER_BEGINS = re.compile(r"\s*<\|(?:begin_of_solution|START_RESPONSE|START_TEXT)\|>", re.IGNORECASE)
_ANSWER_ENDS = re.compile(r"<\|(?:end_of_solution|END_RESPONSE|END_TEXT)\|>\s*\Z", re.IGNORECASE)


class Span(NamedTuple):
    """A range of the text: thinking, answer, or a gap (tags, white space around a part)."""

    kind: SpanKind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Thinking:
    """A text in its two parts.

    Attributes:
        text: the text that was split.
        thinking: the thinking without tags and surrounding white space; several blocks are joined by an empty line.
        answer: what the user is told; "" when the thinking was never closed.
        state: "closed"; "unclosed": the text ends inside the thinking, so there is no answer; "absent": no thinking.
        spans: adjacent ranges that cover the text.
    """

    text: str
    thinking: str
    answer: str
    state: ThinkState
    spans: tuple[Span, ...]

    def part(self, part: Part) -> str:
        """Return one part; "whole" is the whole text."""
        return {"answer": self.answer, "thinking": self.thinking, "whole": self.text}[part]


def split_thinking(text: str, started_inside: bool) -> Thinking:
    """Split a text into thinking and answer. Never raises, whatever the text.

    The thinking ends at the first ``</think>`` that is neither quoted (alone between quotes or backticks) nor inside a
    closed code block that another ``</think>`` follows. Consecutive thinking blocks are one thinking. Text before a
    ``<think>`` in mid-text belongs to the answer.

    Args:
        text: a training row's response, or what the model generated (or prefill + generation).
        started_inside: the prompt ended inside an open thinking part; text without ``</think>`` is then unclosed.
    """
    if is_harmony(text):
        return _split_channels(text, started_inside)
    thoughts, answers, state = _split_tags(text, started_inside)
    return _assemble(text, thoughts, answers, state)


def split_completion(completion: Completion, *, with_prefill: bool = False) -> Thinking:
    """Split an engine's completion; the prefill may have closed the thinking already.

    Args:
        completion: the result of the engine.
        with_prefill: split prefill and generated text together. By default only the generated text is split.
    """
    prefill, text = completion.prefill, completion.text
    if completion.started_inside or not prefill:
        return split_thinking(prefill + text if with_prefill else text, completion.started_inside)
    closed = split_thinking(prefill, started_inside=True)
    if closed.state != "closed":  # a prefilled answer without any thinking
        return split_thinking(prefill + text if with_prefill else text, started_inside=False)
    if not with_prefill:  # the whole generated text is the answer; a `</think>` in it closes nothing
        return _assemble(text, [], [(0, len(text))], "closed")
    thoughts = [(s.start, s.end) for s in closed.spans if s.kind == "thinking"]
    answers = [(s.start, s.end) for s in closed.spans if s.kind == "answer"]
    begin = answers.pop()[0] if answers and answers[-1][1] > max((e for _, e in thoughts), default=0) else len(prefill)
    return _assemble(prefill + text, thoughts, [*answers, (begin, len(prefill + text))], "closed")


def thinking_in_answer(parts: Thinking) -> str:
    """Return a tag in the answer, outside quotes and code, after which there may be thinking; "" for none.

    A model that thinks again in its answer writes it, and so does a model that was asked to write such tags. Nobody
    can tell one from the other, so the text stays in the answer, and the caller says so.
    """
    found = None if is_harmony(parts.text) or not parts.answer else Tags.read(parts.answer).inside(0)
    return "" if found is None else parts.answer[found.start : found.end].strip()


class SplitResponse(NamedTuple):
    """A response in its two parts; the fields are those of `Thinking`."""

    thinking: str
    answer: str
    state: ThinkState


def split_response(text: str, *, opened: bool = False) -> SplitResponse:
    """Split a response as `split_thinking` does, without the offsets; `opened` is its `started_inside`."""
    found = split_thinking(text, opened)
    return SplitResponse(found.thinking, found.answer, found.state)


def thinking_span(response: str) -> tuple[int, int]:
    """Return the (start, end) character offsets of the thinking in a canonical response, up to its closing tag.

    Any other text counts as thinking up to its closing tag, or to its end.
    """
    start = len(THINK_OPEN) if response.startswith(THINK_OPEN) else 0
    thoughts, _, _ = _split_tags(response, True)
    return start, max(start, thoughts[0][1])


def canonical(thinking: str, answer: str) -> str:
    """Return ``<think>\\n{thinking}\\n</think>\\n\\n{answer}``, both parts stripped."""
    return THINK_OPEN + thinking.strip() + THINK_CLOSE + answer.strip()


def strip_tags(thinking: str) -> str:
    """Return the content of a separate thinking field, without the tags around it that some sources leave in it."""
    text = thinking.strip()
    opener, last = Tags.read(text).opener_at(0), tag_at_end(text)
    begin = opener.end if opener is not None else 0
    own = last is not None and last.closing and (last.kind == opener.kind if opener else last.kind == THINK)
    return text[begin : last.start if last is not None and own and last.start >= begin else len(text)].strip()


def _split_channels(text: str, started_inside: bool) -> Thinking:
    """Split by channels: analysis is thinking; final and commentary are the answer."""
    thoughts, answers = [], []
    thought, answered = started_inside, False
    for channel, start, end in harmony_messages(text):
        if channel == "analysis" or (not channel and started_inside):
            thoughts.append((start, end))
            thought = True
        else:
            answers.append((start, end))
            answered = True
    state: ThinkState = "absent" if not thought else "closed" if answered else "unclosed"
    return _assemble(text, thoughts, answers, state)


def _split_tags(text: str, started_inside: bool) -> tuple[Ranges, Ranges, ThinkState]:
    """Return the ranges of the thinking and of the answer, and the state."""
    tags = Tags.read(text)
    begin, before, kind = 0, (0, 0), ""
    opener = tags.opener_at(0)
    if opener is not None and started_inside and not opener.strong and tags.orphan(0) is not None:
        opener = None  # a word of the thinking that the template opened
    if opener is not None:
        begin, kind = opener.end, opener.kind
    elif not started_inside:
        opened, closed = tags.strong_open(), tags.orphan(0, code=False)
        if opened is not None and (closed is None or opened.start < closed.start):
            run = tags.opener_at(opened.start) or opened
            closed = tags.close(opened.kind, run.end, code=False)
            begin, before, kind = run.end, (0, opened.start), opened.kind  # words to the user, then thinking
        if closed is None:  # an opening tag in mid-text that nothing closes is a word of the answer
            return [], [(0, len(text))], "absent"
    thoughts: Ranges = []
    weak, blank = opener is not None and not opener.strong, True
    while (close := tags.close(kind, begin) if kind else tags.orphan(begin)) is not None:
        thoughts.append((begin, close.start))
        blank = blank and not text[begin : close.start].strip()
        again = tags.opener_at(close.end)
        if again is None or not (again.strong or weak or blank):  # a word in the answer of a model that has thought
            return thoughts, [before, _answer(text, close.end)], "closed"
        begin, kind = again.end, again.kind
    return [*thoughts, (begin, len(text))], [], "unclosed"


def _answer(text: str, begin: int) -> tuple[int, int]:
    opened, closed = _ANSWER_BEGINS.match(text, begin), _ANSWER_ENDS.search(text, begin)
    return (opened.end(), closed.start() if closed else len(text)) if opened else (begin, len(text))


def _assemble(text: str, thoughts: Ranges, answers: Ranges, state: ThinkState) -> Thinking:
    """Trim the ranges, fill the gaps between them, and join the texts of each kind."""
    named: list[Span] = []
    kinds: tuple[tuple[SpanKind, Ranges], ...] = (("thinking", thoughts), ("answer", answers))
    for kind, ranges in kinds:
        for start, end in ranges:
            piece = text[start:end]
            start += len(piece) - len(piece.lstrip())
            end -= len(piece) - len(piece.rstrip())
            if start < end:
                named.append(Span(kind, start, end))
    spans: list[Span] = []
    reached = 0
    for span in sorted(named, key=lambda span: span.start):
        if span.start > reached:
            spans.append(Span("gap", reached, span.start))
        spans.append(span)
        reached = span.end
    if reached < len(text):
        spans.append(Span("gap", reached, len(text)))
    thinking, answer = (
        "\n\n".join(text[s.start : s.end] for s in named if s.kind == kind) for kind in ("thinking", "answer")
    )
    return Thinking(text, thinking, answer, state, tuple(spans))
