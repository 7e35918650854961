"""`SafeKeyConfig`: the fields of TRL's `SFTConfig` and those that SafeKey adds, each with its description."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from transformers.hf_argparser import HfArg
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


# Fields, the test of their values, what is expected.
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (tuple(f"{name}_weight" for name in OBJECTIVES), lambda v: _number(v) and 0 <= v < math.inf, "a number ≥ 0"),
    (
        tuple(f"{name}_epochs" for name in OBJECTIVES),
        lambda v: _number(v) and (v == -1 or 0 <= v < math.inf),
        "a number of epochs ≥ 0, or -1 for all",
    ),
    (("ksm_rest",), lambda v: _whole(v) and v >= 0, "a number of tokens ≥ 0"),
    (("head_theta",), lambda v: _number(v) and 0 <= v <= 1, "a number in [0, 1]"),
    (("head_learning_rate",), lambda v: v is None or (_number(v) and v > 0), "a number > 0"),
    (("max_tokens_per_micro_batch",), lambda v: v is None or (_whole(v) and v > 0), "a number of tokens > 0"),
    (("max_length",), lambda v: _whole(v) and v > 1, "a length of 2 or more"),
    (("head_pooling",), lambda v: v in get_args(Pooling), f"one of {get_args(Pooling)}"),
    # TRL's and transformers' own, which they check late or never.
    (("max_steps",), lambda v: _whole(v) and (v == -1 or v > 0), "a number of steps from 1, or -1 for all epochs"),
    (("num_train_epochs",), lambda v: _number(v) and 0 < v < math.inf, "a number of epochs > 0"),
    (
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
        lambda v: _whole(v) and v > 0,
        "a number from 1",
    ),
    (("logging_steps", "save_steps"), lambda v: _number(v) and v > 0, "a number of steps > 0, or a share of all"),
    (("eval_steps",), lambda v: v is None or (_number(v) and v > 0), "a number of steps > 0, or a share of all"),
    (("save_total_limit", "eval_accumulation_steps"), lambda v: v is None or (_whole(v) and v > 0), "a number from 1"),
    (("seed",), lambda v: _whole(v) and 0 <= v < 2**32, "a number from 0 to 4294967295"),
    (("data_seed",), lambda v: v is None or (_whole(v) and 0 <= v < 2**32), "a number from 0 to 4294967295"),
    (
        ("weight_decay", "max_grad_norm", "eval_delay", "dataloader_num_workers"),
        lambda v: _number(v) and 0 <= v < math.inf,
        "a number ≥ 0",
    ),
    (("chat_template_kwargs",), lambda v: v is None or isinstance(v, dict), "a mapping"),
)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass
class SafeKeyConfig(SFTConfig):  # type: ignore[misc]
    """TRL's `SFTConfig` with SafeKey's own fields and a few other defaults.

    Defaults that differ from `SFTConfig`: `max_length` 8192; bf16 only where the hardware has it; `logging_first_step`
    on. `remove_unused_columns` and `dataset_kwargs` are set as the packed step needs them.

    Raises:
        UserError: a value outside its range, or a TRL option that the packed step cannot honour.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]  # noqa: RUF012 - as its bases

    bf16: bool | None = HfArg(
        default=None, help="Mixed precision in bf16; default: where the GPU has it (SFTConfig: always)."
    )
    ddp_find_unused_parameters: bool | None = HfArg(
        default=False, help="Not needed: the step itself gives unused heads a gradient."
    )
    router_aux_loss_coef: float | None = HfArg(
        default=0.0, help="Must stay 0: the router's balance loss is not part of the objective."
    )
    max_length: int | None = HfArg(
        default=8192, help="Longest row in tokens. A longer row loses its end, never a part of U or K."
    )
    logging_first_step: bool = HfArg(default=True, help="Log the first step, whatever logging_steps is.")

    qmm_weight: float = HfArg(default=0.2, help="Weight of query-mask modelling (qmm). 0 leaves its documents out.")
    head_weight: float = HfArg(
        default=0.2, help="Weight of the loss of the dual-path safety heads (dpsh). 0: no heads at all."
    )
    qsm_weight: float = HfArg(
        default=0.0, help="Weight of query swap (qsm), our extension: loss on K after another row's query."
    )
    ksm_weight: float = HfArg(
        default=0.0,
        help="Weight of key swap (ksm), our extension: a wrong key sentence, from a row of the other label, stands "
        "before K; the loss is on K and all that follows. Its documents are as long as the rows.",
    )
    key_weight: float = HfArg(
        default=0.0, help="Weight of a second sft loss on K, with the query in place: a control for qmm."
    )
    qmm_epochs: float = HfArg(
        default=2.0, help="Number of epochs, at the end of the run, with qmm (fractions allowed); -1: all epochs."
    )
    head_epochs: float = HfArg(default=2.0, help="The same for dpsh.")
    qsm_epochs: float = HfArg(default=2.0, help="The same for qsm.")
    ksm_epochs: float = HfArg(default=2.0, help="The same for ksm.")
    key_epochs: float = HfArg(default=2.0, help="The same for the up-weighted key sentence.")
    ksm_rest: int = HfArg(
        default=20,
        help="ksm: most tokens of the other row's thinking that follow its key sentence; the number is drawn, because "
        "an attacker's prefill may end anywhere.",
    )
    head_theta: float = HfArg(
        default=0.5, help="θ in [0, 1]: weight in dpsh of the head that sees U alone; the other sees X and U."
    )
    head_pooling: Pooling = HfArg(
        default="mean", help="How a head pools its span: 'mean' (the paper), 'max', or the 'last' token."
    )
    detach_heads: bool = HfArg(default=False, help="Train the heads as probes only, without a gradient into the model.")
    head_learning_rate: float | None = HfArg(default=None, help="The heads' own learning rate; default: learning_rate.")
    max_tokens_per_micro_batch: int | None = HfArg(
        default=None,
        help="Most packed tokens of a forward pass, to save memory. The cap splits a step into more passes, equally "
        "many on every rank; it does not change its rows. A single longer row is still one pass.",
    )
    chat_template_kwargs: dict[str, Any] | str | None = HfArg(
        default=None, help="Variables for the chat template, e.g. {'enable_thinking': true}."
    )
    template_date: str = HfArg(
        default=DEFAULT_DATE, help="ISO date that templates with a clock (gpt-oss, Llama 3.2) print."
    )
    self_test: bool = HfArg(
        default=True,
        help="Before training, compare the packed step with the model's own attention; stop if they differ.",
    )

    def __post_init__(self) -> None:
        """Set what the packed step needs, check every value, then let TRL and transformers fill in theirs."""
        if self.bf16 is None:
            self.bf16 = not self.fp16 and not self.use_cpu and bool(is_torch_bf16_gpu_available())
        if self.router_aux_loss_coef is None:
            self.router_aux_loss_coef = 0.0  # otherwise TRL makes mixtures of experts return unused values
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
        for names, fine_value, expected in _RANGES:
            for name in names:
                if not fine_value(getattr(self, name)):
                    raise UserError(f"{name} is {getattr(self, name)!r}, expected {expected}")

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
