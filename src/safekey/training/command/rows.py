"""From a recipe's data keys to encoded rows: load, sample, segment, hold out, encode; nothing lost without a reason."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safekey.data import Examples, load_mixture, segment, summarize
from safekey.data.mix import DataSource
from safekey.data.summary import Summary
from safekey.errors import DataError, RowProblem, UserError
from safekey.schema import Example
from safekey.training.command.recipe import DataConfig, data_sources
from safekey.training.encoding import Encoded, encode_all


@dataclass(frozen=True)
class Rows:
    """What one run trains on and holds out.

    Attributes:
        train: encoded rows, in the sources' order.
        held_out: encoded rows for evaluation.
        summary: counts over the training sources as they were read.
        problems: every row that is not used, from reading and from encoding.
        spans: training rows by how U and K were found ("rule", "given", ..., "none").
        files: per local file its sha256 and size; per hub id its revision.
        notes: choices that were made for the user.
    """

    train: list[Encoded]
    held_out: list[Encoded]
    summary: Summary
    problems: list[RowProblem]
    spans: Counter[str]
    files: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)

    @property
    def harmful(self) -> int:
        """Training rows labelled harmful."""
        return sum(row.harmful is True for row in self.train)

    @property
    def benign(self) -> int:
        """Training rows labelled benign."""
        return sum(row.harmful is False for row in self.train)

    @property
    def both_classes(self) -> bool:
        """Whether rows with U and K of both classes are there, so that the safety heads can learn."""
        return {True, False} <= {row.harmful for row in self.train if row.spans.complete}


def prepare_rows(
    data: DataConfig,
    tokenizer: Any,
    *,
    seed: int,
    max_length: int,
    chat_template_kwargs: dict[str, Any] | None = None,
    today: str | None = None,
) -> Rows:
    """Load and encode everything a run needs.

    Raises:
        UserError: no row can be used; with `strict`, any row cannot.
        DataError: a source cannot be read.
    """
    options: dict[str, Any] = {"chat_template_kwargs": chat_template_kwargs}
    if today is not None:
        options["today"] = today
    sources = data_sources(data.data, "data")
    loaded = load_mixture(sources, seed, strict=data.strict)
    summary, problems, notes = summarize(loaded), list(loaded.problems), list(loaded.notes)
    kept: list[Example] = _sample(loaded, data.limit, seed)
    held: list[Example] = []
    if data.eval_data:
        sources_held = data_sources(data.eval_data, "eval_data")
        own = load_mixture(sources_held, seed, strict=data.strict)
        problems += own.problems
        notes += own.notes
        sources, held = [*sources, *sources_held], list(own)
    elif data.eval_fraction:
        kept, held = hold_out(kept, data.eval_fraction, seed)
    if data.segment == "rule":
        kept, held = [segment(example) for example in kept], [segment(example) for example in held]
    train, train_problems = encode_all(kept, tokenizer, max_length, **options)
    held_out, held_problems = encode_all(held, tokenizer, max_length, **options)
    problems += _once([*train_problems, *held_problems])
    if data.strict and len(problems):
        raise DataError.from_problem(problems[0])
    if not train:
        raise _nothing(loaded, problems)
    spans = Counter(str(example.span_source or "none") for example in kept)
    return Rows(train, held_out, summary, problems, spans, describe_files(sources), notes)


def _nothing(loaded: Examples, problems: Sequence[RowProblem]) -> UserError:
    first = f"; the first: {problems[0]}" if problems else ""
    return UserError(f"data: none of the {loaded.rows_read} rows can be trained on{first}")


def _once(problems: Iterable[RowProblem]) -> list[RowProblem]:
    """A row that a weight repeats has its problem reported once."""
    return list(dict.fromkeys(problems))


def _sample(rows: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    if limit is None or limit >= len(rows):
        return list(rows)
    chosen = sorted(random.Random(seed).sample(range(len(rows)), limit))  # noqa: S311 - not a secret
    return [rows[index] for index in chosen]


def hold_out(rows: Sequence[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split off the held-out rows: the same share of each label, decided by each prompt's own hash.

    Rows with the same prompt stay on one side, so that a repeated row (a weight above 1) cannot leak; a repeat is held
    out once. Adding rows to the data moves few others across. A label with one prompt keeps it for training.

    Returns:
        Training rows and held-out rows, each in the given order.
    """
    labels: dict[str, bool | None] = {}
    keys = [_prompt_key(example, seed) for example in rows]
    for key, example in zip(keys, rows, strict=True):
        labels.setdefault(key, example.harmful)
    held: set[str] = set()
    for label in (True, False, None):
        group = sorted(key for key, own in labels.items() if own is label)
        if len(group) > 1:
            held.update(group[: min(len(group) - 1, max(1, round(fraction * len(group))))])
    train = [example for key, example in zip(keys, rows, strict=True) if key not in held]
    unique = {
        (example.prompt, example.response): example for key, example in zip(keys, rows, strict=True) if key in held
    }
    return train, list(unique.values())


def _prompt_key(example: Example, seed: int) -> str:
    text = "\0".join(f"{turn.role}\0{turn.content}" for turn in example.prompt)
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def describe_files(sources: Iterable[DataSource]) -> dict[str, dict[str, Any]]:
    """Return what identifies each source: sha256 and bytes of a local file, revision and split of a hub data set."""
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        path = Path(source.path)
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[source.path] = {"sha256": digest, "bytes": path.stat().st_size}
        else:
            found[source.path] = {"revision": source.revision, "split": source.split}
    return found
