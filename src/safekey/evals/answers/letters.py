"""Read the letter that a reply to a multiple-choice question gives as its answer.

stated_letter("... **Answer**: B", "ABCD")                                   -> "B"
stated_letter("Answer: C\\n\\nStudents often think the answer is B.", "ABCD")  -> "C"
stated_letter("It is A or C.", "ABCD")                                       -> None
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from safekey.evals.answers.statements import OPTION_IS, is_mention, plain, statements

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_AND_ANOTHER = (
    r"\s*(?:,|/|&|\+|or\b|and\b|und\b|oder\b|ou\b|et\b|y\b|o\b|或|和)\s*(?:either\s+)?(?:option|choice|also)?\s*"
    r"[(\[]?([A-Za-z])[)\]]?(?![\w'’])"
)


_FIRST = re.compile(
    r"(?!either\b|both\b)(?:the\s+)?(?:option|choice|letter|answer)?\s*[(\[]?\s*([A-Za-z])(?![\w'’])\s*(?P<closed>[)\]])?",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(r"\s*[.:,;\-–—(=→]|\s+(?:because|since|as|which|is|for|due|by|with|from|at)\b")


def stated_letter(reply: str, letters: str, options: Mapping[str, str] | None = None) -> str | None:
    """Return the letter of a reply's last statement, or None when it states none, or several at once.

    A statement is a box, or what `statements` finds, or "option C is correct"; without any, a last line that is nothing
    but a letter, or a letter with its option ("C) …").

    Args:
        reply: the answer part of a response.
        letters: the letters that there are, "ABCD".
        options: letter → its option's text, where it is known: "Answer: a big dog" is then told from "Answer: A".
    """
    found = [(match.start(), _letter(match[1], letters, options)) for match in _BOX.finditer(reply)]
    found += [(place, _letter(text, letters, options)) for place, text in statements(reply)]
    place, lines = 0, reply.splitlines(keepends=True)
    for line in lines:
        for sentence in OPTION_IS.finditer(plain(line)):
            letter = sentence["letter"].upper()
            if letter in letters and not is_mention(sentence["before"], sentence["after"]):
                found.append((place + 1 + sentence.start("letter"), letter))
        place += len(line)
    if found:
        return max(found, key=lambda one: one[0])[1]
    whole = [text for text in map(plain, lines) if text.strip(" .\t\n")]
    return _letter(whole[-1], letters, options) if whole else None


def _letter(statement: str, letters: str, options: Mapping[str, str] | None) -> str | None:
    """Return the one letter that a statement names.

    Args:
        statement: what follows "answer is", or a whole line.
        letters: those that there are.
        options: letter → text.
    """
    text = plain(statement).strip(" .:\t\n-–—")
    match = _FIRST.match(text)
    if match is None or match[1].upper() not in letters:
        return None
    letter, rest = match[1].upper(), text[match.end() :]
    other = re.match(_AND_ANOTHER, rest, re.I)
    if other is not None and other[1].upper() in letters:
        return None
    if match["closed"] or not rest.strip():
        return letter
    if _EXPLAINED.match(rest):
        return letter if match[1].isupper() or not re.match(r"\s+", rest) else None
    same = [one for one, option in (options or {}).items() if _words(option) == _words(text)]
    if same:  # "A big dog": the option's text, or the letter and nothing of the kind
        return letter if same == [letter] else None
    named = (options or {}).get(letter, "")
    if named and _words(rest)[: len(_words(named))] == _words(named)[: len(_words(rest))] and _words(rest):
        return letter
    if options:
        return None if match[1] in "aAI" or match[1].islower() else letter
    first = rest.strip()[0]
    return letter if match[1].isupper() and (match[1] not in "AI" or not first.islower()) else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
