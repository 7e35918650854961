"""The report in Markdown: verdicts and tables for a paper or a model card."""

from __future__ import annotations

from collections.abc import Sequence

from safekey.comparison.types import METRICS
from safekey.report.attacks.adaptive import adaptive_tables
from safekey.report.attacks.tables import attack_table, best_of_n_tables
from safekey.report.content import Content
from safekey.report.key_sentences import KeySentenceSection
from safekey.report.plots import Plot
from safekey.report.tables import Cell, Table, difference_table, ends_tables, main_table, slice_table
from safekey.report.wording import arm_in_words, headline
from safekey.terminal import printable

_MARKUP = "\\`*_[]|!#~"


def markdown(
    content: Content,
    title: str,
    notes: Sequence[str],
    keys: KeySentenceSection | None,
    plots: Sequence[Plot],
    about: str = "",
) -> str:
    """Return the whole document.

    Args:
        content: the report's content.
        title: its heading.
        notes: its notes.
        keys: the key-sentence section.
        plots: their PNG files lie in `plots/`.
        about: what holds for all of it, in words; below the headline.
    """
    lines = [f"# {plain(title)}", "", plain(headline(content.headline)), "", *([plain(about), ""] if about else [])]
    if content.headline:
        for verdict in content.headline.verdicts.values():
            lines.append("- " + plain(" ".join((verdict.sentence, verdict.scope, *verdict.caveats))))
        lines.append("")
    lines += _section(main_table(content))
    if content.headline:
        lines += _section(difference_table(content.headline, "differences"))
    for plot in plots:
        lines += [f"![{plain(plot.title)}](plots/{plot.name}.png)", ""]
    attacks = attack_table(content)
    if attacks:
        lines += ["## Attack by attack", "", *_section(attacks)]
        for table in [*best_of_n_tables(content), *adaptive_tables(content)]:
            lines += _section(table)
    sliced = [slice_table(content, metric) for metric in METRICS]
    if any(sliced):
        lines += ["## By benchmark and attack", ""]
    for each in sliced:
        lines += _section(each)
    prefilled = slice_table(content, "asr", prefill=True)
    if prefilled:
        about = "these runs have no other attacks, so all numbers here are about prefilling"
        if content.prefill_apart:
            about = "another threat model, so it is compared separately and is no part of the verdicts"
        said = f"In a prefilling attack the attacker writes the start of the model's reasoning: {about}."
        lines += ["## Under prefilling", "", said, "", *_section(prefilled)]
        if content.prefill:
            lines += _section(difference_table(content.prefill, "prefill-differences", "under prefilling"))
    lines += ["## How outputs ended", ""]
    for table in ends_tables(content):
        lines += _section(table)
    if keys:
        lines += ["## Key sentences", "", *(plain(text) + "\n" for text in keys.text)]
        for table in keys.tables:
            lines += _section(table)
    lines += ["## What was compared", ""]
    lines += [f"- **{plain(arm)}**: {plain(arm_in_words(content.records[arm]))}" for arm in content.arms]
    lines += [f"- {plain(metric.upper() if metric != 'accuracy' else 'accuracy')} judged by {plain(judge)}"
              for metric, judge in content.found.judges.items()]  # fmt: skip
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
    """Escape text: no tags, links, tables or line breaks; control characters are spelled out."""
    line = " ".join(printable(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in _MARKUP else sign for sign in line)
