"""The report in Markdown: verdicts and tables for a paper or a model card."""

from __future__ import annotations

from collections.abc import Sequence

from safekey.comparison.pairing import METRICS
from safekey.report.content import Material
from safekey.report.key_sentences import Section
from safekey.report.tables import Cell, Table, difference_table, ends_tables, main_table, slice_table
from safekey.report.wording import arm_in_words, headline
from safekey.terminal import printable

_MARKUP = "\\`*_[]|!#~"


def markdown(material: Material, title: str, notes: Sequence[str], keys: Section | None, plots: Sequence[str]) -> str:
    """Return the whole document.

    Args:
        material: what to show.
        title: its heading.
        notes: what a reader should know besides.
        keys: the key-sentence section.
        plots: names of the PNG files in `plots/`, with what they show: "asr-orr.png|Attack success …".
    """
    lines = [f"# {plain(title)}", "", plain(headline(material.headline)), ""]
    if material.headline:
        for verdict in material.headline.verdicts.values():
            lines.append("- " + plain(" ".join((verdict.sentence, verdict.scope, *verdict.caveats))))
        lines.append("")
    lines += _section(main_table(material))
    if material.headline:
        lines += _section(difference_table(material.headline, "differences"))
    for plot in plots:
        name, _, words = plot.partition("|")
        lines += [f"![{plain(words)}](plots/{name})", ""]
    sliced = [slice_table(material, metric) for metric in METRICS]
    if any(sliced):
        lines += ["## By benchmark and attack", ""]
    for each in sliced:
        lines += _section(each)
    forced = slice_table(material, "asr", prefill=True)
    if forced:
        about = "another threat, and no part of the headline" if material.prefill_apart else (
            "these runs were asked nothing else, so all numbers here are about it"
        )  # fmt: skip
        lines += [
            "## Under prefilling",
            "",
            f"Whoever prefills writes the beginning of the model's own thinking: {about}.",
            "",
        ]
        lines += _section(forced)
        if material.prefill:
            lines += _section(difference_table(material.prefill, "prefill-differences", "under prefilling"))
    lines += ["## How outputs ended", ""]
    for table in ends_tables(material):
        lines += _section(table)
    if keys:
        lines += ["## Key sentences", "", *(plain(text) + "\n" for text in keys.text)]
        for table in keys.tables:
            lines += _section(table)
    lines += ["## What was compared", ""]
    lines += [f"- **{plain(arm)}**: {plain(arm_in_words(material.records[arm]))}" for arm in material.arms]
    lines += [f"- {plain(metric.upper() if metric != 'accuracy' else 'accuracy')} judged by {plain(judge)}"
              for metric, judge in material.found.judges.items()]  # fmt: skip
    lines += ["", "## Notes", ""] + [f"- {plain(note)}" for note in notes or ["none"]]
    return "\n".join(lines) + "\n"


def _section(table: Table | None) -> list[str]:
    if table is None:
        return []
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    head = [plain(text) for text in table.head]
    lines = [f"**{plain(table.caption)}**", ""]
    lines += [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return [*lines, "", *([plain(table.note), ""] if table.note else [])]


def _cell(cell: Cell) -> str:
    lines = "<br>".join(plain(line) for line in (cell.text, *cell.more))
    return f"{lines} ●" if cell.strong else lines


def plain(text: str) -> str:
    """Keep text from becoming markup: no tags, links, tables or line breaks; control characters are written out."""
    line = " ".join(printable(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in _MARKUP else sign for sign in line)
