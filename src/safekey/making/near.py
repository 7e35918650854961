"""Find near-duplicates among many short texts: MinHash proposes pairs, exact Jaccard similarities decide.

Two texts are near-duplicates when the Jaccard similarity of their runs of five letters is at least the threshold, and
that of their words, and of their runs of three words, above `FLOOR` (runs do not count where nearly all words are the
same): one measure alone takes the same words in another order, or a few long words, for the same request. MinHash only
proposes, so nothing is removed by an estimate. `datasketch` computes the signatures (`pip install 'safekey[make]'`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from safekey.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LETTERS, WORDS = 5, 3
FLOOR, SAME_WORDS = 0.5, 0.9
_BANDS, _ROWS = 42, 6  # a pair at 0.8 is proposed with 99.99 %, one at 0.7 with 99.5 %, one at 0.1 with 0.004 %
_FULL = 100  # texts in a bucket; a fuller one is passed over, and a near-duplicate is found by its other bands
_MARGIN = 0.15  # an estimate from 252 numbers is rarely further off
_SEED = 1


class NearIndex:
    """The texts that were kept, and which of them a new text is near to."""

    def __init__(self, threshold: float) -> None:
        """Make an empty index.

        Args:
            threshold: Jaccard similarity of letter runs from which two texts are near-duplicates, 0 to 1.

        Raises:
            UserError: datasketch is not installed.
        """
        try:
            from datasketch import MinHash
        except ImportError:
            raise UserError(
                "near-duplicates are found with datasketch, which is not installed: pip install 'safekey[make]', or "
                "near=0 to remove exact duplicates only"
            ) from None
        self.threshold = threshold
        self._make: Any = MinHash
        self._texts: list[str] = []
        self._signs: list[NDArray[Any]] = []
        self._buckets: list[dict[int, list[int]]] = [{} for _ in range(_BANDS)]

    def nearest(self, text: str, signature: NDArray[Any]) -> int | None:
        """Return the place (in the order of `add`) of a text that this one is a near-duplicate of; None for none."""
        places = np.array(sorted({place for bucket in self._found(signature) for place in bucket}), dtype=int)
        if not len(places):
            return None
        alike = np.mean(np.stack([self._signs[place] for place in places]) == signature, axis=1)
        for index in np.argsort(-alike, kind="stable"):
            if alike[index] < self.threshold - _MARGIN:
                return None
            if is_near(text, self._texts[places[index]], self.threshold):
                return int(places[index])
        return None

    def add(self, text: str, signature: NDArray[Any]) -> None:
        """Keep a text; the first one has place 0."""
        for band, key in zip(self._buckets, _keys(signature), strict=True):
            bucket = band.setdefault(key, [])
            if len(bucket) <= _FULL:
                bucket.append(len(self._texts))
        self._texts.append(text)
        self._signs.append(signature)

    def signatures(self, texts: Iterable[str]) -> Iterator[NDArray[Any]]:
        """Return the MinHash of each text, in order."""
        runs = ([run.encode("utf-8", "replace") for run in letter_runs(text)] for text in texts)
        options: dict[str, Any] = {"num_perm": _BANDS * _ROWS, "seed": _SEED, "hashfunc": zlib.crc32}
        for sign in self._make.generator(runs, **options):
            yield sign.hashvalues

    def _found(self, signature: NDArray[Any]) -> Iterator[list[int]]:
        """Yield the texts that share a band, except where too many do: what a template has in common says nothing."""
        for band, key in zip(self._buckets, _keys(signature), strict=True):
            bucket = band.get(key, [])
            if len(bucket) <= _FULL:
                yield bucket


def _keys(signature: NDArray[Any]) -> list[int]:
    return [hash(signature[start : start + _ROWS].tobytes()) for start in range(0, _BANDS * _ROWS, _ROWS)]


def is_near(one: str, other: str, threshold: float) -> bool:
    """Whether two normalised texts are near-duplicates."""
    if jaccard(letter_runs(one), letter_runs(other)) < threshold:
        return False
    first, second = one.split(), other.split()
    words = jaccard(set(first), set(second))
    return words > FLOOR and (words >= SAME_WORDS or jaccard(word_runs(first), word_runs(second)) > FLOOR)


def letter_runs(text: str) -> set[str]:
    """Return all runs of five letters; of a shorter text the text itself."""
    return {text[place : place + LETTERS] for place in range(max(1, len(text) - LETTERS + 1))}


def word_runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    """Return all runs of three words; of a shorter text all its words."""
    return {tuple(words[place : place + WORDS]) for place in range(max(1, len(words) - WORDS + 1))}


def jaccard(one: set[Any], other: set[Any]) -> float:
    """Return the shared part of two sets, 0 to 1; 1 for two empty ones."""
    both = len(one & other)
    whole = len(one) + len(other) - both
    return both / whole if whole else 1.0
