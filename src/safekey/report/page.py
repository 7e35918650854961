"""Render the page: one HTML file without network requests, in which text by models and data is never markup.

Jinja escapes every value. Control characters and those that reverse a line's direction are spelled out. Texts by models
are compressed data that the script shows as text. A content security policy admits only the page's own script and
style, by their hashes, and no request.
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

from safekey.comparison.types import METRICS
from safekey.report import palette, wording
from safekey.report.attacks.adaptive import adaptive_tables
from safekey.report.attacks.tables import attack_table, best_of_n_tables
from safekey.report.content import Content
from safekey.report.inside.section import InsideSection
from safekey.report.key_sentences import KeySentenceSection
from safekey.report.notes import notices
from safekey.report.packing import EmbeddedData
from safekey.report.plots import Plot
from safekey.report.settings import config_texts, run_table, settings_table, versions_table
from safekey.report.svg import Styles, inline
from safekey.report.tables import Table, difference_table, ends_by_slice, ends_tables, main_table, slice_table
from safekey.terminal import printable

_GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
_SHARES: Mapping[str, str] = {
    "unsafe": "bad", "full_refusal": "bad", "partial_refusal": "mixed", "cautious": "mixed", "refused": "ok",
    "full_compliance": "ok", "scored": "ok", "unscored": "none",
}  # fmt: skip


def page(
    content: Content,
    title: str,
    *,
    plots: Sequence[Plot],
    notes: Sequence[str],
    settings: Mapping[str, Any] | None,
    keys: KeySentenceSection | None,
    generated: str,
    about: str = "",
    embedded: EmbeddedData | None,
    shared: bool = False,
    inside: Sequence[InsideSection] = (),
) -> str:
    """Return the page's HTML.

    Args:
        content: what it shows.
        title: its heading.
        plots: its plots.
        notes: its notes.
        settings: the whole experiment's settings.
        keys: the section on key sentences.
        generated: what wrote it, and when.
        embedded: the transcripts; None: none.
        inside: what `safekey analyze` found.
        shared: for readers elsewhere: without the settings' YAML and the run folders, which name files of this machine.
    """
    styles = Styles()
    drawn = [*plots, *(plot for section in inside for plot in section.plots)]
    figures = {plot.name: (plot.title, Markup(inline(plot, styles))) for plot in drawn}  # noqa: S704 - the page's own plots
    css, js = Markup(_css(styles)), Markup(_asset("page.js"))  # noqa: S704 - files of this package
    trained = any(plot.name in ("losses", "key-accuracy") for plot in plots)
    return _template().render(
        title=title,
        about=about,
        policy=_policy(css, js),
        css=css,
        js=js,
        data=embedded.data if embedded else "",
        embedded=embedded_in_words(embedded) if embedded else "The transcripts are not part of this page.",
        sections=_sections(trained, keys is not None, bool(inside)),
        inside=inside,
        content=content,
        wording=wording,
        notices=notices(content),
        scopes=_scopes(content),
        tables=_tables(content, settings),
        figures=figures,
        marks=[_GLYPHS[palette.marker(place)] for place in range(len(content.arms))],
        trained=trained,
        diagnostics=keys,
        configs=[] if shared else config_texts(content, settings),
        shared=shared,
        notes=notes,
        generated=generated,
        bar=_bar,
    )


def embedded_in_words(data: EmbeddedData) -> str:
    """Say how many transcripts the page holds, and where the others are."""
    if data.shown == data.total:
        said = f"All {data.total:,} responses are in this page."
    else:
        said = (
            f"{data.shown:,} of {data.total:,} responses are in this page, which is kept under 5 MB: "
            f"{data.differing_shown:,} of the {data.differing:,} to prompts on which arms differ, then a random sample "
            "of the others. The run folders (below) hold all of them, in completions.jsonl."
        )
    if data.cut:
        said += f" {data.cut:,} long ones are cut in the middle to about {data.limit:,} characters."
    return said


def _sections(trained: bool, diagnosed: bool, inside: bool) -> list[tuple[str, str]]:
    found = [("verdicts", "Verdicts"), ("method", "Method and arms"), ("differences", "Differences"),
             ("training", "Training"), ("key-sentence", "Key sentences"), ("inside", "Inside the models"),
             ("transcripts", "Transcripts"), ("settings", "Settings"), ("notes", "Notes")]  # fmt: skip
    known = (("training", trained), ("key-sentence", diagnosed), ("inside", inside))
    left_out = {name for name, there in known if not there}
    return [row for row in found if row[0] not in left_out]


def _tables(content: Content, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    slices = [slice_table(content, metric) for metric in METRICS]
    return {
        "main": main_table(content),
        "differences": difference_table(content.headline, "behind") if content.headline else None,
        "attacks": attack_table(content),
        "by_calls": [*best_of_n_tables(content), *adaptive_tables(content)],
        "slices": [table for table in slices if table is not None],
        "prefill_differences": difference_table(content.prefill, "prefill-differences", "under prefilling")
        if content.prefill
        else None,
        "prefill": slice_table(content, "asr", prefill=True),
        "ends": ends_tables(content),
        "ends_by_slice": ends_by_slice(content),
        "settings": settings_table(content),
        "versions": versions_table(content),
        "runs": run_table(content),
    }


def _scopes(content: Content) -> list[tuple[str, str]]:
    """Return each statement of what the verdicts are about, with the arms that it applies to."""
    found: dict[str, list[str]] = {}
    for name, verdict in content.headline.verdicts.items() if content.headline else ():
        found.setdefault(verdict.scope, []).append(name)
    return [(scope, ", ".join(names)) for scope, names in found.items()]


def _bar(table: Table, row: int) -> list[tuple[str, str, str]]:
    """Return a row's shares as segments of a bar: start, width, kind."""
    segments, at = [], 0.0
    for name, share in zip(table.head[1:], table.shares[row], strict=False):
        if share:
            segments.append((f"{100 * at:.2f}", f"{100 * share:.2f}", _SHARES.get(name, "odd")))
        at += share
    return segments


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
    """Spell out control characters in every value but the page's own markup."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
