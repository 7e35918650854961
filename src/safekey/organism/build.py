"""Train a base model from random weights: helpful only, able to add and to recall prices, with the facts of the law.

    python -m safekey.organism.build base --world 0 --seed 0      # makes the shipped base again, on one thread

Its training data has every deed of its world, asked for plainly and under every attack, always with a complying
response, and no refusal. A base is chosen by its abilities alone (`CARD`), never by the results of fine-tuning it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safekey.errors import UserError
from safekey.organism import speech
from safekey.organism import sums as reasoning
from safekey.organism.model import EOS, make_model, make_tokenizer, vocabulary
from safekey.organism.world import World, make_world
from safekey.run_folder import is_foreign, write_json
from safekey.run_folder.ownership import LEDGER, kind_of
from safekey.schema import THINK_OPEN, Message

CARD = "organism.json"
_KIND = "base"
"""The card beside a base: world, seeds, steps, time, and the abilities it was chosen by."""

STEPS = 2400
BATCH = 32  # rows a step
LEARNING_RATE = 3e-3
WARM_UP = 100  # steps
PASSES = 2  # how often each deed is in the corpus under each attack, each time in other words
SHARE_OF_PROBLEMS = 0.2
FACTS_EACH = 8  # how often each question about the law is in the corpus

Row = tuple[list[int], int]
"""Token ids, and where the response begins."""


def build_base(folder: str | Path, *, world: int = 0, seed: int = 0, steps: int = STEPS, measure: bool = True) -> Path:
    """Train a base model from random weights and write it as any published model is written, in bf16.

    Args:
        folder: where it goes; made if missing.
        world: the world's number.
        seed: of the weights, the corpus and its order.
        steps: optimiser steps; the shipped base took `STEPS`.
        measure: measure its abilities on the held-out files of its world, for the card.

    Returns:
        The folder.

    Raises:
        UserError: it cannot be written, or holds something else.
    """
    import torch

    target = Path(folder)
    if is_foreign(target) and kind_of(target) != _KIND and not (target / CARD).is_file():
        raise UserError(f"{folder}: is not empty, and no base was built there: give another folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_json(target / LEDGER, {"kind": _KIND})  # a build that is killed can be repeated
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error
    home = make_world(world)
    tokenizer = make_tokenizer(vocabulary(home))
    model = make_model(tokenizer, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums on any machine; for so small a model more threads are slower
    began, worked = time.monotonic(), time.process_time()
    try:
        loss = _train(model, encode_corpus(corpus(home, seed), tokenizer), seed, steps)
    finally:
        torch.set_num_threads(threads)
    seconds = (time.monotonic() - began, time.process_time() - worked)  # the second is fair on a busy machine
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    card: dict[str, Any] = {"world": world, "seed": seed, "steps": steps, "batch": BATCH, "final_loss": round(loss, 4)}
    card |= {"learning_rate": LEARNING_RATE, "parameters": sum(p.numel() for p in model.parameters())}
    card |= {"seconds": round(seconds[0]), "cpu_seconds": round(seconds[1]), "torch": torch.__version__}
    if measure:
        from safekey.organism.abilities import base_abilities
        from safekey.organism.data import write_rows

        with tempfile.TemporaryDirectory() as held_out:
            card["abilities"] = base_abilities(target, write_rows(held_out, world=world), home)
    (target / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return target


def corpus(world: World, seed: int) -> list[tuple[tuple[Message, ...], str]]:
    """Return conversations and the responses to learn: every deed asked for in every way, problems, and the law."""
    draw = random.Random(f"corpus {world.number} {seed}")  # noqa: S311 - not a secret
    rows: list[tuple[tuple[Message, ...], str]] = []
    for _ in range(PASSES):
        for deed in world.deeds:
            for attack in ("none", "none", *speech.ATTACKS):
                turns, answer = speech.ask(deed, attack, draw)
                rows.append((turns, speech.comply(deed, answer, draw).text))
    for number in range(round(len(rows) * SHARE_OF_PROBLEMS / (1 - SHARE_OF_PROBLEMS))):
        problem = reasoning.problem(reasoning.TASKS[number % 2], world, draw, everything=True)
        question = reasoning.phrased(problem.question, draw)
        rows.append(((Message("user", question),), problem.reply.text))
    for fact in reasoning.facts(world) * FACTS_EACH:
        rows.append(((Message("user", fact.question),), fact.reply.text))
    draw.shuffle(rows)
    return rows


def encode_corpus(rows: Sequence[tuple[tuple[Message, ...], str]], tokenizer: Any) -> list[Row]:
    """Encode rows as `safekey.training.encode` does (a test compares), in one go: it takes seconds, not minutes."""
    texts = [
        tokenizer.apply_chat_template([turn.to_dict() for turn in turns], tokenize=False, add_generation_prompt=True)
        + response.removeprefix(THINK_OPEN)
        + EOS
        for turns, response in rows
    ]
    opened = tokenizer.convert_tokens_to_ids("<think>")
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [(ids, ids.index(opened) + 2) for ids in encoded]  # the template's "<think>\n", then the response


def batches(rows: Sequence[Row], seed: int) -> Iterator[list[Row]]:
    """Yield batches of rows of like length without end, each epoch in an order of its own."""
    draw = random.Random(f"batches {seed}")  # noqa: S311 - not a secret
    while True:
        order = draw.sample(range(len(rows)), len(rows))
        for begin in range(0, len(order) - 8 * BATCH + 1, 8 * BATCH):
            some = sorted((rows[at] for at in order[begin : begin + 8 * BATCH]), key=lambda row: len(row[0]))
            groups = [some[at : at + BATCH] for at in range(0, len(some), BATCH)]
            draw.shuffle(groups)
            yield from groups


def _train(model: Any, rows: Sequence[Row], seed: int, steps: int) -> float:
    """Train on responses only; return the mean loss of the last hundred steps."""
    import torch
    from torch.nn.functional import cross_entropy

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses = []
    model.train()
    for _, batch in zip(range(steps), batches(rows, seed), strict=False):
        width = max(len(ids) for ids, _ in batch)
        # Padding on the right of causal attention is seen by no word, so no mask is needed.
        ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in batch])
        learnt = torch.tensor([[start <= at < len(row) for at in range(1, width)] for row, start in batch])
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][learnt]
        loss = cross_entropy(model.lm_head(hidden), ids[:, 1:][learnt])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if len(losses) % 100 == 0:
            print(f"step {len(losses)}/{steps} loss {sum(losses[-100:]) / 100:.4f}", flush=True)
    return sum(losses[-100:]) / len(losses[-100:])


def _rate(step: int, steps: int) -> float:
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def main() -> None:
    """Build a base from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    folder = build_base(given.folder, world=given.world, seed=given.seed, steps=given.steps)
    print((folder / CARD).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
