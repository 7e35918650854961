"""Write a grid's page: the report on its finished evaluations, with the key sentences of the saved generations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.analysis.key_sentences.find import Diagnostics, NamingRule
from safekey.analysis.key_sentences.from_runs import diagnose
from safekey.errors import UserError
from safekey.evals.request import ALLOWED_UNSCORED
from safekey.grid.arms import BASE, MARGIN, REFERENCE
from safekey.grid.folder import GridFolder
from safekey.grid.results import common_ground
from safekey.options import function_of
from safekey.report import write_report

if TYPE_CHECKING:
    from safekey.report import Written
    from safekey.schema import Part


def write_page(
    folder: GridFolder,
    *,
    reference: str | None = None,
    output: Path | None = None,
    judges: Sequence[str] = (),
    margin: float | None = None,
    part: Part = "answer",
    names_harm: NamingRule | None = None,
    **more: Any,
) -> tuple[Written, Diagnostics]:
    """Write the report of a grid, finished or not. Defaults are how the grid compares its arms.

    Args:
        folder: the grid's.
        reference: the arm that the others are compared with; None: the grid's, or an arm that is finished.
        output: where to; None: into the grid's folder.
        judges: whose verdicts, where several judged.
        margin: how much worse over-refusal and accuracy may be, 0–1.
        part: the part of the responses that verdicts are about.
        names_harm: whether U names the request; see `safekey.analysis.key_sentences.find.diagnose_generations`.
        more: `write_report`'s other arguments.

    Returns:
        what was written, and the key sentences.

    Raises:
        UserError: it is no grid's folder, nothing is finished, or the runs cannot be compared.
    """
    settings, arms = folder.settings, folder.evaluations()
    if not arms:
        raise UserError(f"{folder.path}: no evaluation is finished: the same `safekey grid` command goes on")
    jobs = folder.jobs(list(settings["arms"]), settings["seeds"])
    notes = [common_ground([job for job in jobs if job.done], folder.drawn)]
    if left := [str(job) for job in jobs if not job.done]:
        notes.append(f"not finished, and left out: {'; '.join(left)}")
    compared = settings.get("compare") or {}
    judges = judges or tuple(compared.get("judges") or ())
    margin = margin if margin is not None else float(compared.get("margin", MARGIN))
    rule = str(compared.get("names_harm") or "")
    if names_harm is None and rule.startswith("safekey."):
        names_harm = function_of("names_harm", rule)
    elif names_harm is None and rule:  # a file must not choose which code runs
        notes.append(f"whether U names the request is told by shared words; --names-harm {rule} uses the grid's rule")
    wanted = reference or str(compared.get("reference", REFERENCE))
    if wanted not in arms and reference is None:
        notes.append(f"the reference '{wanted}' has no finished evaluation: another arm takes its place")
        wanted = next((arm for arm in arms if arm != BASE), BASE)
    diagnostics = diagnose(arms, judges=judges, part=part, names_harm=names_harm)
    more = {"allow_unscored": float(compared.get("allow_unscored", ALLOWED_UNSCORED)), **more}
    more = {"title": f"What fine-tuning did: {settings['recipe']}", **more}
    written = write_report(
        arms,
        output or folder.report,
        reference=wanted,
        settings=settings,
        judges=judges,
        part=part,
        margin=margin,
        notes=[note for note in notes if note],
        diagnostics=diagnostics,
        **more,
    )
    return written, diagnostics
