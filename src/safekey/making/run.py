"""`safekey make`: run a recipe's stages in one folder. The same command goes on where it stopped, whatever stopped it.

The folder holds `stages/N-NAME.jsonl` (the rows behind each stage), `set-aside.jsonl`, `rows.jsonl`, `card.md`,
`card.json`, `recipe.yaml`, `run.json` and `journal/` (every reply). Stages are functions of their rows and of the
journal, so all of them run again each time, and only questions without a reply cost anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from safekey.data.load import load_examples
from safekey.errors import UserError
from safekey.making.card import card_of, markdown
from safekey.making.config import MakeConfig, MakeRecipe
from safekey.making.journal import Asker, Progress
from safekey.making.models import ROLES, Models, Role, check_roles, short_name, spec_of
from safekey.making.policies import load_policies
from safekey.making.rows import Aside, Outcome, Row, StageReport, lines
from safekey.making.stages import benign, classify, collect, dedup, deliberate, own, score, segment, select
from safekey.making.work import Work
from safekey.run_folder.ownership import Ledger, check_apart, kind_of
from safekey.run_folder.records import hold, is_foreign, mark, read_record, start, without_secrets

KIND = "making"
Stage = Callable[[Sequence[Row], Work], Outcome]
_STAGES: dict[str, Stage] = {
    "collect": collect.run,
    "dedup": dedup.run,
    "classify": classify.run,
    "benign": benign.run,
    "deliberate": deliberate.run,
    "self": own.run,
    "score": score.run,
    "filter": score.run_filter,
    "select": select.run,
    "segment": segment.run,
}


@dataclass
class Made:
    """What a run made.

    Attributes:
        folder: the run's folder.
        reports: one for each stage.
        card: what `card.json` holds.
    """

    folder: Path
    reports: list[StageReport] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)


def make(recipe: MakeRecipe, progress: Progress = lambda stage, done, of: None) -> Made:
    """Run every stage of a recipe.

    Args:
        recipe: from `config.load_recipe`.
        progress: called with (stage, done, of).

    Raises:
        UserError: a model is missing or does not answer, a source cannot be read, the folder is another's, or a stage
            leaves no row.
    """
    config = recipe.config
    check_roles(config)
    policies = load_policies(config.policies)
    folder = Path(config.output_dir or Path("made") / recipe.name).expanduser()
    _check_folder(folder, config)
    lock = hold(folder, "another `safekey make` works here", unwritable="give another output_dir")
    try:
        record = read_record(folder)
        starts = [*record.get("starts", []), {**start(), "recipe": recipe.name, "settings": config.to_dict()}]
        mark(folder, "running", kind=KIND, starts=starts)
        models = Models(config, record.get("weights"))
        asker = Asker(folder / "journal", models, _names(config), progress)
        made = Made(folder)
        try:
            _run(recipe, made, Work(config, policies, asker, folder, progress))
        except BaseException as error:
            mark(folder, "failed" if isinstance(error, Exception) else "interrupted", weights=models.weights)
            raise
        finally:
            models.close()
        mark(folder, "finished", weights=models.weights, stages=[report.to_dict() for report in made.reports])
    finally:
        lock.release()
    return made


def _run(recipe: MakeRecipe, made: Made, work: Work) -> None:
    config = recipe.config
    ledger = Ledger.of_folder(made.folder, KIND)
    (made.folder / "stages").mkdir(exist_ok=True)
    (made.folder / "journal").mkdir(exist_ok=True)
    settings = yaml.safe_dump(without_secrets(config.to_dict()), sort_keys=False, allow_unicode=True)
    ledger.write(made.folder / "recipe.yaml", settings.encode("utf-8", "backslashreplace"))
    rows: Sequence[Row] = ()
    aside: list[dict[str, Any]] = []
    for number, name in enumerate(config.stages[:-1], start=1):
        work.stage = f"{number}-{name}"
        outcome = _STAGES[name](rows, work)
        made.reports.append(StageReport.of(work.stage, len(rows), outcome))
        rows = outcome.rows
        aside += [{"stage": work.stage, "id": one.id, "reason": one.reason} for one in outcome.aside]
        ledger.write(made.folder / "stages" / f"{work.stage}.jsonl", lines(row.to_dict() for row in rows))
        ledger.write(made.folder / "set-aside.jsonl", lines(aside))
        if not rows:
            raise UserError(
                f"stage '{name}' leaves no row: {_why(outcome.aside)}; see {made.folder / 'set-aside.jsonl'}"
            )
    work.stage = f"{len(config.stages)}-write"
    _remove_older(made, ledger)
    path = made.folder / "rows.jsonl"
    ledger.write(path, lines(segment.training_row(row) for row in rows))
    loaded = load_examples(path)
    if loaded.problems or len(loaded) != len(rows):
        raise UserError(f"{path}: a row cannot be read again: {loaded.describe_problems(1)}")
    made.reports.append(StageReport(work.stage, len(rows), len(rows), {}, 0, loaded.notes))
    made.card = card_of(recipe, work, rows, made.reports, path)
    ledger.write(made.folder / "card.md", markdown(made.card).encode())
    ledger.write(made.folder / "card.json", json.dumps(made.card, indent=2, ensure_ascii=False).encode() + b"\n")


def _check_folder(folder: Path, config: MakeConfig) -> None:
    """Check that the folder is new or of an earlier run, and that no input would be replaced."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir {folder}: is a file; give another output_dir")
    if is_foreign(folder) and kind_of(folder) != KIND:
        raise UserError(f"output_dir {folder}: holds files that `safekey make` did not write; give another output_dir")
    stages = [folder / "stages" / f"{number}-{name}.jsonl" for number, name in enumerate(config.stages, start=1)]
    written = [folder / name for name in ("rows.jsonl", "set-aside.jsonl", "card.md", "card.json", "recipe.yaml")]
    inputs = {f"data source {source['path']}": str(source["path"]) for source in config.source_tables()}
    places = [*written, folder / "stages", folder / "journal"]
    check_apart(inputs, places, "give another output_dir", "output_dir")
    Ledger.of_folder(folder, KIND).check([*written, *stages], "output_dir", "give another output_dir, or move it away")


def _names(config: MakeConfig) -> dict[Role, str]:
    specs = {role: spec_of(config, role) for role in ROLES}
    return {role: short_name(spec.target) for role, spec in specs.items() if spec is not None}


def _why(aside: Sequence[Aside]) -> str:
    """Return the most frequent reason, with one example in full."""
    if not aside:
        return "it got none"
    kinds = [one.kind for one in aside]
    most = max(dict.fromkeys(kinds), key=kinds.count)
    example = next(one.reason for one in aside if one.kind == most)
    return f"{kinds.count(most)} of {len(aside)} set aside with '{example}'"


def _remove_older(made: Made, ledger: Ledger) -> None:
    """Remove files of ours that an earlier run with other stages left."""
    current = {f"{report.stage}.jsonl" for report in made.reports}
    for path in (made.folder / "stages").glob("*.jsonl"):
        if path.name not in current and ledger.owns(path):
            path.unlink()
