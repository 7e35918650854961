"""The page: one HTML file that holds everything, asks no network, and takes nothing that a model wrote for markup.

What keeps it safe: Jinja escapes every value; control characters and those that turn a line around are written out;
what models wrote is compressed data that the script shows as text; and a content security policy admits no script and
no style but the page's own, by their hashes, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from safekey.comparison.pairing import METRICS
from safekey.report import palette
from safekey.report.content import Material
from safekey.report.key_sentences import Section
from safekey.report.notes import notices
from safekey.report.packing import Packed
from safekey.report.plots import Plot
from safekey.report.settings import config_texts, run_table, settings_table, versions_table
from safekey.report.svg import Styles, inline
from safekey.report.tables import (
    Table,
    difference_table,
    ends_by_slice,
    ends_tables,
    main_table,
    slice_table,
)
from safekey.report.wording import (
    METHOD,
    NUMBERS,
    OBJECTIVES,
    PARTS,
    SIGNS,
    VERDICTS,
    arm_in_words,
    headline,
)
from safekey.terminal import printable

_GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
_SHARES: Mapping[str, str] = {
    "unsafe": "bad", "full_refusal": "bad", "partial_refusal": "mixed", "cautious": "mixed", "refused": "ok",
    "full_compliance": "ok", "scored": "ok", "unscored": "none",
}  # fmt: skip


def page(
    material: Material, title: str, *, plots: Sequence[Plot], notes: Sequence[str], settings: Mapping[str, Any] | None,
    keys: Section | None, generated: str, packed: Packed | None,
) -> str:  # fmt: skip
    """Return the page's HTML; without `packed`, as long as it is without transcripts."""
    styles = Styles()
    figures = {plot.name: (plot.title, Markup(inline(plot, styles))) for plot in plots}  # noqa: S704 - made from our own plots
    css, js = Markup(_css(styles)), Markup(_asset("page.js"))  # noqa: S704 - files of this package
    trained = any(plot.name in ("losses", "key-accuracy") for plot in plots)
    return _template().render(
        title=title,
        policy=_policy(css, js),
        css=css,
        js=js,
        data=packed.data if packed else "",
        packed_words=packed_in_words(packed) if packed else "",
        headline=headline(material.headline),
        sections=_sections(trained, keys is not None),
        material=material,
        words=VERDICTS,
        signs=SIGNS,
        notices=notices(material),
        scopes=_scopes(material),
        tables=_tables(material, settings),
        figures=figures,
        method=METHOD,
        parts=PARTS,
        objectives=OBJECTIVES,
        numbers=NUMBERS,
        arms=[(arm, arm_in_words(material.records[arm])) for arm in material.arms],
        marks=[_GLYPHS[palette.marker(place)] for place in range(len(material.arms))],
        judges=[("Accuracy" if metric == "accuracy" else metric.upper(), judge)
                for metric, judge in material.found.judges.items()],
        trained=trained,
        diagnostics=keys,
        configs=config_texts(material, settings),
        notes=notes,
        generated=generated,
        bar=_bar,
    )  # fmt: skip


def packed_in_words(packed: Packed) -> str:
    """Say how many transcripts the page holds, and where the others are."""
    if packed.shown == packed.total:
        said = f"All {packed.total:,} responses are in this page."
    else:
        said = (
            f"{packed.shown:,} of {packed.total:,} responses are in this page, which is kept under 5 MB: "
            f"{packed.differing_shown:,} of the {packed.differing:,} to prompts on which arms differ, then a random "
            "sample of the others. The run folders (below) hold all of them, in completions.jsonl."
        )
    if packed.cut:
        said += f" {packed.cut:,} long ones are cut in the middle to about {packed.limit:,} characters."
    return said


def _sections(trained: bool, diagnosed: bool) -> list[tuple[str, str]]:
    found = [("verdicts", "Verdicts"), ("method", "Method and arms"), ("differences", "Differences"),
             ("training", "Training"), ("key-sentence", "Key sentences"),
             ("transcripts", "Transcripts"), ("settings", "Settings"), ("notes", "Notes")]  # fmt: skip
    left_out = {name for name, there in (("training", trained), ("key-sentence", diagnosed)) if not there}
    return [row for row in found if row[0] not in left_out]


def _tables(material: Material, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    slices = [slice_table(material, metric) for metric in METRICS]
    return {
        "main": main_table(material),
        "differences": difference_table(material.headline, "behind") if material.headline else None,
        "slices": [table for table in slices if table is not None],
        "prefill_differences": difference_table(material.prefill, "prefill-differences", "under prefilling")
        if material.prefill
        else None,
        "prefill": slice_table(material, "asr", prefill=True),
        "ends": ends_tables(material),
        "ends_by_slice": ends_by_slice(material),
        "settings": settings_table(material),
        "versions": versions_table(material),
        "runs": run_table(material),
    }


def _scopes(material: Material) -> list[tuple[str, str]]:
    """Return what the verdicts are about, each once, with the arms that it holds for."""
    found: dict[str, list[str]] = {}
    for name, verdict in material.headline.verdicts.items() if material.headline else ():
        found.setdefault(verdict.scope, []).append(name)
    return [(scope, ", ".join(names)) for scope, names in found.items()]


def _bar(table: Table, row: int) -> list[tuple[str, str, str]]:
    """Return a row's shares as stretches of a bar: start, width, kind."""
    stretches, at = [], 0.0
    for name, share in zip(table.head[1:], table.shares[row], strict=False):
        if share:
            stretches.append((f"{100 * at:.2f}", f"{100 * share:.2f}", _SHARES.get(name, "odd")))
        at += share
    return stretches


def _policy(css: str, js: str) -> str:
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; script-src 'sha256-{digest(js)}'; style-src 'sha256-{digest(css)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _css(styles: Styles) -> str:
    css = (
        _asset("page.css")
        .replace("/*LIGHT*/", palette.variables(dark=False))
        .replace("/*DARK*/", palette.variables(dark=True))
    )
    start = css.index(":root.dark {")
    dark = css[start : css.index("}", start) + 1].replace(":root.dark", ":root:not(.light)")
    arms = "\n".join(f".c-{place} {{ color: var(--{palette.arm(place).name}); }}" for place in range(64))
    return f"{css}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{arms}\n{styles.css()}\n"


@cache
def _asset(name: str) -> str:
    return resources.files("safekey.report").joinpath(name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=False
    )
    return environment.from_string(_asset("page.html.j2"))


def _finalize(value: object) -> object:
    """Write out control characters in every value but our own markup."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
