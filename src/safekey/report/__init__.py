"""The report: one self-contained HTML page, Markdown tables and plots from evaluation run folders."""

from safekey.report.write import Written, write_report

__all__ = ["Written", "write_report"]
