"""The page's section on what happens inside: the tables and plots of folders that `safekey analyze` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.report.plots import Plot
from safekey.report.tables import Cell, Table
from safekey.run_folder.kept import ROWS
from safekey.run_folder.ownership import LEDGER, Ledger

RESULT, PLOTS = "result.json", "plots.json"
_TITLES = {
    "kl": "KL between two models", "attention": "What K's tokens attend to", "probe": "A linear probe for harm",
    "causal": "Another key sentence in K's place",
}  # fmt: skip


@dataclass(frozen=True)
class InsideSection:
    """One analysis on the page.

    Attributes:
        title: what was done, and on which model.
        tables: its tables.
        notes: what it says besides.
        plots: its plots; their names are unique on the page.
    """

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    plots: tuple[Plot, ...]


def read_sections(folders: Sequence[str | Path]) -> list[InsideSection]:
    """Read what `safekey analyze … --output DIR` wrote.

    Raises:
        UserError: a folder holds no analysis, or a file in it is not as safekey wrote it.
    """
    return [_read(Path(folder).expanduser(), place) for place, folder in enumerate(folders)]


def _read(folder: Path, place: int) -> InsideSection:
    result = _json(folder, RESULT)
    kind, model = str(result.get("analysis")), result.get("model") or {}
    names = [str(each.get("model")) for each in result.get("models") or [model]]
    tables = tuple(
        Table(
            f"inside-{place}-{at}", table["title"], ("", *table["columns"][1:]),
            tuple(tuple(Cell(cell) for cell in row) for row in table["rows"]),
        )
        for at, table in enumerate(result["tables"])
    )  # fmt: skip
    plots = tuple(
        Plot(
            f"inside-{place}-{plot['name']}",
            plot["title"],
            plot["description"],
            _text(folder, f"{plot['name']}.svg"),
            b"",
        )
        for plot in _json(folder, PLOTS)["plots"]
    )
    title = f"{_TITLES.get(kind, kind)}: {' and '.join(Path(name).name or name for name in names)}"
    return InsideSection(title, tables, tuple(result["notes_shown"]), plots)


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(folder, name))
    except ValueError as error:
        raise UserError(f"{folder / name}: cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _text(folder: Path, name: str) -> str:
    """Return a file that is byte for byte as safekey wrote it: it goes into the page."""
    path = folder / name
    if not path.is_file():
        if (folder / ROWS).is_file():
            raise UserError(f"--analysis {folder}: is not finished: give its command again, which goes on")
        raise UserError(f"--analysis {folder}: holds no {name}: give a folder that `safekey analyze … --output` wrote")
    if not Ledger(folder / LEDGER).owns(path):
        raise UserError(f"--analysis {folder}: {name} is not as safekey wrote it: run the analysis again")
    return path.read_text(encoding="utf-8")
