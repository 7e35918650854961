"""Gold answers made wrong: one digit, sign, operator, variable, bracket or word at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator

_COMMAND = re.compile(r"\\[A-Za-z]+|\\.")
_SWAPS = {"+": "-", "[": "(", "]": ")", "(": "[", ")": "]"}


def corruptions(gold: str) -> Iterator[tuple[str, str]]:
    """Every corruption of a formula, with its kind. None of them equals the formula."""
    hidden = {place for match in _COMMAND.finditer(gold) for place in range(*match.span())}
    text = {place for match in re.finditer(r"\\(?:text|mbox)\{([^}]*)\}", gold) for place in range(*match.span(1))}
    for place, letter in enumerate(gold):
        if place in hidden:
            continue

        def changed(new: str, at: int = place) -> str:
            return gold[:at] + new + gold[at + 1 :]

        if letter.isdecimal():
            yield "digit", changed(str((int(letter) + 1) % 10))
        elif letter == "+" or (letter == "-" and place and gold[place - 1] not in "({[,&^ "):
            yield "operator", changed("-" if letter == "+" else "+")
        elif letter in "[](" or letter == ")":
            interval = re.fullmatch(r".*[\[(][^\[\]()]*,[^\[\]()]*[\])].*", re.sub(r"\\(?:left|right)", "", gold))
            if interval and ("[" in gold or "]" in gold or "infty" in gold):
                yield "bracket", changed(_SWAPS[letter])
        elif letter.isalpha() and place not in text and not _in_environment(gold, place):
            yield "variable", changed("q" if letter != "q" else "w")
    if not gold.startswith("-") and not re.match(r"\\text|[A-Za-z] *[=\\]|\\\{|\d+ *\\pm", gold) and gold != "0":
        yield "sign", f"-{gold}" if not re.search(r"[-+,]", gold) else f"-({gold})"
    if gold.startswith("-") and not re.search(r"[-+,]", gold[1:]):
        yield "sign", gold[1:]
    for match in re.finditer(r"\\text\{([^}]*)\}", gold):
        if match.start() == 0:
            yield "word", gold.replace(match[1], "(Q)" if match[1].startswith("(") else "nothing", 1)


def _in_environment(gold: str, place: int) -> bool:
    return any(match.start() <= place < match.end() for match in re.finditer(r"\\(?:begin|end)\{[a-z]+\}", gold))
