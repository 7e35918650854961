"""A grid's page: what the report writes of its comparison, with the key sentences of every saved generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from safekey.analysis.key_sentence import Diagnostics
from safekey.diagnose import diagnose
from safekey.grid.folder import GridFolder
from safekey.grid.results import Results
from safekey.report import write_report

if TYPE_CHECKING:
    from safekey.report import Written


def write_page(
    folder: GridFolder,
    found: Results,
    *,
    judges: Sequence[str] = (),
    names_harm: Callable[[str, str], bool | None] | None = None,
    title: str = "",
    notes: Sequence[str] = (),
) -> tuple[Written, Diagnostics]:
    """Write the report of a grid into its folder.

    Args:
        folder: the grid's.
        found: its comparison.
        judges: whose verdicts, where several judged.
        names_harm: whether U names the request; see `safekey.analysis.key_sentence.diagnose_generations`.
        title: the page's heading.
        notes: what a reader should know besides.

    Returns:
        what was written, and the key sentences.
    """
    settings = folder.settings
    diagnostics = diagnose(found.folders, judges=judges, names_harm=names_harm)
    written = write_report(
        found.folders,
        folder.report,
        reference=found.report.reference,
        settings=settings,
        judges=judges,
        margin=found.report.margin,
        title=title or f"What fine-tuning did: {settings['recipe']}",
        notes=[note for note in (found.ground, *notes) if note],
        diagnostics=diagnostics.to_dict(),
    )
    return written, diagnostics
