"""Split running text into sentences, lazily, in any language, without a model.

One line of thinking and the spans it gives::

    'Okay, the user asks, "how big is it?" I need to ... e.g. 2.5 m. First,'
     |------------- 0:38 -----------------| |------ 39:63 ---------| |---|

A boundary is a blank line, a line break (unless the line merely wraps), or a terminator that ends a sentence: not an
abbreviation's dot, not a decimal point, not inside a pair of quotation marks. Runs in time linear in the text's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_QUOTE = 1000  # characters; a quotation mark that is not closed within this many is taken as a stray one

_CLOSE = {'"': '"', "“": "”", "„": "“”", "«": "»", "「": "」", "『": "』", "`": "`"}
_SINGLES = "'‘"
_SINGLE = re.compile(r"['’](?!\w)")  # closes ' and ‘; an apostrophe inside a word does not
_MARK = re.compile(r"""[ \t]*\n\s*|[.!?…]+|[。！？｡؟۔।॥‼⁇⁈⁉]+|["“„«「『`‘]|(?<![\w.!?,])'(?=\w)""")
_CLOSERS = re.compile(r"""["'”’»」』）)\]】*_`]*""")
_FULL_STOPS = "。！？｡؟۔।॥‼⁇⁈⁉"  # these need no white space after them
# After a quotation that ends in a full stop, Chinese and Japanese carry the sentence on with one of these.
_CARRIES_ON = "とっのはをがにでも这的，、。；,.;:"
_CASELESS = re.compile(r"[぀-ヿ㐀-鿿가-힯]")

# Never the end of a sentence, whatever follows (lower case, without the last dot).
_ABBREVIATIONS = _words(
    "e.g i.e eg ie cf vs viz dr mr mrs ms prof rev gen col lt sgt hon st mt fig eq approx no nos nr vol "
    "pp ed eds dept "
    "est z.b d.h u.a bzw ca hr fr sr sra srta dra ud uds p.ej p.ex m mme mlle art т.е т.к т.н им ул г "
    "resp incl capt govt univ assn assoc misc sept"
)
# Of those, the ones that are also words: abbreviations only before a number or a capitalised name.
_BEFORE_NUMBER = _words("no nos nr art fig eq vol ed g m")
# May end a sentence; they do when the next word is one that opens a sentence.
_MAYBE_FINAL = _words("etc inc ltd co corp jr a.m p.m usw т.д т.п al")
_OPENERS = _words(
    "i i'm i'll i've the this that these those they he she it we you first firstly hmm hm let let's so but and "
    "however my since if okay ok maybe perhaps wait there what user also now well according given our to in as for "
    "not no yes sure then next after policy der die das ich zuerst el la le il je yo primero d'abord"
)
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]\Z")
# What may stand before a dot that ends a sentence although the next one begins in lower case ("x = 5."): a number, a
# common short word, or a word too long for an abbreviation that this file does not know.
_WORD_BEFORE = re.compile(
    r"[֐-࿿぀-ヿ㐀-鿿가-힯]\Z|(?:\s|\A)(?:[^\W\d_]{4,}|\d+|it|is|so|me|us|to|in|on|up|out|you|now|one|two|too|yet|for|not|all|be|do|this|that|here)\Z"
)
_LAST_WORD = re.compile(r"[^\s\"“„«(\[{/]{1,24}\Z")
_NEXT_WORD = re.compile(r"[\w'’]+")
_LIST_LABEL = re.compile(r"[(\[]?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4})\Z")
_BULLET = re.compile(r"(?:[-*•–—·]\s|\d{1,3}[.)]\s)")


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield each sentence's (start, end), character offsets into `text`, without surrounding white space.

    Pieces without a letter or a digit (rules, stray punctuation) belong to the sentence before them. Never raises.

    Args:
        text: any text.
        start: where to begin.
        end: where to stop; the end of `text` by default.
    """
    end = len(text) if end is None else end
    pending: tuple[int, int] | None = None
    begin = start
    for stop in _boundaries(text, start, end):
        left, right = _strip(text, begin, stop)
        begin = stop
        if left == right:
            continue
        if pending is not None and not any(char.isalnum() for char in text[left:right]):
            pending = (pending[0], right)
            continue
        if pending is not None:
            yield pending
        pending = (left, right)
    if pending is not None:
        yield pending


def _boundaries(text: str, start: int, end: int) -> Iterator[int]:
    """Yield the offset after each sentence, `end` last."""
    at = begin = start
    # A writer who begins without a capital is not going to use capitals to show where a sentence begins.
    lower_style = next((char.islower() for char in text[start : start + 50] if char.isalpha()), False)
    while (mark := _MARK.search(text, at, end)) is not None:
        at = mark.end()
        found = mark.group()
        quoted = False
        if found in _CLOSE or found in _SINGLES:
            close = _closing_quote(text, mark.start(), end)
            if close is None:
                continue
            at = close + 1
            found = text[close - 1]
            if found not in ".!?…" and found not in _FULL_STOPS:
                continue
            quoted = True
        elif "\n" in found:
            if found.count("\n") > 1 or not _wraps(text, mark.start(), at):
                yield at
                begin = at
            continue
        closers = _CLOSERS.match(text, at, end)
        after = closers.end() if closers else at
        if _ends(text, begin, mark.start(), after, end, found, quoted=quoted, lower_style=lower_style):
            yield after
            begin = at = after
    yield end


def _closing_quote(text: str, at: int, end: int) -> int | None:
    """Return where the quotation opened at `at` closes, or None when the mark there does not open one."""
    mark = text[at]
    if mark in '"`' and ((at > 0 and text[at - 1].isalnum()) or at + 1 >= end or text[at + 1].isspace()):
        return None
    limit = min(end, at + MAX_QUOTE)
    blank = text.find("\n" if mark == "`" else "\n\n", at, limit)
    limit = limit if blank < 0 else blank
    if mark in _SINGLES:
        single = _SINGLE.search(text, at + 1, limit)
        return single.start() if single else None
    places = [place for close in _CLOSE[mark] if (place := text.find(close, at + 1, limit)) >= 0]
    return min(places, default=None)


def _wraps(text: str, line_end: int, next_line: int) -> bool:
    """Whether the single line break only wraps a line: the sentence goes on in lower case."""
    if line_end == 0 or next_line >= len(text) or _BULLET.match(text, next_line):
        return False
    return (text[line_end - 1].isalnum() or text[line_end - 1] in ",;") and text[next_line].islower()


def _ends(
    text: str, begin: int, dot: int, after: int, end: int, found: str, *, quoted: bool, lower_style: bool
) -> bool:
    """Whether the terminator `found`, with closing marks up to `after`, ends the sentence that starts at `begin`."""
    follows = after
    while follows < end and text[follows].isspace():
        follows += 1
    if follows >= end:
        return True
    char = text[follows]
    if found[0] in _FULL_STOPS:
        return not (quoted and char in _CARRIES_ON)
    ellipsis = "…" in found or len(found.strip("!?")) > 1
    if follows == after:  # no white space: 2.5, example.org, or a script that writes none
        return bool(_CASELESS.match(char)) and not ellipsis and not (quoted and char in _CARRIES_ON)
    if "\n" in text[after:follows] and not quoted and found != ".":
        return True
    if ellipsis and not char.isupper():
        return False
    if char.islower() and (quoted or not (lower_style or _WORD_BEFORE.search(text, max(begin, dot - 25), dot))):
        return False
    if char in ",;:)]":
        return False
    return quoted or found != "." or not _abbreviates(text, begin, dot, follows)


def _abbreviates(text: str, begin: int, dot: int, follows: int) -> bool:
    """Whether the single dot at `dot` belongs to an abbreviation, an initial or a list label."""
    head = text[begin:dot] if dot - begin <= 32 else ""
    if head and _LIST_LABEL.match(head.strip()):
        return True
    last = _LAST_WORD.search(text, max(begin, dot - 25), dot)
    if last is None:
        return False
    word = last.group().lower()
    match = _NEXT_WORD.match(text, follows)
    following = match.group() if match else ""
    if word in _BEFORE_NUMBER:
        return following[:1].isdigit()
    if word in _ABBREVIATIONS:
        return True
    if word in _MAYBE_FINAL or _DOTTED.match(word):
        return following.lower().replace("’", "'") not in _OPENERS
    if len(word) == 1 and last.group().isupper() and word != "i":  # an initial: "J. Smith", not "plan B. Then"
        if following.lower() in _OPENERS:
            return False
        before = text[max(begin, last.start() - 40) : last.start()].split()
        return not before or before[-1][:1].isupper() or before[-1].endswith(".")
    return False


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
