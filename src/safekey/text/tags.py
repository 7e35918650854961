"""The tags that models put around their thinking: which strings they are, and where a text holds them.

    <think>…</think>   [THINK]…[/THINK]   ◁think▷…◁/think▷   <seed:think>…   <|begin_of_thought|>…<|end_of_thought|>
    <|START_THINKING|>…<|END_THINKING|>   <|channel>thought…<channel|>   <thinking>…</thinking>   <scratchpad>…

A *strong* tag is a model's own marker: unquoted and outside code, it bounds thinking wherever it stands. A *weak*
one is a word in brackets that a user may have asked for (`<thinking>`): it bounds thinking only at the start.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

MOST_TAGS = 1000  # tags checked for one outside code; bounds the time for hostile texts
THINK = "<think"
"""The kind of `<think>` and `</think>`."""

_STRONG = r"(?:(?:seed:|mm:|longcat_|ifm\|)?think(?:_fast(?:er)?)?)"
_WEAK = (
    r"(?:(?:antml:|ant)?thinking(?:_process)?|thoughts?(?:_process)?|reason(?:ing)?|reflection|scratchpad"
    r"|inner_thoughts?|inn?er_monologue|internal_monologue|monologue|chain_of_thought|cot)"
)
_PIPED = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?)"
# "</ think>" is no tag: it is how `text/harmony.py` and `engines/wire.py` break one up.
_TAG = (
    rf"<\s{{0,3}}(?P<x>/?)(?P<xml>{_STRONG}|{_WEAK})(?:\s[^<>]{{0,80}})?>"
    rf"|\[\s{{0,3}}(?P<b>/?)(?P<bracket>{_STRONG}|{_WEAK})\s{{0,3}}\]"
    r"|◁\s?(?P<t>/?)(?P<triangle>think(?:ing)?)\s?▷"
    rf"|<[|｜]\s?(?P<before>/|(?:begin|start|end)(?:[_▁]of)?[_▁])?(?P<pipe>{_PIPED})"
    r"(?P<after>[_:▁](?:start|begin|end|stop))?\s?[|｜]>"
    r"|<\|inner_(?P<inner>prefix|suffix)\|>"
    r"|(?P<gemma><\|channel>\s{0,3}thought\b|<channel\|>)"
    r"|\[unused1(?P<unused>[67])\]"
    r"|(?P<details><details\s[^<>]{0,80}?type=[\"']reasoning[\"'][^<>]{0,120}>|</details>)"  # Open WebUI's
    r"|(?P<granite>\bHere(?:'s|’s| is) my (?:thought process|response):)"
)
_NO_ORPHANS = ("granite", "details")  # kinds whose closing tags mean nothing without the opening one
_ANY = re.compile(rf"(?=[<\[◁H])(?:{_TAG})", re.IGNORECASE)
_SPACE = re.compile(r"\s*")
# Code fences start a line; a line starts after a tag, too, because models write `<think>```python`.
_FENCE = re.compile(r"(?:\A|\n)[^\S\n]*```")
_FENCE_BEHIND = re.compile(r"[^\S\n]*```")
_LONGEST_QUOTE = 80  # characters between two tags that are quoted together
_QUOTES = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」"}
# An opening straight quote does not follow a word, and a closing one does not precede one: `I say "no"</think>"No"`
# quotes no tag.
_BEFORE_NO_QUOTE = re.compile(r"[0-9A-Za-z.!?;)\]}]")
_AFTER_NO_QUOTE = re.compile(r"[0-9A-Za-z]")


class Tag(NamedTuple):
    """One tag of a text.

    Attributes:
        start, end: its offsets.
        kind: what an opening and a closing tag share: "<think", "[think", "|thought".
        closing: whether it closes.
        strong: whether it is a model's own marker (see above).
        exact: whether it is written as models write it, without white space or another case.
    """

    start: int
    end: int
    kind: str
    closing: bool
    strong: bool
    exact: bool


def _tag(match: re.Match[str]) -> Tag:
    kind, closing, strong, exact = _known(match[0])
    return Tag(match.start(), match.end(), kind, closing, strong, exact)


@lru_cache(maxsize=4096)
def _known(written: str) -> tuple[str, bool, bool, bool]:
    """Return kind, closing, strong and exact of a tag."""
    match = _ANY.match(written)
    assert match is not None
    found = match.groupdict()
    if (name := found["xml"]) is not None:
        exact = match[0] == f"<{found['x']}{name.lower()}>"
        return (f"<{name.lower()}", bool(found["x"]), re.fullmatch(_STRONG, name, re.I) is not None, exact)
    if (name := found["bracket"]) is not None:
        exact = match[0] == f"[{found['b']}{name.upper()}]"
        return (f"[{name.lower()}", bool(found["b"]), name.lower() == "think", exact)
    if (name := found["triangle"]) is not None:
        return (f"◁{name.lower()}", bool(found["t"]), True, True)
    if (name := found["pipe"]) is not None:
        ends = (found["before"] or "").lower().startswith(("/", "end")) or (found["after"] or "")[1:].lower() in (
            "end",
            "stop",
        )
        return (f"|{name.lower()}", ends, True, True)
    if found["granite"] is not None:
        return ("granite", "response" in match[0], False, True)
    if found["details"] is not None:
        return ("details", match[0].startswith("</"), False, True)
    if found["gemma"] is not None:
        return ("gemma", match[0].lower() == "<channel|>", True, True)
    if found["inner"] is not None:
        return ("inner", found["inner"].lower() == "suffix", True, True)
    return ("unused", found["unused"] == "7", True, True)


def tag_at_end(text: str) -> Tag | None:
    """Return the tag with which a text ends (a rendered prompt, say), or None."""
    text = text.rstrip()
    found = [match for match in _ANY.finditer(text, max(0, len(text) - 80)) if match.end() == len(text)]
    return _tag(found[-1]) if found else None


def opens_strongly(tag: str) -> bool:
    """Whether a text is a tag with which a model opens its thinking."""
    match = _ANY.fullmatch(tag)
    return match is not None and _tag(match).strong and not _tag(match).closing


def own_tags(vocabulary: object) -> tuple[str, str] | None:
    """Return the strong tags that a vocabulary (any collection of strings) holds as tokens, or None."""
    found = []
    for token in vocabulary:  # type: ignore[attr-defined]
        if token[:1] in "<[◁" and 6 < len(token) < 40 and (match := _ANY.fullmatch(token)) is not None:
            tag, close = _tag(match), closing_of(token)
            if tag.strong and not tag.closing and close in vocabulary:  # type: ignore[operator]
                found.append((token, close))
    return min(found, key=lambda pair: (len(pair[0]), pair)) if found else None


def closing_of(opener: str) -> str:
    """Return the tag that closes the thinking that this tag opens."""
    for begin, end in (
        ("begin", "end"), ("start", "end"), ("START", "END"), ("prefix", "suffix"), ("unused16", "unused17"),
    ):  # fmt: skip
        if begin in opener:
            return opener.replace(begin, end)
    if opener.startswith("<|channel>"):
        return "<channel|>"
    return re.sub(r"\A(<[|｜]|[<\[◁])", r"\1/", opener)


def _unquoted(text: str, tags: list[Tag]) -> Iterator[Tag]:
    """Drop tags that stand alone between quotes, and two tags of one line that are quoted together."""
    used, skip = 0, False  # the end of the last quotation: its quote opens no other
    for tag, following in zip(tags, [*tags[1:], None], strict=True):
        if skip:
            skip = False
            continue
        right = _quote_before(text, tag.start, used)
        if right and _quote_after(text, tag.end, right):
            used = tag.end + 1
            continue
        if right and not tag.closing and following is not None and following.start - tag.end <= _LONGEST_QUOTE:
            between = text[tag.end : following.start]
            if "\n" not in between and right not in between and _quote_after(text, following.end, right):
                used, skip = following.end + 1, True
                continue
        yield tag


def _quote_before(text: str, start: int, used: int) -> str:
    """Return the quote that would close the one before `start`, or ""."""
    left = text[start - 1] if start > used else ""
    if left in ("`", '"', "'"):
        before = text[start - 2] if start > 1 else ""
        if not (left == "`" == before) and _BEFORE_NO_QUOTE.match(before):
            return ""
    return _QUOTES.get(left, "")


def _quote_after(text: str, end: int, right: str) -> bool:
    straight = right in ("`", '"', "'")
    return text[end : end + 1] == right and not (straight and _AFTER_NO_QUOTE.match(text, end + 1))


@dataclass
class Tags:
    """The tags of a text that are not quoted, by kind, and the offsets of its code fences.

    `orphans` are those of `closes` that may close what the prompt opened.
    """

    text: str
    opens: dict[str, list[Tag]] = field(default_factory=dict)
    closes: dict[str, list[Tag]] = field(default_factory=dict)
    orphans: dict[str, list[Tag]] = field(default_factory=dict)
    fences: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> Tags:
        """Find the tags of a text."""
        found = cls(text)
        tags = [_tag(match) for match in _ANY.finditer(text)]
        if not tags:
            return found
        behind = (_FENCE_BEHIND.match(text, tag.end) for tag in tags)
        found.fences = sorted({match.end() for match in (*_FENCE.finditer(text), *behind) if match is not None})
        for tag in _unquoted(text, tags):
            (found.closes if tag.closing else found.opens).setdefault(tag.kind, []).append(tag)
            if tag.closing and tag.exact and tag.kind not in _NO_ORPHANS and not found._mentioned(tag):
                found.orphans.setdefault(tag.kind, []).append(tag)
        return found

    def opener_at(self, begin: int) -> Tag | None:
        """Return the opening tag that follows `begin` at once (a run of one kind counts as one), or None."""
        run = None
        while match := _SPACE.match(self.text, begin if run is None else run.end):
            tag = _ANY.match(self.text, match.end())
            found = None if tag is None else _tag(tag)
            if found is None or found.closing or (run is not None and found.kind != run.kind):
                return run
            run = found
        return run

    def strong_open(self) -> Tag | None:
        """Return the first strong opening tag outside code, or None."""
        found = [self._first(tags, 0, code=False) for tags in self.opens.values() if tags[0].strong]
        return min((tag for tag in found if tag is not None), default=None)

    def close(self, kind: str, begin: int, *, code: bool = True) -> Tag | None:
        """Return the tag that closes thinking of a kind: its own, else one of another kind that nothing here opened."""
        exact = self._first(self.orphans.get(THINK, []), begin, code=code) if kind == THINK else None
        return exact or self._first(self.closes.get(kind, []), begin, code=code) or self.orphan(begin, code=code)

    def orphan(self, begin: int, *, code: bool = True) -> Tag | None:
        """Return the first closing tag that no tag behind `begin` opens; `</think>` before all others.

        Args:
            begin: where to look from.
            code: a tag inside a code block counts if none outside follows.
        """
        think = self._first(self.orphans.get(THINK, []), begin, code=code)
        firsts = [self._first(tags, begin, code=code) for kind, tags in self.orphans.items() if kind != THINK]
        others = [tag for tag in firsts if tag is not None and not self._opened(tag.kind, begin, tag.start)]
        other = min(others, default=None)
        if think is None or other is None:
            return think or other
        return other if other < think and self._opened(THINK, other.end, think.start) else think

    def inside(self, begin: int) -> Tag | None:
        """Return the first tag outside code, from `begin` on, of what may be thinking in an answer, or None.

        It opens a block that its own kind closes; or it is strong, and begins a line or closes what nothing opened.
        """
        found: list[Tag] = []
        for kind, tags in self.opens.items():
            tag = self._first(tags, begin, code=False) if kind not in _NO_ORPHANS else None
            if tag is not None and (
                self._first(self.closes.get(kind, []), tag.end, code=False) is not None
                or (tag.strong and not self.text[: tag.start].rstrip(" \t").rpartition("\n")[2])
            ):
                found.append(tag)
        stray = self.orphan(begin, code=False)
        return min(found + ([stray] if stray is not None and stray.strong else []), default=None)

    def _opened(self, kind: str, begin: int, end: int) -> bool:
        opens = self.opens.get(kind, [])
        place = bisect_left(opens, begin, key=lambda tag: tag.start)
        return place < len(opens) and opens[place].start < end

    def _mentioned(self, tag: Tag) -> bool:
        """Whether a weak tag stands within a sentence, with a space before it and more of the sentence after it."""
        before, after = self.text[max(0, tag.start - 1) : tag.start], self.text[tag.end : tag.end + 1]
        return not tag.strong and before in (" ", "\t") and after in tuple(" \t.,;:!?)")

    def _first(self, tags: list[Tag], begin: int, *, code: bool) -> Tag | None:
        """Return the first of `tags` from `begin` on; one in code counts only with `code`, if none outside follows."""
        place = bisect_left(tags, begin, key=lambda tag: tag.start)
        before = bisect_right(self.fences, begin)
        for tag in tags[place : place + MOST_TAGS]:
            opened = bisect_left(self.fences, tag.start)
            if (opened - before) % 2 == 0 or opened == len(self.fences):  # a fence that is never closed is ignored
                return tag
        return tags[place] if code and place < len(tags) else None
