"""Make TRL's SFT trainer safe for long runs: complete checkpoints, exact resume, stop between steps, clean export."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from transformers import PreTrainedModel
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import rotate_checkpoints
from trl import SFTTrainer

from safekey.errors import UserError
from safekey.training.loop import checkpoint, export
from safekey.training.loop.batches import StepWork
from safekey.training.loop.metrics import Window
from safekey.training.objective.heads import SafetyHeads
from safekey.training.objective.step import HEADS_NAME, unwrap

logger = logging.getLogger("safekey.training")
_ONE_REQUEST = 5.0  # seconds: a cluster sends SIGTERM to all processes of a job, and their parent passes it on


class PersistentTrainer(SFTTrainer):  # type: ignore[misc]
    """Saves, resumes and exports. `SafeKeyTrainer` sets the attributes below before training starts.

    Attributes:
        heads: the attached safety heads, or None.
        work: this rank's share of the current step.
        window: the sums that the next log reports.
        stop_asked: this rank has received SIGINT or SIGTERM.
        stopped: the training ended because of that.
    """

    heads: SafetyHeads | None
    work: StepWork | None
    window: Window
    stop_asked: bool
    stopped: bool
    control: Any
    _settings: dict[str, Any]
    _ends: tuple[int, ...]
    _name: str

    def identity(self) -> dict[str, Any]:
        """Return what must be the same when a run is resumed, by name; the subclass defines it."""
        raise NotImplementedError

    # ---- resuming ---------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> Any:
        """Train.

        Args:
            resume_from_checkpoint: a checkpoint's folder; or True: the newest complete one in `output_dir`, or from
                the start when there is none.
            options: as in transformers.

        Raises:
            UserError: the checkpoint is incomplete or belongs to another run, or saving failed.
            KeyboardInterrupt: stopped by SIGINT or SIGTERM, after saving (the message says how to resume).
        """
        folder = self._to_resume_from(resume_from_checkpoint)
        if self.args.should_save:
            checkpoint.clean(self.args.output_dir)
        self.stop_asked = self.stopped = False
        with self._stops_between_steps():
            result = super().train(resume_from_checkpoint=folder, **options)
        if self.stopped:
            last = checkpoint.last_complete_checkpoint(self.args.output_dir)
            how = f"saved {last}: run the same command again to resume" if last else "nothing was saved"
            raise KeyboardInterrupt(f"stopped after step {self.state.global_step}; {how}")
        return result

    @contextmanager
    def _stops_between_steps(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the training after the current step; a second signal ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        if before[signal.SIGINT] is signal.SIG_IGN:  # a grid's job: Ctrl-C is its parent's, which sends SIGTERM
            del before[signal.SIGINT]

        first = 0.0

        def ask(number: int, frame: Any) -> None:
            nonlocal first
            if self.stop_asked:
                if number == signal.SIGTERM and time.monotonic() - first < _ONE_REQUEST:
                    return
                raise KeyboardInterrupt
            self.stop_asked, first = True, time.monotonic()
            logger.warning("stopping after this step; once more to stop at once")

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _to_resume_from(self, wanted: str | bool | None) -> str | None:
        if not wanted:
            return None
        if wanted is True:
            found = checkpoint.last_complete_checkpoint(self.args.output_dir)
            if found is None:
                logger.info("no checkpoint in %s: starting from the beginning", self.args.output_dir)
                return None
            wanted = found
        reason = checkpoint.fault(wanted)
        if reason is not None:
            raise UserError(f"cannot resume from {wanted}: {reason}")
        theirs, ours = checkpoint.read_extra(wanted), self.identity()
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise UserError(
                    f"cannot resume from {wanted}: its {name} is {theirs.get(name)!r}, this run's is {value!r}. "
                    "Use the same data and settings, or another output_dir"
                )
        return str(wanted)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.heads is not None:
            export.set_heads_state(self.heads, export.load_heads(resume_from_checkpoint).state_dict())

    def _load_best_model(self) -> None:
        super()._load_best_model()
        best = self.state.best_model_checkpoint
        if self.heads is not None and best is not None:
            export.set_heads_state(self.heads, export.load_heads(best).state_dict())

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Do not warn of the heads, which are loaded from their own file, or of tied weights, which are in no file."""
        causal_lm = unwrap(self.model)
        known = {name for name in load_result.missing_keys if name.startswith(f"{HEADS_NAME}.")}
        known |= set(getattr(causal_lm, "all_tied_weights_keys", None) or {})
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if name not in known]
        super()._issue_warnings_after_load(load_result)

    def _init_training_state(self, max_steps: int, *others: Any) -> tuple[int, int]:
        places: tuple[int, int] = super()._init_training_state(max_steps, *others)
        folder = others[2]  # resume_from_checkpoint
        self.window = Window()
        if folder is not None and self.is_world_process_zero():
            self.window.load(checkpoint.read_extra(folder)["window"])
        if self.state.global_step >= max_steps:  # no step is left, though max_steps ends within an epoch
            return int(others[1]), 0
        return places

    # ---- saving -----------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint to a hidden folder, then rename it: it is complete, or not there."""
        final = os.path.join(self._get_output_dir(trial=trial), f"{checkpoint.PREFIX}{self.state.global_step}")
        self.store_flos()
        window = self.window.state()
        with self._saving_together(final):
            self._write(checkpoint.aside(final))
        with self._saving_together(final):
            if self.args.should_save:
                extra = {**self.identity(), "window": window}
                checkpoint.commit(final, resumable=not self.args.save_only_model, extra=extra)
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = final
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            if self.args.push_to_hub:
                self._push_from_checkpoint(final)
            rotate_checkpoints(os.path.dirname(final), self.args.save_total_limit, best, use_mtime=False)

    def _write(self, folder: str) -> None:
        """Write the files of a checkpoint."""
        os.makedirs(folder, exist_ok=True)
        self.save_model(folder, _internal_call=True)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(folder)
            self._save_scaler(folder)
            self._save_rng_state(folder)
        if self.args.should_save:
            stateful = [c for c in (*self.callback_handler.callbacks, self.control) if isinstance(c, ExportableState)]
            by_name: dict[str, list[Any]] = {}
            for callback in stateful:
                by_name.setdefault(type(callback).__name__, []).append(callback.state())
            self.state.stateful_callbacks |= {n: found if len(found) > 1 else found[0] for n, found in by_name.items()}
            self.state.save_to_json(os.path.join(folder, "trainer_state.json"))

    @contextmanager
    def _saving_together(self, final: str) -> Iterator[None]:
        """Raise a failure to write on one rank on every rank, so that none waits for another for ever."""
        error: UserError | None = None
        try:
            with checkpoint.saving(final):
                yield
        except UserError as failure:
            error = failure
        messages: list[str | None] = [str(error) if error else None] * self.args.world_size
        if self.args.world_size > 1:
            dist.all_gather_object(messages, messages[0])
        first = next((message for message in messages if message), None)
        if first is not None:
            raise UserError(first) from error

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model so that plain transformers loads it, its tokenizer, and the heads beside it.

        All ranks must call this together.

        Raises:
            UserError: the disk is full, or cannot be written.
        """
        folder = output_dir or self.args.output_dir
        causal_lm = unwrap(self.model)
        if _internal_call:
            self._export(folder, causal_lm, whole=False)
            return
        try:
            self._export(folder, causal_lm, whole=True)
        except Exception as error:
            if not checkpoint.is_write_failure(error):
                raise
            raise UserError(f"cannot save the model in {folder}: {error}. Checkpoints are as they were") from error
        if self.args.should_save:
            Path(folder, "training_args.bin").unlink(missing_ok=True)  # a pickle: unsafe to load
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def export_model(self, final: str) -> None:
        """Write the finished model as `save_model` does, to a hidden folder that is then renamed.

        All ranks must call this together. A kill leaves a whole model or none.

        Raises:
            UserError: the disk is full, or cannot be written.
        """
        hidden = checkpoint.aside(final)
        if self.args.should_save:
            shutil.rmtree(hidden, ignore_errors=True)
        try:
            self.save_model(hidden)
            if self.args.should_save:
                checkpoint.commit(final, resumable=False, extra={})
        except OSError as error:
            raise UserError(f"cannot save the model in {final}: {error}. Checkpoints are as they were") from error
        except BaseException:
            if self.args.should_save:
                shutil.rmtree(hidden, ignore_errors=True)
            raise

    def _export(self, folder: str, causal_lm: PreTrainedModel, whole: bool) -> None:
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        sharded = plugin is not None and "FULL_STATE_DICT" not in str(plugin.state_dict_type)
        with export.as_it_came(causal_lm, self._settings), export.generation_settings_aside(causal_lm):
            if sharded and whole:  # transformers would write no model at all
                self._save(folder, state_dict=self.accelerator.get_state_dict(self.model))
            else:
                super().save_model(folder, _internal_call=True)
        if self.args.should_save:
            export.write_generation_settings(folder, causal_lm, self._ends)
        if self.heads is None:
            return
        state = export.heads_state(self.heads)
        if self.args.should_save:
            Path(folder).mkdir(parents=True, exist_ok=True)
            export.save_heads(folder, self.heads, state, theta=self.args.head_theta, base_model=self._name)
