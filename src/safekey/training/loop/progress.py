"""The console while training: a progress bar with its time left, one readable line per log, notices on their own lines.

In a file or a pipe there is no bar.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import ProgressCallback, TrainerCallback

from safekey.terminal import printable

_LOSSES = ("sft", "qmm", "dpsh", "qsm", "ksm", "key")
_NOISE = "The tokenizer has new PAD/BOS/EOS tokens"  # transformers adds the template's end of turn to the model's; good


class Progress(ProgressCallback):  # type: ignore[misc]
    """Writes `summary_line` where `ProgressCallback` writes a dictionary."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Write a line above the bar."""
        line = summary_line(logs or {}, state.global_step, state.max_steps)
        if line and state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(line)


class Lines(TrainerCallback):  # type: ignore[misc]
    """The same lines, with the time left, where a bar would only fill a file with its every movement."""

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
    """Return what shows the training's progress: a bar on a terminal, lines in a file or a pipe."""
    return Progress if sys.stderr.isatty() else Lines


class _Notices(logging.Handler):
    """Writes a record as a line of its own, also while a bar stands in the terminal's last one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"safekey: {printable(record.getMessage())}", file=sys.stderr)


@contextmanager
def tidy_console(main: bool) -> Iterator[None]:
    """While the block runs, show what safekey logs on the main process alone, and not what nobody can act on."""
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
    """Say in one line what a log entry holds; "" for an entry without a loss (the run's closing statistics).

    step 5/20 · loss 7.246 (sft 5.956, qmm 5.946, dpsh 0.507) · K right 3 %, hidden 3 % · AUROC 0.72, 0.28 · 1,024 tok/s
    """
    prefix = next((name.removesuffix("loss") for name in logs if name == "loss" or name.endswith("_loss")), None)
    if prefix is None or prefix == "train_":
        return ""
    found = {name.removeprefix(prefix): value for name, value in logs.items() if name.startswith(prefix)}
    where = f"step {step}/{steps}" if not prefix else f"{prefix.strip('_')} at step {step}"
    parts = ", ".join(f"{name} {found[f'loss_{name}']:.3f}" for name in _LOSSES if f"loss_{name}" in found)
    words = [where, f"loss {found['loss']:.3f}" + (f" ({parts})" if parts else "")]
    accuracy = [("K right", "visible"), ("hidden", "hidden"), ("swapped", "swapped"), ("recovered", "recovered")]
    seen = [f"{word} {found[f'key_accuracy_{kind}']:.0%}" for word, kind in accuracy if f"key_accuracy_{kind}" in found]
    if seen:
        words.append(", ".join(seen))
    heads = [found.get(f"head_auroc_{name}") for name in ("understanding", "query_and_understanding")]
    if None not in heads:
        words.append("AUROC " + ", ".join(f"{value:.2f}" for value in heads))
    if "tokens_per_second" in found:
        words.append(f"{found['tokens_per_second']:,.0f} tok/s")
    if "mfu" in found:
        words.append(f"MFU {found['mfu']:.0%}")
    return " · ".join(words)
