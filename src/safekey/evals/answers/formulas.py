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

_SIGNS = {
    "−": "-", "π": r"\pi ", "°": r"^\circ ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ",
    "±": r"\pm ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ",
    "{,}": ",", "{:}": ":", r"\varnothing": r"\emptyset", r"\langle": "(", r"\rangle": ")", "£": "", "€": "",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "²": "^2", "³": "^3", "θ": r"\theta ",
}  # fmt: skip
_LABEL = re.compile(
    r"^\s*\\text(?:bf|rm|tt)?\{\s*(?:[A-Za-z ]{1,30}:|\(?[A-E]\)[.:]?|[A-E][.:])\s*\}"
    r"(?:\\[ ,;:!~]|\\q?quad|[\s~])*(?=\S)"
)
_BASES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
          "ten": "10", "twelve": "12", "sixteen": "16"}  # fmt: skip
_REPEATING = re.compile(r"(?<![\d.])(?P<whole>\d*)\.(?P<fixed>\d*)\\(?:overline|dot|bar)\s*\{?(?P<period>\d+)\}?")
_ORDER = {"le": r"\\leq?(?:slant)?|≤|<=", "ge": r"\\geq?(?:slant)?|≥|>=", "lt": r"<|\\lt", "gt": r">|\\gt"}
_ANY_ORDER = "|".join(_ORDER.values())
_CHAIN = re.compile(
    rf"(?:(?P<low>[^<>≤≥=,]+?)(?P<first>{_ANY_ORDER}))?[a-zA-Z](?P<second>{_ANY_ORDER})(?P<high>[^<>≤≥=,a-zA-Z]+|[^<>≤≥=,]*\\[^<>≤≥=,]+)"
)


def plain_formula(formula: str) -> str:
    r"""Strip what makes no difference: spaces, \left and \right, \!, dollars, \dfrac for \frac, a final full stop."""
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\[,!;: ]|\s|\$|\\displaystyle", "", formula)
    return re.sub(r"\\[dt]frac", r"\\frac", text).rstrip(".")


def in_latex(formula: str) -> str:
    r"""Write a formula as math-verify reads it: signs of Unicode as LaTeX, 0.\overline{3} as 1/3, 1.5e3, _{\text{two}}.

    A label in front ("\text{Answer: }", an option's letter) goes; so does a currency sign.
    """
    text = formula
    for sign, latex in _SIGNS.items():
        text = text.replace(sign, latex)
    text = re.sub(r"√\s*(?:\(([^()]*)\)|(\w))", lambda root: rf"\sqrt{{{root[1] or root[2]}}}", text)
    text = re.sub(r"(?:^|(?<=[\s(=,]))–(?=[\d.a-zA-Z\\])", "-", text)
    text = _LABEL.sub("", text)
    text = re.sub(r"^\s*(-?[\d.]+)[eE]([+-]?\d+)\s*$", r"\1\\times 10^{\2}", text)
    text = re.sub(r"_\{?\\text\{(\w+)\}\}?", lambda base: f"_{{{_BASES.get(base[1], base[0][1:])}}}", text)
    return _REPEATING.sub(_fraction, text)


def _fraction(number: re.Match[str]) -> str:
    """Return a repeating decimal as a fraction."""
    whole, fixed, period = number["whole"] or "0", number["fixed"], number["period"]
    above = int(whole + fixed + period) - int(whole + fixed)
    return rf"\frac{{{above}}}{{{'9' * len(period) + '0' * len(fixed)}}}"


def as_interval(formula: str) -> str:
    r"""Return an inequality about one letter as its interval, "2 < x \le 5" as "(2,5]"; else the formula."""
    match = _CHAIN.fullmatch(plain_formula(formula))
    if match is None:
        return formula
    low, first, second, high = match["low"], match["first"], match["second"], match["high"]
    if low is not None and first is not None:
        signs = [next(name for name, sign in _ORDER.items() if re.fullmatch(sign, each)) for each in (first, second)]
        if signs[0][0] != signs[1][0]:
            return formula
        if signs[0][0] == "g":
            low, high, signs = high, low, signs[::-1]
        return f"{'[' if signs[0][1] == 'e' else '('}{low},{high}{']' if signs[1][1] == 'e' else ')'}"
    sign = next(name for name, sign in _ORDER.items() if re.fullmatch(sign, second))
    if sign[0] == "g":
        return f"{'[' if sign == 'ge' else '('}{high},\\infty)"
    return f"(-\\infty,{high}{']' if sign == 'le' else ')'}"


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
