"""Callbacks of the training loop: step clock, unused heads, stop request; log file `train_log.jsonl`; console lines.

The console shows a progress bar on a terminal, and one line per log with the time left in a file or a pipe.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import ProgressCallback, TrainerCallback

from safekey.run_folder import write
from safekey.run_folder.appending import append_line
from safekey.terminal import printable
from safekey.training.loop.metrics import ACCURACY, LOSSES
from safekey.training.loop.persistent import PersistentTrainer

LOG = "train_log.jsonl"
_NOISE = "The tokenizer has new PAD/BOS/EOS tokens"  # transformers adds the template's end of turn to the model's; good


class StepHooks(TrainerCallback):  # type: ignore[misc]
    """Times the steps, protects unused heads, and ends the training when a stop is asked for."""

    def __init__(self, trainer: PersistentTrainer):
        self.trainer = trainer
        self._began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Continue the log where the checkpoint was, and start measuring memory."""
        if state.is_world_process_zero:
            start_log(args.output_dir, state.global_step)
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(args.device)

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the clock: evaluation and saving do not count as step time."""
        self._began = time.perf_counter()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Drop the gradients of heads that this step did not use.

        DDP and FSDP give them gradients of zeros, with which AdamW would still decay them and count a step.
        """
        work, heads = self.trainer.work, self.trainer.heads
        if heads is not None and work is not None and not (work.weights["dpsh"] and work.counts.examples):
            for parameter in heads.parameters():
                parameter.grad = None

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Stop the clock and log the last step; save and stop if any rank was asked to stop."""
        trainer = self.trainer
        if state.is_world_process_zero and trainer.work is not None:
            trainer.window.add_step(time.perf_counter() - self._began, trainer.work.weights)
        if state.global_step >= state.max_steps:
            control.should_log = True  # every step is part of a log
        if _on_any_rank(trainer.stop_asked, args.device):
            trainer.stopped = True
            control.should_save = args.save_strategy != "no"
            control.should_training_stop = True


def _on_any_rank(flag: bool, device: torch.device) -> bool:
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return flag
    seen = torch.tensor(int(flag), device=device)
    dist.all_reduce(seen, op=dist.ReduceOp.MAX)
    return bool(seen)


def start_log(folder: str | os.PathLike[str], step: int) -> None:
    """Keep the lines of the log up to a checkpoint's step, so that no step is logged twice; from step 0, begin anew."""
    path = Path(folder) / LOG
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the line that a killed run was writing
            continue
        if step and entry.get("step", 0) <= step and "train_runtime" not in entry:
            kept.append(line + "\n")
    write(path, "".join(kept))


def append_log(folder: str | os.PathLike[str], entry: Mapping[str, Any]) -> None:
    """Append one line to the log."""
    with (Path(folder) / LOG).open("ab", buffering=0) as file:
        append_line(file, json.dumps(entry, ensure_ascii=True, default=str).encode() + b"\n")


class Progress(ProgressCallback):  # type: ignore[misc]
    """Writes `summary_line` where `ProgressCallback` writes a dictionary."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Write a line above the bar."""
        line = summary_line(logs or {}, state.global_step, state.max_steps)
        if line and state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(line)


class Lines(TrainerCallback):  # type: ignore[misc]
    """Writes the same lines with the time left, for output to a file or a pipe."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._began, self._first = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Write a line."""
        line = summary_line(logs or {}, state.global_step, state.max_steps)
        done = state.global_step - self._first
        if line.startswith("step") and done and done + self._first < state.max_steps:
            left = (time.monotonic() - self._began) / done * (state.max_steps - state.global_step)
            line += f" · {timedelta(seconds=round(left))} left"
        if line and state.is_world_process_zero:
            print(line, flush=True)


def progress_callback() -> type[TrainerCallback]:
    """Return the callback that shows progress: a bar on a terminal, lines in a file or a pipe."""
    return Progress if sys.stderr.isatty() else Lines


class _Notices(logging.Handler):
    """Writes a record on a line of its own, also while a progress bar is on the last line of the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"safekey: {printable(record.getMessage())}", file=sys.stderr)


@contextmanager
def tidy_console(main: bool) -> Iterator[None]:
    """While the block runs, show safekey's log on the main process only, and hide warnings that no user can act on."""
    ours, theirs = logging.getLogger("safekey"), logging.getLogger("transformers.trainer_utils")
    handler = _Notices() if main else logging.NullHandler()
    propagated, ours.propagate = ours.propagate, False
    ours.addHandler(handler)

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_NOISE)

    theirs.addFilter(wanted)
    try:
        with warnings.catch_warnings():  # transformers renames what TRL and PEFT still call by its old name
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
            yield
    finally:
        theirs.removeFilter(wanted)
        ours.removeHandler(handler)
        ours.propagate = propagated


def summary_line(logs: Mapping[str, Any], step: int, steps: int) -> str:
    """Return a log entry as one line; "" for an entry without a loss (the run's closing statistics).

    step 5/20 · loss 7.246 (sft 5.956, qmm 5.946, dpsh 0.507) · K right 3 %, hidden 3 % · AUROC 0.72, 0.28 · 1,024 tok/s
    """
    prefix = next((name.removesuffix("loss") for name in logs if name == "loss" or name.endswith("_loss")), None)
    if prefix is None or prefix == "train_":
        return ""
    found = {name.removeprefix(prefix): value for name, value in logs.items() if name.startswith(prefix)}
    where = f"step {step}/{steps}" if not prefix else f"{prefix.strip('_')} at step {step}"
    parts = ", ".join(f"{name} {found[f'loss_{name}']:.3f}" for name in LOSSES if f"loss_{name}" in found)
    words = [where, f"loss {found['loss']:.3f}" + (f" ({parts})" if parts else "")]
    seen = [(kind, found[f"key_accuracy_{kind}"]) for kind in ACCURACY.values() if f"key_accuracy_{kind}" in found]
    if seen:
        words.append(", ".join(f"{'K right' if kind == 'visible' else kind} {value:.0%}" for kind, value in seen))
    heads = [found.get(f"head_auroc_{name}") for name in ("understanding", "query_and_understanding")]
    if None not in heads:
        words.append("AUROC " + ", ".join(f"{value:.2f}" for value in heads))
    if "tokens_per_second" in found:
        words.append(f"{found['tokens_per_second']:,.0f} tok/s")
    if "mfu" in found:
        words.append(f"MFU {found['mfu']:.0%}")
    return " · ".join(words)
