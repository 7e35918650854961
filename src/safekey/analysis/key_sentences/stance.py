"""Classify the stance of a key sentence by rule: it refuses, hesitates, complies, or none of these.

    stance_of("Hmm, that is forbidden in the realm.")     "refusing"    refuses, or condemns the request
    stance_of("I need to check the policies first.")      "cautious"    hesitates, or refers to rules without a result
    stance_of("Let me recall the right tool.")            "complying"   agrees, or starts to help
    stance_of("The user seems to be upset.")              "other"       none of these

The patterns are in `stance_cues.py`; docs/analysis.md has the measured accuracy. Another function from a text to a
`Stance` can be used instead.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Literal, get_args

from safekey.analysis.key_sentences import stance_cues as cues

Stance = Literal["refusing", "cautious", "complying", "other"]
STANCES: tuple[Stance, ...] = get_args(Stance)

MAX_CHARS = 1000  # of a key sentence that are read
_NEAR = 40  # characters before a word in which its denial stands


def stance_of(key_sentence: str) -> Stance:
    """Return the stance of a key sentence. Deterministic; never raises, whatever the text.

    The clause after a "but" decides, and a concession ("although ...") does not; within a clause refusing takes
    precedence over cautious, and cautious over complying. A statement of fact is "other", even where it is the answer.
    """
    text = unicodedata.normalize("NFKC", key_sentence[:MAX_CHARS]).casefold().replace("’", "'")
    for clause in _clauses(" ".join(text.split())):
        stance = _of_clause(clause)
        if stance != "other":
            return stance
    return "other"


def _clauses(text: str) -> Iterator[str]:
    """Yield the parts of a sentence, the decisive one first."""
    for piece in reversed(cues.TURN.split(text)):
        concession = cues.CONCEDES.search(piece)
        if concession is None:
            yield piece
            continue
        before, after = piece[: concession.start()], piece[concession.start() :]
        main = before if before.strip(" ,，") else after.partition("," if "," in after else "，")[2]
        yield main
        yield piece if before.strip(" ,，") else after


def _of_clause(text: str) -> Stance:
    text = _head(text)
    judged = _judged(text)
    if judged is not None:
        return judged
    if cues.UNEASY.search(text):
        return "cautious"
    return "complying" if cues.COMPLIES.match(text) or cues.AGREES.search(text) else "other"


def _judged(text: str) -> Stance | None:
    """Return the stance that a clause expresses in words of judgement; None: it has none."""
    if cues.FINE.search(text):
        return "complying"
    for match in cues.REFUSES.finditer(text):
        if not _denied(text, match.start()):
            return "cautious" if _guessed(text, match.start()) else "refusing"
    if cues.WEIGHS.search(text):
        return "cautious"
    found: Stance | None = None
    for match in cues.CONDEMNS.finditer(text):
        if _denied(text, match.start()):
            found = found or ("complying" if cues.IMPERSONAL.match(text) else None)
        elif _guessed(text, match.start()):
            found = "cautious"
        else:
            return "refusing"
    return found


def _head(text: str) -> str:
    """Return a clause without its opening fillers."""
    text = text.lstrip(" *#>-\"'“‘—–,;:")
    while (match := cues.OPENER.match(text)) is not None:
        text = text[match.end() :]
    return text


def _denied(text: str, place: int) -> bool:
    """Whether the word at `place` is denied by one of the words before it."""
    return cues.DENIES.search(text[max(0, place - _NEAR) : place]) is not None


def _guessed(text: str, place: int) -> bool:
    """Whether the word at `place` stands in a question, or behind a "might" of its own clause."""
    begin = max(text.rfind(mark, 0, place) for mark in ",;:，；：、")
    return text.rstrip("\"'”’) ").endswith(("?", "？")) or cues.HEDGES.search(text, begin + 1, place) is not None
