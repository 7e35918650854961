"""A comparison as a table: attack success, over-refusal and reasoning always side by side."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table as RichTable

from safekey.comparison.conclusion import counted, p_text, points
from safekey.comparison.types import METRICS, Comparison, ComparisonResult
from safekey.evals.judge_error.correct import Correction
from safekey.schema import Metric

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
    if row.withheld:
        return "withheld"
    if found is None:
        return "nothing to compare"
    return f"{100 * found.reference_rate:.1f} → {100 * found.arm_rate:.1f} %: {', '.join(change(row))}"


def change(row: Comparison | None) -> tuple[str, ...]:
    """The difference in points with its own 95 % interval, and the corrected p; of an untrained arm "not tested"."""
    if row is None or row.difference is None or row.interval is None:
        return ()
    low, high = row.interval
    sign = "+" if row.difference.estimate > 0 else ""
    p = "not tested" if row.p_adjusted is None else p_text(row.p_adjusted)
    found = f"{sign}{points(row.difference.estimate)} [{points(low)}, {points(high)}]", p
    return (*found, corrected(row.corrected)) if row.corrected is not None else found


def corrected(found: Correction) -> str:
    """The difference corrected for the judge's error, in points; "†" where it is doubtful, "refused" without one."""
    if (made := found.estimate) is None:
        return "corrected: refused"
    sign = "+" if made.value > 0 else ""
    said = f"corrected {sign}{points(made.value)} [{points(made.low)}, {points(made.high)}]"
    return said + (" †" if found.flags else "")


def rows(result: ComparisonResult) -> list[list[str]]:
    """One row per arm (and benchmark, where compared alone): name, verdict, then the three metrics."""
    found = {(row.arm, row.benchmark, row.metric): row for row in result.comparisons}
    table = []
    for arm in result.verdicts:
        for benchmark in sorted({row.benchmark for row in result.comparisons if row.arm == arm} | {""}):
            name = f"{arm}: {benchmark}" if benchmark else arm
            word = "" if benchmark else result.verdicts[arm].verdict
            table.append([name, word, *(cell(found.get((arm, benchmark, metric))) for metric in METRICS)])
    return table


def caption(result: ComparisonResult) -> str:
    """What the table's numbers are."""
    said = "; corrected: for the judge's error" if any(row.corrected for row in result.comparisons) else ""
    return (
        f"{result.reference} → arm, paired on the same prompts; difference in points [95 % interval of each alone]; "
        f"p corrected for {counted(result.family)} (Holm); margin {points(result.margin)} points{said}."
    )


def markdown_table(result: ComparisonResult) -> str:
    """The table, its caption and the verdicts, in Markdown."""
    head = [f"compared with {result.reference}", "verdict", *HEADINGS.values()]
    lines = [head, ["---"] * len(head), *rows(result)]
    table = "\n".join(f"| {' | '.join(_plain(text) for text in line)} |" for line in lines)
    said = []
    for verdict in result.verdicts.values():
        said.append("- " + " ".join(_plain(text) for text in (verdict.sentence, verdict.scope, *verdict.caveats)))
    return "\n".join([table, "", _plain(caption(result)), "", *said, ""])


def rich_table(result: ComparisonResult) -> RichTable:
    """The table for a terminal."""
    table = RichTable(title=None, caption=escape(caption(result)), show_lines=True)
    for heading in (f"compared with {result.reference}", "verdict", *HEADINGS.values()):
        table.add_column(escape(heading), overflow="fold")
    for line in rows(result):
        table.add_row(*(escape(text) for text in line))
    return table


def _plain(text: str) -> str:
    """Keep a name from breaking the table: no pipes, line breaks or tags."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
