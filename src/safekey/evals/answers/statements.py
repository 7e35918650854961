"""Find where a reply states its final answer, whatever markup stands around the words.

    statements("**Answer**: B\\n\\nStudents often think the answer is C.")  -> [(1, "B")]

A statement counts when the writer makes it: a line "Answer: …", or a sentence whose subject is the answer ("so the
answer is …"). What somebody else is said to think, a condition and a question are mentions, and mentions never count.
"""

from __future__ import annotations

import re

# Markup that may stand around a keyword or a letter: emphasis, code, LaTeX delimiters and text commands, headings.
_MARKUP = re.compile(
    r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathbb|bf|rm|mbox|boxed|fbox|displaystyle|left|right|[,;! ])"
    r"(?![a-zA-Z])"
    r"|\\[()\[\]]|[*_`$~#>{}\"“”„«»「」『』]|<[^<>\n]{1,20}>|(?<!\w)'|'(?!\w)"
)
_KEYWORD = (
    r"(?:(?:final|correct|right|best|my|the|die|der|la|le|el|il|a)\s+)*(?:(?:answer|choice|option)(?:\s+choice)?"
    r"|(?:最终|正确)?答案|(?:richtige\s+)?antwort|(?:bonne\s+)?r[ée]ponse|respuesta(?:\s+correcta)?|risposta|resposta|ответ)"
)
_LINE = re.compile(
    rf"^\s*(?:[-•]\s*)?(?:so|thus|hence|therefore)?[,:]?\s*(?:{_KEYWORD})\s*(?:is\s*)?[:：=]\s*(?P<rest>.*)$", re.I
)
_LINE_ALONE = re.compile(rf"^\s*(?:{_KEYWORD})\s*[:：]?\s*$", re.I)
_SENTENCE = re.compile(
    r"(?P<before>[^.!?。！？\n]*?)\b(?:(?:final|correct|right|best|only\s+possible)\s+)?"
    r"(?:answer|(?:correct|right|best)\s+(?:choice|option))(?:\s+choice)?\s*"
    r"(?:here\s+|must\s+be\s+|should\s+be\s+|is\s+therefore\s+|is\s+thus\s+)?"
    r"(?:is|=|:|would\s+be|must\s+be|should\s+be)\s*(?P<rest>[^\n]*)",
    re.I,
)
_CHINESE = re.compile(r"(?P<before>[^。！？\n]*?)答案(?:应该|应)?[是为]\s*(?P<rest>[^\n]*)")
OPTION_IS = re.compile(
    r"(?P<before>[^.!?\n]*?)\b(?:option|choice)\s*\(?(?P<letter>[A-Z])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
    r"(?P<after>[^.!?\n]*)",
    re.I,
)
# Words before "the answer is" that make it somebody else's, a condition, or a doubt.
_MENTION = re.compile(
    r"\b(?:students?|people|some(?:one|body)?|many|most|others?|they|you|one|he|she|everyone|beginners?|learners?|"
    r"candidates?|"
    r"if|unless|suppose|assum\w+|were|had|whether|when|because|although|though|while|even|that\s+would\s+make|"
    r"tempt\w*|mistak\w*|misconception|trap|wrong\w*|incorrect\w*|err?or\w*|not|never|cannot|can't|isn't|doesn't|won't|"
    r"might|may|could|seems?|looks?|appears?|why|what|check|verify|claim\w*|says?|said|expect\w*|guess\w*)\b",
    re.I,
)
_OWN = re.compile(r"\b(?:i|we|i'd|we'd|i'm|let's)\b|\b(?:so|thus|hence|therefore|conclude|which\s+means)\b", re.I)


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
        if (match := _LINE.match(text)) and match["rest"].strip():
            if not is_mention("", match["rest"]):
                found.append((place + 1, match["rest"].strip()))
        elif text.strip() and (_LINE.match(text) or _LINE_ALONE.match(text)):  # the answer is on the next line
            following = next((read(later) for later in lines[number + 1 :] if read(later).strip()), "")
            if not _LINE.match(following):
                found.append((place + 1, following.strip()))
        else:
            for sentence in (*_SENTENCE.finditer(text), *_CHINESE.finditer(text)):
                if not is_mention(sentence["before"], sentence["rest"]):
                    found.append((place + 1 + sentence.start("rest"), sentence["rest"].strip()))
        place += len(line)
    return found


def is_mention(before: str, rest: str) -> bool:
    """Whether a sentence only mentions an answer: somebody else's, a conditional one, or a question."""
    if rest.rstrip(" .!").endswith("?") or re.match(r"\s*not\b", rest):
        return True
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
