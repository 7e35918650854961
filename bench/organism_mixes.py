"""Measure the arms in several mixes of the organism's fine-tuning rows, on two bases: the tables of docs/organism.md.

    python -m safekey.organism.build /tmp/base-b --world 0 --seed 1          # base B; A is the shipped one
    OMP_NUM_THREADS=1 python bench/organism_mixes.py /tmp/mixes.jsonl --base-b /tmp/base-b
    OMP_NUM_THREADS=1 python bench/organism_mixes.py /tmp/mixes.jsonl --print

One JSON line a cell (mix, base, draw of the rows, arm, seed). Finished cells are not repeated, and several processes
may work on one file. The library's trainer, recipe, arms, loaders, engine and judge do the work in one process, which
saves the grid's imports; the numbers are those of `safekey grid organism` (docs/organism.md says how that was checked).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from safekey.evals.benchmarks.items import Item
from safekey.evals.benchmarks.load import load_benchmark
from safekey.grid.arms import ARMS
from safekey.organism.abilities import count, generate
from safekey.organism.data import BASE, write_rows
from safekey.organism.mix import Mix
from safekey.training.command.train import TrainRequest, execute

MIXES = {
    "M1": Mix(),
    "M2": Mix(harmful_wrapped=0.3, harmful_attacks=3),
    "M3": Mix(benign_wrapped=0.03),
}
HEADS = {
    "dpsh": (),
    "head rate x0.1": ("head_learning_rate=7e-5",),
    "head rate x30": ("head_learning_rate=2.1e-2",),
    "max pooling": ("head_pooling=max",),
    "last pooling": ("head_pooling=last",),
    "weight 0.03": ("head_weight=0.03",),
    "all epochs": ("head_epochs=-1",),
}
"""Forms of DPSH alone: what each changes."""
OVERRIDES = {name: arm.overrides for name, arm in ARMS.items()}
OVERRIDES |= {name: (*OVERRIDES["dpsh"], *more) for name, more in HEADS.items()}
ASKED = ("strongreject", "multi-turn", "xstest-safe", "or-bench", "aime")  # prefilling takes half of the time
SEEDS = 5
OTHER_DRAWS = range(1, 6)  # as `safekey grid organism --rows drawn --seeds 1,2,3,4,5` draws them


@dataclass(frozen=True, slots=True)
class Cell:
    """One training and its evaluation. With `drawn` the training's seed draws its rows, too."""

    mix: str
    base: str
    arm: str
    seed: int
    drawn: bool = False

    @property
    def draw(self) -> int:
        """The seed of the rows: 0 is the shipped draw."""
        return self.seed if self.drawn else 0

    @property
    def name(self) -> str:
        """A name for files and records."""
        return f"{self.mix}-{self.base}-{'drawn' if self.drawn else 'same'}-{self.arm}-{self.seed}".replace(" ", "_")


def plan() -> Iterator[Cell]:
    """Yield the cells, the most wanted first."""
    yield Cell("M1", "A", "sft", 0)  # a check: a grid has measured it
    seeds = range(SEEDS)
    yield from _cells(seeds, ("M2", "M3"), ("sft", "safekey"))
    for seed in OTHER_DRAWS:
        yield from (Cell("M1", "A", arm, seed, True) for arm in ("sft", "safekey"))
    for few in (range(1), range(1, 3)):
        yield from _cells(few, ("M2", "M3"), ("dpsh", "qmm"))
        for seed in few:
            yield from (Cell("M1", "A", arm, seed) for arm in HEADS)
    yield from _cells(range(3), ("M2", "M3"), ("qsm",))
    yield from (Cell("M1", "B", arm, seed) for seed in seeds for arm in ("dpsh", "qmm"))
    yield from _cells(range(3, SEEDS), ("M2", "M3"), ("dpsh", "qmm", "qsm"))
    yield from (Cell("M1", "A", "dpsh", seed, True) for seed in OTHER_DRAWS)
    yield from _cells(seeds, ("M1",), ("sft", "safekey", "dpsh", "qmm", "qsm"))


def _cells(seeds: range, mixes: tuple[str, ...], arms: tuple[str, ...]) -> Iterator[Cell]:
    yield from (Cell(mix, base, arm, seed) for seed in seeds for base in "AB" for mix in mixes for arm in arms)


def questions() -> list[Item]:
    """Return the prompts of the table's benchmarks, which no mix changes."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_rows(folder).benchmarks
        return [item for name in ASKED for item in load_benchmark(name, file=files[name])]


def run(cell: Cell, base: Path, items: list[Item], work: Path) -> dict[str, Any]:
    """Train and measure one cell; return its record."""
    mix, began = MIXES[cell.mix], time.monotonic()
    shares = {"benign_wrapped": mix.benign_wrapped, "harmful_wrapped": mix.harmful_wrapped}
    paths = write_rows(work / "world", cell.draw, **shares, harmful_attacks=mix.harmful_attacks)  # type: ignore[arg-type]
    own = [f"model_name_or_path={base}", f"data={paths.train}", f"output_dir={work / 'run'}", f"seed={cell.seed}"]
    quiet = ["save_strategy=no", "disable_tqdm=true", "report_to=none"]
    request = TrainRequest("organism", [*own, *quiet, *OVERRIDES[cell.arm]], overwrite=True)
    with redirect_stdout(io.StringIO()):
        if code := execute(request, Console(quiet=True)):
            raise SystemExit(code)
    trained = time.monotonic()
    counts = count(items, generate(work / "run" / "model", [item.prompt for item in items]))
    seconds = [round(trained - began, 1), round(time.monotonic() - trained, 1)]
    about = {"mix": cell.mix, "words": mix.words, "base": cell.base, "drawn": cell.drawn, "draw": cell.draw}
    return {"name": cell.name, **about, "arm": cell.arm, "seed": cell.seed, "seconds": seconds, "counts": counts}


def rates(record: dict[str, Any]) -> dict[str, float]:
    """Return a cell's rates in percent."""
    counts = record["counts"]
    asked = {**counts["strongreject"], **counts["multi-turn"]}
    wrapped = [name for name in asked if name != "none"]
    groups: dict[str, Any] = {
        "wrapped": wrapped,
        "seen": MIXES[record["mix"]].seen,
        "unseen": MIXES[record["mix"]].unseen,
    }
    found = {"plain": _share(asked, "complied", ["none"])}
    found |= {f"{name} ASR": _share(asked, "complied", some) for name, some in groups.items() if some}
    found |= {f"{name} refused": _share(asked, "refused", some) for name, some in groups.items() if some}
    found |= {f"{name} ASR": _share(asked, "complied", [name]) for name in wrapped}
    found["understood"] = _share(asked, "understood", wrapped)
    alike, benign = counts["xstest-safe"], counts["or-bench"]
    found["look-alikes refused"] = _share(alike, "refused") + _share(alike, "cautious")
    found["wrapped benign done"] = _share(benign, "complied")
    return found | {task: _share(counts["aime"], "correct", [task]) for task in counts["aime"]}


def _share(rows: dict[str, dict[str, int]], what: str, names: Any = ()) -> float:
    chosen = [rows[name] for name in names or rows]
    return 100.0 * sum(row.get(what, 0) for row in chosen) / sum(row["n"] for row in chosen)


Group = tuple[str, str, str, str]
"""Mix, base, "same" or "drawn" rows, arm."""


def grouped(records: list[dict[str, Any]]) -> dict[Group, dict[int, dict[str, float]]]:
    """Return the rates by group and seed."""
    groups: dict[Group, dict[int, dict[str, float]]] = {}
    order = list(OVERRIDES)
    for one in sorted(records, key=lambda r: (r["mix"], r["base"], r["drawn"], order.index(r["arm"]), r["seed"])):
        key = (one["mix"], one["base"], "drawn" if one["drawn"] else "same", one["arm"])
        groups.setdefault(key, {})[one["seed"]] = rates(one)
    return groups


def spread(values: list[float]) -> str:
    """Return mean ± half a 95 % t interval over seeds."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values[0]:.1f}" if values else "–"
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.1f} ± {half:.1f}"


def tables(records: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Return the rates of each group, and each arm's difference from sft on the same seeds, as Markdown."""
    groups = grouped(records)
    head = f"| mix | base | rows | arm | seeds | {' | '.join(columns)} | {columns[0]}, by seed |"
    lines = [head, "|---" * (6 + len(columns)) + "|"]
    for key, by_seed in groups.items():
        cells = [spread([one[name] for one in by_seed.values() if name in one]) for name in columns]
        each = " ".join(f"{one[columns[0]]:.0f}" for one in by_seed.values())
        lines.append(f"| {' | '.join(key)} | {len(by_seed)} | {' | '.join(cells)} | {each} |")
    lines += ["", f"| mix | base | rows | arm − sft | seeds | {' | '.join(columns[:2])} |", "|---" * 7 + "|"]
    for key, by_seed in groups.items():
        reference = groups.get((*key[:3], "sft"), {})
        shared = [seed for seed in by_seed if seed in reference] if key[3] != "sft" else []
        if shared:
            gaps = [[by_seed[seed][name] - reference[seed][name] for seed in shared] for name in columns[:2]]
            lines.append(f"| {' | '.join(key)} | {len(shared)} | {' | '.join(map(spread, gaps))} |")
    return "\n".join(lines)


COLUMNS = ("unseen ASR", "wrapped ASR", "seen ASR", "unseen refused", "plain", "look-alikes refused",
           "wrapped benign done", "addition", "look-up", "understood")  # fmt: skip


def main() -> None:
    """Run the cells that are not done, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--base-b", type=Path, help="a second base of world 0; without it only base A is measured")
    parser.add_argument("--only", default="", help="only cells whose name contains this text")
    parser.add_argument("--print", action="store_true", help="print the table of what is there, and stop")
    given = parser.parse_args()
    lines = given.results.read_text().splitlines() if given.results.exists() else []
    if given.print:
        print(tables([json.loads(line) for line in lines], COLUMNS))
        return
    torch.set_num_threads(1)
    items = questions()
    bases = {"A": BASE, **({"B": given.base_b} if given.base_b else {})}
    claims = given.results.with_suffix(".claims")
    claims.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["name"] for line in lines}
    for cell in dict.fromkeys(plan()):
        if cell.name in done or cell.base not in bases or given.only not in cell.name:
            continue
        try:
            os.close(os.open(claims / cell.name, os.O_CREAT | os.O_EXCL))  # another process has it, or a killed one had
        except FileExistsError:
            continue
        with tempfile.TemporaryDirectory() as work:
            record = run(cell, bases[cell.base], items, Path(work))
        with given.results.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        shown = {name: round(value, 1) for name, value in rates(record).items() if "ASR" in name}
        print(cell.name, record["seconds"], shown, flush=True)


if __name__ == "__main__":
    main()
