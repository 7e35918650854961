"""Find the understanding U and the key sentence K by rule: deterministic, offline, no model.

The thinking of one row, and the kind of each sentence::

    Okay, so the user is asking how to pick the royal vault.   restates    ┐ U
    They mention that it has three locks.                      restates    ┘
    Hmm, that sounds like theft.                               moves on    K
    First, I should check the policies.                        (not read)

A restatement says what was asked: its subject is the user or the query and its verb reports ("the user wants ..."), or
it sets the writer's task in the words of the query, or it consists of words of the query. A sentence that judges,
plans, recalls a rule or starts the work moves on. The words that tell them apart are in `cues.py`; shared words are
counted here. `docs/segmentation.md` has the measured accuracy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from safekey.data import cues
from safekey.data.sentences import sentences
from safekey.schema import CLOSE_TAG, Example
from safekey.text.thinking import thinking_span

MAX_SENTENCES = 40  # no restatement is longer; bounds the work on a thinking of 100k characters
MAX_CHARS = 2000  # of one sentence or query that are examined
ASIDE = 0.25  # share that is enough when the sentence goes on about "their ..." or about someone in the query
SHARED = 0.6  # share of content words from the query that makes a sentence a restatement

# restates: says what was asked.   sets: names the task or turns to the query, without its content.
# empty: says nothing at all ("Okay, let's see.").   moves on: anything else.
Kind = Literal["restates", "sets", "empty", "moves on"]


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
        after the last visible character of U and K, and `span_source` "rule". Never raises, whatever the text.
    """
    if not overwrite and example.understanding_end is not None and example.key_sentence_end is not None:
        return example
    understanding_end, key_sentence_end = find_spans(example)
    return replace(example, understanding_end=understanding_end, key_sentence_end=key_sentence_end, span_source="rule")


def find_spans(example: Example) -> tuple[int, int]:
    """Return (understanding_end, key_sentence_end), character offsets into `example.response`, by rule."""
    response = example.response
    start, end = thinking_span(response)
    spans = list(islice(sentences(response, start, end), MAX_SENTENCES + 1))
    if not spans:
        return start, start
    query = Query.of(example)
    count = _count_understanding(response, spans, query)
    understanding_end = spans[count - 1][1] if count else start
    rest = spans[count:] or _answer_sentences(response, end)
    return understanding_end, _key_sentence_end(response, rest, understanding_end)


def _answer_sentences(response: str, thinking_end: int) -> list[tuple[int, int]]:
    """Return the first three sentences of the answer; K is one of them when the thinking only restates."""
    start = thinking_end + len(CLOSE_TAG) if response.startswith(CLOSE_TAG, thinking_end) else thinking_end
    return list(islice(sentences(response, start), 3))


def _key_sentence_end(response: str, rest: list[tuple[int, int]], default: int) -> int:
    """Return where K ends: after the first sentence of `rest` that is more than "Hmm."."""
    for start, end in rest:
        if not cues.INTERJECTION.fullmatch(response[start:end].casefold()):
            return end
    return rest[-1][1] if rest else default


def _count_understanding(response: str, spans: list[tuple[int, int]], query: Query) -> int:
    """Return how many of the leading sentences are U.

    Openers without content belong to U only if a restatement follows; otherwise the first sentence is K.
    """
    count = 0  # sentences known to be U
    restated = False
    for index, (start, end) in enumerate(spans):
        kind = classify(response[start:end], query, restated=restated)
        if kind == "moves on" or (kind == "empty" and restated):
            break
        restated = restated or kind == "restates"
        if kind != "empty":
            count = index + 1
    return count


def classify(sentence: str, query: Query, *, restated: bool) -> Kind:
    """Return the kind of a sentence.

    Args:
        sentence: one sentence of the thinking.
        query: the query's words.
        restated: whether an earlier sentence has restated the query; then "I need to figure out how to respond" moves
            on, where it otherwise sets the task.
    """
    folded = unicodedata.normalize("NFKC", sentence[:MAX_CHARS]).casefold()
    head = _head(folded)
    if not head:
        return "empty"
    shared, total = query.overlap(head)
    share = shared / total if total else 0.0
    if restated and cues.PAUSE.match(folded):
        return "moves on"
    if cues.ASKED.match(head):
        return "restates"
    adds = query.lacks_number(head) or cues.DENIES.search(head) is not None or query.lacks_judgement(head)
    subject_head = head if restated else cues.FIRST.sub("", head, count=1)
    subject = _subject_kind(subject_head, share, restated=restated, adds=query.lacks_judgement(head))
    if subject is not None:
        return subject
    if cues.READS.match(head) and not (restated and cues.TACKLES.search(head)):
        return "sets"
    if cues.STANCE.match(head):
        return _stance_kind(head, share, restated=restated, adds=adds)
    if cues.TASK.match(head):
        return _task_kind(head, shared, share, restated=restated)
    if share >= SHARED and not (adds if restated else query.lacks_number(head)) and (shared >= 2 or not restated):
        return "restates"
    if (
        not restated
        and not query.lacks_number(head)
        and (share >= 0.34 or (head != folded and total <= 2 and share > 0))
    ):
        return "restates"
    return "empty" if not restated and total == 0 else "moves on"


def _subject_kind(head: str, share: float, *, restated: bool, adds: bool) -> Kind | None:
    """Judge a sentence by its subject: the user, "they", or the query. None: it has another subject."""
    match = cues.PERSON.match(head) or (cues.PRONOUN.match(head) if restated or share >= 0.3 else None)
    if match is not None and not head.startswith(("'s ", "’s "), match.end()):
        rest = head[match.end() :]
        judged = cues.PERSON_JUDGED.match(rest)
        if judged and share < SHARED and not cues.REPORTS.match(rest[judged.end() :].lstrip()):
            return "moves on"
        if restated and cues.PERSON_GUESSED.match(rest) and (adds or cues.RESOLVES.search(rest)):
            return "moves on"
        return "restates"
    aside = cues.POSSESSOR.match(head) or cues.THIRD_PARTY.match(head)
    if restated and aside and share >= ASIDE and not cues.TEXT.match(head):
        return "moves on" if cues.JUDGES.search(head) else "restates"
    match = cues.TEXT.match(head) or re.match(r"(?:the|this) (?:user|person)['’]s \w+", head)
    if match is not None:
        return "restates" if cues.TEXT_REPEATS.match(head, match.end()) or share >= SHARED else "moves on"
    if cues.FOREIGN_PERSON.match(head) or cues.FOREIGN_REQUEST.match(head):
        guess = restated and share < SHARED and cues.FOREIGN_JUDGED.search(head)
        return "moves on" if guess else "restates"
    return None


def _task_kind(head: str, shared: int, share: float, *, restated: bool) -> Kind:
    """Judge "I need to ...": it restates by the query's words or by naming the query, and only before K's turn."""
    names_query = cues.NAMES_QUERY.search(head) is not None
    if restated:
        return "restates" if share >= SHARED and shared >= 2 and not cues.JUDGES.search(head) else "moves on"
    if share >= 0.25 and shared:
        return "restates"
    if names_query:
        return "sets"
    return "moves on" if cues.JUDGES.search(head) else "empty"


def _stance_kind(head: str, share: float, *, restated: bool, adds: bool) -> Kind:
    """Judge a sentence with a stance's opener: before any restatement it may still set the task or say nothing."""
    if not restated and share >= SHARED and not adds:
        return "restates"
    if not restated and head.startswith(("let me", "let's", "let’s")):
        return "empty"
    return "moves on"


def _head(sentence: str) -> str:
    """Return the sentence without its opening fillers and marks."""
    head = sentence.casefold().lstrip(" \t\n*#>-•\"“'—–")
    while (match := cues.FILLER.match(head)) is not None and match.end() > 0:
        head = head[match.end() :]
    return head if any(char.isalnum() for char in head) else ""


_WORD = re.compile(r"[\wऀ-ॣ०-෿฀-๿ً-ْ]+")
_NUMBER = re.compile(r"\d+")
_UNSPACED = re.compile(r"[぀-ヿ㐀-鿿가-힯฀-๿]")


@dataclass(frozen=True, slots=True)
class Query:
    """The words of what was asked, for counting how many of them a sentence repeats.

    Attributes:
        words: stems, and character pairs for scripts that write no spaces between words.
        numbers: every run of digits.
        text: the user turns, case-folded.
    """

    words: frozenset[str]
    numbers: frozenset[str]
    text: str

    @classmethod
    def of(cls, example: Example) -> Query:
        """Collect the words of every user turn."""
        turns = " ".join(turn.content[: 2 * MAX_CHARS] for turn in example.prompt if turn.role == "user")
        turns = unicodedata.normalize("NFKC", turns).casefold()
        return cls(frozenset(_stems(turns)), frozenset(_NUMBER.findall(turns)), turns)

    def overlap(self, sentence: str) -> tuple[int, int]:
        """Return how many of a case-folded sentence's content words the query has, and how many it has in all."""
        stems = set(_stems(sentence))
        return len(stems & self.words), len(stems)

    def lacks_number(self, sentence: str) -> bool:
        """Whether the sentence has a number that the query has not: it computes, it does not restate."""
        return not self.numbers.issuperset(_NUMBER.findall(sentence))

    def lacks_judgement(self, sentence: str) -> bool:
        """Whether the sentence judges in a word that the query does not use itself."""
        return any(match.group() not in self.text for match in cues.JUDGES.finditer(sentence))


def _stems(text: str) -> Iterator[str]:
    """Yield content words cut to what survives inflection, and character pairs where words are not spaced."""
    for word in _WORD.findall(text):
        if word in cues.STOP_WORDS:
            continue
        if _UNSPACED.match(word):
            yield from (word[i : i + 2] for i in range(len(word) - 1))
        elif len(word) > 5:
            yield word[:5]
        elif len(word) > 3 and word.endswith("s"):
            yield word[:-1]
        else:
            yield word
