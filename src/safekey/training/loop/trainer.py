"""`SafeKeyTrainer`: TRL's SFT trainer with the packed step, the objective's schedule, exact resume and clean export.

What is overridden, and why (docs/training.md tells the story):

- the data: rows are dealt by `Plan`, a pure function of the step; the data loader only counts micro-batches;
- the loss: `compute_loss` never calls the parent's, and `training_step` splits a micro-batch under a token cap;
- evaluation, logging, saving and loading: token-weighted, every loss apart, atomic, heads kept apart.
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
from safekey.training.loop import export, logfile
from safekey.training.loop.batches import Piece, Plan, StepWork, fingerprint
from safekey.training.loop.checkpoint import last_complete_checkpoint as last_complete_checkpoint
from safekey.training.loop.collate import SafeKeyCollator
from safekey.training.loop.config import OBJECTIVES, SafeKeyConfig
from safekey.training.loop.evaluation import eval_pieces, evaluate_rows
from safekey.training.loop.hooks import StepHooks
from safekey.training.loop.metrics import (
    Flops,
    Window,
    document_lengths,
    padded_tokens,
    peak_flops,
    peak_memory_gib,
    summarize,
)
from safekey.training.loop.persistent import PersistentTrainer
from safekey.training.loop.progress import progress_callback
from safekey.training.loop.startup import (
    Rows,
    check_vocabulary,
    encode_rows,
    given_config,
    is_sharded,
    new_heads,
    one_class,
    refuse_parallelism,
    same_data_everywhere,
    survey,
)
from safekey.training.objective.self_test import refuse_unsupported, self_test
from safekey.training.objective.step import attach, safekey_loss, unwrap
from safekey.training.optim import norm_parameters, set_learning_rate

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
        heads: the safety heads, None when `head_weight` is 0 or the labels are all of one class.
        weights: full weights of the auxiliary objectives ("qmm", "head", "qsm", "ksm", "key").
        data_counts: how many training rows there are, take part in SFT only, are harmful, benign, left out.

    Raises:
        UserError: no rows, a model or template that cannot be trained in packed form, or a failed self-test.
    """

    loss_is_scaled_for_ga = True  # losses are sums over counts of the whole step: nothing may rescale them

    def __init__(
        self,
        model: str | nn.Module,
        args: SafeKeyConfig | None = None,
        train_dataset: Rows | None = None,
        eval_dataset: Rows | Mapping[str, Rows] | None = None,
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
        self._settings = export.settings_to_restore(given_config(model, args))
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
        self.weights = {name: float(getattr(args, f"{name}_weight")) for name in OBJECTIVES}
        self.window = Window()
        self.work: StepWork | None = None
        self.stop_asked = self.stopped = False
        self._prepare_model(rows)
        self._data = fingerprint(rows)
        if self.args.world_size > 1:
            same_data_everywhere(self._data, self.args.world_size)
        self.add_callback(StepHooks(self))
        if not args.disable_tqdm and self.pop_callback(ProgressCallback) is not None:
            self.add_callback(progress_callback())

    # ---- what is trained on -----------------------------------------------------------------------------------------

    def _encode(self, given: Rows | Mapping[str, Rows] | None, tokenizer: Any, args: SafeKeyConfig) -> Any:
        """Encode what is not encoded yet, keep what cannot be in `problems`; None for nothing."""
        if isinstance(given, Mapping):
            return {name: self._encode(rows, tokenizer, args) for name, rows in given.items()}
        if not given:
            return None
        rows, problems = encode_rows(given, tokenizer, args)
        self.problems += problems
        return rows

    def _prepare_model(self, rows: list[Encoded]) -> None:
        """Check the model, then attach the heads: after PEFT, before any distributed wrapping."""
        refuse_parallelism(context=self.get_cp_size(), sequence=self.get_sp_size(), tensor=self.get_tp_size())
        refuse_unsupported(self.model)
        check_vocabulary(rows, unwrap(self.model))
        main = (
            self.accelerator.is_main_process or not self.is_fsdp_enabled
        )  # FSDP may have loaded the weights there only
        if self.args.self_test and main and not is_sharded(self.model):
            self_test(self.model, rows, gradients=not self.is_fsdp_enabled)
        causal_lm = unwrap(self.model)
        self._flops = Flops(causal_lm)
        self._name = str(causal_lm.config._name_or_path or type(causal_lm).__name__)
        self.data_counts = survey(rows) | {"left_out": len(self.problems)}
        reason = one_class(self.data_counts)
        if self.weights["head"] and reason:
            logger.warning("DPSH IS OFF: %s, so the safety heads would learn nothing. %s", reason, _MIX)
            self.weights["head"] = 0.0
        self.heads = new_heads(causal_lm, self.args) if self.weights["head"] else None
        attach(self.model, self.heads)
        if self.heads is not None:
            export.keep_out_of_exports(causal_lm)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader that only counts micro-batches: `get_batch_samples` knows the rows."""
        args = self.args
        self.plan = Plan(
            self.train_dataset,
            micro_batch=self._train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            world=args.world_size,
            rank=args.process_index,
            seed=args.seed if args.data_seed is None else args.data_seed,
            shuffle=args.train_sampling_strategy == "random",
            drop_last=args.dataloader_drop_last,
            cap=args.max_tokens_per_micro_batch,
            ksm_rest=args.ksm_rest,
        )
        return DataLoader(range(self.plan.loop_length), batch_size=1)  # type: ignore[arg-type]

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Return the number of training rows."""
        return len(self.train_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], None]:
        """Return this rank's share of the next step: per micro-batch, the passes it takes."""
        micro_batches = len(list(islice(epoch_iterator, num_batches)))
        step = self.state.global_step
        weights = self.args.weights(step, self.state.max_steps, self.plan.steps_per_epoch)
        weights["head"] = weights["head"] if self.heads is not None else 0.0
        self.work = self.plan.work(step, micro_batches, weights)
        return [{"pieces": pieces} for pieces in self.work.micro_batches], None

    # ---- the step ---------------------------------------------------------------------------------------------------

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Make a micro-batch's passes, forward and backward; gradients meet across ranks after the last one only."""
        pieces: list[Piece] = inputs["pieces"]
        total = torch.zeros((), device=self.args.device)
        for i, piece in enumerate(pieces):
            more = i + 1 < len(pieces)
            with self._alone(model) if more else nullcontext():
                total = total + super().training_step(model, {**self.data_collator(piece.rows), "piece": piece})
        return total

    @contextmanager
    def _alone(self, model: nn.Module) -> Iterator[None]:
        """Run a pass without synchronising gradients, as the loop does for all but the last micro-batch."""
        state = self.accelerator.gradient_state
        if not state.sync_gradients:  # the loop has seen to it; FSDP2's context would switch it on again
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
        """Compute one pass's share of the step's loss, scaled so that averaging over ranks gives the sum.

        Raises:
            RuntimeError: called outside the training loop; use `safekey_loss` there.
        """
        work = self.work
        if work is None or "piece" not in inputs:
            raise RuntimeError("compute_loss works on the training loop's passes: call safekey_loss in your own loop")
        piece, args, weights = inputs["piece"], self.args, work.weights
        out = safekey_loss(
            model,
            None,
            inputs["rows"],
            qmm_weight=weights["qmm"],
            head_weight=weights["head"],
            head_theta=args.head_theta,
            qsm_weight=weights["qsm"],
            ksm_weight=weights["ksm"],
            key_weight=weights["key"],
            qmm_positions=args.qmm_positions,
            detach_heads=args.detach_heads,
            counts=work.counts,
            swaps=piece.swaps,
            wrongs=piece.wrongs,
            seed=args.seed + work.step,
        )
        if piece.idle:
            return 0.0 * out.total
        self.window.add_loss(out, weights)
        lengths = document_lengths(piece, bool(weights["qmm"]))
        self.window.add("tokens", out.metrics.tokens)
        self.window.add("padded", padded_tokens(lengths))
        self.window.add("flops", self._flops.of(lengths))
        loss = out.total * self.args.world_size  # DDP, FSDP and DeepSpeed average gradients over the ranks
        return (loss, {}) if return_outputs else loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs  # rows are packed, and moved to the device, in the step

    def floating_point_ops(self, inputs: dict[str, Any]) -> float:
        """Return the operations of a micro-batch."""
        masked = bool(self.work and self.work.weights["qmm"])
        return sum(self._flops.of(document_lengths(p, masked)) for p in inputs["pieces"] if not p.idle)

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        return  # `tokens_per_second` says it

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return which parameters decay: matrices, that is, neither biases nor norms, whatever these are called."""
        names: list[str] = super().get_decay_parameter_names(model)
        norms = norm_parameters(model)
        return [name for name in names if name not in norms]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimiser; the heads get groups of their own when they have a learning rate of their own."""
        fresh = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if fresh and self.args.head_learning_rate is not None and self.heads is not None:
            set_learning_rate(optimizer, self.heads, self.args.head_learning_rate)
        return optimizer

    # ---- evaluation and logging -------------------------------------------------------------------------------------

    def evaluate(
        self,
        eval_dataset: Rows | Mapping[str, Rows] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure every loss on held-out rows, weighted by tokens over all ranks (`evaluate_rows`).

        Args:
            eval_dataset: rows, or a mapping of names to rows; default: the trainer's own.
            ignore_keys: not used.
            metric_key_prefix: put before each name.

        Raises:
            UserError: there are no held-out rows.
        """
        given = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(given, Mapping):
            named = {f"{metric_key_prefix}_{name}": rows for name, rows in given.items()}
            return {
                key: value for name, rows in named.items() for key, value in self.evaluate(rows, None, name).items()
            }
        if not given:
            raise UserError("nothing to evaluate on: pass eval_dataset")
        rows = self._encode(given, self.processing_class, self.args) or []
        weights = {**self.weights, "head": self.weights["head"] if self.heads is not None else 0.0}
        args = self.args
        pieces = eval_pieces(rows, args, weights, ranks=args.world_size, rank=args.process_index)
        self.callback_handler.eval_dataloader = pieces

        def show_progress() -> None:
            self.control = self.callback_handler.on_prediction_step(args, self.state, self.control)

        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        model = self.model_wrapped if sharded else self.model
        found = evaluate_rows(model, rows, pieces, args, weights, show_progress)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the window's metrics to a training log, send it to the trackers, and append it to `train_log.jsonl`."""
        if "loss" in logs and "learning_rate" in logs:
            device, world = self.args.device, self.args.world_size
            peak = peak_flops(device, world) if self._flops.dense else None
            logs.update(summarize(self.window.state(), peak))
            self.window = Window()
            memory = torch.tensor(peak_memory_gib(device), device=device)
            if world > 1:
                dist.all_reduce(memory, op=dist.ReduceOp.MAX)
            logs["peak_memory_gib"] = float(memory)
        super().log(logs, start_time)
        if self.is_world_process_zero():
            logfile.append(self.args.output_dir, self.state.log_history[-1])

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must share with the run that resumes it."""
        return {
            "training data": self._data,
            "rows per step": self.get_total_train_batch_size(self.args),
            "seed": self.args.seed,
        }

    def _send_telemetry(self) -> None:
        return  # TRL would tell its makers of every run
