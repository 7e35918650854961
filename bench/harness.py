"""Measure the cost of Inspect and our model API: the same prompts, engine and settings with and without them.

python bench/harness.py                              a new small random model (a minute on two CPU cores)
python bench/harness.py --model runs/r1-7b --prompts 256 --tokens 512

The two kinds of runs alternate. The ratio is the median over the pairs, in wall time and in this process's CPU time; on
a busy machine only the CPU time is meaningful. Most of the difference is Inspect's work for each sample, so it is also
printed in milliseconds: its share is smaller for longer completions. The limit is 1.10.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.solver import generate

from safekey.engines import LocalEngine, SamplingParams
from safekey.schema import Message, Prompt

LIMIT = 1.10


def small_model(folder: Path) -> str:
    """Save a random Llama of about five million parameters."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    toys = importlib.import_module("toys")
    tokenizer = toys.tokenizer("r1")
    sizes = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 5, "max_position_embeddings": 2048}
    model = toys.llama(vocabulary=len(tokenizer), **sizes)
    model.generation_config.eos_token_id = None  # every completion has the full length in both kinds of runs
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def questions(count: int) -> list[str]:
    """Return prompts of many lengths, unsorted."""
    return [f"Question {i}: how do I pick the royal vault? " + "Think about it. " * (i * 7 % 23) for i in range(count)]


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return (wall, CPU)."""
        return time.perf_counter() - self._start[0], time.process_time() - self._start[1]


Measured = tuple[tuple[float, float], int]  # (wall, CPU) seconds, and generated tokens


def raw(engine: LocalEngine, asked: list[str], tokens: int) -> Measured:
    """Generate without a harness."""
    prompts = [Prompt((Message("user", text),)) for text in asked]
    clock = Clock()
    done = list(engine.generate(prompts, SamplingParams(max_new_tokens=tokens)))
    return clock.read(), sum(completion.output_tokens or 0 for _, completion in done)


def harnessed(model: Any, asked: list[str], tokens: int, logs: str) -> Measured:
    """Generate as an Inspect evaluation, its log included."""
    task = Task(dataset=[Sample(input=text) for text in asked], solver=generate(), name="harness")
    clock = Clock()
    (log,) = eval(
        task, model=model, log_dir=logs, display="none", temperature=0.0, max_tokens=tokens, log_realtime=False
    )
    seconds = clock.read()
    if log.status != "success" or not log.samples:
        raise SystemExit(f"the evaluation failed: {log.error}")
    return seconds, sum(sample.output.usage.output_tokens for sample in log.samples if sample.output.usage)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's folder or hub id")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as place:
        engine = LocalEngine(args.model or small_model(Path(place) / "model"), batch_size=args.batch_size)
        config = GenerateConfig(max_connections=4 * args.batch_size)
        model = get_model("safekey/bench", engine=engine, kind="scripted", config=config, memoize=False)
        asked = questions(args.prompts)
        raw(engine, asked[: args.batch_size], 4)
        harnessed(model, asked[:4], 4, place)
        ratios: list[tuple[float, ...]] = []
        for _ in range(args.repeats):
            alone, made = raw(engine, asked, args.tokens)
            whole, also = harnessed(model, asked, args.tokens, place)
            if made != also:
                raise SystemExit(f"{made} tokens raw, {also} in the harness: not the same work")
            ratios.append(tuple(w / a for w, a in zip(whole, alone, strict=True)))
            more = 1000 * (whole[1] - alone[1]) / len(asked)
            print(f"{made} tokens: raw {alone[0]:.2f} s (CPU {alone[1]:.2f}), ", end="")
            print(
                f"harness {whole[0]:.2f} s (CPU {whole[1]:.2f}): {more:.1f} ms of CPU more for each sample", flush=True
            )
        model.api.close()
    wall, cpu = (statistics.median(values) for values in zip(*ratios, strict=True))
    print(f"harness / raw: {wall:.3f} in wall time, {cpu:.3f} in CPU time (limit {LIMIT:.2f})")


if __name__ == "__main__":
    main()
