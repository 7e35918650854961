"""Say how sure the rule is of the U and K of one row, from what it saw while reading.

What makes a row doubtful, and what that comes to::

    (nothing)                                                    0.97  high
    ("the key sentence is very short",)                          0.88  medium
    ("the key sentence is very short", "no sentence restates")   0.50  low

The three numbers are shares of labelled rows that the rule had right, rounded (docs/segmentation.md has the table and
the rows they were measured on). They say how likely it is that a person would mark the same K.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from safekey.data.key_sentence.judge import FEW, Judged

LEVELS = (0.97, 0.88, 0.5)  # with no doubt, with one, with two or more
UNSURE_BELOW = 0.95  # a row with less is unsure: `data validate` lists it, `--unsure-only` asks the annotator for it

# The key sentence says by its opener, its plan or its judgement that it is no restatement.
_CLEAR = frozenset({"stance", "first stance", "pause", "plan", "judges", "task judges"})
_POINTS_BACK = re.compile(r"(?:it|they|both|there|he|she)\b")


def level(doubts: Sequence[str]) -> float:
    """Return the confidence that goes with these doubts, 0 to 1."""
    return LEVELS[min(len(doubts), len(LEVELS) - 1)]


def doubts_of(read: Sequence[Judged], count: int, after: Judged | None) -> tuple[str, ...]:
    """Return what is doubtful about a row, in plain words; () when nothing is.

    Args:
        read: the sentences of the thinking that were judged, from its first one up to the one that moves on.
        count: how many of them are U.
        after: the sentence after K, judged as if K were part of U; None when there is none.
    """
    doubts = []
    if any(one.why == "few first words" for one in read[:count]):
        doubts.append("the sentence taken as restatement has few words of the query")
    if count == len(read):
        return (*doubts, "the thinking only restates", "the key sentence is the answer's first sentence")
    key, last = read[count], read[-1]
    if not count and last.why not in _CLEAR:
        doubts.append("no sentence restates the query")
    clear = last.why in _CLEAR
    if key.overlap.total <= 2 and not clear and last.why != "task after":
        doubts.append("the key sentence is very short")
    if count and last.why != "pause" and key.overlap.share >= FEW:
        doubts.append("the key sentence has many words of the query")
    if count and _POINTS_BACK.match(key.head):
        doubts.append("the key sentence may speak of the query's things ('it', 'they', 'both')")
    if (
        after is not None
        and after.kind == "restates"
        and after.overlap.total > 1
        and not (clear and after.why == "subject")
    ):
        doubts.append("the sentence after the key sentence restates the query")
    return tuple(doubts)
