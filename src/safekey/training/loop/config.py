"""`SafeKeyConfig`: the fields of TRL's `SFTConfig` and those that SafeKey adds, each with its description."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, get_args

from transformers.utils import is_torch_bf16_gpu_available
from trl import SFTConfig

from safekey.errors import UserError
from safekey.text.chat import DEFAULT_DATE
from safekey.training.objective.heads import Pooling

OBJECTIVES = {"qmm": "qmm", "head": "dpsh", "qsm": "qsm", "ksm": "ksm", "key": "key"}
"""The auxiliary objectives: the config's name (`head_weight`, `head_epochs`) to the name of the loss."""

# Fields of TRL that the packed step cannot honour: field, accepted values, why others are refused.
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
    """TRL's `SFTConfig` with SafeKey's own fields and a few other defaults.

    Defaults that differ from `SFTConfig`: `max_length` 8192; bf16 only where the hardware has it; `logging_first_step`
    on. `remove_unused_columns` and `dataset_kwargs` are set as the packed step needs them.

    Raises:
        UserError: a value outside its range, or a TRL option that the packed step cannot honour.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]  # noqa: RUF012 - as its bases

    bf16: bool | None = field(
        default=None, metadata={"help": "Mixed precision in bf16; default: where the GPU has it (SFTConfig: always)."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Not needed: the step itself gives unused heads a gradient."}
    )
    router_aux_loss_coef: float | None = field(
        default=0.0, metadata={"help": "Must stay 0: the router's balance loss is not part of the objective."}
    )
    max_length: int | None = field(
        default=8192,
        metadata={"help": "Longest row in tokens. A longer row loses its end, never a part of U or K."},
    )
    logging_first_step: bool = field(default=True, metadata={"help": "Log the first step, whatever logging_steps is."})

    qmm_weight: float = field(
        default=0.2, metadata={"help": "Weight of query-mask modelling (qmm). 0 leaves its documents out."}
    )
    head_weight: float = field(
        default=0.2, metadata={"help": "Weight of the loss of the dual-path safety heads (dpsh). 0: no heads at all."}
    )
    qsm_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of query swap (qsm), our extension: loss on K after another row's query."},
    )
    ksm_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of key swap (ksm), our extension: a wrong key sentence, from a row of the other label, stands "
            "before K; the loss is on K and all that follows. Its documents are as long as the rows."
        },
    )
    key_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of a second sft loss on K, with the query in place: a control for qmm."},
    )
    qmm_epochs: float = field(
        default=2.0,
        metadata={"help": "Number of epochs, at the end of the run, with qmm (fractions allowed); -1: all epochs."},
    )
    head_epochs: float = field(default=2.0, metadata={"help": "The same for dpsh."})
    qsm_epochs: float = field(default=2.0, metadata={"help": "The same for qsm."})
    ksm_epochs: float = field(default=2.0, metadata={"help": "The same for ksm."})
    key_epochs: float = field(default=2.0, metadata={"help": "The same for the up-weighted key sentence."})
    ksm_rest: int = field(
        default=20,
        metadata={
            "help": "ksm: most tokens of the other row's thinking that follow its key sentence; the number is drawn, "
            "because an attacker's prefill may end anywhere."
        },
    )
    head_theta: float = field(
        default=0.5,
        metadata={"help": "θ in [0, 1]: weight in dpsh of the head that sees U alone; the other sees X and U."},
    )
    head_pooling: Pooling = field(
        default="mean",
        metadata={"help": "How a head pools its span: 'mean' (the paper), 'max', or the 'last' token."},
    )
    detach_heads: bool = field(
        default=False, metadata={"help": "Train the heads as probes only, without a gradient into the model."}
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "The heads' own learning rate; default: learning_rate."}
    )
    max_tokens_per_micro_batch: int | None = field(
        default=None,
        metadata={
            "help": "Most packed tokens of a forward pass, to save memory. The cap splits a step into more passes, "
            "equally many on every rank; it does not change its rows. A single longer row is still one pass."
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
            "help": "Before training, compare the packed step with the model's own attention; stop if they differ."
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
        pooling, known = self.head_pooling, get_args(Pooling)
        _require(pooling in known, "head_pooling", pooling, f"one of {known}")
        kwargs = self.chat_template_kwargs
        _require(kwargs is None or isinstance(kwargs, dict), "chat_template_kwargs", kwargs, "a mapping")

    def weights(self, step: int, max_steps: int, steps_per_epoch: int) -> dict[str, float]:
        """Return the weight of each auxiliary objective at a step; 0 for one that is off.

        A pure function of the step, so that a resumed run continues exactly.

        Args:
            step: optimiser steps done so far.
            max_steps: optimiser steps of the run.
            steps_per_epoch: optimiser steps of an epoch.
        """
        found = self.full_weights()
        for name, loss in OBJECTIVES.items():
            epochs = getattr(self, f"{name}_epochs")
            if epochs != -1 and step < max_steps - epochs * steps_per_epoch - 1e-6:
                found[loss] = 0.0
        return found

    def full_weights(self) -> dict[str, float]:
        """Return the weight of each auxiliary objective, by the name of its loss, while it is on."""
        return {loss: float(getattr(self, f"{name}_weight")) for name, loss in OBJECTIVES.items()}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(fine: bool, name: str, value: Any, expected: str) -> None:
    if not fine:
        raise UserError(f"{name} is {value!r}, expected {expected}")
