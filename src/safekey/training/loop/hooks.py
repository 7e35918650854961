"""What happens between the steps of the training loop: the log's start, the clock, idle heads, interruption."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from safekey.training.loop import logfile

if TYPE_CHECKING:
    from safekey.training.loop.trainer import SafeKeyTrainer

logger = logging.getLogger("safekey.training")


class StepHooks(TrainerCallback):  # type: ignore[misc]
    """The trainer's own callback."""

    def __init__(self, trainer: SafeKeyTrainer):
        self.trainer = trainer
        self._began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Continue the log where the checkpoint was, and start measuring memory."""
        if state.is_world_process_zero:
            logfile.start(args.output_dir, state.global_step)
        if args.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(args.device)

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Start the clock: steps are timed without evaluation and saving."""
        self._began = time.perf_counter()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Leave heads alone that took no part in this step.

        DDP and FSDP give them a gradient of zeros, by which AdamW would still decay them and count a step.
        """
        work, heads = self.trainer.work, self.trainer.heads
        if heads is not None and work is not None and not (work.weights["head"] and work.counts.examples):
            for parameter in heads.parameters():
                parameter.grad = None

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Stop the clock, log the last step; save and stop if somebody asked for it, on any rank."""
        trainer = self.trainer
        if state.is_world_process_zero and trainer.work is not None:
            trainer.window.add_step(time.perf_counter() - self._began, trainer.work.weights)
        if state.global_step >= state.max_steps:
            control.should_log = True  # no step goes unreported
        if _anywhere(trainer.stop_asked, args.device):
            trainer.stopped = True
            control.should_save = args.save_strategy != "no"
            control.should_training_stop = True


def _anywhere(flag: bool, device: torch.device) -> bool:
    """Whether a flag is set on any rank."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return flag
    seen = torch.tensor(int(flag), device=device)
    dist.all_reduce(seen, op=dist.ReduceOp.MAX)
    return bool(seen)


@contextmanager
def stops_between_steps(trainer: SafeKeyTrainer) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the training after the step that is running; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        if trainer.stop_asked:
            raise KeyboardInterrupt
        trainer.stop_asked = True
        logger.warning("stopping after this step; once more to stop at once")

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
