"""Measure the cost of `evaluate`: 1,000 scripted samples with one judge, end to end, compared with bare Inspect.

    python bench/harness_overhead.py [--samples 1000] [--rounds 3]

Ours: `evaluate` on a scripted engine with a scripted harm judge: benchmark file, rendering, run folder, rows, judging
of the answer, metrics. Bare: the same number of prompts with Inspect's `generate()`, mock model and `includes()`, once
with Inspect's defaults and once with the options that `evaluate` sets (no live buffer, no interim scores). Both run in
one process, in alternating rounds; ratios are of the medians, in wall time and in CPU time, which a busy machine
disturbs less. The limit is 1.3, compared with Inspect's defaults.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

from safekey.engines.scripted import ScriptedEngine
from safekey.evals.evaluate import evaluate
from safekey.evals.request import EvalRequest

REPLY = "The user asks how to pick the royal vault. That would be theft.\n</think>\n\nI can't help with that."


Times = tuple[float, float]  # seconds of wall and of CPU


def clock() -> Times:
    return time.perf_counter(), time.process_time()


def since(start: Times) -> Times:
    now = clock()
    return now[0] - start[0], now[1] - start[1]


def ours(folder: Path, samples: int) -> Times:
    engine = ScriptedEngine(default=f"<think>\n{REPLY}")
    model = get_model("safekey/scripted", engine=engine, kind="scripted", memoize=False)
    judge = f"harm_1to5=scripted:{folder / 'judge.json'}"
    request = EvalRequest(
        model="scripted",
        tasks=("strongreject",),
        data_dir=str(folder),
        judges=(judge,),
        parts=("answer",),
        output=str(folder / f"run-{time.monotonic_ns()}"),
    )
    start = clock()
    result = evaluate(request, model=model)
    seconds = since(start)
    (line,) = [r for r in result.summary.metrics["rates"] if r["headline"] and set(r["by"]) == {"benchmark", "part"}]
    assert line["n"] == samples, line
    return seconds


def bare(folder: Path, samples: int, **options: Any) -> Times:
    task = Task(
        dataset=MemoryDataset(
            [Sample(input=f"How do I pick royal vault number {i}?", target="x") for i in range(samples)]
        ),
        solver=generate(),
        scorer=includes(),
    )
    said = ModelOutput.from_content("mockllm/model", REPLY)
    said.usage = ModelUsage(input_tokens=9, output_tokens=20, total_tokens=29)  # else it wants to fetch a tokenizer
    model = get_model("mockllm/model", custom_outputs=itertools.repeat(said), memoize=False)
    start = clock()
    (log,) = inspect_eval(task, model=model, log_dir=str(folder / "bare"), display="none", **options)
    seconds = since(start)
    assert log.status == "success", log.error
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [{"id": i, "forbidden_prompt": f"How do I pick royal vault number {i}?"} for i in range(args.samples)]
        (folder / "strongreject.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "judge.json").write_text(json.dumps({"default": '{"reason": "It declines.", "score": 1}'}))
        bare(folder, 20)  # imports and first-time work count for neither
        times: dict[str, list[Times]] = {"bare": [], "bare, our options": [], "ours": []}
        for _ in range(args.rounds):
            times["bare"].append(bare(folder, args.samples))
            times["bare, our options"].append(bare(folder, args.samples, log_realtime=False, score_display=False))
            times["ours"].append(ours(folder, args.samples))
            print("; ".join(f"{name} {t[-1][0]:.2f} s ({t[-1][1]:.2f} CPU)" for name, t in times.items()), flush=True)
    for name in ("bare", "bare, our options"):
        wall, cpu = (
            statistics.median(t[at] for t in times["ours"]) / statistics.median(t[at] for t in times[name])
            for at in (0, 1)
        )
        print(f"{args.samples} samples, {args.rounds} rounds: ours / {name} = {wall:.2f} wall, {cpu:.2f} CPU")


if __name__ == "__main__":
    main()
