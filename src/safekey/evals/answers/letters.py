"""Read the letter that a reply to a multiple-choice question gives as its answer.

stated_letter("... **Answer**: B", "ABCD")                                   -> "B"
stated_letter("Answer: C\\n\\nStudents often think the answer is B.", "ABCD")  -> "C"
stated_letter("It is A or C.", "ABCD")                                       -> None
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from safekey.evals.answers.statements import is_mention, plain, statements, with_before

SEVERAL = "several"
"""What a statement gives that names several letters, none, or one that does not exist."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_BETWEEN_BOXES = re.compile(r"[\s$,;]*(?:and|or|\\text\{\s*(?:and|or)\s*\})?[\s$,;]*")
_AND_ANOTHER = (
    r"\s*(?:,|/|&|\+|or\b|and\b|und\b|oder\b|ou\b|et\b|y\b|o\b|或|和)\s*(?:either\s+)?(?:option|choice|also)?\s*"
    r"[(\[]?([A-Za-z])[)\]]?(?![\w'’])(?!(?<=[aAI])\s+[a-z])"
)
_FIRST = re.compile(
    r"(?!either\b|both\b)(?:(?:the|la|le|el|die|der)\s+)?(?:option|choice|letter|answer|antwort)?\s*[(\[]*\s*"
    r"([A-Za-z])(?![A-Za-zÀ-ɏ0-9'’])\s*(?P<closed>[)\]]+)?",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(r"\s*[.:,;!\-–—(=→|]|[^\x00-\u024f]|\s+(?:because|since|as|which|is|for|due|by|with|from|at)\b")
_NONE = re.compile(
    r"(?:none|neither|no(?:ne)?\s+of|unknown|unclear|undetermined|not\s|I\s+(?:don|do\s+not|cannot|can))", re.I
)

_L = r"(?-i:[(\[]*(?P<letter>[A-Z])[)\]]*(?![\w'’]))"
_OPTION = (
    r"(?:(?:the|la|le|die)\s+)?(?:(?:correct|right|best)\s+)?"
    r"(?:(?:option|choice|answer|letter|statement|antwort|réponse|opción|opzione)\s+)?"
)
_ENDS = (
    r"(?=\s*(?:[.!;:]|\W*$|(?:here|because|since|as|for|over|weil|car|porque)\b|です"
    r"|,\s*(?:because|since|as|which|so)\b))"
)
_RIGHT = r"(?:(?:the|an?)\s+)?(?:only\s+)?(?:correct|right|best|better|true|richtig|korrekt)(?:e|er)?\b"
_WRITER = (
    r"(?:(?:\b(?:i|we)(?:['’](?:d|ll|m|ve))?|\blet(?:['’]s|\s+me|\s+us))"
    r"(?:\s+(?:would|will|should|must|have\s+to|therefore|thus|am|are|finally|then))*\s+"
    r"(?:choos\w+|chose|pick\w*|select\w*|go(?:ing)?\s+(?:with|for)|opt\w*\s+for|vote\s+for|settle\s+(?:on|for)|say"
    r"|answer|guess)\s+"
    r"|\b(?:ich\s+(?:wähle|nehme|entscheide\s+mich\s+für|würde|werde)|je\s+choisis|elijo|scelgo|escolho|выбираю)\s+"
    r"|选(?:择)?\s*)"
)
_ONE = r"(?:pick|guess|choice|selection|option|one|candidate|statement|vote)"
# Sentences that give a letter without the word "answer": the option's letter stands free, in upper case.
_GIVEN = tuple(
    re.compile(rf"{form}(?P<after>[^.!?。！？\n]{{0,200}})", re.I)
    for form in (
        rf"{_WRITER}{_OPTION}{_L}(?:{_ENDS}|(?=\s+(?:wählen|nehmen)\b))",
        rf"\b(?:it|this|that|what\s+remains)(?:['’]s|\s+(?:is|must\s+be|has\s+to\s+be|should\s+be|would\s+be))\s+"
        rf"{_OPTION}{_L}{_ENDS}",
        rf"\bc['’]est\s+{_OPTION}{_L}{_ENDS}",
        rf"\b(?:hence|thus|therefore|so|consequently|daher|also|somit|donc)\b,?\s+{_OPTION}{_L}(?=\s*(?:[.!]|$))",
        rf"\b(?:leaves?|leaving)\s+(?:us\s+|only\s+)*(?:with\s+)?{_OPTION}{_L}{_ENDS}",
        rf"\bonly\s+{_OPTION}{_L}(?!\s*(?:,|/|and\b|or\b))",
        rf"(?<![\w-]){_L}\s+it\s+is\b",
        rf"[;,]\s*(?:but\s+)?(?:only\s+)?{_L}\s+does\b(?!\s*n)",
        r"\b(?:corresponds?\s+to|match(?:es)?|is|agrees?\s+with|leads?\s+to|points?\s+to)\s+"
        rf"(?:option|choice|answer)\s+{_L}{_ENDS}",
        rf"(?<![\w-]){_L}\s+(?:is|ist|seems|looks)\s+(?:therefore\s+|thus\s+)?(?:{_RIGHT}|the\s+(?:answer|one)\b)",
        rf"(?<![\w-]){_L}\s+is\s+what\s+(?:i|we)\b",
        rf"\b(?:my|our)\s+(?:\w+\s+)?{_ONE}\s+(?:is|would\s+be)\s+{_OPTION}{_L}{_ENDS}",
        rf"\bthe\s+(?:correct|right|best|only)\s+{_ONE}(?:\s+(?:that|which|to)\s+[a-z ]{{1,30}}?)?\s+is\s+"
        rf"{_OPTION}{_L}{_ENDS}",
        rf"\b(?:richtig|korrekt)\s+ist\s+{_OPTION}{_L}{_ENDS}",
        rf"\bist\s+{_OPTION}{_L}\s+(?:richtig|korrekt)\b",
        r"(?:选项\s*(?-i:(?P<letter>[A-Z]))|(?-i:(?P<other>[A-Z]))\s*选项)\s*(?:是)?(?:正确|对)",
        r"^\s*(?:final|result|solution|selected|correct|right|ergebnis|lösung|richtig)\s*[:=]\s*"
        rf"{_OPTION}{_L}{_ENDS}",
        rf"^\s*(?:probably|presumably|(?:most\s+)?likely|wahrscheinlich)\b[,:]?\s*{_OPTION}{_L}{_ENDS}",
    )
)
_OPENED = re.compile(r"\W*(?:so|hence|thus|therefore|consequently|i|we)\b", re.I)
_OPTION_IS = re.compile(
    rf"\b(?:option|choice)\s*\(?(?P<letter>[A-Z])\)?\s+is\s+{_RIGHT}(?P<after>[^.!?\n]{{0,200}})", re.I
)


def stated_letter(reply: str, letters: str, options: Mapping[str, str] | None = None) -> str | None:
    """Return the letter of a reply's last statement, or None when it states none, or several at once.

    A statement is a box, or what `statements` finds, or "option C is correct". Without any: the last sentence that
    gives a letter in other words ("I'd go with A", "that leaves D"), else a last line that is nothing but a letter, a
    letter with its option ("C) …"), or an option's own text.

    Args:
        reply: the answer part of a response.
        letters: the letters that there are, "ABCD".
        options: letter → its option's text, where it is known: "Answer: a big dog" is then told from "Answer: A".
    """
    found = _boxed(reply, letters, options)
    found += [(place, _letter(text, letters, options)) for place, text in statements(reply)]
    found += _sentences(reply, (_OPTION_IS,), letters)
    stated = [one for one in found if one[1] is not None] or _sentences(reply, _GIVEN, letters)
    last = max(stated, key=lambda one: one[0])[1] if stated else _alone(reply, letters, options)
    return last if last != SEVERAL else None


def _alone(reply: str, letters: str, options: Mapping[str, str] | None) -> str | None:
    """Return the letter of a last line that is an answer by itself, or of a first line that is the only one."""
    whole = [text for text in map(plain, reply.splitlines()) if text.strip(" .\t\n")]
    if not whole:
        return None
    last = _letter(whole[-1], letters, options)
    if last is not None or len(whole) == 1:
        return last
    begun = [text for text in whole if re.match(r"[^\w(\[]*[(\[]?[A-Z](?:[)\].:]|\s*$)", text)]
    return _letter(whole[0], letters, options) if begun == whole[:1] else None


def _boxed(reply: str, letters: str, options: Mapping[str, str] | None) -> list[tuple[int, str | None]]:
    """Return (place, letter) of every box; boxes joined by "or" or "and" name several letters."""
    found: list[tuple[int, str | None]] = []
    end = -1
    for match in _BOX.finditer(reply):
        between = reply[end : match.start()] if end >= 0 else ""
        letter = _letter(match[1], letters, options)
        if end >= 0 and between.strip(" $") and _BETWEEN_BOXES.fullmatch(between) and found[-1][1] != letter:
            letter = SEVERAL
        found.append((match.start(), letter))
        end = match.end()
    return found


def _sentences(reply: str, forms: tuple[re.Pattern[str], ...], letters: str) -> list[tuple[int, str | None]]:
    """Return (place, letter) of the sentences of these forms that are no mentions."""
    found: list[tuple[int, str | None]] = []
    for place, text in _lines(reply):
        for form in forms:
            for before, sentence in with_before(form, text):
                named = "letter" if sentence["letter"] else "other"  # 选项C, C选项
                letter = sentence[named].upper()
                # "…, so D" and "I'd go with D" are the writer's own, whatever was doubted before.
                opened = _OPENED.match(sentence[0])
                if letter in letters and not is_mention(before + (opened[0] if opened else ""), sentence["after"]):
                    found.append((place + 1 + sentence.start(named), letter))
    return found


def _lines(reply: str) -> Iterator[tuple[int, str]]:
    place = 0
    for line in reply.splitlines(keepends=True):
        yield place, plain(line).rstrip("\n")
        place += len(line)


def _letter(statement: str, letters: str, options: Mapping[str, str] | None) -> str | None:
    """Return the one letter that a statement names, SEVERAL, or None when it names no letter.

    Args:
        statement: what follows "answer is", or a whole line.
        letters: those that there are.
        options: letter → text.
    """
    text = re.sub(r"^[^\w(\[-]+", "", plain(statement)).strip(" .:|\t\n-–—<>")
    same = [one for one, option in (options or {}).items() if option and _same(option) == _same(text)]
    if same:  # "A big dog": the option's text, or the letter and nothing of the kind
        return same[0] if len(same) == 1 else SEVERAL
    match = _FIRST.match(text)
    if match is None or match[1].upper() not in letters:
        lone = match is not None and not text[match.end() :].strip()
        return SEVERAL if lone or _NONE.match(text) else None
    letter, rest = match[1].upper(), text[match.end() :]
    other = re.match(_AND_ANOTHER, rest, re.I)
    if other is not None and other[1].upper() in letters:
        return SEVERAL
    if match["closed"] or not rest.strip():
        return letter
    if _EXPLAINED.match(rest):
        return letter if match[1].isupper() or not re.match(r"\s+", rest) else None
    named = (options or {}).get(letter, "")
    if named and _words(rest)[: len(_words(named))] == _words(named)[: len(_words(rest))] and _words(rest):
        return letter
    if options:
        return None if match[1] in "aAI" or match[1].islower() else letter
    first = rest.strip()[0]
    return letter if match[1].isupper() and (match[1] not in "AI" or not first.islower()) else None


def _same(text: str) -> str:
    """Return an option's text for comparison; its signs and its digits count."""
    return " ".join(plain(text).casefold().split()).strip(" .")


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
