"""Prepare data, model and optimiser before the first step: encode the rows, check both, make the heads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from safekey.errors import RowProblem, UserError
from safekey.schema import Example
from safekey.text.chat import chat_format, end_ids
from safekey.training.encoding import Encoded, check_chat_template, encode_all
from safekey.training.loop.config import SafeKeyConfig
from safekey.training.objective.heads import SafetyHeads
from safekey.training.objective.step import unwrap

logger = logging.getLogger("safekey.training")

Dataset = Sequence[Example] | Sequence[Encoded]


def encode_rows(given: Dataset, tokenizer: Any, args: SafeKeyConfig) -> tuple[list[Encoded], list[RowProblem]]:
    """Encode rows that are not encoded yet; return those that cannot be as problems, and log them.

    Raises:
        UserError: rows of another kind, or a chat template that cannot be trained on.
    """
    encoded = [row for row in given if isinstance(row, Encoded)]
    if len(encoded) == len(given):
        return encoded, []
    examples = [row for row in given if isinstance(row, Example)]
    if len(examples) != len(given):
        raise UserError("train_dataset and eval_dataset must hold Example or Encoded rows, all of one kind")
    options: dict[str, Any] = {"chat_template_kwargs": args.chat_template_kwargs, "today": args.template_date}
    check_chat_template(tokenizer, **options)
    rows, problems = encode_all(examples, tokenizer, args.max_length or 8192, **options)
    for problem in problems[:10]:
        logger.warning("row left out: %s", problem)
    if problems:
        logger.warning("%d of %d rows are left out, see trainer.problems", len(problems), len(examples))
    return rows, problems


def given_config(model: str | nn.Module, args: SafeKeyConfig) -> Any:
    """Return the config of a model, loaded or given by its name, as it is before TRL changes it."""
    if not isinstance(model, str):
        return unwrap(model).config
    kwargs: Any = args.model_init_kwargs or {}
    return AutoConfig.from_pretrained(model, revision=kwargs.get("revision"), trust_remote_code=args.trust_remote_code)


def ends_of_turn(causal_lm: PreTrainedModel, tokenizer: Any, args: SafeKeyConfig) -> tuple[int, ...]:
    """Return the ids of the tokens that end an answer: the model's own, the tokenizer's, the chat template's."""
    own = getattr(causal_lm.generation_config, "eos_token_id", None)
    if getattr(tokenizer, "chat_template", None):
        kwargs: Any = args.chat_template_kwargs  # a mapping: the config has parsed it
        return end_ids(chat_format(tokenizer, kwargs), own)
    known = {own} if isinstance(own, int) else set(own or ())  # rows that were encoded before need no template
    return tuple(sorted(known | {one for one in (tokenizer.eos_token_id,) if one is not None}))


def check_vocabulary(rows: Sequence[Encoded], causal_lm: PreTrainedModel) -> None:
    """Refuse rows with tokens that the model does not have.

    Raises:
        UserError: a row holds a token that the model has no embedding for.
    """
    known = int(causal_lm.config.get_text_config().vocab_size)
    largest = max(max(row.input_ids) for row in rows)
    if largest >= known:
        raise UserError(
            f"the data hold the token {largest}, and the model knows {known}: is the tokenizer another model's?"
        )


def survey(rows: Sequence[Encoded]) -> dict[str, int]:
    """Count all rows, the rows for SFT only, and the labels of rows with spans."""
    complete = [row for row in rows if row.spans.complete]
    harmful = sum(row.harmful is True for row in complete)
    benign = sum(row.harmful is False for row in complete)
    if len(complete) < len(rows):
        logger.warning("%d of %d rows have no U or K: they take part in SFT only", len(rows) - len(complete), len(rows))
    return {"rows": len(rows), "sft_only": len(rows) - len(complete), "harmful": harmful, "benign": benign}


def one_class(found: Mapping[str, int]) -> str | None:
    """Return why the heads would learn nothing from rows with these counts (`survey`), or None."""
    if found["harmful"] and found["benign"]:
        return None
    if found["harmful"] or found["benign"]:
        return f"all labelled rows are {'harmful' if found['harmful'] else 'benign'}"
    return "no row has both spans and a label"


def new_heads(causal_lm: PreTrainedModel, args: SafeKeyConfig) -> SafetyHeads:
    """Make heads in fp32, with weights that depend on the seed only: the same on every rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        heads = SafetyHeads(causal_lm.config.hidden_size, args.head_pooling)
    return heads.float().to(next(causal_lm.parameters()).device)


def refuse_parallelism(**sizes: int) -> None:
    """Refuse to split sequences or layers among ranks.

    Raises:
        UserError: one of the sizes is above 1.
    """
    for kind, size in sizes.items():
        if size > 1:
            raise UserError(
                f"{kind} parallelism (size {size}) would drop the borders of packed documents; use ddp, fsdp2 or zero3"
            )


def is_sharded(model: nn.Module) -> bool:
    """Whether ZeRO-3 holds only a part of the weights here, so that the self-test cannot call the model."""
    sharded = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
    if sharded:
        logger.warning("the self-test is left out: ZeRO-3 has sharded the model already")
    return sharded


def same_data_everywhere(fingerprint: str, world: int) -> None:
    """Check that all ranks have the same rows, because each rank computes the whole deal by itself.

    Raises:
        UserError: they differ.
    """
    found: list[Any] = [None] * world
    dist.all_gather_object(found, fingerprint)
    if len(set(found)) > 1:
        raise UserError("the ranks were given different training data: load the same rows on every rank")


def norm_parameters(model: nn.Module) -> set[str]:
    """Return the names of all parameters of normalisation layers, found by the type of the layer."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name, _ in module.named_parameters(recurse=False)
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, module: nn.Module, rate: float) -> None:
    """Give the parameters of a module another learning rate, in groups of their own.

    Raises:
        UserError: the optimiser is a stand-in for one that DeepSpeed makes.
    """
    if not hasattr(optimizer, "add_param_group"):
        raise UserError("head_learning_rate needs an optimizer of torch's kind, not one from DeepSpeed's config")
    own = {id(parameter) for parameter in module.parameters()}
    for group in list(optimizer.param_groups):
        theirs = [parameter for parameter in group["params"] if id(parameter) in own]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
        if theirs:
            optimizer.add_param_group({**group, "params": theirs, "lr": rate})
