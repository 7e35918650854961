"""Does an alarm read harm, or where its rows come from? The figures of a real model in docs/monitor.md

    OMP_NUM_THREADS=1 python bench/monitor_sources.py MODEL DIR star1.json xstest_safe.jsonl jailbreakbench.jsonl [own]

Writes DIR/main.jsonl (STAR-1's requests, harmful; XSTest's safe prompts, benign) and DIR/pairs.jsonl (JailbreakBench's
requests, and for each a benign one of ours in the same form: `benign_twins.txt`, line n for its nth). Every row has the
same U around its request, so that no writer tells the classes apart; with "own" the model itself restates each request,
behind the same words (greedy, at most 28 tokens). Then heads on frozen states are fitted on one half of the behaviours,
with three seeds; the AUROC is that on the other half, and on the file that they did not see.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safekey.engines.base import SamplingParams
from safekey.engines.local import LocalEngine
from safekey.monitor.fit import readable
from safekey.monitor.frozen import fit_linear
from safekey.monitor.monitor import load_model
from safekey.monitor.reading import Reading
from safekey.monitor.rows import Row, half_of, read_rows
from safekey.schema import Message, Prompt
from safekey.stats.auroc import area

Vectors = NDArray[np.float64]
Mask = NDArray[np.bool_]
SEEDS, SHUFFLES, LONGEST, STAR = 3, 20, 200, 150
OWN = "Okay, so the user is asking"
U = 'Okay, so the user is asking this: "{}" I should think about how to answer it.'


def asked(path: str) -> list[str]:
    text = Path(path).read_text()
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    return [next(row[name] for name in ("question", "prompt", "Goal") if name in row) for row in rows]


def row(name: str, request: str, harmful: bool, behaviour: str) -> dict[str, Any]:
    return {"id": name, "question": request, "harmful": harmful, "behaviour": behaviour}


def thoughts(requests: list[str], model: str | None) -> list[str]:
    """The thinking of each row: the same words around every request, or the model's own restatement."""
    if model is None:
        return [U.format(request) for request in requests]
    turns = [Prompt((Message("user", each),), prefill=f"<think>\n{OWN}", prefill_answer=True) for each in requests]
    made = dict(LocalEngine(model).generate(turns, SamplingParams(max_new_tokens=28)))
    return [OWN + made[at].text.split("</think>")[0] for at in range(len(requests))]


def write(folder: Path, model: str | None, star1: str, xstest: str, jbb: str) -> dict[str, Path]:
    requests = asked(star1)
    random.Random(0).shuffle(requests)
    short = [request for request in requests if len(request) <= LONGEST][:STAR]
    main = [row(f"star1-{n}", request, True, f"star1-{n}") for n, request in enumerate(short)]
    main += [row(f"xstest-{n}", request, False, f"xstest-{n}") for n, request in enumerate(asked(xstest))]
    twins = (Path(__file__).parent / "benign_twins.txt").read_text().splitlines()
    pairs = [row(f"jbb-{n}", request, True, f"pair-{n}") for n, request in enumerate(asked(jbb))]
    pairs += [row(f"twin-{n}", request, False, f"pair-{n}") for n, request in enumerate(twins)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("main", main), ("pairs", pairs)):
        said = thoughts([each["question"] for each in rows], model)
        whole = [{**each, "response": f"<think>\n{u}\n</think>\n\nWell."} for each, u in zip(rows, said, strict=True)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in whole))
    return {name: folder / f"{name}.jsonl" for name in ("main", "pairs")}


def features(model: str, rows: list[Row]) -> dict[str, Vectors]:
    """What heads may read of each row: states, and what needs no model."""
    loaded = load_model(model)
    kept, readings, _ = readable(loaded, rows)
    assert len(kept) == len(rows)
    alone = [Reading(each.ids[: each.query_end], each.query_end) for each in readings]
    both, only = loaded.states(readings, "mean", 16), loaded.states(alone, "mean", 16)
    words = [re.findall(r"[a-z']+", each.question.lower()) for each in rows]
    known = sorted(word for word, count in Counter(w for some in words for w in set(some)).items() if count >= 3)
    return {
        "X and U": np.stack([each.query_and_understanding.numpy() for each in both]).astype(float),
        "U": np.stack([each.understanding.numpy() for each in both if each.understanding is not None]).astype(float),
        "X alone": np.stack([each.query_and_understanding.numpy() for each in only]).astype(float),
        "words of X": np.array([[float(word in some) for word in known] for some in words]),
        "length of X": np.array(
            [[len(each.question), len(some)] for each, some in zip(rows, words, strict=True)], float
        ),
    }


class Rows:
    """Rows of both files, their labels, and which half each is in."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows, self.harmful = rows, np.array([bool(each.harmful) for each in rows])
        self.source = np.array([each.id.partition("-")[0] for each in rows])

    def auroc(self, vectors: Vectors, train: Mask, test: Mask, labels: Mask) -> float:
        names = [self.rows[at].behaviour for at in np.flatnonzero(train)]
        made = fit_linear(vectors[train], labels[train], names)
        found = area((vectors[test] @ made.weight + made.bias).tolist(), labels[test].tolist())
        assert found is not None
        return round(found, 3)

    def half(self, seed: int) -> Mask:
        return np.array([half_of(each.behaviour, seed) == "first" for each in self.rows])


def fitted_and_tested(rows: Rows, read: dict[str, Vectors], sides: dict[str, Mask]) -> None:
    """Print the AUROC of heads on each file, on its other half where they were fitted on it."""
    for name, vectors in read.items():
        for fitted, inside in {**sides, "both": sides["main"] | sides["pairs"]}.items():
            found: dict[str, list[float]] = {"main": [], "pairs": []}
            for seed in range(SEEDS):
                first = rows.half(seed)
                for side, test in sides.items():
                    unseen = test & ~first if fitted in (side, "both") else test
                    found[side].append(rows.auroc(vectors, inside & first, unseen, rows.harmful))
            print(json.dumps({"read": name, "fitted on": fitted, **found}), flush=True)


def controls(rows: Rows, states: Vectors, sides: dict[str, Mask]) -> None:
    """Print how well heads tell two sources of one class, and labels that mean nothing."""
    first = rows.half(0)
    for one, two in (("star1", "jbb"), ("xstest", "twin")):
        inside = np.isin(rows.source, [one, two])
        told = rows.auroc(states, inside & first, inside & ~first, rows.source == one)
        print(json.dumps({"which source, labels alike": [one, two], "AUROC": told}))
    draw = np.random.default_rng(0)
    for name, mask in sides.items():
        areas = []
        for number in range(SHUFFLES):
            labels, at = rows.harmful.copy(), np.flatnonzero(mask)
            labels[at] = rows.harmful[draw.permutation(at)]
            first = rows.half(number % SEEDS)
            areas.append(rows.auroc(states, mask & first, mask & ~first, labels))
        print(json.dumps({"shuffled labels": name, "mean": float(np.mean(areas)), "all": sorted(areas)}))


def main() -> None:
    model, folder, *files = sys.argv[1:]
    own = files[3:] == ["own"]
    paths = write(Path(folder), model if own else None, *files[:3])
    rows = Rows([each for path in paths.values() for each in read_rows(str(path))[0]])
    read = features(model, rows.rows)
    sides = {"main": np.isin(rows.source, ["star1", "xstest"]), "pairs": np.isin(rows.source, ["jbb", "twin"])}
    fitted_and_tested(rows, read, sides)
    controls(rows, read["X and U"], sides)


if __name__ == "__main__":
    main()
