"""Tell formulas apart that math-verify holds to be equal, because its parser drops what distinguishes them.

    differ(r"\\le 33", "33")      -> True: a relation is no number
    differ(r"\\{1, 2\\}", "(1,2)") -> True: a set is no tuple

Tiny numbers are compared in `math_worker.py`, exactly.
"""

from __future__ import annotations

import re
from decimal import Decimal

_UNIT_POWER = re.compile(r"\\(?:text|mbox|mathrm)\s*\{[^{}]*\}\s*\^\s*\{?(\d)\}?")
_UNIT = re.compile(r"\\(?:text|mbox|mathrm|rm)\s*\{\s*([A-Za-z]+)\s*\}")
_BASE = re.compile(r"_\{?(\d+)\}?$")
_NUMERAL = re.compile(r"-?(?:\d+\.?\d*|\.\d+)")
_INTERVAL = re.compile(r"[\[(][^\[\]()]*,[^\[\]()]*[\])]")
_RELATION = re.compile(
    r"(?P<le>\\leq?(?![a-z])|\\leqslant|≤|<=)|(?P<ge>\\geq?(?![a-z])|\\geqslant|≥|>=)|(?P<ne>\\neq?(?![a-z])|≠|!=|\\not=)"
    r"|(?P<lt><|\\lt(?![a-z]))|(?P<gt>>|\\gt(?![a-z]))"
)
_DOTS = re.compile(r"\\(?:l|c|v|d)?dots[a-z]?(?![a-z])|…|\.{3,}")
_OPERATIONS = (r"\\cup|∪", r"\\cap|∩", r"\\setminus", r"!(?!=)")
_MIRRORED = {"le": "ge", "ge": "le", "lt": "gt", "gt": "lt", "ne": "ne"}
_TEXT = re.compile(r"\\(?:text|mbox|textbf|mathrm)\{([^{}]*)\}")
# Units whose names differ and whose amounts do, too; plurals and full names are one unit.
_UNITS = {
    name: names.split()[0]
    for names in (
        *("mm millimeter millimetre", "cm centimeter centimetre", "m meter metre", "km kilometer kilometre"),
        *("in inch inche", "ft foot feet", "yard yd", "mile mi", "g gram", "kg kilogram", "cent", "dollar"),
        *("s sec second", "min minute", "h hr hour", "day", "week", "year", "degree deg", "radian rad"),
    )
    for name in names.split()
}


def plain_formula(formula: str) -> str:
    r"""Strip what makes no difference: spaces, \left and \right, \!, dollars, \dfrac for \frac, a final full stop."""
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\[,!;: ]|\s|\$|\\displaystyle", "", formula)
    return re.sub(r"\\[dt]frac", r"\\frac", text).rstrip(".")


def differ(found: str, gold: str) -> bool:
    """Return whether two formulas differ in something that math-verify overlooks.

    That is: ends of intervals, sets and tuples, relation signs, dots of a sequence, unions and intersections, ±,
    factorials, units and their powers, bases of numerals, digits after the sixth place, the variable, words.
    """
    ours, theirs = plain_formula(found), plain_formula(gold)
    if _NUMERAL.fullmatch(ours) and _NUMERAL.fullmatch(theirs):
        return Decimal(ours) != Decimal(theirs)
    bases = _BASE.search(ours), _BASE.search(theirs)
    if bases[0] and bases[1] and bases[0][1] != bases[1][1]:
        return True
    if _INTERVAL.search(ours) and _INTERVAL.search(theirs):
        ends = [[part[0] + part[-1] for part in _INTERVAL.findall(text)] for text in (ours, theirs)]
        if len(ends[0]) == len(ends[1]) and ends[0] != ends[1]:
            return True
    powers = _UNIT_POWER.findall(found), _UNIT_POWER.findall(gold)
    if all(powers) and powers[0] != powers[1]:
        return True
    listed = "," in ours + theirs
    if (
        _marks(ours, listed) != _marks(theirs, listed)
        or _relations_differ(ours, theirs)
        or _shape_differs(ours, theirs)
    ):
        return True
    if _TEXT.fullmatch(theirs) and _TEXT.sub("", gold).strip() == "":
        return _said(found) != _said(gold)
    units = [[_unit(name) for name in _UNIT.findall(text)] for text in (found, gold)]
    if units[0] and units[1] and None not in units[0] + units[1] and units[0] != units[1]:
        return True
    named = [re.match(r"([A-Za-z])(?:=|\\in)", text) for text in (ours, theirs)]
    return bool(named[0] and named[1] and named[0][1] != named[1][1])


def _marks(formula: str, listed: bool) -> list[int]:
    """Return counts that must be the same on both sides: dots of a sequence, and operations that the parser drops."""
    plus_minus = len(re.findall(r"\\pm|±", formula)) if not listed else 0  # "3, -3" is what "\pm 3" means
    return [bool(_DOTS.search(formula)), plus_minus, *(len(re.findall(sign, formula)) for sign in _OPERATIONS)]


def _relations_differ(ours: str, theirs: str) -> bool:
    """Whether the relation signs differ; an inequality that is an interval, or is mirrored, is left to math-verify."""
    found = [sorted(str(match.lastgroup) for match in _RELATION.finditer(text)) for text in (ours, theirs)]
    if found[0] == found[1] or any(_INTERVAL.search(text) for text in (ours, theirs)):
        return False
    whole = all(re.search(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])", text) for text in (ours, theirs))
    return not (whole and sorted(_MIRRORED[name] for name in found[0]) == found[1])


def _shape_differs(ours: str, theirs: str) -> bool:
    """Whether one is a set and the other a tuple or an interval. A list without brackets fits both."""
    shapes = []
    for formula in (ours, theirs):
        body = re.sub(r"^[A-Za-z](?:=|\\in)", "", formula)
        shapes.append("set" if body.startswith("\\{") else "tuple" if _INTERVAL.fullmatch(body) else "")
    return all(shapes) and shapes[0] != shapes[1]


def _unit(name: str) -> str | None:
    name = name.lower()
    return _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))


def _said(formula: str) -> str:
    """Return the words of an answer in words."""
    return " ".join(re.findall(r"[^\W_]+", _TEXT.sub(r" \1 ", formula).lower()))
