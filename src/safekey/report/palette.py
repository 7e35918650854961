"""The report's colours: for plots, and as CSS variables of the page.

Plots are drawn once, with the light colours. In the page each colour becomes a CSS variable, so that the same plot is
readable on a dark background. Arms also differ by marker and dash: colour is never the only difference.
"""

from __future__ import annotations

from typing import NamedTuple


class Shade(NamedTuple):
    """A colour of the page: its CSS variable, and its value on a light and on a dark background."""

    name: str
    light: str
    dark: str


GROUND = Shade("ground", "#fefefe", "#161c24")
INK = Shade("ink", "#1b2432", "#e8edf4")
SOFT = Shade("soft", "#566072", "#a8b3c2")
LINE = Shade("line", "#d8dde5", "#323d4b")
GOOD = Shade("good", "#1a7f47", "#5fd08f")
_ARMS = (
    Shade("arm-0", "#4b5563", "#b4bfcc"),  # the reference
    Shade("arm-1", "#1f62d6", "#78b2ff"),
    Shade("arm-2", "#b8520a", "#ffa05c"),
    Shade("arm-3", "#0a7a70", "#4fd3c3"),
    Shade("arm-4", "#7c44cf", "#c59bff"),
    Shade("arm-5", "#bd2152", "#ff8099"),
    Shade("arm-6", "#65740b", "#c5d44f"),
    Shade("arm-7", "#85552a", "#dba97a"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
SHADES = (GROUND, INK, SOFT, LINE, GOOD, *_ARMS)


def arm(place: int) -> Shade:
    """Return the colour of an arm; the ninth has the second's colour and another marker."""
    return _ARMS[place] if place < len(_ARMS) else _ARMS[1 + (place - 1) % (len(_ARMS) - 1)]


def marker(place: int) -> str:
    """Return matplotlib's name of an arm's marker."""
    return MARKERS[(place + place // len(MARKERS)) % len(MARKERS)]


def dash(place: int) -> object:
    """Return matplotlib's line style of an arm."""
    return DASHES[(place + place // len(DASHES)) % len(DASHES)]


def variables(dark: bool) -> str:
    """Return the CSS declarations of all colours."""
    return " ".join(f"--{shade.name}: {shade.dark if dark else shade.light};" for shade in SHADES)
