"""Find where a reply states its final answer, whatever markup stands around the words.

    statements("**Answer**: B\\n\\nStudents often think the answer is C.")  -> [(1, "B")]

A statement counts when the writer makes it: a line "Answer: …", or a sentence whose subject is the answer ("so the
answer is …", "die Antwort ist …"). What somebody else is said to think, a condition and a question are mentions, and
mentions never count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Markup that may stand around a keyword or a letter: emphasis, code, LaTeX delimiters and text commands, headings.
_MARKUP = re.compile(
    r"~~[^~\n]{1,80}~~|\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathbb|bf|rm|mbox|boxed|fbox|displaystyle|left|right"
    r"|[,;! ])(?![a-zA-Z])"
    r"|\\[()\[\]]|[*_`$~#>{}\"“”„«»「」『』]|</?[a-z][^<>\n]{0,20}>|(?<!\w)'|'(?!\w)"
)
_ANSWER = (
    r"(?:answer(?:\s+choice)?|ans(?=\s*[.:)–-])|antwort|lösung|r[ée]ponse|respuesta|risposta|resposta|ответ"
    r"|opción\s+correcta|opzione\s+corretta|正确的?选项|答案|答え|正解|정답|답)"
)
_NOUN = (
    rf"(?:{_ANSWER}|choice|option)"  # before a colon; in a sentence ("another option is B") these two need an adjective
)
_BEFORE_NOUN = (
    r"(?:(?:final|correct|right|best|only(?:\s+possible)?|(?:most\s+)?likely|selected|chosen|my|the|die|der|la|le|el|il|a|"
    r"richtige|korrekte|bonne|l['’]|правильный|最终|正确)\s*)"
)
_AFTER_NOUN = (
    r"(?:\s+(?:correct[ae]?|corretta|correta|final[e]?|here|to\s+(?:this|the)\s+(?:question|problem)"
    r"|(?:that\s+)?(?:i|we)\s+[a-z ]{1,30}?)|,\s*[a-z ]{1,20},)"
)
_IS = (
    r"(?:(?:is|would\s+be|will\s+be|must\s+be|should\s+be|has\s+to\s+be|can\s+only\s+be|ist|lautet|est|es)\b|=|:|è\b|é\b"
    r"|(?:应该|应)?[是为]|は|[은는])"
)
_INDEED = (
    r"(?:\s*(?:therefore|thus|hence|then|clearly|simply|also|daher|definitely|certainly|obviously|surely|probably"
    r"|most\s+likely)\b|\s*,\s*(?:i|we|in|as|of|by|after|then)\b[^,.\n]{0,30},)"
)
_LINE = re.compile(
    rf"^\s*(?:[-•|]\s*)?(?:so|thus|hence|therefore)?[,:]?\s*{_BEFORE_NOUN}*{_NOUN}{_AFTER_NOUN}?\s*"
    rf"(?:(?:is\s*)?[:：=]|[-–—](?=\s)|\)|\.(?=\s+\S))\s*(?P<rest>.*)$",
    re.I,
)
_LINE_ALONE = re.compile(rf"^[\s|]*{_BEFORE_NOUN}*{_NOUN}{_AFTER_NOUN}?\s*[:：]?[\s|]*$", re.I)
# The rest is looked ahead at only, so that a later statement of the same line is found, too.
_SENTENCE = re.compile(
    rf"(?<![A-Za-zÀ-ɏЀ-ӿ]){_BEFORE_NOUN}*"
    rf"(?:{_ANSWER}|(?:correct|right|best|final|only|selected|chosen|my)\s+(?:choice|option)){_AFTER_NOUN}{{0,2}}{_INDEED}?\s*{_IS}{_INDEED}?:?"
    r"(?=\s*(?P<rest>[^\n]{0,2000}))",
    re.I,
)
_RULE = re.compile(r"[\s|:=_-]*")  # a line under a heading, or between the head and the body of a table
# Words before "the answer is" that make it somebody else's, a condition, or a doubt.
_MENTION = re.compile(
    r"\b(?:students?|people|some(?:one|body)?|many|most|others?|they|you|one|he|she|everyone|beginners?|learners?|"
    r"candidates?|"
    r"if|unless|suppose|assum\w+|were|had|whether|when|because|although|though|while|even|that\s+would\s+make|"
    r"tempt\w*|mistak\w*|misconception|trap|wrong\w*|incorrect\w*|err?or\w*|not|never|cannot|can't|isn't|doesn't|won't|"
    r"might|may|could|seems?|looks?|appears?|why|what|check|verify|claim\w*|says?|said|expect\w*|guess\w*|"
    r"wenn|falls|manche|viele|nicht|si|quand|cuando|如果|若|有人)\b",
    re.I,
)
_OWN = re.compile(r"\b(?:i|we|i'd|we'd|i'm|let's)\b|\b(?:so|thus|hence|therefore|conclude|which\s+means)\b", re.I)
_CONTRAST = re.compile(r"\b(?:but|however|yet|instead|sondern|aber|mais|pero)\b", re.I)
_CONDITION = re.compile(r"\s*\(?\S+\s+(?:only\s+)?(?:if|unless)\b")
_NOT_BUT = re.compile(r"\s*(?:is\s+)?not\s+[^,;.!?\n]{1,40}?,?\s+but\s+(?:rather\s+|instead\s+)?", re.I)


_SENTENCE_END = re.compile(r"[.;!?。；！？\n]")
_BELOW = 8  # lines below "Answer:" in which the answer may stand
_CLAUSE = 400  # characters before a statement that may make it a mention


def statements(reply: str, *, keep_formulas: bool = False) -> list[tuple[int, str]]:
    """Return (place in the reply, stated text without markup) of each statement of an answer, in order.

    Args:
        reply: the answer part of a response.
        keep_formulas: leave LaTeX as it is and take away emphasis and code marks only.
    """
    read = _without_emphasis if keep_formulas else plain
    found: list[tuple[int, str]] = []
    lines = reply.splitlines(keepends=True)
    place = 0
    for number, line in enumerate(lines):
        text = read(line)
        later = (read(other) for other in lines[number + 1 : number + 1 + _BELOW])
        following = next((other for other in later if not _RULE.fullmatch(other)), "").strip()
        if text.strip() and _LINE_ALONE.match(text):  # the answer is on the next line
            if not _LINE.match(following):
                found.append((place + 1, following.strip(" |")))
        else:
            found += [(place + 1 + start, rest) for start, rest in _stated(text, following)]
        place += len(line)
    return found


def _stated(text: str, following: str) -> list[tuple[int, str]]:
    """Return (place, what is stated) of the statements in one line; a statement that ends with "is:" goes on below."""
    found: list[tuple[int, str]] = []
    line = _LINE.match(text)
    sentences = [(before, each.start("rest"), each["rest"]) for before, each in with_before(_SENTENCE, text)]
    own = [("", line.start("rest"), line["rest"])] if line else []
    for before, start, rest in own + [each for each in sentences if not own or each[1] > own[0][1]]:
        stated = _NOT_BUT.sub("", rest, count=1).strip()
        if re.fullmatch(r"(?:(?:the\s+)?(?:option|choice))?[\s:|]*", stated, re.I):
            stated = following
        if not is_mention(before, stated):
            found.append((start, stated))
    return found


def with_before(form: re.Pattern[str], text: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield (what stands before it in its sentence, match) of every match in a line. Takes linear time."""
    end = 0
    for match in form.finditer(text):
        before = text[max(end, match.start() - _CLAUSE) : match.start()]
        yield _SENTENCE_END.split(before)[-1], match
        end = match.end()


def is_mention(before: str, rest: str) -> bool:
    """Whether a sentence only mentions an answer: somebody else's, a conditional one, or a question.

    Args:
        before: the sentence up to "the answer is"; what stands before a "but" does not matter.
        rest: what follows.
    """
    if re.match(r"[^.!()]*\?", rest) or re.match(r"\s*not\b", rest) or _CONDITION.match(rest):
        return True
    before = _CONTRAST.split(before)[-1]
    doubt = _MENTION.search(before)
    if doubt is None:
        return False
    own = [match for match in _OWN.finditer(before) if match.start() > doubt.start()]
    return not own


def plain(text: str) -> str:
    """Replace markup by nothing (around words) so that keywords and letters stand free; full-width forms by ASCII."""
    text = text.translate(str.maketrans("（）：，．【】［］ＡＢＣＤＥＦＧＨＩＪ", "():,.[][]ABCDEFGHIJ"))
    return _MARKUP.sub("", text)


def _without_emphasis(text: str) -> str:
    return re.sub(r"\*\*|__|`|^\s*#+\s|^\s*>\s", "", text)
