"""Find the understanding U and the key sentence K by rule: deterministic, offline, no model.

The thinking of one row, and the kind of each sentence::

    Okay, so the user is asking how to pick the royal vault.   restates    ┐ U
    They mention that it has three locks.                      restates    ┘
    Hmm, that sounds like theft.                               moves on    K
    First, I should check the policies.                        (not read)

What tells them apart is in `key_sentence/`: `judge.py` judges one sentence, `confidence.py` says how sure the row is.
`docs/segmentation.md` has the measured accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from safekey.data.key_sentence import cues
from safekey.data.key_sentence.confidence import doubts_of, level
from safekey.data.key_sentence.judge import HEADING, ITEM, Before, Judged, judge
from safekey.data.key_sentence.query_words import Query
from safekey.data.sentences import sentences
from safekey.schema import CLOSE_TAG, Example
from safekey.text.thinking import thinking_span

MAX_SENTENCES = 40  # no restatement is longer; bounds the work on a thinking of 100k characters

Span = tuple[int, int]


def segment(example: Example, *, overwrite: bool = False) -> Example:
    """Return `example` with its understanding and key sentence found by rule.

    When the thinking starts with K, U is empty and ends where the thinking starts. When the thinking only restates, K
    is the first sentence of the answer, and its offsets lie in the answer. Without any thinking both offsets are the
    start of the thinking: U and K are empty, and the row can take part in SFT only.

    Args:
        example: any example; its `response` should be in canonical form (see `Example`). Any other text counts as
            thinking up to its ``</think>``, or to its end.
        overwrite: find them anew even if the example has both offsets.

    Returns:
        The example with `understanding_end` ≤ `key_sentence_end`, character offsets into `response` that fall right
        after the last visible character of U and K, `span_source` "rule", and `span_confidence`, 0 to 1: how likely a
        person would mark the same K. Never raises, whatever the text.
    """
    if not overwrite and example.understanding_end is not None and example.key_sentence_end is not None:
        return example
    found = locate(example)
    return replace(
        example,
        understanding_end=found.understanding_end,
        key_sentence_end=found.key_sentence_end,
        span_source="rule",
        span_confidence=found.confidence,
    )


def find_spans(example: Example) -> Span:
    """Return (understanding_end, key_sentence_end), character offsets into `example.response`, by rule."""
    found = locate(example)
    return found.understanding_end, found.key_sentence_end


class Located(NamedTuple):
    """What the rule found in one row.

    Attributes:
        understanding_end: character offset into the response where U ends.
        key_sentence_end: character offset into the response where K ends.
        doubts: what is doubtful about them, in plain words; () when nothing is.
    """

    understanding_end: int
    key_sentence_end: int
    doubts: tuple[str, ...] = ()

    @property
    def confidence(self) -> float:
        """How likely a person would mark the same K, 0 to 1 (see `key_sentence/confidence.py`)."""
        return level(self.doubts)


def locate(example: Example) -> Located:
    """Find U and K of `example` by rule, with what is doubtful about them. Never raises, whatever the text.

    A row without thinking has nothing to find: both offsets are the start of the thinking, and nothing is doubtful.
    """
    response = example.response
    start, end = thinking_span(response)
    query = Query.of(example)
    stream = islice(sentences(response, start, end), MAX_SENTENCES + 1)
    spans, read, count, _ = read_sentences(response, stream, query)
    if not spans:
        return Located(start, start)
    understanding_end = spans[count - 1][1] if count else start
    ahead = islice(stream, 4)  # no more is looked at: K may be "Hmm." or a heading with the sentence after it
    rest = [*spans[count:], *ahead] or _answer_sentences(response, end)
    index = _key_sentence(response, rest)
    key_sentence_end = rest[index][1] if rest else understanding_end
    after = None
    if count < len(spans) and index + 1 < len(rest):
        left, right = rest[index + 1]
        after = judge(response[left:right], query, Before(restated=True))
    return Located(understanding_end, key_sentence_end, doubts_of(read, count, after))


def _answer_sentences(response: str, thinking_end: int) -> list[Span]:
    """Return the first three sentences of the answer; K is one of them when the thinking only restates."""
    start = thinking_end + len(CLOSE_TAG) if response.startswith(CLOSE_TAG, thinking_end) else thinking_end
    return list(islice(sentences(response, start), 3))


def _key_sentence(response: str, rest: list[Span]) -> int:
    """Return the index of the sentence in `rest` with which K ends: the first that is more than "Hmm." or a heading."""
    for index, (start, end) in enumerate(rest):
        text = response[start:end]
        if not cues.INTERJECTION.fullmatch(text.casefold()) and not HEADING.fullmatch(text):
            return index
    return len(rest) - 1


class ReadSentences(NamedTuple):
    """What the rule read, up to the sentence that moves on.

    Attributes:
        spans: the sentences, as character offsets.
        read: what each is; the last one moves on if `moved`.
        inside: how many of them are U.
        moved: whether a sentence was found with which K begins; otherwise everything that there was has been read.
    """

    spans: list[Span]
    read: list[Judged]
    inside: int
    moved: bool


def read_sentences(text: str, stream: Iterable[Span], query: Query) -> ReadSentences:
    """Read sentences up to the first that moves on.

    Openers without content belong to U only if a restatement follows; otherwise the first sentence is K.

    Args:
        text: what the offsets are about.
        stream: the sentences of the thinking in their order; read no further than needed.
        query: the words of the query.
    """
    spans: list[Span] = []
    read: list[Judged] = []
    count = 0
    before = Before()
    for start, end in stream:
        sentence = text[start:end]
        judged = judge(sentence, query, before)
        spans.append((start, end))
        read.append(judged)
        if judged.kind == "moves on" or (judged.kind == "empty" and before.restated and judged.why != "heading"):
            return ReadSentences(spans, read, count, True)
        if judged.kind != "empty":
            count = len(spans)
        restates = judged.kind == "restates"
        before = Before(
            restated=before.restated or restates,
            lists=restates and (sentence.endswith((":", "：")) or (before.lists and ITEM.match(sentence) is not None)),
            wonders=judged.kind == "empty" and sentence.endswith(("?", "？", "؟")),
        )
    return ReadSentences(spans, read, count, False)
