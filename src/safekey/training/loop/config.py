"""`SafeKeyConfig`: TRL's `SFTConfig` and what SafeKey adds to it. Every field is described where it is declared."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, get_args

from transformers.utils import is_torch_bf16_gpu_available
from trl import SFTConfig

from safekey.errors import UserError
from safekey.text.chat import DEFAULT_DATE
from safekey.training.objective.heads import Pooling
from safekey.training.objective.pack import Positions

OBJECTIVES = ("qmm", "head", "qsm", "ksm", "key")
"""The auxiliary objectives; each has a weight and a number of epochs in the config."""

# What TRL offers and the packed step cannot honour: field, the values that are fine, why the others are not.
_REFUSED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("packing", (False,), "SafeKey packs each step itself"),
    ("eval_packing", (None, False), "SafeKey packs each step itself"),
    ("padding_free", (False,), "SafeKey never pads"),
    ("assistant_only_loss", (False,), "the loss is always on the response only"),
    ("loss_type", ("nll",), "only the negative log-likelihood is implemented"),
    ("router_aux_loss_coef", (0.0, None), "the router's balance loss is not part of the objective"),
    ("label_smoothing_factor", (0, 0.0), "label smoothing is not part of the objective"),
    ("neftune_noise_alpha", (None,), "its noise is scaled by the length of the whole packed batch"),
    ("auto_find_batch_size", (False,), "it would change the step; set max_tokens_per_micro_batch"),
    ("use_liger_kernel", (False,), "it replaces the forward pass that the packed step extends"),
    ("train_sampling_strategy", ("random", "sequential"), "rows are always dealt evenly among ranks"),
)


@dataclass
class SafeKeyConfig(SFTConfig):  # type: ignore[misc]
    """All of TRL's `SFTConfig`, with SafeKey's own fields and a few other defaults.

    Other defaults than `SFTConfig`'s: `max_length` 8192; bf16 only where the hardware has it; `logging_first_step`
    on. `remove_unused_columns`, `dataset_kwargs`, `padding_free` and `packing` are set as the packed step needs them.

    Raises:
        UserError: a value outside its range, or a TRL option that the packed step cannot honour.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]  # noqa: RUF012 - as its bases

    bf16: bool | None = field(
        default=None, metadata={"help": "Mixed precision in bf16; default: where the GPU has it (SFTConfig: always)."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Not needed: the step gives idle heads a gradient itself."}
    )
    router_aux_loss_coef: float | None = field(
        default=0.0, metadata={"help": "Must stay 0: the router's balance loss is not part of the objective."}
    )
    max_length: int | None = field(
        default=8192,
        metadata={"help": "Longest row in tokens. A longer one loses its end, never a part of U or K."},
    )
    logging_first_step: bool = field(default=True, metadata={"help": "Log the first step, whatever logging_steps is."})

    qmm_weight: float = field(
        default=0.2, metadata={"help": "Weight of query-mask modelling, L_qmm. 0 leaves its documents out."}
    )
    head_weight: float = field(
        default=0.2, metadata={"help": "Weight of the dual-path safety heads, L_dpsh. 0: no heads at all."}
    )
    qsm_weight: float = field(
        default=0.0, metadata={"help": "Weight of query swap, our own extension: K under another row's query."}
    )
    ksm_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of key swap, our own extension: a row of the other label lends a wrong key sentence, the "
            "loss is on K and all that follows. Its documents are as long as the rows."
        },
    )
    key_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of a second ordinary loss on K, nothing hidden: a control for L_qmm."},
    )
    qmm_epochs: float = field(
        default=2.0,
        metadata={"help": "L_qmm is on in the last so many epochs of the run (fractions allowed); -1: in all."},
    )
    head_epochs: float = field(default=2.0, metadata={"help": "The same for L_dpsh."})
    qsm_epochs: float = field(default=2.0, metadata={"help": "The same for query swap."})
    ksm_epochs: float = field(default=2.0, metadata={"help": "The same for key swap."})
    key_epochs: float = field(default=2.0, metadata={"help": "The same for the up-weighted key sentence."})
    ksm_rest: int = field(
        default=20,
        metadata={
            "help": "Key swap: up to so many tokens of the other row's thinking stand behind its key sentence; how "
            "many is drawn. A beginning that an attacker prefills may end anywhere."
        },
    )
    qmm_positions: Positions = field(
        default="keep",
        metadata={
            "help": "Positions of U and K while X is hidden: 'keep' as in the paper, 'compact' from 0, or 'jitter' "
            "(kept positions tell the model how long the hidden query was)."
        },
    )
    head_theta: float = field(
        default=0.5, metadata={"help": "θ in [0, 1]: share of the head that sees U alone; the other sees X and U."}
    )
    head_pooling: Pooling = field(
        default="mean",
        metadata={"help": "How a head pools its span: 'mean' (the paper), 'max', or the 'last' token."},
    )
    detach_heads: bool = field(
        default=False, metadata={"help": "Train the heads as mere probes, without a gradient into the model."}
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "The heads' own learning rate; default: learning_rate."}
    )
    max_tokens_per_micro_batch: int | None = field(
        default=None,
        metadata={
            "help": "Cap of packed tokens per forward pass, for memory. A step is always the same rows: the cap only "
            "splits it into more passes, equally many on every rank. A single longer row still is one pass."
        },
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Variables for the chat template, e.g. {'enable_thinking': true}."},
    )
    template_date: str = field(
        default=DEFAULT_DATE,
        metadata={"help": "ISO date that templates with a clock (gpt-oss, Llama 3.2) print."},
    )
    self_test: bool = field(
        default=True,
        metadata={
            "help": "Before training, compare the packed step with the model's own attention; refuse if unequal."
        },
    )

    def __post_init__(self) -> None:
        """Set what the packed step needs, check every value, then let TRL and transformers fill in theirs."""
        if self.bf16 is None:
            self.bf16 = not self.fp16 and not self.use_cpu and bool(is_torch_bf16_gpu_available())
        if self.router_aux_loss_coef is None:
            self.router_aux_loss_coef = 0.0  # TRL would have mixtures of experts return what nobody reads
        self.remove_unused_columns = False
        self.dataset_kwargs = {"skip_prepare_dataset": True}
        with warnings.catch_warnings():  # transformers 5.23 renames gradient_checkpointing, TRL still sets it
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated", category=FutureWarning)
            super().__post_init__()
        self._check()

    def _check(self) -> None:
        for name, fine, why in _REFUSED:
            if getattr(self, name, fine[0]) not in fine:
                raise UserError(f"{name}={getattr(self, name)!r} does not work with SafeKey: {why}")
        for objective in OBJECTIVES:
            weight, epochs = getattr(self, f"{objective}_weight"), getattr(self, f"{objective}_epochs")
            _require(_number(weight) and 0 <= weight < float("inf"), f"{objective}_weight", weight, "a number ≥ 0")
            _require(
                _number(epochs) and (epochs == -1 or 0 <= epochs < float("inf")),
                f"{objective}_epochs",
                epochs,
                "a number of epochs ≥ 0, or -1 for all",
            )
        _require(_whole(self.ksm_rest) and self.ksm_rest >= 0, "ksm_rest", self.ksm_rest, "a number of tokens ≥ 0")
        theta, rate, cap = self.head_theta, self.head_learning_rate, self.max_tokens_per_micro_batch
        _require(_number(theta) and 0 <= theta <= 1, "head_theta", theta, "a number in [0, 1]")
        _require(rate is None or (_number(rate) and rate > 0), "head_learning_rate", rate, "a number > 0")
        _require(cap is None or (_whole(cap) and cap > 0), "max_tokens_per_micro_batch", cap, "a number of tokens > 0")
        _require(
            _whole(self.max_length) and (self.max_length or 0) > 1,
            "max_length",
            self.max_length,
            "a length of 2 or more",
        )
        for name, kind in (("qmm_positions", Positions), ("head_pooling", Pooling)):
            _require(getattr(self, name) in get_args(kind), name, getattr(self, name), f"one of {get_args(kind)}")
        kwargs = self.chat_template_kwargs
        _require(kwargs is None or isinstance(kwargs, dict), "chat_template_kwargs", kwargs, "a mapping")

    def weights(self, step: int, max_steps: int, steps_per_epoch: int) -> dict[str, float]:
        """Return the weight of each auxiliary objective in force at a step.

        A pure function of the step, so that a resumed run goes on as it would have.

        Args:
            step: optimiser steps done so far.
            max_steps: how many the run takes.
            steps_per_epoch: how many make an epoch.
        """
        return {
            name: weight if step >= start else 0.0 for name, weight, start in self._starts(max_steps, steps_per_epoch)
        }

    def _starts(self, max_steps: int, steps_per_epoch: int) -> list[tuple[str, float, float]]:
        """Return each objective's name, weight and first step."""
        starts = []
        for name in OBJECTIVES:
            epochs = getattr(self, f"{name}_epochs")
            start = 0.0 if epochs == -1 else max_steps - epochs * steps_per_epoch - 1e-6
            starts.append((name, float(getattr(self, f"{name}_weight")), start))
        return starts


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(fine: bool, name: str, value: Any, expected: str) -> None:
    if not fine:
        raise UserError(f"{name} is {value!r}, expected {expected}")
