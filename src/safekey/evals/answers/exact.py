"""Score the answer part of a response against a gold answer: formulas, integers, letters (code: `program.py`).

    score_math("… so the area is \\\\boxed{\\\\frac{14}{3}}.", "\\\\frac{14}{3}")   # Score(correct=True, extracted=…)
    score_choice("… Answer: C", "C", "ABCD")                                  # Score(correct=True, …)

Only the answer counts: a number in the thinking does not. A response whose thinking never ended has no answer: it is
incorrect, with the reason `NO_ANSWER`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from safekey.evals.answers.math_check import CHECKER, MathChecker

NO_ANSWER = "truncated/no answer"
LONGEST_FORMULA = 2_000  # characters
TAIL = 2_000  # characters at the end of an answer without a box that are searched
NOT_FOUND = "no final answer found"
WRONG = "wrong answer"

_BRACES = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|\{|\}", re.DOTALL)
_STATED = re.compile(r"(?:final\s+answer|answer)\s*(?:is|:|=)+\s*(?P<rest>[^\n]+)", re.IGNORECASE)
_DOLLARS = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_UNIT = re.compile(r"\\(?:text|mbox|mathrm)\s*\{[^{}]*\}\s*\^\s*\{?(\d)\}?")
_BASE = re.compile(r"_\{?(\d+)\}?$")
_NUMERAL = re.compile(r"-?(?:\d+\.?\d*|\.\d+)")
_JOINED = re.compile(r"[\s$,;]*(?:and|or|\\text\{\s*(?:and|or)\s*\})?[\s$,;]*")
_INTERVAL = re.compile(r"[\[(][^\[\]()]*,[^\[\]()]*[\])]")


@dataclass(frozen=True, slots=True)
class Score:
    """One answer's score.

    Attributes:
        correct: True or False; None when it could not be decided.
        reason: why it is not correct; "" when it is.
        extracted: the text taken as the answer.
    """

    correct: bool | None
    reason: str = ""
    extracted: str = ""


def score_math(answer: str | None, gold: str, checker: MathChecker = CHECKER) -> Score:
    """Score a formula with math-verify.

    The last ``\\boxed{…}`` is the answer (boxes joined by a comma, "and" or "or" count as one list); without a box the
    formula or number of the last "answer is …", then the last formula between dollars, then the last number.

    Returns:
        `correct` is None only when math-verify cannot read the gold answer. An answer that cannot be compared in time
        is incorrect, with that reason.
    """
    if not answer or not answer.strip():
        return Score(False, NO_ANSWER)
    found = final_formula(answer)
    if not found:
        return Score(False, NOT_FOUND)
    if len(found) > LONGEST_FORMULA:
        return Score(False, f"an answer of more than {LONGEST_FORMULA} characters", found[:LONGEST_FORMULA])
    if _plain(found) == _plain(gold):
        return Score(True, "", found)
    if _differ(found, gold):
        return Score(False, WRONG, found)
    equal, error = checker.equal(gold, found)
    if equal is None:
        return Score(None if error.startswith("gold:") else False, error, found)
    return Score(equal, "" if equal else WRONG, found)


def score_integer(answer: str | None, gold: str, checker: MathChecker = CHECKER) -> Score:
    """Score an AIME answer: the integer itself, leading zeros aside ("073" is 73; "73.5" and "73 or 74" are wrong)."""
    if not answer or not answer.strip():
        return Score(False, NO_ANSWER)
    found = final_formula(answer)
    if not found:
        return Score(False, NOT_FOUND)
    text = re.sub(r"\\[,!;: ]|[\s$~]|\\(?:text|mathrm|mathbf|mbox|bf)\b|[{}]", "", found).rstrip(".")
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+|\d+", text):
        value = text.replace(",", "").lstrip("0") or "0"
        right = value == (gold.strip().lstrip("0") or "0")
        return Score(right, "" if right else WRONG, found)
    if len(found) > LONGEST_FORMULA or re.search(r"\d[.,]\d*[1-9]|\bor\b", found):
        return Score(False, WRONG, found[:LONGEST_FORMULA])
    equal, error = checker.equal(gold, found)  # "2^3 + 1", "m+n = 34"
    return Score(equal is True, "" if equal else error or WRONG, found)


def score_choice(answer: str | None, gold: str, letters: str) -> Score:
    """Score a multiple choice by the exact letter of the answer's final statement (see `choice_letter`)."""
    if not answer or not answer.strip():
        return Score(False, NO_ANSWER)
    letter = choice_letter(answer, letters)
    if letter is None:
        return Score(False, NOT_FOUND)
    return Score(letter == gold, "" if letter == gold else WRONG, letter)


def choice_letter(answer: str, letters: str) -> str | None:
    """Return the letter that an answer ends on, or None when it names none or several.

    The last ``\\boxed{C}`` or the last statement of the form "answer is (C)" or "Answer: C", whichever comes later;
    without either, a last line that is nothing but a letter, or one with its option ("C) …"). "A or C" is no letter.
    """
    boxes, statements = _boxes(answer), list(_STATED.finditer(answer))
    if statements and (not boxes or statements[-1].start() > boxes[-1][0]):
        return _one_letter(statements[-1]["rest"], letters)
    if boxes:
        return _one_letter(boxes[-1][1], letters)
    lines = [line for line in answer.splitlines() if line.strip(" *_`$.\t")]
    return _one_letter(lines[-1], letters) if lines else None


def last_boxed(text: str) -> str | None:
    """Return the content of the last complete ``\\boxed{…}``, or None."""
    boxes = _boxes(text)
    return boxes[-1][1] if boxes else None


def final_formula(answer: str) -> str | None:
    """Return the answer's final formula, without dollars (see `score_math` for where it is looked for), or None."""
    boxes = _boxes(answer)
    if boxes:
        parts = [boxes[-1]]
        for earlier in reversed(boxes[:-1]):
            between = answer[earlier[2] : parts[0][0]]
            if not _JOINED.fullmatch(between) or not between.strip(" $"):
                break
            parts.insert(0, earlier)
        return ", ".join(part[1] for part in parts).strip() or None
    tail = answer[-TAIL:]
    stated = list(_STATED.finditer(tail))
    for text in ([stated[-1]["rest"]] if stated else []) + [tail]:
        formulas = [next(group for group in match.groups() if group) for match in _DOLLARS.finditer(text)]
        if formulas:
            return str(formulas[-1]).strip()
        if numbers := _NUMBER.findall(text):
            return str(numbers[-1]).rstrip(",")
    return None


def score_item(kind: str, answer: str | None, target: str, metadata: Mapping[str, Any]) -> Score:
    """Score an item by its benchmark's kind of scoring: "math", "integer" or "choice".

    Raises:
        ValueError: another kind.
    """
    if kind == "math":
        return score_math(answer, target)
    if kind == "integer":
        return score_integer(answer, target)
    if kind == "choice":
        return score_choice(answer, target, metadata["letters"])
    raise ValueError(f"no exact scoring of kind '{kind}'")


def _boxes(text: str) -> list[tuple[int, str, int]]:
    """Return (start, content, end) of every complete box that is in no other box, in one pass over the text."""
    open_braces: list[tuple[int, int]] = []  # start of a box and start of its content; -1 for other braces
    spans: list[tuple[int, int, int]] = []
    for match in _BRACES.finditer(text):
        if match["box"]:
            open_braces.append((match.start(), match.end()))
        elif match[0] == "{":
            open_braces.append((-1, -1))
        elif match[0] == "}" and open_braces:
            start, inside = open_braces.pop()
            if start >= 0:
                while spans and spans[-1][0] > start:
                    spans.pop()  # it is inside this one
                spans.append((start, inside, match.end()))
    return [(start, text[inside : end - 1], end) for start, inside, end in spans]


def _one_letter(statement: str, letters: str) -> str | None:
    """Return the one letter that a statement names."""
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|boxed)\b|[*_`${}\\]", " ", statement).strip(" .:\t")
    first = re.match(rf"(?:option|choice)?\s*[(\[]?([{letters}])(?![\w'’])(?P<closed>[)\]]?)", text, re.IGNORECASE)
    if first is None or first[1] not in letters:
        return None
    rest = text[first.end() :]
    if re.match(r"\s*(?:,|/|&|or\b|and\b)\s*(?:option|choice)?\s*\(?[A-Z](?!\w)", rest):
        return None
    explained = re.match(r"\s*[.:,;\-–—(]|\s+(?:because|since|as|which)\b", rest)
    return first[1] if first["closed"] or explained or not rest.strip() else None


def _plain(formula: str) -> str:
    r"""Strip what makes no difference: spaces, \left and \right, \!, dollars, \dfrac for \frac, a final full stop."""
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\[,!;: ]|\s|\$|\\displaystyle", "", formula)
    return re.sub(r"\\[dt]frac", r"\\frac", text).rstrip(".")


def _differ(found: str, gold: str) -> bool:
    """Whether two formulas differ in something that math-verify overlooks.

    That is: ends of intervals, powers of units, bases of numerals, digits after the sixth place, the variable.
    """
    ours, theirs = _plain(found), _plain(gold)
    if _NUMERAL.fullmatch(ours) and _NUMERAL.fullmatch(theirs):
        return Decimal(ours) != Decimal(theirs)
    bases = _BASE.search(ours), _BASE.search(theirs)
    if bases[0] and bases[1] and bases[0][1] != bases[1][1]:
        return True
    if _INTERVAL.search(ours) and _INTERVAL.search(theirs):
        ends = [[part[0] + part[-1] for part in _INTERVAL.findall(text)] for text in (ours, theirs)]
        if len(ends[0]) == len(ends[1]) and ends[0] != ends[1]:
            return True
    units = _UNIT.findall(found), _UNIT.findall(gold)
    if all(units) and units[0] != units[1]:
        return True
    named = [re.match(r"([A-Za-z])(?:=|\\in)", text) for text in (ours, theirs)]
    return bool(named[0] and named[1] and named[0][1] != named[1][1])
