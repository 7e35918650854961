"""Split text into sentences, lazily, in any language, without a model.

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

_CLOSE = {'"': '"', "“": "”", "„": "“”", "«": "»", "「": "」", "『": "』", "《": "》", "`": "`"}
_SINGLES = "'‘"
_SINGLE = re.compile(r"['’](?!\w)")  # closes ' and ‘; an apostrophe inside a word does not
_MARK = re.compile(r"""[ \t]*\n\s*|[.!?…]+|[。！？｡؟۔।॥‼⁇⁈⁉]+|["“„«「『《`‘]|(?<![\w.!?,])'(?=\w)""")
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
    "resp incl excl capt govt univ assn assoc misc sept feb aug oct nov dec qty chap "
    "bspw vgl sog evtl ggf zzgl inkl exkl bzgl allg geb z.t d.h u.u o.ä i.d.r m.e s.o s.u v.a "
    "c.-à-d c-à-d càd réf p.ex n.b mgr "
    "pág núm aprox p.e ej p.es sig.ra dott dott.ssa avv exmo exma "
    "т.н т.д напр см стр руб тыс млн "
    "bijv d.w.z o.a m.b.t t.a.v blz np tzn tj tzw t.ex bl.a d.v.s f.eks dvs örn"
)
# Of those, the ones that are also words: abbreviations only before a number or a capitalised name.
_BEFORE_NUMBER = _words(
    "no nos nr art fig eq vol ed g m p s c mind min max sec str abs ref ext ej см ul kl ing av "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
# May end a sentence; they do when the next word is one that opens a sentence.
_MAYBE_FINAL = _words("usw inc ltd co corp jr a.m p.m al")
# End a list, and the sentence if a capital follows.
_CLOSES_LIST = _words("etc т.д т.п itp itd enz osv stb vs.m vb ecc")
# Abbreviations of single letters that are written with spaces: "z. B.", "d. h.", "p. ex.", "т. е.".
_SPACED = re.compile(
    r"(?<![^\W_])(?:z\. ?b|d\. ?h|u\. ?a|z\. ?t|i\. ?d\. ?r|u\. ?u|v\. ?a|s\. ?o|m\. ?e|i\. ?e|e\. ?g|a\. ?k\. ?a|"
    r"p\. ?ex|p\. ?ej|p\. ?e|p\. ?es|c\.-? ?à-? ?d|n\. ?b|t\. ?ex|bl\. ?a|f\. ?eks|v\. ?chr|n\. ?chr|т\. ?[екнч]|"
    r"d\. ?w\. ?z|o\. ?a|ad es)\Z"
)
_SPACED_LIST = re.compile(r"(?<![^\W_])(?:o\. ?ä|т\. ?[дп]|u\. ?s\. ?w|u\. ?v\. ?m)\Z")  # they close a list
_SPACED_REST = re.compile(r"([^\W\d_]{1,3})\.")
_OPENERS = _words(
    "i i'm i'll i've the this that these those they he she it we you first firstly hmm hm let let's so but and "
    "however my since if okay ok maybe perhaps wait there what user also now well according given our to in as for "
    "not no yes sure then next after policy a an one two three my your their his her its what why how when where who "
    "which most some many all each both that's it's there's here with without from for by at on "
    "der die das ein eine ich zuerst dann el la un una le les il je yo primero luego d'abord"
)
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]\Z")
# What may stand before a dot that ends a sentence although the next one begins in lower case ("x = 5."): a number, a
# common short word, or a word too long for an abbreviation that this file does not know.
_WORD_BEFORE = re.compile(
    r"[֐-࿿぀-ヿ㐀-鿿가-힯)\]]\Z|(?:\s|\A)(?:[^\W\d_]{4,}|\d+|it|is|so|me|us|to|in|on|up|out|you|now|one|two|too|yet|for|not|all|be|do|this|that|here)\Z"
)
_LAST_WORD = re.compile(r"[^\s\"“„«(\[{/]{1,24}\Z")
_NEXT_WORD = re.compile(r"[\w'’]+")
_CODE = re.compile(r"[a-z_][\w.]*(?:\(|_\w)")  # a sentence may begin with a name from code, "size() is ..."
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
    """Whether the single line break only wraps a line: the sentence continues in lower case."""
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
    begins = lower_style or _WORD_BEFORE.search(text, max(begin, dot - 25), dot) is not None
    if char.islower() and (quoted or not begins) and not _CODE.match(text, follows):
        return False
    if char in ",;:)]=→≈<>" or text.startswith("->", follows):
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
    leading = text[max(begin, dot - 12) : dot].lower()
    if _SPACED_LIST.search(leading) is not None:
        return not text[follows].isupper()
    if _SPACED.search(leading) is not None or _opens_spaced(text, leading, dot, follows):
        return True
    match = _NEXT_WORD.match(text, follows)
    following = match.group() if match else ""
    if word in _BEFORE_NUMBER and (text[max(begin, last.start() - 2) : last.start()].strip() or "x")[-1].isdigit():
        return False  # a unit: "75 g. 750 in all."
    if word in _BEFORE_NUMBER and not (len(word) == 1 and last.group().isupper()):
        return following[:1].isdigit() or (following[:1].islower() and len(word) > 2)
    if word in _CLOSES_LIST:
        return not following[:1].isupper()
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


def _opens_spaced(text: str, before: str, dot: int, follows: int) -> bool:
    """Whether the dot is the first one of "z. B.": with what follows it makes an abbreviation of single letters."""
    if dot + 1 >= len(text) or text[dot + 1] != " " or follows != dot + 2:
        return False
    rest = _SPACED_REST.match(text, follows)
    both = f"{before}. {rest.group(1).lower()}" if rest else ""
    return _SPACED.search(both) is not None or _SPACED_LIST.search(both) is not None


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
