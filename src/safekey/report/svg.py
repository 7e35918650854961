"""Inline a plot's SVG in the page: unique ids, classes in place of style attributes, variables in place of colours.

The page's content security policy allows no style attribute, so every distinct style becomes a class of the page's
style sheet. Colours of the palette become CSS variables, so that the plot changes with the page's theme.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from safekey.report import palette
from safekey.report.plots import Plot

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_DROPPED = ("metadata", "style")
_LONG_NUMBER = re.compile(r"(\d\.\d\d)\d+")


class Styles:
    """The classes that inlined plots use, shared by all of them."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, style: str) -> str:
        """Return the class for a style."""
        return self._names.setdefault(_themed(style), f"p{len(self._names)}")

    def css(self) -> str:
        """Return the style sheet's rules."""
        return "\n".join(f".{name}{{{style}}}" for style, name in self._names.items())


def inline(plot: Plot, styles: Styles) -> str:
    """Return the plot as an `<svg>` element, with a title and a description for screen readers."""
    root = ET.fromstring(plot.svg)  # noqa: S314 - the report's own plot
    for parent in root.iter():
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in _DROPPED:
                parent.remove(child)
    for element in root.iter():
        _restyle(element, plot.name, styles)
    width, height = (root.attrib.pop(name, "").removesuffix("pt") for name in ("width", "height"))
    root.set("viewBox", root.get("viewBox") or f"0 0 {width} {height}")
    root.set("role", "img")
    root.set("aria-labelledby", f"{plot.name}-title {plot.name}-desc")
    root.set("class", "plot")
    title, description = ET.Element("title"), ET.Element("desc")
    title.text, title.attrib["id"] = plot.title, f"{plot.name}-title"
    description.text, description.attrib["id"] = plot.description, f"{plot.name}-desc"
    root.insert(0, title)
    root.insert(1, description)
    return ET.tostring(root, encoding="unicode")


def _restyle(element: ET.Element, name: str, styles: Styles) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    style = element.attrib.pop("style", "")
    if style:
        element.set("class", styles.name(style))
    for key, value in list(element.attrib.items()):
        if key == "d":  # a hundredth of a point is finer than any screen
            element.set(key, _LONG_NUMBER.sub(r"\1", " ".join(value.split())))
        elif key == "id":
            element.set("id", f"{name}-{value}")
        elif key == _HREF:
            del element.attrib[key]
            element.set("href", f"#{name}-{value.removeprefix('#')}")
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))


def _themed(style: str) -> str:
    """Replace the palette's colours by variables and the plot's font by the page's."""
    for shade in palette.SHADES:
        style = re.sub(re.escape(shade.light), f"var(--{shade.name})", style, flags=re.IGNORECASE)
    style = re.sub(r"font:\s*([\d.]+px)[^;]*", r"font-size: \1", style)
    return re.sub(r"\s+", " ", style).strip().rstrip(";")
