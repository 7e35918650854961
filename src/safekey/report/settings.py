"""Tables of the runs' settings, versions and folders: differences between arms as tables, the rest as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from safekey.report.content import Content
from safekey.report.run_records import RunRecord
from safekey.report.tables import NOT_THERE, Cell, Table
from safekey.run_folder import without_secrets

_OWN = {"output_dir", "seed", "run_name", "logging_dir"}  # differ between runs anyway
_LONGEST = 20_000  # characters of one text
_MOST_RUNS = 100
_WORD = 80  # characters of one value in a table


def settings_table(content: Content) -> Table | None:
    """Return the training settings in which arms differ; None where fewer than two arms have a training record."""
    configs = {arm: _config(content.records[arm]) for arm in content.arms}
    known = {arm: config for arm, config in configs.items() if config}
    if len(known) < 2:
        return None
    keys = sorted({key for config in known.values() for key in config} - _OWN)
    differing = [key for key in keys if len({repr(config.get(key)) for config in known.values()}) > 1]
    if not differing:
        return None
    rows = tuple(
        (Cell(key), *(Cell(_word(configs[arm].get(key))) if configs[arm] else Cell(NOT_THERE) for arm in content.arms))
        for key in differing
    )
    return Table("settings-differing", "Training settings in which arms differ", ("", *content.arms), rows)


def versions_table(content: Content) -> Table:
    """Return the versions and the model weights of each arm's first evaluation."""
    found = {arm: _versions(records[0]) for arm, records in content.records.items()}
    names = list(dict.fromkeys(name for versions in found.values() for name in versions))
    alike = [name for name in names if len({found[arm].get(name) for arm in content.arms}) == 1]
    rows = [(Cell(n), *(Cell(_word(found[arm].get(n))) for arm in content.arms)) for n in names if n not in alike]
    first = found[content.arms[0]]
    note = f"The same for every arm: {', '.join(f'{name} {first[name]}' for name in alike)}." if alike else ""
    caption = "Versions and weights in which arms differ, by each arm's first run"
    return Table("versions", caption, ("", *content.arms), tuple(rows), note=note)


def run_table(content: Content) -> Table:
    """Return every run's folders."""
    every = [(arm, record) for arm in content.arms for record in content.records[arm]]
    rows = tuple(
        (
            Cell(f"{arm}, {record.label}"),
            Cell(str(record.folder)),
            Cell(str(record.training.folder) if record.training else NOT_THERE),
            Cell(str(record.record.get("finished_at") or NOT_THERE)),
        )
        for arm, record in every[:_MOST_RUNS]
    )
    note = f"and {len(every) - _MOST_RUNS} more" if len(every) > _MOST_RUNS else ""
    return Table("runs", "Run folders", ("run", "evaluation", "training", "evaluated"), rows, note=note)


def config_texts(content: Content, settings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return the resolved settings as YAML: the report's own, then each arm's first training and evaluation."""
    texts = [("The whole experiment (grid.yaml)", _yaml(settings))] if settings else []
    for arm in content.arms:
        first = content.records[arm][0]
        if first.training is not None and first.training.config:
            texts.append((f"{arm}: training, {first.label} (config.yaml)", _yaml(first.training.config)))
        texts.append((f"{arm}: evaluation, {first.label} (resolved.yaml)", _yaml(first.resolved)))
    return texts


def _config(records: tuple[RunRecord, ...]) -> Mapping[str, Any]:
    return next((record.training.config for record in records if record.training is not None), {})


def _versions(record: RunRecord) -> dict[str, Any]:
    starts = record.record.get("starts")
    versions = starts[-1].get("versions") if isinstance(starts, list) and starts else None
    found = dict(versions) if isinstance(versions, Mapping) else {}
    weights = record.resolved.get("weights")
    if isinstance(weights, Mapping):
        found["weights (sha256)"] = str(weights.get("weights_sha256") or NOT_THERE)[:12]
    return found


def _word(value: Any) -> str:
    if value is None:
        return NOT_THERE
    said = str(value)
    return said if len(said) <= _WORD else said[: _WORD - 1] + "…"


def _yaml(value: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(without_secrets(value), sort_keys=False, allow_unicode=True, width=120)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n… cut here"
