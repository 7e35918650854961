"""Probe a model for harm: can a linear function of its hidden states tell harmful from benign requests, and where?

    found = probe(open_inside("runs/sft-0"), read_rows("runs/eval-sft-0"))
    cell = found.at(layer=3, place="end of U", pooling="last")
    cell.plain.value, cell.attacked.value, cell.shuffled     AUROC; on attacked requests; with labels that mean nothing

Probes are fitted on plain requests. Every score is of a probe that saw no row of the same behaviour; attacked requests
are scored by the probe that did not see their behaviour either. docs/analysis.md says what this can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safekey.analysis.inside import MAX_LENGTH, Inside, Progress, encode_rows
from safekey.analysis.probe.folds import fold_for, folds_of, shuffled
from safekey.analysis.probe.logistic import fit
from safekey.analysis.probe.states import PLACES, SPOTS, Spot, States, states_of
from safekey.analysis.rows import PLAIN, Row, Rows, keep, with_spans
from safekey.analysis.sheets import NONE, Sheet, auroc_words
from safekey.errors import UserError
from safekey.run_folder.kept import Kept
from safekey.stats.auroc import Auroc, auroc

SHUFFLES = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """The probes of one layer and spot.

    Attributes:
        layer: 0 is the embeddings.
        place: where the states are read.
        pooling: how they become one vector.
        plain: on held-out plain requests.
        attacked: on attacked requests; None without any.
        shuffled: the same as `plain`, with labels shuffled between behaviours; one for each shuffle.
        by_attack: attack → AUROC of its harmful requests against the benign ones.
    """

    layer: int
    place: str
    pooling: str
    plain: Auroc | None
    attacked: Auroc | None
    shuffled: tuple[float, ...]
    by_attack: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What `probe` found.

    Attributes:
        model: what is recorded of the model.
        data: the rows' file or folder.
        counts: rows by use: "plain harmful", "plain benign", "attacked harmful", "attacked benign".
        folds: number of folds.
        cells: one for each layer and spot.
        notes: what was left out, and other things to know.
    """

    model: Mapping[str, Any]
    data: str
    counts: Mapping[str, int]
    folds: int
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]

    def at(self, layer: int, place: str, pooling: str) -> Cell:
        """Return one cell."""
        return next(c for c in self.cells if (c.layer, c.place, c.pooling) == (layer, place, pooling))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""

        def plain(found: Auroc | None) -> dict[str, Any] | None:
            return None if found is None else found._asdict()

        cells = [
            {
                "layer": cell.layer, "place": cell.place, "pooling": cell.pooling, "plain": plain(cell.plain),
                "attacked": plain(cell.attacked), "shuffled": list(cell.shuffled), "by_attack": dict(cell.by_attack),
            }
            for cell in self.cells
        ]  # fmt: skip
        known = {"model": dict(self.model), "data": self.data, "rows": dict(self.counts), "folds": self.folds}
        return {"analysis": "probe", **known, "cells": cells, "notes": list(self.notes)}

    def sheets(self) -> list[Sheet]:
        """Return the tables: AUROC by layer of the last token, plain and attacked, and the highest of each pooling."""
        layers = sorted({cell.layer for cell in self.cells})
        head = ("layer", *PLACES)
        plain = tuple((str(at), *(auroc_words(self.at(at, place, "last").plain) for place in PLACES)) for at in layers)
        sheets = [Sheet("AUROC on held-out plain requests, last token (95 % interval by behaviour)", head, plain)]
        if any(cell.attacked for cell in self.cells):
            hard = tuple(
                (str(at), *(auroc_words(self.at(at, place, "last").attacked) for place in PLACES)) for at in layers
            )
            sheets.append(Sheet("AUROC on attacked requests, probes fitted on plain ones, last token", head, hard))
        return [*sheets, self._highest()]

    def _highest(self) -> Sheet:
        rows = []
        for spot in SPOTS:
            cells = [cell for cell in self.cells if (cell.place, cell.pooling) == spot and cell.plain is not None]
            if not cells:
                continue
            best = max(cells, key=lambda cell: cell.plain.value if cell.plain else 0.0)
            control = [value for cell in cells for value in cell.shuffled]
            top = f"{max(control):.2f}" if control else NONE
            mean = f"{sum(control) / len(control):.2f}" if control else NONE
            words = auroc_words(best.plain), auroc_words(best.attacked)
            rows.append((spot.place, spot.pooling, str(best.layer), *words, mean, top))
        head = ("position", "pooling", "layer", "plain", "attacked", "shuffled, mean", "shuffled, highest")
        title = "The layer with the highest AUROC, chosen afterwards: compare it with the highest of shuffled labels"
        return Sheet(title, head, tuple(rows))


def probe(
    model: Inside, rows: Rows, attacked: Rows | None = None, *, seed: int = 0, batch_size: int = 8,
    max_length: int = MAX_LENGTH, progress: Progress | None = None, kept: Kept | None = None,
    fitted: Progress | None = None,
) -> ProbeResult:  # fmt: skip
    """Fit and test probes at every layer and spot.

    Args:
        model: the model.
        rows: plain harmful and benign requests with responses that have U and K. Attacked ones among them are tested
            on, not fitted on.
        attacked: more requests to test on.
        seed: deals behaviours to folds, and shuffles labels.
        batch_size: most rows in a batch.
        max_length: longest row in tokens.
        progress: told how many rows of how many are read.
        kept: keeps the states of finished rows, and has those of an earlier call that was stopped.
        fitted: told for how many layers of how many the probes are fitted.

    Raises:
        UserError: one class only, too few behaviours, no U and K, or a model without hidden states.
    """
    plain, hard = _sides(rows, attacked)
    seen, notes = encode_rows(plain, model, max_length)
    more, said = encode_rows(hard, model, max_length) if hard is not None else ([], [])
    cut = len(seen)
    each = [one.row for one in (*seen, *more)]
    folds = _folds(rows.path, each[:cut], seed)
    states = states_of([*seen, *more], model, batch_size, progress, kept)
    fold = [fold_for(row.behaviour, folds) for row in each]
    cells = []
    for layer in range(states.shape[1]):
        cells += [_cell(layer, spot, states[:, layer, at], each, cut, fold, seed) for at, spot in enumerate(SPOTS)]
        if fitted:
            fitted(layer + 1, states.shape[1])
    every = (*plain.notes, *notes, *(hard.notes if hard is not None else ()), *said)
    return ProbeResult(
        model.about, rows.path, _counts(each, cut), max(folds.values()) + 1, tuple(cells), tuple(dict.fromkeys(every))
    )


def _sides(rows: Rows, attacked: Rows | None) -> tuple[Rows, Rows | None]:
    """Return the rows to fit on and those to test on, all labelled and with U and K."""

    def usable(some: Rows) -> Rows:
        return with_spans(keep(some, lambda row: row.kind in ("harmful", "benign"), "are neither harmful nor benign"))

    labelled = usable(rows)
    plain = tuple(row for row in labelled.rows if row.attack == PLAIN)
    inner = tuple(row for row in labelled.rows if row.attack != PLAIN)
    if not plain:
        raise UserError(f"{rows.path}: all rows are attacked: probes are fitted on plain requests")
    hard = usable(attacked) if attacked is not None else None
    if hard is None and inner:
        hard = Rows(rows.path, inner)
    elif hard is not None:
        hard = replace(hard, rows=(*inner, *hard.rows))
    return replace(labelled, rows=plain), hard


def _folds(path: str, plain: Sequence[Row], seed: int) -> dict[str, int]:
    """Deal the behaviours to folds; say in one line why they cannot be."""
    counts = {kind: len({row.behaviour for row in plain if row.kind == kind}) for kind in ("harmful", "benign")}
    for kind, other in (("harmful", "benign"), ("benign", "harmful")):
        if not counts[kind]:
            raise UserError(f"{path}: all plain rows are {other}: a probe needs harmful and benign ones")
    try:
        return folds_of([row.behaviour for row in plain], [row.kind == "harmful" for row in plain], seed)
    except ValueError:
        few = min(counts, key=lambda kind: counts[kind])
        raise UserError(
            f"{path}: {counts[few]} {few} behaviour among the plain rows: cross-validation needs at least two of each "
            "class (--group names the column of the behaviour)"
        ) from None


def _cell(
    layer: int, spot: Spot, states: States, rows: Sequence[Row], cut: int, fold: Sequence[int], seed: int
) -> Cell:
    """Fit one probe for each fold, on the true and on shuffled labels, and score what it has not seen."""
    harmful = np.array([row.kind == "harmful" for row in rows])
    behaviours = [row.behaviour for row in rows]
    labellings = [harmful[:cut], *(np.array(_shuffled(rows[:cut], seed + n)) for n in range(SHUFFLES))]
    folds = np.array(fold)
    scores = np.zeros((len(labellings), len(rows)))
    for held in np.unique(folds[:cut]):
        inside = folds[:cut] != held
        taken = [at for at, labels in enumerate(labellings) if len(set(labels[inside].tolist())) == 2]
        test = folds == held
        for at, fitted in zip(taken, fit(states[:cut][inside], [labellings[at][inside] for at in taken]), strict=True):
            scores[at, test] = fitted.scores(states[test])

    def area(at: int, labels: Sequence[bool], chosen: Sequence[int]) -> Auroc | None:
        some = [scores[at, row] for row in chosen], [bool(labels[row]) for row in chosen]
        return auroc(*some, [behaviours[row] for row in chosen], [fold[row] for row in chosen])

    plain = area(0, harmful.tolist(), range(cut))
    controls = [area(at, labels.tolist(), range(cut)) for at, labels in enumerate(labellings) if at]
    attacked = area(0, harmful.tolist(), _against(harmful, range(cut, len(rows)), cut)) if cut < len(rows) else None
    names = dict.fromkeys(rows[at].attack for at in range(cut, len(rows)) if harmful[at])
    by_attack: dict[str, float] = {}
    for name in names:
        chosen = [at for at in range(cut, len(rows)) if not harmful[at] or rows[at].attack == name]
        found = area(0, harmful.tolist(), _against(harmful, chosen, cut))
        by_attack |= {name: found.value} if found is not None else {}
    shown = tuple(found.value for found in controls if found is not None)
    return Cell(layer, spot.place, spot.pooling, plain, attacked, shown, by_attack)


def _shuffled(rows: Sequence[Row], seed: int) -> list[bool]:
    return shuffled([row.behaviour for row in rows], [row.kind == "harmful" for row in rows], seed)


def _against(harmful: NDArray[np.bool_], attacked: Sequence[int], cut: int) -> list[int]:
    """Return attacked rows, with the plain rows of a class that they lack."""
    found = list(attacked)
    for side in (True, False):
        if not any(harmful[at] == side for at in attacked):
            found += [at for at in range(cut) if harmful[at] == side]
    return found


def _counts(rows: Sequence[Row], cut: int) -> dict[str, int]:
    names = [f"{'plain' if at < cut else 'attacked'} {row.kind}" for at, row in enumerate(rows)]
    return dict(sorted(Counter(names).items(), reverse=True))
