"""The report: one self-contained page, Markdown tables and plots from evaluation run folders (docs/report.md)."""

from safekey.report.write import Written, write_report

__all__ = ["Written", "write_report"]
