"""The data keys of a recipe, and the rows they give: load, sample, segment, hold out, encode; problems are kept."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from safekey.data import DataSource, load_mixture, segment, summarize
from safekey.data.summary import Summary
from safekey.errors import DataError, RowProblem, UserError
from safekey.options import unknown
from safekey.schema import Example
from safekey.training.command import draw
from safekey.training.command.yaml_values import convert
from safekey.training.encoding import Encoded, encode_all


@dataclass
class DataConfig:
    """The keys of a recipe that say what to train on.

    Attributes:
        data: a path or hub id, or a list of them; an entry can be a table with `path` and other fields of `DataSource`.
        eval_data: held-out rows of their own, in the same form.
        eval_fraction: share of `data` that is held out when there is no `eval_data`; 0 trains on every row.
        segment: "rule" finds U and K in rows without them; "given" uses such rows for SFT only.
        strict: a row that cannot be used stops the run.
        limit: train on a seeded sample of this many rows.
        rows: "same" trains every seed on the same rows; "drawn" gives each seed its own draw of them; see `draw.py`.
        rows_share: with "drawn": this share of the rows, each once; None: a bootstrap.
        batch_size: rows per optimiser step over all processes; sets `gradient_accumulation_steps`.
    """

    data: str | list[Any] | None = None
    eval_data: str | list[Any] | None = None
    eval_fraction: float = 0.05
    segment: Literal["rule", "given"] = "rule"
    strict: bool = False
    limit: int | None = None
    rows: Literal["same", "drawn"] = "same"
    rows_share: float | None = None
    batch_size: int | None = None

    def check(self, name: str, where: Callable[[str], str]) -> None:
        """Check the values; `name` is the recipe's, and `where` names a key in messages.

        Raises:
            UserError: no data, an entry that is no data source, or a value outside its range.
        """
        if not self.data:
            raise UserError(
                f"{name}: no data: add data=FILE to the command, or 'data:' to the recipe "
                "(a file, a hub id, or a list of them; docs/recipes.md)"
            )
        data_sources(self.data, where("data"))
        data_sources(self.eval_data, where("eval_data"))
        if not 0 <= self.eval_fraction < 1:
            raise UserError(f"{where('eval_fraction')}: expected a share in [0, 1), found {self.eval_fraction}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"{where('limit')}: expected at least 1, found {self.limit}")
        if self.rows_share is not None:
            if not 0 < self.rows_share < 1:
                raise UserError(f"{where('rows_share')}: expected a share above 0 and below 1, found {self.rows_share}")
            if self.rows != "drawn":
                raise UserError(f"{where('rows_share')}: is read with rows=drawn only: set it, or leave the share out")


def data_sources(value: str | list[Any] | None, where: str) -> list[DataSource]:
    """Return the sources that `data` or `eval_data` names.

    Raises:
        UserError: an entry is neither a path nor a table with a path, or has unknown keys or wrong types.
    """
    entries: Iterable[Any] = [] if value is None else [value] if isinstance(value, str) else value
    sources = []
    hints = get_type_hints(DataSource)
    for index, entry in enumerate(entries):
        at = f"{where}, entry {index}"
        table = {"path": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("path"), str) or not table["path"]:
            raise UserError(f"{at}: expected a path or a table with 'path', found {entry!r:.80}")
        for key in table:
            if key not in hints:
                raise unknown(str(key), hints, at)
        sources.append(DataSource(**{key: convert(v, hints[key], f"{at}: key '{key}'") for key, v in table.items()}))
    return sources


@dataclass(frozen=True)
class TrainingRows:
    """The rows that one run trains on and holds out.

    Attributes:
        train: encoded rows, in the order of the sources.
        held_out: encoded rows for evaluation.
        summary: counts over the training sources as they were read.
        problems: every row that is not used, from reading and from encoding.
        spans: training rows by how U and K were found ("rule", "given", ..., "none").
        files: for each local file its sha256 and size; for each hub id its revision.
        notes: choices that were made for the user.
        distinct: how many different ones of the data's rows `train` holds; fewer than it has where rows were drawn with
            replacement.
    """

    train: list[Encoded]
    held_out: list[Encoded]
    summary: Summary
    problems: list[RowProblem]
    spans: Counter[str]
    files: dict[str, dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    distinct: int | None = None

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
        """Whether both classes have rows with U and K, so that the safety heads can learn."""
        return {True, False} <= {row.harmful for row in self.train if row.spans.complete}


def prepare_rows(
    data: DataConfig,
    tokenizer: Any,
    *,
    seed: int,
    max_length: int,
    chat_template_kwargs: dict[str, Any] | None = None,
    today: str | None = None,
) -> TrainingRows:
    """Load and encode all rows of a run.

    Raises:
        UserError: no row can be used; with `strict`, any row cannot.
        DataError: a source cannot be read.
    """
    options: dict[str, Any] = {"chat_template_kwargs": chat_template_kwargs}
    if today is not None:
        options["today"] = today
    sources = data_sources(data.data, "data")
    loaded = load_mixture(sources, seed, strict=data.strict)
    summary, problems, notes = summarize(loaded), list(loaded.problems), [*loaded.reading(), *loaded.notes]
    kept: list[Example] = _sample(loaded, data.limit, seed)
    held: list[Example] = []
    if data.eval_data:
        sources_held = data_sources(data.eval_data, "eval_data")
        own = load_mixture(sources_held, seed, strict=data.strict)
        problems += own.problems
        notes += [*own.reading(), *own.notes]
        sources, held = [*sources, *sources_held], list(own)
    elif data.eval_fraction:
        kept, held = hold_out(kept, data.eval_fraction, seed)
    if data.segment == "rule":
        kept, held = [segment(example) for example in kept], [segment(example) for example in held]
    train, train_problems = encode_all(kept, tokenizer, max_length, **options)
    held_out, held_problems = encode_all(held, tokenizer, max_length, **options)
    problems += dict.fromkeys([*train_problems, *held_problems])  # a row that a weight repeats has one problem
    if data.strict and len(problems):
        raise DataError.from_problem(problems[0])
    if not train:
        first = f"; the first: {problems[0]}" if problems else ""
        raise UserError(f"data: none of the {loaded.rows_read} rows can be trained on{first}")
    distinct = None
    if data.rows == "drawn":  # of the rows that can be used, so that every seed has as many
        unused = {(problem.file, problem.row) for problem in train_problems}
        kept = [example for example in kept if ((example.file or "(no file)"), example.row) not in unused]
        drawn = draw.places(len(train), data.rows_share, seed)
        notes.append(draw.describe(drawn, len(train), data.rows_share))
        kept, train, distinct = [kept[at] for at in drawn], [train[at] for at in drawn], len(set(drawn))
    spans = Counter(str(example.span_source or "none") for example in kept)
    return TrainingRows(train, held_out, summary, problems, spans, describe_files(sources), notes, distinct)


def _sample(rows: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    if limit is None or limit >= len(rows):
        return list(rows)
    chosen = sorted(random.Random(seed).sample(range(len(rows)), limit))  # noqa: S311 - not a secret
    return [rows[index] for index in chosen]


def hold_out(rows: Sequence[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Hold out the same share of the prompts of each label, chosen by the hash of the prompt.

    Rows with the same prompt stay together, so that a repeated row (a weight above 1) is not in both parts; a repeat is
    held out once. Adding rows to the data moves few others. A label with only one prompt keeps it for training.

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
    """Return the identity of each source: sha256 and bytes of a local file, revision and split of a hub data set."""
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
