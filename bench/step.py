"""Compare the cost of a SafeKey step with two padded passes, plain SFT and TRL, on the same rows in the same run.

    python bench/step.py                                                             # CPU, one thread, 32k vocabulary
    python bench/step.py --sweep                                                     # ratios by length and model size
    python bench/step.py --shape r1-qwen-1.5b --dtype bfloat16 --device cuda         # any GPU machine
    python bench/step.py --shape llama-8b --dtype bfloat16 --device cuda --checkpointing

It needs torch and transformers only; TRL's variants are included where TRL is installed. The variants take turns, so
that other load on the machine affects all of them. docs/performance.md explains the table.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from step_setup import SHAPES, Shape, build_model, make_rows, peak_flops, useful_flops  # first: finds safekey
from step_variants import Bench, Run, variants

import torch  # isort: skip

from safekey.training.objective.heads import SafetyHeads  # isort: skip

OURS, BASE, TWICE = "SafeKey (ours)", "packed SFT (ours)", "two padded passes"
Result = dict[str, Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--vocab", type=int, help="default: the shape's own")
    parser.add_argument("--layers", type=int, help="default: the shape's own")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rows", type=int, default=16, help="rows in a step")
    parser.add_argument("--micro-batch", type=int, default=2, help="rows per padded batch (2 as published)")
    parser.add_argument("--packed-rows", type=int, help="rows per packed batch; default: the micro-batch")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each variant, after one untimed")
    parser.add_argument("--lengths", default="star1", help="star1, or response lengths separated by commas")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the responses' lengths")
    parser.add_argument("--checkpointing", action="store_true", help="activation checkpointing, alike in all variants")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: process time, for a busy machine"
    )
    parser.add_argument("--variants", help="only those whose name contains one of these, separated by commas")
    parser.add_argument("--sweep", action="store_true", help="repeat by length and by model size")
    parser.add_argument("--no-memory", action="store_true", help="skip the memory measurement (CPU: one process each)")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)  # internal: a child process that measures one variant
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> tuple[Shape, Bench, dict[str, Callable[[], Run]]]:
    """Build the model, the rows and the variants that the arguments ask for."""
    torch.set_num_threads(args.threads)
    shape = SHAPES[args.shape]
    shape = replace(shape, vocab=args.vocab or shape.vocab, layers=args.layers or shape.layers)
    dtype = getattr(torch, args.dtype)
    model = build_model(shape, dtype, args.device, args.checkpointing)
    heads = SafetyHeads(shape.hidden).to(args.device, dtype)
    rows = make_rows(args.rows, shape.vocab, args.lengths, args.scale)
    bench = Bench(model, heads, rows, args.micro_batch, args.packed_rows or args.micro_batch)
    found = variants(bench)
    if args.variants:
        found = {name: make for name, make in found.items() if any(part in name for part in args.variants.split(","))}
    return shape, bench, found


def one_turn(bench: Bench, run: Run, clock: str) -> float:
    """Time one forward and backward over all rows, from no gradients."""
    for module in (bench.model, bench.heads):
        module.zero_grad(set_to_none=True)
    cuda = bench.device.type == "cuda"
    now = time.process_time if clock == "cpu" else time.perf_counter
    if cuda:
        torch.cuda.synchronize()
    begin = now()
    run()
    if cuda:
        torch.cuda.synchronize()
    return now() - begin


def measure(args: argparse.Namespace) -> tuple[dict[str, Result], Bench]:
    """Time every variant in turn; on CUDA take each one's peak memory on the way."""
    shape, bench, found = prepare(args)
    runs: dict[str, Run] = {}
    for name, make in found.items():
        try:
            runs[name] = make()
        except Exception as error:  # a variant that the installed versions cannot run is left out with a note
            print(f"left out: {name}: {type(error).__name__}: {error}", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, int] = {}
    for turn in range(args.repeats + 1):
        for name, run in list(runs.items()):
            cuda = bench.device.type == "cuda" and turn == 1
            if cuda:
                bench.model.zero_grad(set_to_none=True)
                gc.collect()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            seconds = one_turn(bench, run, args.clock)
            if cuda:
                peaks[name] = torch.cuda.max_memory_allocated() - before
            if turn:
                times[name].append(seconds)
    peak = peak_flops(bench.device.type, getattr(torch, args.dtype))
    results: dict[str, Result] = {}
    for name, turns in times.items():
        median = statistics.median(turns)
        flops = useful_flops(shape, list(bench.rows), auxiliary="SFT" not in name)
        results[name] = {"seconds": median, "all": turns, "mfu": flops / median / peak if peak else None}
        results[name]["peak"] = peaks.get(name)
    return results, bench


def peak_in_child(args: argparse.Namespace, name: str) -> int | None:
    """Measure a variant's peak resident memory above the loaded model in a process of its own (Linux)."""
    command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", name, "--scale", str(args.scale)]
    done = subprocess.run([*command, "--shape", args.shape], capture_output=True, text=True)
    return int(done.stdout.split()[-1]) if done.returncode == 0 and done.stdout.split() else None


def print_own_peak(args: argparse.Namespace) -> None:
    """The child's part: set up, forget the peak so far, run once."""
    _, bench, found = prepare(args)
    run = found[args.peak_of]()
    for parameter in bench.model.parameters():
        parameter.data.add_(0)  # load every page of the weights before the baseline is read
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_kib("VmRSS")
    run()
    print((resident_kib("VmHWM") - before) * 1024)  # ru_maxrss would hold the parent's peak: exec does not reset it


def resident_kib(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def table(results: dict[str, Result], bench: Bench) -> str:
    """Lay the results out; ratios are medians over turns of this variant's time through our step's in the same turn."""
    lines = [f"{'':30}{'seconds':>9}{'/ SafeKey':>11}{'peak MiB':>10}{'/ 2 passes':>12}{'tokens/s':>10}{'MFU':>7}"]
    tokens = sum(len(row.input_ids) for row in bench.rows)
    for name, result in results.items():
        peak, reference = result["peak"], results.get(TWICE, {}).get("peak")
        cells = [f"{name:30}{result['seconds']:9.3f}", f"{ratio(results, name, OURS) or float('nan'):11.2f}"]
        cells += [f"{peak / 2**20:10.0f}" if peak else f"{'-':>10}"]
        cells += [f"{peak / reference:12.2f}" if peak and reference else f"{'-':>12}"]
        cells += [f"{tokens / result['seconds']:10.0f}", f"{result['mfu']:7.1%}" if result["mfu"] else f"{'-':>7}"]
        lines.append("".join(cells))
    return "\n".join(lines)


def ratio(results: dict[str, Result], above: str, below: str) -> float | None:
    if above not in results or below not in results:
        return None
    pairs = zip(results[above]["all"], results[below]["all"], strict=True)
    return float(statistics.median(a / b for a, b in pairs))


def one(args: argparse.Namespace) -> dict[str, Result]:
    """Measure one setting and print its table."""
    results, bench = measure(args)
    if args.device == "cpu" and not args.no_memory:
        for name in results:
            results[name]["peak"] = peak_in_child(args, name)
    lengths = sorted(len(row.input_ids) for row in bench.rows)
    size = sum(p.numel() for p in bench.model.parameters()) / 1e6
    said = [
        f"\n{args.shape}, {size:.0f}M parameters, {args.dtype}, checkpointing {'on' if args.checkpointing else 'off'};",
        f"{len(lengths)} rows of {lengths[0]}-{lengths[-1]} tokens (median {statistics.median(lengths):.0f}),",
        f"padded {args.micro_batch} and packed {bench.packed_rows} at a time; {args.repeats} turns, {args.clock} clock",
    ]
    print("\n".join(said))
    print(table(results, bench), flush=True)
    for above, below in ((TWICE, OURS), (OURS, BASE), ("padded SFT (TRL)", OURS)):
        found = ratio(results, above, below)
        if found:
            print(f"  {above} / {below}: {found:.2f}")
    return results


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.processor() or platform.machine()}
    for name in ("torch", "transformers", "trl"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
    return found


def main() -> None:
    warnings.filterwarnings("ignore")
    args = parse()
    if args.peak_of:
        print_own_peak(args)
        return
    print(", ".join(f"{name} {value}" for name, value in versions().items()))
    settings = [(args.shape, args.scale)]
    if args.sweep:
        settings = [(args.shape, scale) for scale in (0.5, 1.0, 2.0, 4.0)]
        settings += [(shape, args.scale) for shape in ("tiny", "small", "medium") if shape != args.shape]
    report = []
    for args.shape, args.scale in settings:
        report.append({"shape": args.shape, "scale": args.scale, "results": one(args)})
    if args.json:
        args.json.write_text(json.dumps({"versions": versions(), "arguments": sys.argv[1:], "runs": report}, indent=1))


if __name__ == "__main__":
    main()
