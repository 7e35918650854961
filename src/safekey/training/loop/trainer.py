"""`SafeKeyTrainer`: TRL's SFT trainer with the packed step, the schedule of the objectives, and evaluation.

It overrides (docs/training.md has the details):

- data: `BatchPlan` deals the rows, a pure function of the step; the data loader only counts micro-batches;
- loss: `compute_loss` never calls the parent's; `training_step` splits a micro-batch under a token cap;
- evaluation and logging: weighted by tokens, every loss reported separately.

Saving, resuming and exporting are in `persistent.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import datasets
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, ProgressCallback

from safekey.errors import RowProblem, UserError
from safekey.training.encoding import Encoded
from safekey.training.loop import export, metrics, startup
from safekey.training.loop.batches import BatchPlan, MicroBatch, SafeKeyCollator, fingerprint
from safekey.training.loop.callbacks import StepHooks, append_log, progress_callback
from safekey.training.loop.config import SafeKeyConfig
from safekey.training.loop.persistent import PersistentTrainer
from safekey.training.loop.startup import Dataset
from safekey.training.objective.self_test import refuse_unsupported, self_test
from safekey.training.objective.step import attach, unwrap

logger = logging.getLogger("safekey.training")

_MIX = "Mix in rows of the other class (or set head_weight=0 to silence this)"


class SafeKeyTrainer(PersistentTrainer):
    """Fine-tunes a causal language model with the SafeKey objective.

    Args:
        model: a transformers causal language model, or a name or path to load one from.
        args: the configuration.
        train_dataset: examples, or rows that are encoded already.
        eval_dataset: held-out rows, or a mapping of names to such.
        processing_class: the tokenizer; default: the model's own.
        peft_config: a LoRA configuration, for instance; the heads stay outside it.
        callbacks: further transformers callbacks.

    Attributes:
        problems: the rows that could not be encoded, and why. They are left out, and logged as a warning.
        heads: the safety heads; None when `head_weight` is 0 or the labels are all of one class.
        weights: full weights of the auxiliary objectives ("qmm", "dpsh", "qsm", "ksm", "key").
        data_counts: number of training rows in all, for SFT only, harmful, benign, left out.

    Raises:
        UserError: no rows, a model or template that cannot be trained in packed form, or a failed self-test.
    """

    loss_is_scaled_for_ga = True  # losses are sums over counts of the whole step: nothing may rescale them

    def __init__(
        self,
        model: str | nn.Module,
        args: SafeKeyConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        processing_class: Any = None,
        peft_config: Any = None,
        callbacks: list[Any] | None = None,
        **options: Any,
    ):
        args = args or SafeKeyConfig()
        if processing_class is None:
            name = model if isinstance(model, str) else unwrap(model).config._name_or_path
            processing_class = AutoTokenizer.from_pretrained(name, trust_remote_code=args.trust_remote_code)
        self.problems: list[RowProblem] = []
        rows = self._encode(train_dataset, processing_class, args)
        held_out = self._encode(eval_dataset, processing_class, args)
        if not rows:
            raise UserError(f"no rows to train on ({len(self.problems)} could not be encoded, see the warnings)")
        self._settings = export.settings_to_restore(startup.given_config(model, args))
        placeholder = datasets.Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]})  # TRL takes no other type
        super().__init__(
            model=model,
            args=args,
            data_collator=SafeKeyCollator(),
            train_dataset=placeholder,
            eval_dataset=placeholder if held_out else None,
            processing_class=processing_class,
            peft_config=peft_config,
            callbacks=callbacks,
            **options,
        )
        self.train_dataset, self.eval_dataset = rows, held_out
        self.weights = args.full_weights()
        self.window, self.work = metrics.Window(), None
        self.stop_asked = self.stopped = False
        self._prepare_model(rows)
        self._data = fingerprint(rows)
        if self.args.world_size > 1:
            startup.same_data_everywhere(self._data, self.args.world_size)
        self.add_callback(StepHooks(self))
        if not args.disable_tqdm and self.pop_callback(ProgressCallback) is not None:
            self.add_callback(progress_callback())

    # ---- what is trained on -----------------------------------------------------------------------------------------

    def _encode(self, given: Dataset | Mapping[str, Dataset] | None, tokenizer: Any, args: SafeKeyConfig) -> Any:
        """Encode rows that are not encoded yet, and add those that cannot be to `problems`; None for no rows."""
        if isinstance(given, Mapping):
            return {name: self._encode(rows, tokenizer, args) for name, rows in given.items()}
        if not given:
            return None
        rows, problems = startup.encode_rows(given, tokenizer, args)
        self.problems += problems
        return rows

    def _prepare_model(self, rows: list[Encoded]) -> None:
        """Check the model, then attach the heads: after PEFT, before any distributed wrapping."""
        startup.refuse_parallelism(context=self.get_cp_size(), sequence=self.get_sp_size(), tensor=self.get_tp_size())
        refuse_unsupported(self.model)
        causal_lm = unwrap(self.model)
        startup.check_vocabulary(rows, causal_lm)
        self._ends = startup.ends_of_turn(causal_lm, self.processing_class, self.args)
        # FSDP may have loaded the weights on the main process only.
        loaded_here = self.accelerator.is_main_process or not self.is_fsdp_enabled
        if self.args.self_test and loaded_here and not startup.is_sharded(self.model):
            self_test(self.model, rows, gradients=not self.is_fsdp_enabled)
        self._flops = metrics.Flops(causal_lm)
        self._name = str(causal_lm.config._name_or_path or type(causal_lm).__name__)
        self.data_counts = startup.survey(rows) | {"left_out": len(self.problems)}
        reason = startup.one_class(self.data_counts)
        if self.weights["dpsh"] and reason:
            logger.warning("DPSH IS OFF: %s, so the safety heads would learn nothing. %s", reason, _MIX)
            self.weights["dpsh"] = 0.0
        self.heads = startup.new_heads(causal_lm, self.args) if self.weights["dpsh"] else None
        attach(self.model, self.heads)
        if self.heads is not None:
            export.keep_out_of_exports(causal_lm)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader that only counts micro-batches: `get_batch_samples` knows the rows."""
        args = self.args
        self.plan = BatchPlan(self.train_dataset, args, world=args.world_size, rank=args.process_index)
        return DataLoader(range(self.plan.loop_length), batch_size=1)  # type: ignore[arg-type]

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Return the number of training rows."""
        return len(self.train_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Return this rank's share of the next step: for each micro-batch, its forward passes."""
        micro_batches = len(list(islice(epoch_iterator, num_batches)))
        step = self.state.global_step
        weights = self.args.weights(step, self.state.max_steps, self.plan.steps_per_epoch)
        weights["dpsh"] = weights["dpsh"] if self.heads is not None else 0.0
        self.work = self.plan.work(step, micro_batches, weights)
        return [{"passes": passes} for passes in self.work.passes], None

    # ---- the step ---------------------------------------------------------------------------------------------------

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Run the forward and backward passes of a micro-batch; ranks synchronise gradients in the last one only."""
        passes: list[MicroBatch] = inputs["passes"]
        total = torch.zeros((), device=self.args.device)
        for i, one in enumerate(passes):
            with self._unsynchronised(model) if i + 1 < len(passes) else nullcontext():
                total = total + super().training_step(model, {**self.data_collator(one.rows), "pass": one})
        return total

    @contextmanager
    def _unsynchronised(self, model: nn.Module) -> Iterator[None]:
        """Run a pass without synchronising gradients, as the loop does for all but the last micro-batch."""
        state = self.accelerator.gradient_state
        if not state.sync_gradients:  # the loop has switched it off; FSDP2's context would switch it on again
            yield
            return
        state._set_sync_gradients(False)
        try:
            with self.accelerator.no_sync(model=model):
                yield
        finally:
            state._set_sync_gradients(True)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the share of one pass in the loss of the step, scaled so that averaging over ranks gives the sum.

        Raises:
            RuntimeError: called outside the training loop; use `safekey_loss` there.
        """
        work = self.work
        if work is None or "pass" not in inputs:
            raise RuntimeError("compute_loss works on the training loop's passes: call safekey_loss in your own loop")
        one: MicroBatch = inputs["pass"]
        seed = self.args.seed + work.step
        out = metrics.micro_batch_loss(model, one, self.args, work.weights, work.counts, seed)
        if one.idle:
            return 0.0 * out.total
        self.window.add_loss(out, work.weights)
        kinds = _by_kind(one, work.weights)
        self.window.add("tokens", out.metrics.tokens)
        self.window.add("padded", metrics.padded_tokens(kinds))
        self.window.add("flops", self._flops.of(kinds))
        loss = out.total * self.args.world_size  # DDP, FSDP and DeepSpeed average gradients over the ranks
        return (loss, {}) if return_outputs else loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs  # rows are packed, and moved to the device, in the step

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:
        """Return the floating-point operations of a micro-batch."""
        weights = self.work.weights if self.work else {"qmm": 0.0}
        return sum(self._flops.of(_by_kind(one, weights)) for one in inputs["passes"] if not one.idle)

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        return  # `tokens_per_second` has them

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return which parameters decay: matrices, neither biases nor the parameters of normalisation layers."""
        names: list[str] = super().get_decay_parameter_names(model)
        norms = startup.norm_parameters(model)
        return [name for name in names if name not in norms]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimiser; heads with a learning rate of their own get parameter groups of their own."""
        fresh = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if fresh and self.args.head_learning_rate is not None and self.heads is not None:
            startup.set_learning_rate(optimizer, self.heads, self.args.head_learning_rate)
        return optimizer

    # ---- evaluation and logging -------------------------------------------------------------------------------------

    def evaluate(
        self,
        eval_dataset: Dataset | Mapping[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure every loss on held-out rows, weighted by tokens over all ranks (`metrics.evaluate_rows`).

        Args:
            eval_dataset: rows, or a mapping of names to rows; default: those given to the trainer.
            ignore_keys: not used.
            metric_key_prefix: put before each name.

        Raises:
            UserError: there are no held-out rows.
        """
        given = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(given, Mapping):
            found: dict[str, float] = {}
            for name, named in given.items():
                found |= self.evaluate(named, None, f"{metric_key_prefix}_{name}")
            return found
        if not given:
            raise UserError("nothing to evaluate on: pass eval_dataset")
        rows = self._encode(given, self.processing_class, self.args) or []
        weights = {**self.weights, "dpsh": self.weights["dpsh"] if self.heads is not None else 0.0}
        args = self.args
        passes = metrics.eval_passes(rows, args, weights, ranks=args.world_size, rank=args.process_index)
        self.callback_handler.eval_dataloader = passes

        def show_progress() -> None:
            self.control = self.callback_handler.on_prediction_step(args, self.state, self.control)

        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        model = self.model_wrapped if sharded else self.model
        measured = metrics.evaluate_rows(model, rows, passes, args, weights, show_progress)
        logs = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.log(logs)
        self.control = self.callback_handler.on_evaluate(args, self.state, self.control, logs)
        return logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of the window to a training log, send it to the trackers, and append it to the log file."""
        if "loss" in logs and "learning_rate" in logs:
            device, world = self.args.device, self.args.world_size
            peak = metrics.peak_flops(device, world) if self._flops.dense else None
            logs.update(metrics.summarize(self.window.state(), peak))
            self.window = metrics.Window()
            memory = torch.tensor(metrics.peak_memory_gib(device), device=device)
            if world > 1:
                dist.all_reduce(memory, op=dist.ReduceOp.MAX)
            logs["peak_memory_gib"] = float(memory)
        super().log(logs, start_time)
        if self.is_world_process_zero():
            append_log(self.args.output_dir, self.state.log_history[-1])

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must share with the run that resumes it."""
        return {
            "training data": self._data,
            "rows per step": self.get_total_train_batch_size(self.args),
            "seed": self.args.seed,
        }

    def _send_telemetry(self) -> None:
        return  # TRL would report every run to its makers


def _by_kind(one: MicroBatch, weights: Mapping[str, float]) -> list[list[int]]:
    """Return the lengths of the response, qmm, qsm and ksm documents of a pass, kind by kind."""
    return [[length for length in kind if length] for kind in zip(*one.lengths(bool(weights["qmm"])), strict=True)]
