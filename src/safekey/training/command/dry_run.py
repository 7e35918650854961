"""Forecast a run and print it as tables: rows, tokens, steps, objectives by epoch, memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from safekey.data.summary import problem_kind
from safekey.terminal import printable
from safekey.training.command.draw import digest
from safekey.training.command.memory import GIB, Memory, Shape, estimate, model_shape
from safekey.training.command.models import weight_dtype
from safekey.training.command.rows import TrainingRows
from safekey.training.encoding import Encoded
from safekey.training.loop.batches import BatchPlan, deal
from safekey.training.loop.config import SafeKeyConfig
from safekey.training.objective.pack import document_lengths

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.training.command.recipe import RunSettings

_NAMES = {"qmm": "QMM (query mask)", "dpsh": "DPSH (safety heads)", "qsm": "query swap", "ksm": "key swap"}
_NAMES |= {"key": "K up-weighted"}
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


@dataclass(frozen=True)
class Forecast:
    """The numbers of one run.

    Attributes:
        tokens: tokens of each training row (its response document).
        short_tokens: tokens of the qmm document of each training row; 0 for a row without U and K.
        cut: rows that fill `max_length` to the last token: their end was cut, or they fit exactly.
        largest: packed tokens of the longest forward pass.
        batch: rows per optimiser step, over all processes.
        steps_per_epoch, steps: optimiser steps.
        objectives: per epoch (1-based), the auxiliary objectives that are on at some step of it.
        shape: the model's sizes.
        memory: what one process needs on its device.
        known_positions: the longest row that the model supports (`max_position_embeddings`); 0: unknown.
    """

    tokens: list[int]
    short_tokens: list[int]
    cut: int
    largest: int
    batch: int
    steps_per_epoch: int
    steps: int
    objectives: list[tuple[int, list[str]]]
    shape: Shape
    memory: Memory
    known_positions: int = 0


def forecast(settings: RunSettings, rows: TrainingRows, config: Any, *, launch: str, processes: int) -> Forecast:
    """Compute the numbers of a run from its encoded rows and the configuration of the model, without its weights."""
    from trl import get_peft_config

    training, model = settings.training, settings.model
    plan = BatchPlan(rows.train, training, world=processes)
    steps = training.max_steps
    if steps <= 0:
        steps = math.ceil(training.num_train_epochs * plan.steps_per_epoch)
    bits = 4 if model.load_in_4bit else 8 if model.load_in_8bit else 16
    shape = model_shape(config, get_peft_config(model), bits)
    largest, targets = longest_pass(plan, training, processes, steps)
    memory = estimate(
        shape,
        launch=launch,
        processes=processes,
        tokens=largest,
        targets=targets,
        weight_bytes=weight_dtype(settings, launch).itemsize,
        compute_bytes=2 if settings.half else 4,
        checkpointing=bool(training.gradient_checkpointing),
        bits=bits,
    )
    tokens = [len(row.input_ids) for row in rows.train]
    return Forecast(
        tokens=tokens,
        short_tokens=[document_lengths(row, qmm=True)[1] for row in rows.train],
        cut=sum(length >= (training.max_length or 0) for length in tokens),
        largest=largest,
        batch=plan.per_step,
        steps_per_epoch=plan.steps_per_epoch,
        steps=steps,
        objectives=_by_epoch(settings, steps, plan.steps_per_epoch),
        shape=shape,
        memory=memory,
        known_positions=int(getattr(config.get_text_config(), "max_position_embeddings", None) or 0),
    )


def longest_pass(plan: BatchPlan, training: SafeKeyConfig, processes: int, steps: int) -> tuple[int, int]:
    """Return the tokens, and the targets, of the longest forward pass; the seed decides the deal of the rows."""
    weights = training.full_weights()
    tokens = targets = 0
    for step in range(min(steps, 500)):
        whole = plan.whole(step, weights)  # as in the epochs in which all objectives are on
        lengths = whole.lengths(bool(weights["qmm"]))
        costs = [sum(kinds) for kinds in lengths]
        hands = deal(costs, processes, training.gradient_accumulation_steps, training.max_tokens_per_micro_batch)
        for one in (one for hand in hands for one in hand):
            tokens = max(tokens, sum(costs[i] for i in one))
            targets = max(targets, sum(_targets(whole.rows[i], lengths[i]) for i in one))
    return tokens, targets


def _targets(row: Encoded, lengths: tuple[int, int, int, int]) -> int:
    """Return the number of targets in the documents of a row."""
    key, (response, qmm, qsm, ksm) = row.spans.key_sentence, lengths
    short = (key.stop - key.start) * (bool(qmm) + bool(qsm))
    return int(response - row.first_target + short + (response - key.start if ksm else 0))


def _by_epoch(settings: RunSettings, steps: int, steps_per_epoch: int) -> list[tuple[int, list[str]]]:
    epochs = []
    for epoch in range(math.ceil(steps / steps_per_epoch)):
        last = min((epoch + 1) * steps_per_epoch, steps) - 1
        weights = settings.training.weights(last, steps, steps_per_epoch)
        epochs.append((epoch + 1, [name for name in weights if weights[name]]))
    return epochs


def warnings(settings: RunSettings, rows: TrainingRows) -> list[str]:
    """Return the warnings about rows and objectives."""
    found = rows.summary.warnings()
    if settings.training.head_weight and not rows.both_classes and not any("DPSH" in line for line in found):
        found.insert(0, "ONE CLASS ONLY among the training rows with U and K: DPSH is switched off")
    if any(settings.training.full_weights().values()) and not any(row.spans.complete for row in rows.train):
        found.append("NO ROW HAS U AND K: only SFT is left; use segment: rule, or data with spans")
    if rows.problems:
        found.append(
            f"{len(rows.problems)} rows are not used, see above; a run writes every reason to data_problems.jsonl"
        )
    return found


def row_counts(rows: TrainingRows) -> dict[str, Any]:
    """Return how many rows were read and are used, as JSON values."""
    return {
        "read": rows.summary.read,
        "trained_on": len(rows.train),
        "distinct": len(rows.train) if rows.distinct is None else rows.distinct,
        "sha256": digest(rows.train),
        "held_out": len(rows.held_out),
        "not_used": len(rows.problems),
        "harmful": rows.harmful,
        "benign": rows.benign,
        "with_spans": sum(row.spans.complete for row in rows.train),
        "spans_by": dict(rows.spans),
    }


def as_values(
    settings: RunSettings, rows: TrainingRows, plan: Forecast, to_note: Sequence[str], *, launch: str, processes: int
) -> dict[str, Any]:
    """Return the numbers of a run as JSON values."""
    lengths = {"total": sum(plan.tokens), "longest": max(plan.tokens), "cut_or_exact_fit": plan.cut}
    steps = {"total": plan.steps, "per_epoch": plan.steps_per_epoch, "rows": plan.batch}
    objectives = [{"epoch": epoch, "on": names} for epoch, names in plan.objectives]
    return {
        "model": settings.model.model_name_or_path,
        "launch": launch,
        "processes": processes,
        "rows": row_counts(rows),
        "tokens": lengths,
        "steps": steps,
        "objectives": objectives,
        "longest_forward_pass": plan.largest,
        "parameters": plan.shape.parameters,
        "trainable": plan.shape.trainable,
        "memory_bytes": {**asdict(plan.memory), "total": plan.memory.total},
        "warnings": list(to_note),
    }


def print_rows(console: Console, rows: TrainingRows) -> None:
    """Print what was read: used, skipped and why, labels, spans."""
    unlabelled = len(rows.train) - rows.harmful - rows.benign
    table = _table(console, "Data", "", "rows")
    table.add_row("read", f"{rows.summary.read:,}")
    table.add_row("trained on", f"{len(rows.train):,}")
    table.add_row("  harmful / benign / unlabelled", f"{rows.harmful:,} / {rows.benign:,} / {unlabelled:,}")
    table.add_row("  with U and K (others: SFT only)", f"{sum(row.spans.complete for row in rows.train):,}")
    table.add_row("  U and K by", ", ".join(f"{name} {count:,}" for name, count in rows.spans.most_common()))
    table.add_row("held out for evaluation", f"{len(rows.held_out):,}")
    for kind, count in Counter(map(problem_kind, rows.problems)).most_common():
        table.add_row(f"not used: {printable(kind)}", f"{count:,}")
    console.print(table)
    for problem in rows.problems[:5]:
        console.print(f"  {printable(str(problem))}", style="dim", **PLAIN)
    if len(rows.problems) > 5:
        console.print(f"  +{len(rows.problems) - 5} more", style="dim", **PLAIN)
    for note in rows.notes:
        console.print(f"note: {printable(note)}", **PLAIN)


def print_forecast(console: Console, settings: RunSettings, plan: Forecast, *, launch: str, processes: int) -> None:
    """Print tokens, steps, objectives and memory."""
    training = settings.training
    tokens = _table(console, "Tokens", "", "median", "95 %", "longest", "total")
    for name, lengths in (("whole rows", plan.tokens), ("[U K] for QMM", plan.short_tokens)):
        tokens.add_row(name, *(f"{value:,}" for value in (*quantiles(lengths), sum(lengths))))
    console.print(tokens)
    console.print(f"{plan.cut} rows fill max_length={training.max_length} (cut after K, or an exact fit)\n", **PLAIN)
    if plan.known_positions and max(plan.tokens) > plan.known_positions:
        longer = sum(length > plan.known_positions for length in plan.tokens)
        line = f"{longer} rows are longer than the model's {plan.known_positions:,} positions: lower max_length"
        console.print(f"WARNING: {line}\n", style="bold yellow", **PLAIN)
    steps = _table(console, "Steps", "", "")
    passes = f"{training.per_device_train_batch_size} rows × {training.gradient_accumulation_steps} accumulated"
    steps.add_row("rows per step", f"{plan.batch} = {processes} process{'es' if processes > 1 else ''} × {passes}")
    steps.add_row("steps", f"{plan.steps:,} ({plan.steps_per_epoch:,} per epoch)")
    steps.add_row("longest forward pass", f"{plan.largest:,} tokens")
    for names, group in groupby(plan.objectives, key=itemgetter(1)):
        epochs = [epoch for epoch, _ in group]
        on = [f"{training.full_weights()[name]:g} {_NAMES[name]}" for name in names]
        when = f"epochs {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else f"epoch {epochs[0]}"
        steps.add_row(when, " + ".join(["SFT", *on]))
    console.print(steps)
    console.print(_memory_table(console, settings, plan, launch, processes))


def _memory_table(console: Console, settings: RunSettings, plan: Forecast, launch: str, processes: int) -> Table:
    shape, memory = plan.shape, plan.memory
    table = _table(console, "Memory per process, estimated", "", "GiB")
    dtype = str(weight_dtype(settings, launch)).removeprefix("torch.")
    share = (
        "all trained" if shape.trainable >= shape.parameters else f"{shape.trainable / shape.parameters:.2%} trained"
    )
    table.add_row(f"weights ({shape.parameters:,} in {dtype}, {share})", _gib(memory.weights))
    table.add_row(f"  launch {launch}, processes {processes}", "")
    with_it = "with" if settings.training.gradient_checkpointing else "without"
    for name, size in (
        ("gradients", memory.gradients),
        ("optimiser states", memory.optimizer),
        (f"activations ({with_it} gradient checkpointing)", memory.activations),
        ("one chunk of logits", memory.logits),
        ("copies and gathered layers", memory.buffers),
        ("the device's own", memory.context),
    ):
        table.add_row(name, _gib(size))
    table.add_row("total", _gib(memory.total), style="bold")
    if memory.host:
        table.add_row("besides, in the host's memory", _gib(memory.host))
    return table


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


def quantiles(lengths: Sequence[int]) -> tuple[int, int, int]:
    """Return median, 95 % quantile and maximum (values that occur, the lower median)."""
    ordered = sorted(lengths) or [0]
    last = len(ordered) - 1
    return ordered[last // 2], ordered[math.ceil(0.95 * last)], ordered[last]


def _table(console: Console, title: str, *columns: str) -> Table:
    unicode = console.encoding.lower().replace("-", "").startswith("utf")
    style = box.SIMPLE if unicode else box.ASCII
    table = Table(
        title=title, title_justify="left", title_style="bold", box=style, show_header=any(columns), pad_edge=False
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table
