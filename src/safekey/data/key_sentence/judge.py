"""Judge one sentence of the thinking: does it restate the query, say nothing, or move on?

The sentences of one row, and what is said of each::

    Okay, so the user is asking how to pick the royal vault.   restates   by its subject
    Three locks, one guard.                                    restates   goes on in the query's words
    Hmm, that sounds like theft.                               moves on   after a pause

A restatement says what was asked: its subject is the user or the query and its verb reports ("the user wants ..."), or
it sets the writer's task in the words of the query, or it consists of words of the query. Once there is one, a sentence
goes on with it when it is made of the query's words and ends in one of them: what is new stands at a sentence's end.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, NamedTuple

from safekey.data.key_sentence import cues, details
from safekey.data.key_sentence.query_words import MAX_CHARS, Overlap, Query, unspaced

ASIDE = 0.25  # share that is enough when the sentence continues about "their ..." or about someone in the query
SHARED = 0.6  # share of content words from the query that makes a sentence a restatement
FEW = 0.34  # share that is enough for the first sentence, or with a hint that it goes on

# restates: says what was asked.   sets: names the task or turns to the query, without its content.
# empty: says nothing at all ("Okay, let's see.", a heading).   moves on: anything else.
Kind = Literal["restates", "sets", "empty", "moves on"]
# What decided: the name of the rule. `confidence.py` knows how often each is right.
Why = Literal[
    "heading", "filler", "pause", "asked", "subject", "goes on", "reads", "wonders", "answers", "label",
    "first words", "few first words", "first stance words", "let", "task", "task names", "task empty",
    "task again", "stance", "first stance", "task judges", "task after", "plan", "judges", "query's words",
    "other words", "first other words",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Before:
    """What stands before a sentence.

    Attributes:
        restated: an earlier sentence has restated the query.
        lists: the last sentence restated it and ends in a colon, or is an item of a list that does.
        wonders: the last sentence asked what the request is.
    """

    restated: bool = False
    lists: bool = False
    wonders: bool = False


class Judged(NamedTuple):
    """The kind of a sentence, what decided, and how many of its content words the query has."""

    kind: Kind
    why: Why
    overlap: Overlap = Overlap(0, 0, False)
    head: str = ""


HEADING = re.compile(r"#{1,6} [^\n]{1,80}|\*\*[^*\n]{1,80}\*\*:?|__[^_\n]{1,80}__:?")
ITEM = re.compile(r"\s*(?:[-*•–·]\s|[(\[]?(?:\d{1,2}|[a-hA-H])[.)\]]\s)")
_NUMBERED = re.compile(r"\A[\s*#>]*(?:step \d{1,2}[.:)]?|\(?\d{1,2}[.)])\s+")
_QUOTED = re.compile(r"[\"“«„「『]")  # a sentence that opens with a quotation: the query's, or a draft of the writer's
_QUESTION = re.compile(r"[?？؟][\s\"'”’*_]*\Z")


def judge(sentence: str, query: Query, before: Before) -> Judged:
    """Return the kind of a sentence of the thinking, given the query's words and what stands before it."""
    if HEADING.fullmatch(sentence):
        return Judged("empty", "heading")
    folded = unicodedata.normalize("NFKC", sentence[:MAX_CHARS]).casefold()
    head = _head(folded)
    if not head:
        return Judged("empty", "filler")
    overlap = query.overlap(head)
    kind, why = _kind(sentence, folded, head, overlap, query, before)
    return Judged(kind, why, overlap, head)


def _kind(sentence: str, folded: str, head: str, overlap: Overlap, query: Query, before: Before) -> tuple[Kind, Why]:
    """Try the rules in turn: opener, subject, going on, turning to the query, stance, task, words."""
    restated = before.restated
    if restated and cues.PAUSE.match(folded) and not (overlap.share == 1 and overlap.total <= 4):
        return "moves on", "pause"
    if cues.ASKED.match(head):
        return "restates", "asked"
    if overlap.shared and (details.ASKED_END.search(head) or details.MEANT_TO.match(head)) and not query.lacks(head):
        return "restates", "asked"
    if restated and overlap.total <= 3 and details.SAYS_ASKED.search(head) and not query.lacks(head):
        return "restates", "asked"
    subject_head = head if restated else cues.FIRST.sub("", head, count=1)
    subject = _subject_kind(subject_head, overlap.share, restated=restated, adds=query.lacks_judgement(head))
    if subject is not None:
        return subject, "subject"
    if _QUOTED.match(sentence) and query.lacks_quote(sentence):
        return "moves on", "other words" if restated else "first other words"
    if restated and _goes_on(head, overlap, query, before, item=ITEM.match(sentence) is not None):
        return "restates", "goes on"
    if cues.READS.match(head) and not (restated and cues.TACKLES.search(head)):
        return "sets", "reads"
    asks = not restated and _QUESTION.search(sentence) is not None and len(head) < 90
    if asks and overlap.share < SHARED and (overlap.total <= 2 or details.WONDERS.search(head)):
        return "empty", "wonders"
    if cues.STANCE.match(head):
        return _stance_kind(head, overlap, query, restated=restated)
    if cues.TASK.match(head):
        return _task_kind(head, overlap, restated=restated)
    if restated:
        return "moves on", _moving(head, overlap, query)
    return _first_kind(head, overlap, query, before, filler=head != folded)


def _moving(head: str, overlap: Overlap, query: Query) -> Why:
    """Say by what a sentence without a telling opener moves on."""
    if details.PLANS.search(head):
        return "plan"
    if query.lacks_judgement(head):
        return "judges"
    return "other words" if overlap.share < FEW else "query's words"


def _goes_on(head: str, overlap: Overlap, query: Query, before: Before, *, item: bool) -> bool:
    """Whether a sentence after a restatement goes on with it: in the query's words, and with nothing that it lacks."""
    if details.PLANS.search(head) and (overlap.share < 1 or overlap.total < 4):
        return False
    if before.lists and item and not query.lacks_judgement(head):
        return True
    label = details.FACET_LABEL.match(head) or details.FACET.match(head)
    if label is not None:
        rest = head[label.end() :]
        if query.overlap(rest).share >= (FEW if rest and not head[label.end() - 1].isspace() else 0.5):
            return not query.lacks_judgement(rest) and not query.lacks_work(rest)
    ordinal = details.ORDINAL.match(head)
    if ordinal is not None:
        head = head[ordinal.end() :]
        if cues.TASK.match(head):
            return False
        overlap = query.overlap(head)
    if not overlap.total and details.ITS.match(head):  # "It's still on.": small words, but the query's
        return query.says(details.ITS.sub("", head, count=1))
    if details.IS_FOR.match(head):
        return not query.lacks_judgement(head) and not query.lacks_work(head)
    if query.lacks(head) or not overlap.shared or (details.PROPOSES.search(head) and overlap.share < 1):
        return False
    if details.REPORTED.search(head):
        return True
    if overlap.share >= 0.3 and details.CONSTRAINS.search(head):
        return True
    if overlap.share < 0.8 and _claims(head, query):
        return False
    return _repeats(head, overlap, ordinal=ordinal is not None)


def _repeats(head: str, overlap: Overlap, *, ordinal: bool) -> bool:
    """Whether a sentence that adds nothing to the query has enough of its words, and ends in one of them.

    What is new stands at the end: "Two of them are hens" repeats a query about hens, "Hens are birds" does not.
    """
    share, total, last = overlap.share, overlap.total, overlap.last
    if details.INFERS.match(head):
        return share >= 0.85 and total >= 5
    stance = cues.STANCE.match(head) is not None and not ordinal
    if stance and details.DENIAL_FIRST.match(head):
        return share >= (0.5 if last else SHARED)
    if stance and not details.SPECIFIES.match(head) and not details.ITS.match(head):
        return total >= 4 and share == 1 and not head.startswith(("that", "this", "these"))
    if share >= SHARED and (last or share >= 0.75 or total <= 3):
        return True
    pairs = not head.isascii() and unspaced(head)
    if share >= 0.5 and last and (pairs or (total <= 3 and not details.DEFINITE.match(head))):
        return True
    hints = (details.FACET, details.SPECIFIES, details.NARRATES, details.OF_USER, details.ANAPHOR, details.ADDS_ON)
    return (
        any(hint.search(head) for hint in hints)
        and total <= 6
        and share >= (0.3 if details.RETURNS.match(head) else FEW)
    )


def _claims(head: str, query: Query) -> bool:
    """Whether the sentence says something new of something: no more than "it seems" or "too" softens."""
    return query.lacks_claim(head) and not details.ADDS_ON.search(head)


def _first_kind(head: str, overlap: Overlap, query: Query, before: Before, *, filler: bool) -> tuple[Kind, Why]:
    """Judge a sentence without a telling subject or opener before any restatement: by the words of the query."""
    if before.wonders and details.INDIRECT.match(head) and overlap.shared:
        return "restates", "answers"
    if details.FACET_LABEL.match(head) and overlap.shared and not query.lacks_judgement(head):
        return "restates", "label"
    share, total = overlap.share, overlap.total
    if not (query.lacks_number(head) or query.lacks_work(head)):
        if query.lacks_denial(head):
            return "moves on", "first other words"
        denies = query.lacks_judgement(head) or _claims(head, query)
        if share >= SHARED and not (denies and share < 0.8):
            return "restates", "first words"
        enough = share >= FEW or (filler and total <= 2 and share > 0)
        if enough and not denies and not details.PLANS.search(head):
            return "restates", "few first words"
    return ("empty", "filler") if total == 0 else ("moves on", "first other words")


def _subject_kind(head: str, share: float, *, restated: bool, adds: bool) -> Kind | None:
    """Judge a sentence by its subject: the user, "they", or the query. None: it has another subject."""
    match = cues.PERSON.match(head) or (cues.PRONOUN.match(head) if restated or share >= 0.3 else None)
    if match is not None and not head.startswith(("'s ", "’s "), match.end()):
        rest = head[match.end() :]
        if cues.PERSON.match(head) is None and share < ASIDE and not cues.PERSON_DOES.match(rest):
            return "moves on"
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


def _task_kind(head: str, overlap: Overlap, *, restated: bool) -> tuple[Kind, Why]:
    """Judge "I need to ...": it restates by the query's words or by naming the query, and only before K's turn."""
    if restated:
        enough = 4 if head.startswith("let") else 2
        same = overlap.share >= SHARED and overlap.shared >= enough and not cues.JUDGES.search(head)
        return ("restates", "task again") if same else ("moves on", "task after")
    if overlap.share >= 0.25 and overlap.shared:
        return "restates", "task"
    if cues.NAMES_QUERY.search(head):
        return "sets", "task names"
    return ("moves on", "task judges") if cues.JUDGES.search(head) else ("empty", "task empty")


def _stance_kind(head: str, overlap: Overlap, query: Query, *, restated: bool) -> tuple[Kind, Why]:
    """Judge a sentence with a stance's opener: before any restatement it may still set the task or say nothing."""
    if not restated and overlap.share >= SHARED and not query.lacks(head):
        return "restates", "first stance words"
    if not restated and head.startswith(("let me", "let's", "let’s")):
        return "empty", "let"
    return "moves on", "stance" if restated else "first stance"


def _head(sentence: str) -> str:
    """Return the sentence without its opening fillers and marks."""
    head = _NUMBERED.sub("", sentence.casefold(), count=1).lstrip(" \t\n*#>-•\"“'—–")
    while (match := cues.FILLER.match(head)) is not None and match.end() > 0:
        head = head[match.end() :]
    return head if any(char.isalnum() for char in head) else ""
