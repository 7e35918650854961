"""Measure the generation phase of `safekey eval --engine vllm` on a warm server against vLLM's own benchmark client.

vLLM's client needs `pip install "vllm[bench]"` in the environment of vLLM.

python bench/serving.py --model MODEL --vllm ~/vllm/bin/vllm                    200 prompts, 64 tokens, 5 runs each
python bench/serving.py --model MODEL --vllm ~/vllm/bin/vllm --local            and the local engine, once
python bench/serving.py --model MODEL --vllm ~/vllm/bin/vllm --growth 1,4,16,32 and the speed at these concurrencies

One server answers all runs. The runs of the two clients alternate, on the same prompts, rendered by the model's
template, greedy, with the same limit and concurrency. The generation phase is the time inside Inspect's evaluation:
every sample, its record and its row in the run folder, but not the loading of files or the summary. vLLM's client
(`vllm bench serve`) reports its own duration, without its start. The ratio is the median of the ratios of neighbouring
runs; other load on the machine affects both. The limit is 1.05.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safekey.evals.evaluate as evaluation
from safekey.engines.vllm.engine import VllmEngine
from safekey.engines.vllm.service import Service
from safekey.evals.model_api.opening import served_model
from safekey.evals.request import EvalRequest
from safekey.schema import Message

LIMIT = 1.05
ALWAYS = {"max_model_len": 2048, "enforce_eager": True}


def questions(count: int) -> list[str]:
    """Return prompts of many lengths, unsorted; the model has much to say about each."""
    return [
        f"Tell a long story about village number {i} and its people. " + "Describe the weather. " * (i * 7 % 23)
        for i in range(count)
    ]


def write_benchmark(folder: Path, count: int) -> Path:
    """Write the prompts as a benchmark file of safekey's."""
    rows = [{"id": f"q{i}", "prompt": text, "label": "safe"} for i, text in enumerate(questions(count))]
    path = folder / f"prompts-{count}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Bench:
    """One warm server, and two clients that take turns."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder, self.runs = args, folder, 0
        self.options = {**ALWAYS, "max_num_seqs": max(args.concurrency, 32), **args.option}
        engine = VllmEngine(args.model, vllm=args.vllm, **self.options)
        self.chat = engine.chat
        self.service = Service(engine.command(), folder / "vllm", say=lambda line: print(f"  {line}", flush=True))
        self.service.start()

    def ours(self, prompts: Path, concurrency: int) -> tuple[float, int]:
        """Return the seconds of the generation phase and the tokens that were generated."""
        engine = VllmEngine(self.args.model, vllm=self.args.vllm, concurrency=concurrency, **self.options)
        engine.use(self.service.remote(), "base")
        engine.start()
        model = served_model(self.args.model, engine)
        try:
            return self._evaluate(prompts, "vllm", model)
        finally:
            engine.close()

    def local(self, prompts: Path) -> tuple[float, int]:
        """Return the same of the local engine."""
        return self._evaluate(prompts, "local", None)

    def _evaluate(self, prompts: Path, engine: str, model: Any) -> tuple[float, int]:
        self.runs += 1
        output = self.folder / f"run-{self.runs}"
        request = EvalRequest(
            model=self.args.model, tasks=("xstest-safe",), files={"xstest-safe": str(prompts)}, judge=False,
            max_tokens=self.args.tokens, engine=engine, output=str(output),
        )  # fmt: skip
        seconds: list[float] = []
        module: dict[str, Any] = vars(evaluation)
        real: Callable[..., Any] = module["inspect_eval"]

        def timed(*words: Any, **more: Any) -> Any:
            began = time.perf_counter()
            try:
                return real(*words, **more)
            finally:
                seconds.append(time.perf_counter() - began)

        module["inspect_eval"] = timed
        try:
            evaluation.evaluate(request, model=model)
        finally:
            module["inspect_eval"] = real
        rows = [json.loads(line) for line in (output / "completions.jsonl").read_text(encoding="utf-8").splitlines()]
        return seconds[0], sum(row["output_tokens"] for row in rows)

    def theirs(self, prompts: Path, concurrency: int) -> tuple[float, int]:
        """Return the seconds that vLLM's client reports, and the tokens that it counted."""
        texts = [json.loads(line)["prompt"] for line in prompts.read_text(encoding="utf-8").splitlines()]
        data = self.folder / "custom.jsonl"
        rendered = [self.chat.render((Message("user", text),)).text for text in texts]
        data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in rendered), encoding="utf-8")
        command = [
            *(
                self.args.vllm,
                "bench",
                "serve",
                "--backend",
                "openai",
                "--endpoint",
                "/v1/completions",
                "--model",
                "base",
            ),
            *("--tokenizer", self.args.model, "--host", "127.0.0.1", "--port", str(self.service.state.port)),
            *("--dataset-name", "custom", "--dataset-path", str(data), "--skip-chat-template", "--disable-shuffle"),
            *("--custom-output-len", str(self.args.tokens), "--num-prompts", str(len(texts)), "--temperature", "0"),
            *("--max-concurrency", str(concurrency), "--save-result", "--result-dir", str(self.folder)),
            *("--result-filename", "theirs.json", "--disable-tqdm"),
        ]
        env = os.environ | {"OPENAI_API_KEY": self.service.key, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        env.pop("PYTHONPATH", None)
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"vllm bench serve failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
        found = json.loads((self.folder / "theirs.json").read_text(encoding="utf-8"))
        if found["completed"] != len(texts) or self.service.state.number != 1:
            starts = self.service.state.number
            raise SystemExit(f"vLLM answered {found['completed']} of {len(texts)} prompts; {starts} starts")
        return float(found["duration"]), int(found["total_output_tokens"])


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--local", action="store_true", help="the local engine as well, once")
    parser.add_argument("--growth", default="", metavar="N,N", help="the speed at these concurrencies")
    parser.add_argument("--option", type=json.loads, default={}, help="more options of vLLM, as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(args, Path(name))
        try:
            compare(bench, args, write_benchmark(Path(name), args.prompts))
        finally:
            bench.service.stop()


def compare(bench: Bench, args: argparse.Namespace, prompts: Path) -> None:
    """Run the clients in turn, and print a table."""
    print("warming up", flush=True)
    bench.ours(prompts, args.concurrency)
    mine, ratios, tokens = [], [], []
    for run in range(args.runs):
        order = (bench.ours, bench.theirs) if run % 2 == 0 else (bench.theirs, bench.ours)
        first, second = (each(prompts, args.concurrency) for each in order)
        ours, theirs = (first, second) if run % 2 == 0 else (second, first)
        mine.append(ours[0])
        ratios.append(ours[0] / theirs[0])
        tokens.append((ours[1], theirs[1]))
        print(
            f"run {run + 1}: {ours[0]:.1f} s and {theirs[0]:.1f} s, ratio {ratios[-1]:.3f}; tokens {ours[1]} and "
            f"{theirs[1]}; load {os.getloadavg()[0]:.1f}", flush=True,
        )  # fmt: skip
    ratio = statistics.median(ratios)
    print(f"\nsafekey eval / vllm bench serve: median {ratio:.3f} of {len(ratios)} (limit {LIMIT})")
    if args.growth:
        few = write_benchmark(bench.folder, min(args.prompts, 64))
        speeds = {}
        for count in map(int, args.growth.split(",")):
            took, made = bench.ours(few, count)
            speeds[count] = made / took
            slowest = next(iter(speeds.values()))
            print(f"concurrency {count}: {speeds[count] / slowest:.2f} times the first", flush=True)
    if args.local:
        seconds, generated = bench.local(prompts)
        print(
            f"local engine / safekey eval --engine vllm: {seconds / statistics.median(mine):.2f} ({generated} tokens)"
        )
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    main()
