"""A comparison as a table: attack success, over-refusal and reasoning always side by side."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table as RichTable

from safekey.comparison.compare import Comparison, Report
from safekey.comparison.conclusion import p_text, points
from safekey.comparison.pairing import METRICS, Metric

HEADINGS: dict[Metric, str] = {
    "asr": "ASR (lower is better)",
    "orr": "ORR (lower is better)",
    "accuracy": "Reasoning (higher is better)",
}


def cell(row: Comparison | None) -> str:
    """Both rates in percent, the difference in points with its own 95 % interval, and the corrected p."""
    if row is None:
        return "not measured"
    found = row.difference
    if found is None or row.interval is None or row.p_adjusted is None:
        return "nothing to compare"
    low, high = row.interval
    sign = "+" if found.estimate > 0 else ""
    return (
        f"{100 * found.reference_rate:.1f} → {100 * found.arm_rate:.1f} %: "
        f"{sign}{points(found.estimate)} [{points(low)}, {points(high)}], {p_text(row.p_adjusted)}"
    )


def rows(report: Report) -> list[list[str]]:
    """One row per arm (and benchmark, where compared alone): name, verdict, then the three metrics."""
    found = {(row.arm, row.benchmark, row.metric): row for row in report.comparisons}
    table = []
    for arm in report.verdicts:
        for benchmark in sorted({row.benchmark for row in report.comparisons if row.arm == arm} | {""}):
            name = f"{arm}: {benchmark}" if benchmark else arm
            word = "" if benchmark else report.verdicts[arm].verdict
            table.append([name, word, *(cell(found.get((arm, benchmark, metric))) for metric in METRICS)])
    return table


def caption(report: Report) -> str:
    """What the table's numbers are."""
    level = f"{100 * (1 - report.alpha):g} %"
    return (
        f"{report.reference} → arm, paired on the same prompts; difference in points [{level} interval of each alone]; "
        f"p by Holm over {report.family} comparisons; margin {points(report.margin)} points."
    )


def markdown_table(report: Report) -> str:
    """The table, its caption and the verdicts, in Markdown."""
    head = [f"against {report.reference}", "verdict", *HEADINGS.values()]
    lines = [head, ["---"] * len(head), *rows(report)]
    table = "\n".join(f"| {' | '.join(_plain(text) for text in line)} |" for line in lines)
    said = []
    for verdict in report.verdicts.values():
        said.append("- " + " ".join(_plain(text) for text in (verdict.sentence, verdict.scope, *verdict.caveats)))
    return "\n".join([table, "", _plain(caption(report)), "", *said, ""])


def rich_table(report: Report) -> RichTable:
    """The table for a terminal."""
    table = RichTable(title=None, caption=escape(caption(report)), show_lines=True)
    for heading in (f"against {report.reference}", "verdict", *HEADINGS.values()):
        table.add_column(escape(heading), overflow="fold")
    for line in rows(report):
        table.add_row(*(escape(text) for text in line))
    return table


def _plain(text: str) -> str:
    """Keep a name from breaking the table: no pipes, line breaks or tags."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
