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
from typing import Any

from safekey.evals.answers.formulas import as_interval, differ, in_latex, plain_formula
from safekey.evals.answers.letters import stated_letter
from safekey.evals.answers.math_check import CHECKER, MathChecker
from safekey.evals.answers.statements import statements

NO_ANSWER = "truncated/no answer"
LONGEST_FORMULA = 2_000  # characters
TAIL = 2_000  # characters at the end of an answer without a box that are searched
NOT_FOUND = "no final answer found"
WRONG = "wrong answer"

_BRACES = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|\{|\}", re.DOTALL)
_DOLLARS = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\s?(?:π|\\pi\b|\\?%))?")
_JOINED = re.compile(r"[\s$,;]*(?:and|or|\\text\{\s*(?:and|or)\s*\})?[\s$,;]*(?:(?<=[\s$,;])(?P<name>[a-z])\s*=\s*)?")
_NAMED = re.compile(r"([a-zA-Z])(?:_\{?\w+\}?)?\s*=")


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
    if plain_formula(found) == plain_formula(gold):
        return Score(True, "", found)
    ours, theirs = in_latex(found), in_latex(gold)
    if _is_interval(theirs):
        ours = as_interval(ours)
    elif _is_interval(ours):
        theirs = as_interval(theirs)
    if plain_formula(ours) == plain_formula(theirs):
        return Score(True, "", found)
    if differ(ours, theirs):
        return Score(False, WRONG, found)
    equal, error = checker.equal(theirs, ours)
    if equal is None:
        return Score(None if error.startswith("gold:") else False, error, found)
    return Score(equal, "" if equal else WRONG, found)


def score_integer(answer: str | None, gold: str, checker: MathChecker = CHECKER) -> Score:
    """Score an integer: the number itself, leading zeros aside ("073" is 73; "73.5" and "73 or 74" are wrong)."""
    if not answer or not answer.strip():
        return Score(False, NO_ANSWER)
    found = final_formula(answer)
    if not found:
        return Score(False, NOT_FOUND)
    text = re.sub(r"\\[,!;: ]|[\s$~]|\\(?:text|mathrm|mathbf|mbox|bf)\b|[{}]", "", found).rstrip(".")
    if signed := re.fullmatch(r"([-−]?)(\d{1,3}(?:,\d{3})+|\d+)", text):
        value = signed[2].replace(",", "").lstrip("0") or "0"
        value = f"-{value}" if signed[1] and value != "0" else value
        right = value == (gold.strip().lstrip("0") or "0")
        return Score(right, "" if right else WRONG, found)
    if len(found) > LONGEST_FORMULA or re.search(r"\d[.,]\d*[1-9]|\bor\b", found):
        return Score(False, WRONG, found[:LONGEST_FORMULA])
    equal, error = checker.equal(gold, found)  # "2^3 + 1", "m+n = 34"
    return Score(equal is True, "" if equal else error or WRONG, found)


def score_choice(answer: str | None, gold: str, letters: str, options: Mapping[str, str] | None = None) -> Score:
    """Score a multiple choice by the exact letter of the answer's final statement (see `stated_letter`)."""
    if not answer or not answer.strip():
        return Score(False, NO_ANSWER)
    letter = stated_letter(answer, letters, options)
    if letter is None:
        return Score(False, NOT_FOUND)
    return Score(letter == gold, "" if letter == gold else WRONG, letter)


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
            joined = _JOINED.fullmatch(between)
            if not joined or not between.strip(" $"):
                break
            if joined["name"] and not re.search(rf"(?<![a-zA-Z]){joined['name']}\s*=\s*$", answer[: earlier[0]]):
                break
            parts.insert(0, earlier)
        return ", ".join(part[1] for part in parts).strip() or None
    tail = answer[-TAIL:]
    for _, text in reversed(statements(tail, keep_formulas=True)):
        if found := _first_formula(text):
            return found
    if values := _last_values(tail):
        return values
    numbers = _NUMBER.findall(tail)
    return str(numbers[-1]).rstrip(",") if numbers else None


def _is_interval(formula: str) -> bool:
    return re.fullmatch(r"[(\[].*,.*[)\]]", plain_formula(formula)) is not None


def _last_values(text: str) -> str | None:
    """Return the last formula between dollars, with those joined to it that give other values of the same letter.

    "The roots are $x = 2$ and $x = 3$." is both; of "$x = 1 + 2$, so $x = 3$" only the last one counts.
    """
    matches = list(_DOLLARS.finditer(text))
    kept: list[str] = []
    for place in range(len(matches) - 1, -1, -1):
        formula = next(group for group in matches[place].groups() if group).strip()
        if kept:
            between = text[matches[place].end() : matches[place + 1].start()]
            names = [_NAMED.match(each) for each in (formula, kept[0])]
            if not (
                names[0] and names[1] and names[0][1] == names[1][1] and between.strip() and _JOINED.fullmatch(between)
            ):
                break
        kept.insert(0, formula)
    return ", ".join(kept) or None


def _first_formula(statement: str) -> str | None:
    """Return what a statement gives: its first formula or number, and others that "and", "or" or a comma adds to it.

    "204, found in 3 steps" is 204; "m + n = 30 + 4 = 34" is 34; "5 or 6" is both.
    """
    matches = list(_DOLLARS.finditer(statement))
    kept: list[str] = []
    end = 0
    for match in matches:
        if kept and not _JOINED.fullmatch(statement[end : match.start()]):
            break
        kept.append(next(group for group in match.groups() if group).strip())
        end = match.end()
    if kept:
        return ", ".join(kept)
    clause = re.split(r"[.;](?:\s|$)|\s\(|,?\s(?:because|since|as|which|where|so)\b", statement)[0]
    clause = clause.rpartition("=")[2] if "=" in clause else clause
    if re.search(r"\\[a-zA-Z]+|\^", clause):  # LaTeX without dollars
        return clause.strip().rstrip(".") or None
    first = _NUMBER.search(clause)
    if first is None:
        return None
    several = re.match(rf"(?:\s*(?:,|and|or)\s*{_NUMBER.pattern})+\s*$", clause[first.end() :])
    return (clause[first.start() :] if several else first[0]).strip().rstrip(",")


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
        letters = metadata["letters"]
        return score_choice(answer, target, letters, dict(zip(letters, metadata.get("options", ()), strict=False)))
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
