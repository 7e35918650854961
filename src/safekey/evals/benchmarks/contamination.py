"""Find benchmark prompts that are in the training data: word for word, or by runs of 13 words.

    report = overlap(training_questions, items)
    print(report.describe())
    # strongreject: 7 of 313 prompts (2.2 %) overlap with training rows: 5 exactly, 2 by 13-grams; they are …

Both sides are compared as words in lower case, without accents and punctuation. Runs of 13 words are the customary
measure (Brown et al. 2020, appendix C). A shorter prompt is only found whole: as itself, or inside a training prompt.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from safekey.errors import UserError
from safekey.evals.benchmarks.items import Item
from safekey.evals.benchmarks.load import Items
from safekey.schema import Example

NGRAM = 13
SHORTEST_INSIDE = 8  # words; to find a shorter prompt inside a training prompt means little ("how do I do this")
BY_DESIGN = ("star1",)
_WORD = re.compile(r"\w+")
_LOADS = ("split", "revision", "config", "columns", "label_column")
UNKNOWN = "contamination is not known: the model's folder holds no record of a training run (config.yaml and run.json)"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Prompts that a benchmark and the training data share.

    Attributes:
        benchmark: the benchmark's name, "" for none or several.
        items: the number of compared prompts.
        train_rows: the number of compared training rows.
        matches: item → how it was found: "exact" (the same words), "inside" (the whole prompt is inside a training
            prompt) or "n-gram" (a shared run of words).
    """

    benchmark: str
    items: int
    train_rows: int
    matches: Mapping[str, str]

    @property
    def rate(self) -> float:
        """The share of the prompts that was found, 0 to 1; 0 without prompts."""
        return len(self.matches) / self.items if self.items else 0.0

    def describe(self) -> str:
        """Return the warning in words, or "" when there is nothing to warn of."""
        by_design = self.benchmark in BY_DESIGN
        if not self.matches and not by_design:
            return ""
        found = list(self.matches.values())
        kinds = {"exact": "exactly", "inside": "inside a longer one", "n-gram": f"by {NGRAM}-grams"}
        counts = ", ".join(f"{found.count(how)} {words}" for how, words in kinds.items() if how in found)
        text = f"{self.benchmark or 'benchmark'}: {len(found)} of {self.items} prompts ({100 * self.rate:.1f} %)"
        text += f" overlap with the {self.train_rows} training rows" + (f": {counts}" if counts else "")
        if found:
            more = f", +{len(found) - 5} more" if len(found) > 5 else ""
            text += f" ({', '.join(list(self.matches)[:5])}{more})"
        if by_design:
            text += ". This benchmark is training data by design: it says nothing about unseen requests"
        return text


def overlap(train_rows: Iterable[Example | str], items: Sequence[Item]) -> Overlap:
    """Compare training prompts with a benchmark's prompts; 2,000 rows against 5,000 prompts take a few seconds.

    Args:
        train_rows: training examples (all their user turns count), or texts.
        items: a benchmark's items; their plain request and every user turn of the prompt are compared.
    """
    rows = list(train_rows)
    asked: dict[str, list[tuple[str, ...]]] = {}
    for item in items:
        asked.setdefault(item.id, []).extend(words for text in texts_of(item) if (words := words_of(text)))
    short = {len(words) for texts in asked.values() for words in texts if SHORTEST_INSIDE <= len(words) < NGRAM}
    wholes: set[tuple[str, ...]] = set()
    runs: dict[int, set[int]] = {length: set() for length in {NGRAM, *short}}  # length → hashes of runs of words
    for row in rows:
        for text in [row] if isinstance(row, str) else [turn.content for turn in row.prompt if turn.role == "user"]:
            words = words_of(text)
            wholes.add(words)
            for length, hashes in runs.items():
                hashes.update(runs_of(words, length))
    found = {name: [how for words in texts if (how := _match(words, wholes, runs))] for name, texts in asked.items()}
    matches = {name: min(hows) for name, hows in found.items() if hows}  # "exact" < "inside" < "n-gram"
    names = {item.benchmark for item in items}
    return Overlap(names.pop() if len(names) == 1 else "", len(asked), len(rows), matches)


def texts_of(item: Item) -> list[str]:
    """Return the request and the user's turns; for questions the request alone, without the wording around it."""
    if item.target or "test" in item.metadata:  # every question shares that wording
        return [item.request]
    return list(dict.fromkeys([item.request, *(turn.content for turn in item.prompt.messages if turn.role == "user")]))


def _match(words: tuple[str, ...], wholes: set[tuple[str, ...]], runs: Mapping[int, set[int]]) -> str:
    """Return how training holds these words: "exact", "inside" or "n-gram"; "" for not at all."""
    if words in wholes:
        return "exact"
    if len(words) <= NGRAM:
        long_enough = len(words) >= SHORTEST_INSIDE
        return "inside" if long_enough and hash(words) in runs[len(words)] else ""
    return "n-gram" if any(run in runs[NGRAM] for run in runs_of(words, NGRAM)) else ""


def runs_of(words: tuple[str, ...], length: int) -> Iterable[int]:
    """Return the hashes of all runs of a length: 64 bits, so that two different runs do not collide by chance."""
    return (hash(words[start : start + length]) for start in range(len(words) - length + 1))


def words_of(text: str) -> tuple[str, ...]:
    """Return a text's words as this module compares them: lower case, without accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return tuple(_WORD.findall("".join(letter for letter in plain if not unicodedata.combining(letter))))


def contamination(model: str, benchmarks: Sequence[Items]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Compare a model's training data with benchmarks.

    Args:
        model: the evaluated model; for a training run's folder, its `model` or a checkpoint the training data is known.
        benchmarks: the benchmarks to compare.

    Returns:
        the overlap of each benchmark that could be compared, and notes on what could not be compared.
    """
    run = training_run(model)
    if run is None:
        return {}, [UNKNOWN]
    rows, notes = training_rows(run)
    found: dict[str, dict[str, Any]] = {}
    for items in benchmarks if rows else ():
        result = overlap(rows, items)
        found[items.benchmark.name] = {
            "overlapping": len(result.matches),
            "items": result.items,
            "share": result.rate,
            "ids": sorted(result.matches),
            "training_rows": len(rows),
            "warning": result.describe(),
        }
    return found, notes


def training_run(model: str) -> Path | None:
    """Return the folder of the training run that a model's folder belongs to, or None."""
    path = Path(model).expanduser()
    if not path.is_dir():
        return None
    for folder in (path, path.resolve().parent):
        if (folder / "config.yaml").is_file() and (folder / "run.json").is_file():
            return folder
    return None


def training_of(run_folder: Path, model: str) -> Path | None:
    """Return the folder of the training run that made the model of an evaluation's run folder, or None.

    If the model's path is gone, as in a grid that was copied or moved, it is the training run `train` beside the
    evaluation, but only for a model from a folder of that name.
    """
    found = training_run(model)
    if found is not None or "train" not in Path(model).parts[-2:]:
        return found
    return training_run(str(run_folder.expanduser().resolve().parent / "train"))


def training_rows(run: Path) -> tuple[list[Example], list[str]]:
    """Return the rows of a training run's data files, and notes on files that are missing or have changed."""
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return [], [f"contamination is not known: {run}: its record cannot be read ({type(error).__name__})"]
    named = config.get("data") if isinstance(config, Mapping) else None
    from safekey.data.load import load_examples

    rows: list[Example] = []
    notes = []
    for entry in named if isinstance(named, list) else [named] if named else []:
        source = dict(entry) if isinstance(entry, Mapping) else {"path": str(entry)}
        path = str(source.get("path", ""))
        try:
            _unchanged(path, record)
            named_too: dict[str, Any] = {name: source[name] for name in _LOADS if source.get(name) is not None}
            rows += load_examples(path, **named_too)
        except UserError as error:
            notes.append(f"contamination by the training data {path} is not known: {str(error).splitlines()[0]}")
    if not rows and not notes:
        notes.append(f"contamination is not known: {run / 'config.yaml'} names no training data")
    return rows, notes


def _unchanged(path: str, record: Any) -> None:
    identity = (record.get("data") or {}).get(path) if isinstance(record, Mapping) else None
    known = identity.get("sha256") if isinstance(identity, Mapping) else None
    if known and Path(path).is_file() and hashlib.sha256(Path(path).read_bytes()).hexdigest() != known:
        raise UserError("the file has changed since the training")
