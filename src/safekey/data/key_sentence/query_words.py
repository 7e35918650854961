"""The words of a query, and how much of a sentence they make up: the evidence that a sentence restates the query.

What is counted for one sentence of the thinking::

    query     "I have 3 hens. They keep escaping over the fence."
    sentence  "Three of them."                     shared 1 of 1 words, the last word is shared
              "Clipping one wing is the usual fix"  shared 0 of 4
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from safekey.data.key_sentence import cues, details
from safekey.schema import Example

MAX_CHARS = 2000  # of one sentence, and half of what is examined of one turn of the query

_WORD = re.compile(r"[\wऀ-ॣ०-෿฀-๿ً-ْ]+")
_NUMBER = re.compile(r"\d+")
_UNSPACED = re.compile(r"[぀-ヿ㐀-鿿가-힯฀-๿]")
# Work in figures or code: "3x = 18", "48 × 5", "size()". What the query writes itself is none.
_WORK = re.compile(
    r"\b\w{1,40}\([^()]{0,40}\)|[\w)\]]\s{0,3}[=≈≤≥]\s{0,3}[\w(√+-]|\d\s{0,3}[×*·÷+/]\s{0,3}\d|\d\s[−–-]\s\d|"
    r"\d\s{0,3}[<>]\s{0,3}\d|^[{\[]\s{0,3}[\"'\w]{1,40}\s{0,3}[:,]"
)
_QUOTED = re.compile(r"[\"“«„「『]\s?([^\"”»“」』]{3,})\s?[\"”»“」』]")
_MARKUP = re.compile(r"[\s$\\{}^`*]+")
_SUFFIX = re.compile(r"(?:ing|ied|ies|ed|es|e?s|ly|er|e|y)\Z")


class Overlap(NamedTuple):
    """How much of a sentence the query has: content words in both, in the sentence, and whether its last one is."""

    shared: int
    total: int
    last: bool

    @property
    def share(self) -> float:
        """The share of the sentence's content words that the query has, 0 to 1; 0 without any."""
        return self.shared / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Query:
    """The words of what was asked.

    Attributes:
        words: stems, and character pairs for scripts that write no spaces between words.
        numbers: every run of digits, and number words as digits.
        text: the user turns, case-folded.
        squeezed: the same without white space and markup.
        denies: whether the query itself denies something ("no oven"); then a denial is no news.
    """

    words: frozenset[str]
    numbers: frozenset[str]
    text: str
    squeezed: str
    denies: bool

    @classmethod
    def of(cls, example: Example) -> Query:
        """Collect the words of every user turn."""
        turns = " ".join(turn.content[: 2 * MAX_CHARS] for turn in example.prompt if turn.role == "user")
        turns = unicodedata.normalize("NFKC", turns).casefold()
        words = frozenset(_stems(turns))
        numbers = {*_NUMBER.findall(turns), *(word for word in words if word.isdecimal())}
        return cls(words, frozenset(numbers), turns, _MARKUP.sub("", turns), _denies(turns))

    def overlap(self, sentence: str) -> Overlap:
        """Count the content words of a case-folded sentence that the query has."""
        stems = list(dict.fromkeys(_stems(sentence)))
        ending = stems[-4:] if stems and _UNSPACED.match(stems[-1]) else stems[-1:]  # pairs hold particles, too
        return Overlap(sum(stem in self.words for stem in stems), len(stems), not self.words.isdisjoint(ending))

    def lacks_number(self, sentence: str) -> bool:
        """Whether the sentence has a number that the query has not: it computes, it does not restate."""
        words = (details.NUMBER_WORDS[word] for word in _WORD.findall(sentence) if word in details.NUMBER_WORDS)
        found = [*_NUMBER.findall(sentence), *(digits for digits in words if digits not in "23")]  # "two things" counts
        return not self.numbers.issuperset(found)

    def lacks_judgement(self, sentence: str) -> bool:
        """Whether the sentence judges in a word that the query does not use itself."""
        return any(match.group() not in self.text for match in cues.JUDGES.finditer(sentence))

    def lacks_denial(self, sentence: str) -> bool:
        """Whether the sentence denies something although the query denies nothing."""
        return not self.denies and cues.DENIES.search(sentence) is not None

    def lacks_work(self, sentence: str) -> bool:
        """Whether the sentence has an equation, a sum, a conclusion or a call in code that the query has not."""
        if details.CONCLUDES.search(sentence):
            return True
        return any(_MARKUP.sub("", match.group()) not in self.squeezed for match in _WORK.finditer(sentence))

    def lacks_claim(self, sentence: str) -> bool:
        """Whether the sentence says of something that it "is" what the query does not mention."""
        claim = details.CLAIMS.search(sentence)
        return claim is not None and next(_stems(claim.group(1)), None) not in self.words | {None}

    def says(self, words: str) -> bool:
        """Whether the query has these very words, at least six characters of them."""
        squeezed = _MARKUP.sub("", words.rstrip(".!?。 "))
        return len(squeezed) >= 6 and squeezed in self.squeezed

    def lacks_quote(self, sentence: str) -> bool:
        """Whether the sentence opens with a quotation that the query has not: a draft, not a restatement."""
        quoted = _QUOTED.match(unicodedata.normalize("NFKC", sentence[:MAX_CHARS]).casefold())
        return quoted is not None and _MARKUP.sub("", quoted.group(1).rstrip(".!?,")) not in self.squeezed

    def lacks(self, sentence: str) -> bool:
        """Whether the sentence brings in anything of these four."""
        return (
            self.lacks_number(sentence)
            or self.lacks_denial(sentence)
            or self.lacks_judgement(sentence)
            or self.lacks_work(sentence)
        )


def _denies(text: str) -> bool:
    return cues.DENIES.search(text) is not None or details.WITHOUT.search(text) is not None


def unspaced(text: str) -> bool:
    """Whether a text is in a script that writes no spaces between words."""
    return _UNSPACED.search(text) is not None


def _stems(text: str) -> Iterator[str]:
    """Yield content words cut to what survives inflection, and character pairs where words are not spaced."""
    for word in _WORD.findall(text.replace("_", " ")):
        if word in cues.STOP_WORDS:
            continue
        if _UNSPACED.match(word):
            yield from (word[i : i + 2] for i in range(len(word) - 1))
        else:
            yield _stem(word)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """Return a word without its inflection: "Three" and "3" are one word, "sorting" and "sorts" are one word."""
    if word in details.NUMBER_WORDS:
        return details.NUMBER_WORDS[word]
    if len(word) <= 3:
        return word
    stem = _SUFFIX.sub("", word) if word.isascii() else word
    stem = word if len(stem) < 3 else stem
    if len(stem) > 3 and stem[-1] == stem[-2]:
        stem = stem[:-1]
    return stem[:5]
