"""Find near-duplicates among many short texts, exactly: every pair that the rule calls near is found, and no other.

Two texts are near-duplicates when the Jaccard similarity of their runs of five letters is at least the threshold, and
that of their words, and of their runs of three words, above `FLOOR` (runs do not count where nearly all words are the
same): one measure alone takes the same words in another order, or a few long words, for the same request.

A text that is near to another lacks few of its runs. So it is in some of the lists "texts that hold this run" of any
sufficiently many of them, and the rarest runs have the shortest lists: what a template has in common is not looked at.
What was found in enough of them is compared, all of it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

LETTERS, WORDS = 5, 3
FLOOR, SAME_WORDS = 0.5, 0.9
_ROUNDING = 1e-9  # 0.7 * 10 is more than 7


class NearIndex:
    """Texts, those of them that were kept, and which kept one a text is near to."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        """Number the runs and words of all texts; none is kept yet.

        Args:
            texts: normalised texts: words with one space between them. A place below is one in this list.
            threshold: Jaccard similarity of letter runs from which two texts are near-duplicates, above 0, up to 1.
        """
        self.threshold = threshold
        self._texts = texts
        self._letters = _Sets(texts, letter_runs)
        self._words = _Sets(texts, lambda text: set(text.split()))
        self._lists = np.zeros(len(self._letters.members), dtype=np.int32)  # run → the kept texts that hold it
        counts = np.bincount(self._letters.members, minlength=self._letters.kinds)
        self._starts = np.cumsum(counts) - counts
        self._held = np.zeros(self._letters.kinds, dtype=np.int64)
        self._sizes = np.zeros(len(texts), dtype=np.int64)  # of the kept texts; of others 0
        self._kept = np.zeros(int(max(self._letters.sizes, default=0)) + 1, dtype=np.int64)  # size → runs of all such

    def add(self, place: int) -> None:
        """Keep a text."""
        runs = self._letters.of(place)
        self._lists[self._starts[runs] + self._held[runs]] = place
        self._held[runs] += 1
        self._sizes[place] = len(runs)
        self._kept[len(runs)] += len(runs)

    def nearest(self, place: int) -> int | None:
        """Return the place of the kept text that is most alike and near (of equal ones the first); None for none."""
        others = self._candidates(place)
        alike = self._letters.compare(place, others)
        others, alike = others[alike >= self.threshold], alike[alike >= self.threshold]
        enough = self._words.compare(place, others) > FLOOR
        others, alike = others[enough], alike[enough]
        for index in np.argsort(-alike, kind="stable"):
            if is_near(self._texts[place], self._texts[others[index]], self.threshold):
                return int(others[index])
        return None

    def _candidates(self, place: int) -> Numbers:
        """Return the kept texts that may be near, in order: none that is near is missing."""
        runs = self._letters.of(place)
        runs = runs[np.argsort(self._held[runs], kind="stable")]
        smallest = max(1, int(np.ceil(self.threshold * len(runs) - _ROUNDING)))
        looked, unseen = self._plan(self._held[runs], smallest)
        found = self._lists[_ranges(self._starts[runs[:looked]], self._held[runs[:looked]])]
        others, shared = _tally(found, len(self._texts))
        others = others[shared >= self._least(len(runs), self._sizes[others]) - (len(runs) - looked)]
        if unseen < smallest:
            return others
        return np.union1d(others, np.flatnonzero((self._sizes >= smallest) & (self._sizes <= unseen)))

    def _plan(self, lengths: Numbers, smallest: int) -> tuple[int, int]:
        """Return how many lists to look at, and up to which size texts are compared without being in one of them.

        The sum is the least: entries of lists, and runs of the texts that are compared. As much again goes into more
        lists, because a text that must be in many of them is seldom a candidate.

        Args:
            lengths: of the lists of one text's runs, the shortest first.
            smallest: the size from which a text may be near to it.
        """
        size, both = len(lengths), (1 + self.threshold) / self.threshold
        entries = np.concatenate([[0], np.cumsum(lengths)])
        largest = ((size - np.arange(size + 1)) * both - size + _ROUNDING).astype(np.int64)
        largest = np.clip(largest, smallest - 1, len(self._kept) - 1)
        runs = np.cumsum(self._kept)
        cost = entries + runs[largest] - runs[smallest - 1]
        looked = int(np.argmin(cost))
        looked = max(looked, int(np.searchsorted(entries, 2 * cost[looked], side="right")) - 1)
        return looked, int(largest[looked])

    def _least(self, size: int, sizes: Numbers) -> NDArray[Any]:
        """Return how many runs a text of a size shares with texts of other sizes that are near to it."""
        return self.threshold / (1 + self.threshold) * (size + sizes) - _ROUNDING


class _Sets:
    """A set of numbers for each text, one number for each different member.

    Attributes:
        members: the numbers of all sets, one set behind the other.
        sizes: of the sets.
        kinds: how many different numbers there are.
    """

    def __init__(self, texts: Sequence[str], parts: Callable[[str], Collection[str]]) -> None:
        """Cut every text into its parts; they are known by 64 bits, so that two do not collide by chance."""
        hashes = [np.fromiter(map(hash, found := parts(text)), np.int64, len(found)) for text in texts]
        self.sizes = np.array([len(found) for found in hashes], dtype=np.int64)
        known = np.unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.int64)
        self.kinds = len(known)
        self.members = np.zeros(int(self.sizes.sum()), dtype=np.int32)
        self._starts = np.cumsum(self.sizes) - self.sizes
        for start, found in zip(self._starts, hashes, strict=True):
            self.members[start : start + len(found)] = np.searchsorted(known, found)
        self._marked = np.zeros(self.kinds, dtype=bool)

    def of(self, place: int) -> NDArray[Any]:
        """Return the set of a text, as numbers without an order."""
        return self.members[self._starts[place] : self._starts[place] + self.sizes[place]]

    def compare(self, place: int, others: Numbers) -> NDArray[np.float64]:
        """Return the Jaccard similarity of a text's set with those of others."""
        if not len(others):
            return np.zeros(0)
        own, sizes = self.of(place), self.sizes[others]
        self._marked[own] = True
        shared = self._marked[self.members[_ranges(self._starts[others], sizes)]]
        self._marked[own] = False
        ends = np.cumsum(sizes)
        total = np.concatenate([[0], np.cumsum(shared)])
        both = total[ends] - total[ends - sizes]
        whole = len(own) + sizes - both
        return np.where(whole == 0, 1.0, both / np.maximum(1, whole))


def _ranges(starts: Numbers, lengths: Numbers) -> Numbers:
    """Return start, start + 1, … of every range, one range behind the other."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


def _tally(places: NDArray[Any], size: int) -> tuple[Numbers, Numbers]:
    """Return the different places below size, in order, and how often each is there."""
    if len(places) * 16 < size:
        found, counts = np.unique(places, return_counts=True)
        return found.astype(np.int64), counts
    counts = np.bincount(places, minlength=size)
    found = np.flatnonzero(counts)
    return found, counts[found]


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
