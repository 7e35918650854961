"""Find training prompts that reappear in a benchmark: word for word, or by runs of 13 words.

    report = overlap(training_questions, items)
    print(report.describe())
    # strongreject: 7 of 313 prompts (2.2 %) overlap with training rows: 5 exactly, 2 by 13-grams; they are …

Both sides are compared as words: lower case, accents and punctuation off. Runs of 13 words are the customary measure
(Brown et al. 2020, appendix C). A shorter prompt can only be found whole: as itself, or inside a training prompt.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from safekey.data.load import load_examples
from safekey.errors import UserError
from safekey.evals.benchmarks.items import Item
from safekey.evals.benchmarks.load import Items
from safekey.schema import Example

NGRAM = 13
SHORTEST_INSIDE = 8  # words; a shorter prompt inside a longer training prompt says little ("how do I do this")
BY_DESIGN = ("star1",)
_WORD = re.compile(r"\w+")
_LOADS = ("split", "revision", "config", "columns", "label_column")
UNKNOWN = "contamination is not known: the model's folder holds no record of a training run (config.yaml and run.json)"


@dataclass(frozen=True, slots=True)
class Match:
    """One benchmark prompt that training holds.

    Attributes:
        item: the item's id.
        how: "exact": the same words; "inside": the whole prompt stands in a training prompt; "n-gram": a shared run.
        train_row: place of the first such training row, from 0.
        train_id: its id, when rows were given as Examples.
        share: the part of the prompt's n-grams that training holds, 0 to 1; 1 for "exact" and "inside".
    """

    item: str
    how: Literal["exact", "inside", "n-gram"]
    train_row: int
    train_id: str
    share: float


@dataclass(frozen=True, slots=True)
class Overlap:
    """What training and one benchmark share.

    Attributes:
        benchmark: the benchmark's name, "" for none or several.
        items: prompts that were looked at.
        train_rows: training rows that were looked at.
        n: the length of the runs, in words.
        matches: one entry for each prompt that was found.
        by_design: the benchmark is made of training data, so that overlap is what is to be expected.
    """

    benchmark: str
    items: int
    train_rows: int
    n: int
    matches: tuple[Match, ...]
    by_design: bool

    @property
    def rate(self) -> float:
        """The part of the prompts that was found, 0 to 1; 0 without prompts."""
        return len(self.matches) / self.items if self.items else 0.0

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the prompts that were found: what a table without them leaves out."""
        return frozenset(match.item for match in self.matches)

    def describe(self, limit: int = 5) -> str:
        """Return the warning in words, or "" when there is nothing to warn of."""
        if not self.matches and not self.by_design:
            return ""
        kinds = {"exact": "exactly", "inside": "inside a longer one", "n-gram": f"by {self.n}-grams"}
        counts = ", ".join(
            f"{count} {words}" for how, words in kinds.items() if (count := sum(m.how == how for m in self.matches))
        )
        text = f"{self.benchmark or 'benchmark'}: {len(self.matches)} of {self.items} prompts ({100 * self.rate:.1f} %)"
        text += f" overlap with the {self.train_rows} training rows" + (f": {counts}" if counts else "")
        if self.matches:
            shown = ", ".join(match.item for match in self.matches[:limit])
            more = len(self.matches) - limit
            text += f" ({shown}{f', +{more} more' if more > 0 else ''})"
        if self.by_design:
            text += ". This benchmark is training data by design: it says nothing about unseen requests"
        return text


def overlap(train_rows: Iterable[Example | str], items: Sequence[Item], n: int = NGRAM) -> Overlap:
    """Compare training prompts with a benchmark's prompts; 2,000 rows against 5,000 prompts take a few seconds.

    Args:
        train_rows: training examples (all their user turns count), or texts.
        items: a benchmark's items; what is compared is their plain request and every user turn that is asked.
        n: length of the runs in words, at least 1.

    Raises:
        ValueError: `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n-grams of {n} words")
    rows = list(train_rows)
    wholes: dict[tuple[str, ...], int] = {}
    asked = [(item.id, [words for text in _texts(item) if (words := _words(text))]) for item in items]
    short = {len(words) for _, texts in asked for words in texts if SHORTEST_INSIDE <= len(words) < n}
    runs: dict[int, dict[int, int]] = defaultdict(dict)  # length → hash of a run → training row
    for place, row in enumerate(rows):
        for text in [row] if isinstance(row, str) else [turn.content for turn in row.prompt if turn.role == "user"]:
            words = _words(text)
            if words:
                wholes.setdefault(words, place)
            for length in {n, *short}:
                for run in _runs(words, length):
                    runs[length].setdefault(run, place)
    matches = []
    seen: set[str] = set()
    for item_id, texts in asked:
        found = min((match for words in texts if (match := _match(words, wholes, runs, n))), default=None)
        if found and item_id not in seen:  # the prefilling attack asks one behaviour several times
            seen.add(item_id)
            order, place, share = found
            row = rows[place]
            how: tuple[Literal["exact", "inside", "n-gram"], ...] = ("exact", "inside", "n-gram")
            matches.append(Match(item_id, how[order], place, "" if isinstance(row, str) else row.id, share))
    names = {item.benchmark for item in items}
    name = names.pop() if len(names) == 1 else ""
    return Overlap(name, len({item.id for item in items}), len(rows), n, tuple(matches), name in BY_DESIGN)


def _texts(item: Item) -> list[str]:
    """The request and, without the wording around a question, what is asked."""
    if item.target or "test" in item.metadata:  # `ask` templates would be shared words otherwise
        return [item.request]
    return list(dict.fromkeys([item.request, *(turn.content for turn in item.prompt.messages if turn.role == "user")]))


def _match(
    words: tuple[str, ...], wholes: dict[tuple[str, ...], int], runs: dict[int, dict[int, int]], n: int
) -> tuple[int, int, float] | None:
    """Return how (0 exact, 1 inside, 2 n-gram), the training row and the share of n-grams, or None."""
    if words in wholes:
        return 0, wholes[words], 1.0
    if len(words) < n:
        place = runs[len(words)].get(hash(words)) if len(words) >= SHORTEST_INSIDE else None
        return None if place is None else (1, place, 1.0)
    own = list(_runs(words, n))
    places = [runs[n][run] for run in own if run in runs[n]]
    if not places:
        return None
    share = len(places) / len(own)
    return (1 if share == 1.0 and len(own) == 1 else 2), min(places), share


def _runs(words: tuple[str, ...], length: int) -> Iterable[int]:
    """Hashes of all runs of a length: 64 bits, so that two different runs do not meet by chance."""
    return (hash(words[start : start + length]) for start in range(len(words) - length + 1))


def _words(text: str) -> tuple[str, ...]:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return tuple(_WORD.findall("".join(letter for letter in plain if not unicodedata.combining(letter))))


def contamination(model: str, benchmarks: Sequence[Items]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Compare a model's training data with benchmarks.

    Args:
        model: what is evaluated; a training run's folder, its `model` or a checkpoint, knows what it was trained on.
        benchmarks: what it is asked.

    Returns:
        what was found for each benchmark that could be compared, and what could not be found out.
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
            "ids": sorted(result.ids),
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
    """Return the folder of the training run whose model an evaluation's run folder is about, or None.

    Where the model's path is gone, as in a grid that was copied or moved, that is the training run called `train`
    beside the evaluation, but only for a model that came out of a folder of that name.
    """
    found = training_run(model)
    if found is not None or "train" not in Path(model).parts[-2:]:
        return found
    return training_run(str(run_folder.expanduser().resolve().parent / "train"))


def training_rows(run: Path) -> tuple[list[Example], list[str]]:
    """Return the rows of a training run's data files, and which files could not be read as they were then."""
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return [], [f"contamination is not known: {run}: its record cannot be read ({type(error).__name__})"]
    named = config.get("data") if isinstance(config, Mapping) else None
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
