"""Fine-tune the organism's base in several arms over several seeds, and print what came of it.

    OMP_NUM_THREADS=1 python bench/organism.py /tmp/organism --arms sft,safekey,qsm --seeds 3

One JSON line a run in FOLDER/results.jsonl; finished runs are not repeated. The ordinary trainer, recipe, loaders,
engine and judge do the work. `safekey grid` and `safekey compare` are the tools for claims; this is a quick look.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from safekey.organism.abilities import measure, summary
from safekey.organism.data import Paths, write_rows, write_world
from safekey.training.command.train import TrainRequest, execute

ARMS: dict[str, tuple[str, ...]] = {
    "base": (),
    "sft": ("qmm_weight=0", "head_weight=0"),
    "dpsh": ("qmm_weight=0",),
    "qmm": ("head_weight=0",),
    "safekey": (),
    "qsm": ("qmm_weight=0", "head_weight=0", "qsm_weight=1.0", "qsm_epochs=2"),
    "qsm-all-epochs": ("qmm_weight=0", "head_weight=0", "qsm_weight=1.0", "qsm_epochs=-1"),
    "ksm": ("qmm_weight=0", "head_weight=0", "ksm_weight=1.0", "ksm_epochs=-1"),
}
SHOWN: tuple[str, ...] = (
    *("plain_asr", "plain_refused", "wrapped_asr", "wrapped_refused", "wrapped_understood", "look_alike_refused"),
    *("wrapped_benign_ok", "wrapped_benign_refused", "addition_correct", "look-up_correct"),
)


def run(folder: Path, base: Path, paths: Paths, arm: str, seed: int) -> dict[str, Any]:
    """Train one arm with one seed, measure it, and return its record."""
    began = time.monotonic()
    model, out = base, folder / f"{arm}-{seed}"
    if arm != "base":
        places = [f"model_name_or_path={base}", f"data={paths.train}", f"output_dir={out}", f"seed={seed}"]
        quiet = ["save_strategy=no", "disable_tqdm=true", "report_to=none"]
        if code := execute(
            TrainRequest("organism", [*places, *quiet, *ARMS[arm]], overwrite=True), Console(quiet=True)
        ):
            raise SystemExit(code)
        model = out / "model"
    trained = time.monotonic()
    counts = measure(model, paths)
    ended = time.monotonic()
    seconds = {"train_seconds": round(trained - began, 1), "evaluation_seconds": round(ended - trained, 1)}
    return {"arm": arm, "seed": seed, **seconds, **summary(counts), "counts": counts}


def table(records: list[dict[str, Any]]) -> str:
    """Return mean ± half a 95 % interval over seeds (Student's t) for each arm, as Markdown."""
    from scipy.stats import t

    lines = ["| arm | seeds | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 2) + "|"]
    for arm in dict.fromkeys(record["arm"] for record in records):
        some = [record for record in records if record["arm"] == arm]
        cells = []
        for name in SHOWN:
            values = [record[name] for record in some]
            half = 0.0
            if len(values) > 1:
                half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
            cells.append(f"{statistics.mean(values):.3f}" + (f" ± {half:.3f}" if len(values) > 1 else ""))
        lines.append(f"| {arm} | {len(some)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for and not yet done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", default="base,sft,safekey,qsm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base", type=Path, help="another base of the same world; default: the shipped one")
    parser.add_argument("--world", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.base is None:
        paths = write_world(given.folder / "world", world=given.world)
    else:
        paths = write_rows(given.folder / "world", world=given.world)
    log = given.folder / "results.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(record["arm"], record["seed"]) for record in records}
    for seed in range(given.seeds):
        for arm in given.arms.split(","):
            if (arm, seed) in done or (arm == "base" and seed):
                continue
            records.append(run(given.folder, given.base or paths.base, paths, arm, seed))
            with log.open("a") as stream:
                stream.write(json.dumps(records[-1]) + "\n")
            shown = {name: value for name, value in records[-1].items() if name != "counts"}
            print(json.dumps(shown), flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
