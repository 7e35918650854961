"""Find settings that transformers, TRL or torch would refuse during a run, before it: as one line, in a dry run too.

The optimiser and its schedule are tried on one parameter; the other checks are those of the libraries, made early.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import torch

from safekey.errors import UserError, did_you_mean
from safekey.training.loop.metrics import ACCURACY, LOSSES

if TYPE_CHECKING:
    from safekey.training.command.recipe import RunSettings

_CHECKPOINTING = ("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop", "context_fn")
_MEASURED = ("loss", *(f"loss_{name}" for name in LOSSES), *(f"key_accuracy_{kind}" for kind in ACCURACY.values()),
             "head_auroc_understanding", "head_auroc_query_and_understanding", "rows")  # fmt: skip
_LIBRARIES = ("transformers", "trl", "accelerate", "peft", "huggingface_hub", "datasets", "bitsandbytes", "torch.optim")
_REFUSALS = (ValueError, TypeError, KeyError, AttributeError, ImportError, NotImplementedError, AssertionError, OSError)


def check_settings(settings: RunSettings, *, held_out: bool, processes: int) -> None:
    """Check what the config classes do not.

    Args:
        settings: of the run.
        held_out: whether there are rows to evaluate on.
        processes: how many train.

    Raises:
        UserError: the key, what it is, and what was expected.
    """
    training = settings.training
    _check_best(training, held_out)
    from transformers.utils import logging

    levels = ("passive", *logging.get_log_levels_dict())
    for key in ("log_level", "log_level_replica"):
        if (level := getattr(training, key)) not in levels and not isinstance(level, int):
            raise UserError(f"{key} is {level!r}, expected one of {', '.join(levels)}")
    extra = set(training.gradient_checkpointing_kwargs or {}) - set(_CHECKPOINTING)
    if extra:
        known = ", ".join(_CHECKPOINTING)
        raise UserError(f"gradient_checkpointing_kwargs holds '{min(extra)}', expected only {known}")
    if training.fsdp and processes == 1:
        raise UserError("fsdp needs several processes: use --launch fsdp2 --num-processes N in its place")
    _check_trackers(training.report_to)
    if training.torch_compile_backend:
        from accelerate.utils import DynamoBackend

        names = [backend.value.lower() for backend in DynamoBackend]
        if training.torch_compile_backend.lower() not in names:
            raise UserError(f"torch_compile_backend is '{training.torch_compile_backend}', expected one of {names}")
    try_optimizer(training)


def _check_best(training: Any, held_out: bool) -> None:
    """Check the choice of the best checkpoint, which needs rows to measure on and a number to measure by."""
    best = str(getattr(training.save_strategy, "value", training.save_strategy)) == "best"
    if not best and not training.load_best_model_at_end:
        return
    key = "save_strategy=best" if best else "load_best_model_at_end"
    if not held_out:
        raise UserError(f"{key} needs rows to evaluate on: set eval_data or eval_fraction")
    if best and str(getattr(training.eval_strategy, "value", training.eval_strategy)) == "no":
        raise UserError(f"{key} needs an evaluation: set eval_strategy to epoch or steps")
    if not training.metric_for_best_model:
        raise UserError(f"{key} needs metric_for_best_model, for example loss")
    name = training.metric_for_best_model.removeprefix("eval_")
    if name not in _MEASURED:
        hint = did_you_mean(name, _MEASURED)
        raise UserError(
            f"metric_for_best_model is '{name}', which is not measured{hint}; there are: {', '.join(_MEASURED)}"
        )


def _check_trackers(names: Any) -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in [names] if isinstance(names, str) else list(names or ()):
        if name not in (*INTEGRATION_TO_CALLBACK, "none", "all"):
            known = sorted(INTEGRATION_TO_CALLBACK)
            raise UserError(f"report_to is '{name}'{did_you_mean(name, known)}, expected one of {', '.join(known)}")


def try_optimizer(training: Any) -> None:
    """Make the optimiser and its schedule for one parameter, which finds wrong rates, betas and arguments.

    Raises:
        UserError: either refuses its settings.
    """
    from transformers import Trainer, get_scheduler

    keys = "optim, optim_args, learning_rate, adam_…"
    try:
        made, options = Trainer.get_optimizer_cls_and_kwargs(training)
        plain = {key: value for key, value in options.items() if key not in ("params", "model", "optimizer_dict")}
        optimizer = made([torch.nn.Parameter(torch.zeros(1))], **plain)
        keys = "lr_scheduler_type, lr_scheduler_kwargs, warmup_steps"
        get_scheduler(
            training.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=training.get_warmup_steps(1000),
            num_training_steps=1000,
            scheduler_specific_kwargs=training.lr_scheduler_kwargs,
        )
    except (ImportError, RuntimeError):  # a package or device that another machine may have
        return
    except Exception as error:
        raise UserError(f"{keys}: {' '.join(str(error).split()):.250}") from error


def refused_by_library(error: Exception) -> UserError | None:
    """Return the error as one line when a library has raised it about a setting; None for any other error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    module = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    if not isinstance(error, _REFUSALS) or not f"{module}.".startswith(tuple(f"{name}." for name in _LIBRARIES)):
        return None
    text = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{module.partition('.')[0]} refuses a setting of this run: {text:.300}")
