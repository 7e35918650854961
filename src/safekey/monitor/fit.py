"""`safekey monitor fit`: from labelled rows to a calibrated monitor with a threshold and its card

Rows that trained the heads are left out: their scores are better than those of later rows. Heads on frozen states are
trained on one part of the behaviours and calibrated on the other.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safekey import run_folder
from safekey.engines import weights
from safekey.errors import UserError
from safekey.evals.benchmarks.contamination import training_rows, training_run
from safekey.evals.records.rows import COMPLETIONS
from safekey.monitor.calibration import choose_threshold, fit_scale, rows_needed
from safekey.monitor.card import CARD, KIND, PAGE, READS, Card, page
from safekey.monitor.frozen import train_heads
from safekey.monitor.monitor import Loaded, Monitor, head_logits, heads_folder, load_model, template_settings
from safekey.monitor.reading import Reading
from safekey.monitor.request import HEADS, FitRequest, Head
from safekey.monitor.rows import Row, counts_by_attack, is_evaluation, labelled, labelled_rows, question_of
from safekey.monitor.states import Pooled, Progress
from safekey.options import check_ranges
from safekey.run_folder.ownership import Ledger, check_apart, file_sha256
from safekey.stats.auroc import area
from safekey.training.loop.export import CARD as HEADS_CARD
from safekey.training.loop.export import WEIGHTS as HEADS_WEIGHTS
from safekey.training.loop.export import heads_state, load_heads, save_heads
from safekey.training.objective.heads import Pooling, SafetyHeads


@dataclass(frozen=True, slots=True)
class Fitted:
    """A monitor that was written, with what there is to say about it."""

    folder: Path
    card: Card
    monitor: Monitor


def fit(request: FitRequest, progress: Progress | None = None) -> Fitted:
    """Fit a monitor and write it; `progress` is told how many rows of how many are read.

    Raises:
        UserError: no heads, rows that cannot be used, one class, too few benign rows, or a folder that is not ours.
    """
    check_ranges(request)
    if not request.data:
        raise UserError("nothing to fit on: give labelled rows with thinking (--data FILE)")
    folder = _folder(request)
    rows, notes = labelled_rows(request, "a monitor")
    source = weights.find(request.model)
    heads = None if request.frozen else _trained_heads(source)
    if heads is not None:
        rows, more = _without_trained(rows, request.model)
        notes += more
    _check_enough(rows, request)
    settings = template_settings(request.model)
    loaded = load_model(request.model, device=request.device, dtype=request.dtype, **settings)
    rows, readings, more = readable(loaded, rows)
    notes += more
    pooling: Pooling = heads.pooling if heads is not None else request.pooling
    states = loaded.states(readings, pooling, request.batch_size, progress)
    card, heads = _calibrated(request, loaded, heads, rows, states, notes, settings)
    monitor = Monitor(loaded, heads, card, batch_size=request.batch_size)
    _write(folder, card, heads if request.frozen else None)
    return Fitted(folder, card, monitor)


def _folder(request: FitRequest) -> Path:
    home = Path(request.model).expanduser()
    if request.output is None and not (home / run_folder.RUN).is_file():
        raise UserError(f"{request.model}: is no run folder, so say where the monitor goes (--output DIR)")
    folder = Path(request.output).expanduser() if request.output else home / KIND
    files = [folder / name for name in (CARD, PAGE, HEADS_CARD, HEADS_WEIGHTS)]
    inputs = {f"data {number}": path for number, path in enumerate(request.data, 1)}
    check_apart({**inputs, "model": request.model}, files, "give another --output", "--output")
    Ledger.of_folder(folder, KIND).check(files, "monitor", "give another --output, or move it away")
    return folder


def _trained_heads(source: weights.Source) -> SafetyHeads:
    try:
        return load_heads(heads_folder(source))
    except UserError as error:
        raise UserError(f"{error}; --frozen trains heads on the model's frozen states") from error


def _without_trained(rows: list[Row], model: str) -> tuple[list[Row], list[str]]:
    """Leave out rows whose request trained the heads."""
    run = training_run(model)
    if run is None:
        return rows, ["whether these rows trained the heads is not known: the model's folder holds no record"]
    trained, notes = training_rows(run)
    known = {question_of(example.prompt) for example in trained}
    kept = [row for row in rows if row.question not in known]
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} of {len(rows)} rows are left out: the heads were trained on them")
    if not kept:
        raise UserError(f"all {len(rows)} rows trained the heads, so they cannot calibrate them: give held-out rows")
    return labelled(kept, "a monitor"), notes


def _check_enough(rows: Sequence[Row], request: FitRequest) -> None:
    """Refuse too few benign rows before the model is loaded."""
    needed = rows_needed(request.fpr, request.confidence)
    benign = sum(row.harmful is False for row in rows)
    share = 1 - request.train_share if request.frozen else 1.0
    if benign * min(1.0, share * 1.5) < needed:
        of_them = f", of which about {share:.0%} calibrate frozen heads" if request.frozen else ""
        raise UserError(
            f"too few benign rows for a false-positive rate of {100 * request.fpr:g} %: found {benign}{of_them}, and "
            f"at least {needed} are needed for calibration; give more, or ask for a higher rate (--fpr)"
        )


def readable(loaded: Loaded, rows: Sequence[Row]) -> tuple[list[Row], list[Reading], list[str]]:
    """Return the rows that fit into the model's context, as tokens; the notes say how many did not.

    Raises:
        UserError: none does.
    """
    kept, readings, problems = [], [], []
    for row in rows:
        try:
            readings.append(loaded.reading(row.messages, row.understanding))
        except UserError as error:
            problems.append(f"{row.file}, {row.id}: {error}")
        else:
            kept.append(row)
    if rows and not kept:
        raise UserError(f"no row can be read; the first: {problems[0]}")
    return kept, readings, [f"{len(problems)} rows cannot be read; the first: {problems[0]}"] if problems else []


def _calibrated(
    request: FitRequest, loaded: Loaded, heads: SafetyHeads | None, rows: list[Row], states: list[Pooled],
    notes: list[str], settings: dict[str, Any],
) -> tuple[Card, SafetyHeads]:  # fmt: skip
    kind = "trained"
    if heads is None:
        kind = "frozen"
        heads, rows, states, note = _frozen(request, rows, states, loaded.hidden_size)
        notes.append(note)
    logits = head_logits(heads, states)
    by: dict[Head, list[tuple[float, Row]]] = {
        head: [(pair[at], row) for pair, row in zip(logits, rows, strict=True) if pair[at] is not None]  # type: ignore[misc]
        for at, head in enumerate(HEADS)
    }
    scales = {}
    for head, found in by.items():
        labels = [bool(row.harmful) for _, row in found]
        if len(set(labels)) < 2:
            raise UserError(f"the rows with U are of one class, so the head over {READS[head]} cannot be calibrated")
        scales[head] = fit_scale([logit for logit, _ in found], labels, request.calibration)
        if not scales[head].slope:
            notes.append(f"the head over {READS[head]} does not tell harmful rows from benign ones here")
    own = by[request.head]
    benign = [(logit, row) for logit, row in own if not row.harmful]
    threshold = choose_threshold(
        [logit for logit, _ in benign], [row.behaviour for _, row in benign],
        fpr=request.fpr, confidence=request.confidence,
    )  # fmt: skip
    harmful = [logit > threshold.logit for logit, row in own if row.harmful]
    measured = {
        "auroc": {head: area([z for z, _ in found], [bool(row.harmful) for _, row in found])
                  for head, found in by.items()},
        "flagged_harmful": sum(harmful) / len(harmful),
    }  # fmt: skip
    card = Card(
        model=_lasting(request.model), weights_sha256=weights.fingerprint(loaded.source), heads=kind,  # type: ignore[arg-type]
        pooling=heads.pooling, head=request.head, scales=scales, threshold=threshold,
        calibration=_about(request, rows), measured=measured, settings=settings,
        notes=(*notes, *_border_note(rows)), start=run_folder.start(),
    )  # fmt: skip
    return card, heads


def _frozen(
    request: FitRequest, rows: list[Row], states: list[Pooled], hidden_size: int
) -> tuple[SafetyHeads, list[Row], list[Pooled], str]:
    """Train heads on a part of the behaviours; return them with the other part."""
    inside = [_draw(row.behaviour, request.seed) < request.train_share for row in rows]
    train = [at for at, one in enumerate(inside) if one]
    rest = [at for at, one in enumerate(inside) if not one]
    try:
        heads = train_heads(
            [states[at] for at in train], [bool(rows[at].harmful) for at in train],
            [rows[at].behaviour for at in train], hidden_size, request.pooling,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(
            f"{len(train)} of {len(rows)} rows fell to the training of the heads, and a class is missing among them: "
            "give more rows, or another --seed"
        ) from error
    labelled([rows[at] for at in rest], "calibration")
    note = f"heads trained on {len(train)} rows, calibrated on {len(rest)}; no behaviour is in both"
    return heads, [rows[at] for at in rest], [states[at] for at in rest], note


def _draw(behaviour: str, seed: int) -> float:
    digest = hashlib.sha256(f"frozen {seed}:{behaviour}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _about(request: FitRequest, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "data": {_lasting(path): sha256_of(path) for path in request.data},
        "half": request.half,
        "seed": request.seed,
        "method": request.calibration,
        "rows": len(rows),
        "harmful": sum(row.harmful is True for row in rows),
        "benign": sum(row.harmful is False for row in rows),
        "behaviours": len({row.behaviour for row in rows}),
        "without_u": sum(not row.end for row in rows),
        "harmful_by_attack": counts_by_attack(rows, True),
        "benign_by_attack": counts_by_attack(rows, False),
    }


def _border_note(rows: Sequence[Row]) -> list[str]:
    given = [row for row in rows if row.given is not None]
    if not given:
        return []
    same = sum(row.end == row.given for row in given)
    return [f"the streaming rule ends U where the file does in {same} of {len(given)} rows"]


def _lasting(path: str) -> str:
    return str(Path(path).expanduser().resolve()) if Path(path).expanduser().exists() else path


def sha256_of(path: str) -> str:
    """Return the hash of a file, or of an evaluation's completions; "" for anything else."""
    file = Path(path).expanduser()
    file = file / COMPLETIONS if is_evaluation(path) else file
    return file_sha256(file) if file.is_file() else ""


def _write(folder: Path, card: Card, heads: SafetyHeads | None) -> None:
    ledger = Ledger.of_folder(folder, KIND)
    try:
        run_folder.make_private(folder)
        with tempfile.TemporaryDirectory() as aside:
            if heads is not None:
                save_heads(aside, heads, heads_state(heads), theta=0.5, base_model=card.model)
            for file in sorted(Path(aside).iterdir()):
                ledger.write(folder / file.name, file.read_bytes())
        ledger.write(folder / PAGE, page(card).encode())
        text = json.dumps(run_folder.without_secrets(card.to_dict()), indent=2, ensure_ascii=False) + "\n"
        ledger.write(folder / CARD, text.encode())  # last: a kill before leaves no monitor
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; give another --output") from error
