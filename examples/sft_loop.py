"""The whole method in one file: from a file of rows to a fine-tuned model and its heads.

    python examples/sft_loop.py MODEL DATA OUTPUT

It does what `SafeKeyTrainer` does, but without resuming, several processes and logging back ends. A test checks that
its weights equal those of the trainer. docs/training.md explains the method.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from safekey import load_examples, segment
from safekey.training import Counts, Encoded, SafetyHeads, attach, count, detach, encode, safekey_loss
from safekey.training.loop.export import save_heads


@dataclass
class Options:
    """The options of the loop; the defaults are those of the paper."""

    learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    epochs: int = 5
    objective_epochs: int = 2  # DPSH and QMM are on in the last epochs only
    batch_size: int = 128  # examples a step
    micro_batch: int = 2  # examples a forward pass
    max_length: int = 8192
    warmup: float = 0.05  # share of all steps
    clip: float = 1.0
    qmm_weight: float = 0.2
    head_weight: float = 0.2
    seed: int = 2002


def read(path: str, tokenizer: Any, max_length: int) -> list[Encoded]:
    """File → rows → U and K → tokens."""
    examples = load_examples(path)  # every row that cannot be used is listed in examples.problems
    rows = [example if example.understanding_end is not None else segment(example) for example in examples]
    return [encode(row, tokenizer, max_length) for row in rows]


def steps(rows: list[Encoded], options: Options) -> Iterator[tuple[int, list[Encoded]]]:
    """Yield (epoch, the examples of one step), each epoch in another order."""
    for epoch in range(options.epochs):
        order = list(range(len(rows)))
        random.Random(f"{options.seed}:{epoch}").shuffle(order)
        for begin in range(0, len(rows), options.batch_size):
            yield epoch, [rows[i] for i in order[begin : begin + options.batch_size]]


def optimizer_and_schedule(model: torch.nn.Module, total: int, options: Options) -> tuple[Any, Any]:
    """AdamW without decay on biases and norms; linear warm-up, then a cosine to zero."""
    plain = [p for name, p in model.named_parameters() if p.ndim < 2 or name.endswith("bias")]
    decayed = [p for name, p in model.named_parameters() if not (p.ndim < 2 or name.endswith("bias"))]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95))
    warm = math.ceil(total * options.warmup)

    def factor(step: int) -> float:
        if step < warm:
            return step / max(1, warm)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train(model: Any, heads: SafetyHeads, rows: list[Encoded], options: Options) -> list[float]:
    """Run the method; return the total loss of every step."""
    attach(model, heads)  # the heads become part of the model, so its optimiser trains them too
    total = options.epochs * math.ceil(len(rows) / options.batch_size)
    optimizer, schedule = optimizer_and_schedule(model, total, options)
    losses = []
    model.train()
    for epoch, step in steps(rows, options):
        on = epoch >= options.epochs - options.objective_epochs
        counts: Counts = count(step)  # divisors of the whole step, for all its micro-batches
        loss = 0.0
        for begin in range(0, len(step), options.micro_batch):
            out = safekey_loss(
                model,
                heads,
                step[begin : begin + options.micro_batch],
                qmm_weight=options.qmm_weight if on else 0.0,  # 0: no qmm documents, no cost
                head_weight=options.head_weight if on else 0.0,
                counts=counts,
            )
            out.total.backward()  # type: ignore[no-untyped-call]
            loss += float(out.total.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss)
        print(f"epoch {epoch} step {len(losses)}/{total} loss {loss:.4f}", flush=True)
    detach(model)  # vLLM refuses models with unknown weight names
    return losses


def main() -> None:
    """Train a model folder or hub id on a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("output")
    arguments = parser.parse_args()
    options = Options()
    torch.manual_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model)
    heads = SafetyHeads(model.config.hidden_size)
    train(model, heads, read(arguments.data, tokenizer, options.max_length), options)
    model.save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    save_heads(arguments.output, heads, heads.state_dict(), theta=0.5, base_model=arguments.model)


if __name__ == "__main__":
    main()
