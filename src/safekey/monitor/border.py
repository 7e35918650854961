"""Where U ends, while the thinking is still being written: the streaming rule, the same for saved texts

    border = Border(messages)
    border.feed("The user asks how to pick the royal vault. Hm")     -> None: K may still be a restatement
    border.feed("m, that sounds like theft. I should")               -> 42, the offset after "... vault."

The rule is that of `data/segment.py`, on the sentences that are complete. A sentence is complete when the word after it
is, because that word can show that it was none ("e.g. this"). So U's end is known one word after the end of the first
sentence that moves on: the delay is K and one word. Only the text so far decides, never how it was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

from safekey.data.key_sentence.query_words import Query
from safekey.data.segment import MAX_SENTENCES, read_sentences
from safekey.data.sentences import sentences
from safekey.schema import Example, Message

VERSION = 1
LONGEST = 4000
"""Characters after which a thinking that has not moved on is cut: U is what restates until then."""

_ENDS = frozenset(".!?…。！？｡؟۔।॥‼⁇⁈⁉\n")
_QUOTES = {"“": "”", "„": "“”", "«": "»", "「": "」", "『": "』", "《": "》"}
_LONGEST_QUOTE = 300  # characters; a quotation mark that is open for longer is taken as a stray one


class Border:
    """The end of U in a thinking that grows.

    Attributes:
        text: the thinking so far.
        safe: characters that are known to belong to U, whatever comes; never more than `end`.
        end: the offset after U's last character, 0 for no U; None while it is not known.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        """Take the turns before the thinking; the rule compares it with the user's words."""
        self._query = Query.of(Example(prompt=tuple(messages), response=""))
        self.text = ""
        self.safe = 0
        self.end: int | None = None
        self._pending = False  # a sentence may have ended
        self._word = False  # and another word has begun since

    def feed(self, more: str) -> int | None:
        """Add text of the thinking, without tags and leading white space; return `end`."""
        if self.end is not None:
            return self.end
        held: list[str] = []
        for char in more:
            held.append(char)
            if self._may_have_ended(char) or len(self.text) + len(held) >= LONGEST:
                self.text += "".join(held)
                held = []
                self._decide()
                if self.end is not None:
                    return self.end
        self.text += "".join(held)
        return None

    def finish(self, whole: str | None = None) -> int:
        """Say that the thinking is complete; return `end`.

        Args:
            whole: all of it, where the last pieces held the beginning of a closing tag; default: what was fed.
        """
        if self.end is None:
            text = (self.text if whole is None else whole).rstrip()
            found = read_sentences(text, sentences(text), self._query)
            self._end_at(found.spans[found.inside - 1][1] if found.inside else 0)
        assert self.end is not None
        return self.end

    def _may_have_ended(self, char: str) -> bool:
        """Whether the word after the end of a sentence has just ended."""
        if char.isalnum() or char in "_'’":
            self._word = self._word or self._pending
            return False
        ended = self._pending and self._word
        if char in _ENDS:
            self._pending, self._word = True, False
        elif ended:
            self._pending = self._word = False
        return ended

    def _decide(self) -> None:
        """Read the complete sentences; the last one is not."""
        cut = len(self.text) >= LONGEST
        if not cut and _open_quote(self.text):
            self._pending = True  # look again when it is closed
            return
        complete = list(sentences(self.text))[:-1]
        found = read_sentences(self.text, complete, self._query)
        known = found.spans[found.inside - 1][1] if found.inside else 0
        if found.moved or cut or len(complete) > MAX_SENTENCES:
            self._end_at(known)
        else:
            self.safe = max(self.safe, known)

    def _end_at(self, end: int) -> None:
        self.end = self.safe = max(self.safe, end)


def find_border(messages: Sequence[Message], thinking: str) -> int:
    """Return the offset after U in a whole thinking, as the streaming rule finds it; 0 for no U."""
    border = Border(messages)
    text = thinking.lstrip()
    shift = len(thinking) - len(text)
    border.feed(text)
    end = border.finish()
    return end + shift if end else 0


def _open_quote(text: str) -> bool:
    """Whether the text ends within a quotation that began lately: what looks like its sentences may be the query's."""
    tail = text[max(text.rfind("\n\n") + 2 if "\n\n" in text else 0, len(text) - _LONGEST_QUOTE) :]
    if tail.count('"') % 2:
        return True
    for opening, closing in _QUOTES.items():
        at = tail.rfind(opening)
        if at >= 0 and not any(mark in tail[at + 1 :] for mark in closing):
            return True
    return False
