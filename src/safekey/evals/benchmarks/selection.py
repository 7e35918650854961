"""Choose the rows of a benchmark file that are asked: those with the right label, and of these the published choice.

Every rule is a pure function of the rows, in the file's order, and the seed: the same file gives the same prompts on
any machine. A note says what a rule leaves out. Rows that say the opposite of what the benchmark asks for are refused:
a harm judge over benign rows gives an attack success of 0 %, which looks like a result.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from safekey.data.read import RawRow
from safekey.errors import RowProblem, UserError
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.columns import (
    COLUMNS,
    Label,
    Row,
    column_of,
    columns_found,
    is_reply,
    label_of,
    labels_of,
    plain,
    text_of,
    value_of,
)  # fmt: skip

Table = Mapping[str, tuple[str, ...]]
STEP = 5
PER_CATEGORY = 100
NAMED = 8  # rows that a message names
_HARMFUL_NAMES = {"harmful", "unsafe", "toxic", "malicious"}
_BENIGN_NAMES = {"benign", "safe", "harmless", "pseudo", "seemingly"}


def label_columns(rows: Sequence[RawRow], table: Table) -> tuple[str, ...]:
    """Return the columns from which labels are read: the user's, else those of which most values are labels.

    A column whose name is not in the table counts, too, unless it is about a reply ("response_harm_label").

    In OR-Bench "harmful" is one of ten categories; a score of toxicity is now and then exactly 0. Neither is a label.
    """
    if table["label"] != COLUMNS["label"]:
        return table["label"]
    kept = []
    known = {plain(name) for name in table["label"]}
    there = dict.fromkeys(str(name) for row in rows for name in row.fields)
    others = [name for name in there if plain(name) not in known and not is_reply(name)]
    for name in (*table["label"], *others):
        values = {str(value_of(row.fields, (name,))): row.fields for row in rows if column_of(row.fields, (name,))}
        if sum(bool(labels_of(fields, (name,))) for fields in values.values()) * 2 >= len(values) > 0:
            kept.append(name)
    return tuple(kept)


def labelled(
    rows: list[RawRow],
    benchmark: Benchmark,
    table: Table,
    source: str,
    notes: list[str],
    problems: list[RowProblem],
    *,
    force: bool = False,
) -> list[RawRow]:
    """Return the rows with the label that the benchmark needs.

    A file without any label is taken whole when its name (or the hub's split) says the same, or the benchmark is the
    user's own, which asks rows without a label, too. With `force`, a file with the other label alone is taken whole.

    Raises:
        UserError: there is no label, or no row has the right one.
    """
    if benchmark.keep is None or not table["label"]:
        return rows
    names = label_columns(rows, table)
    labels = [label_of(row.fields, names) for row in rows]
    if not any(labels):
        if benchmark.own or _named_so(source, benchmark.keep):
            return rows
        raise UserError(
            f"{source}: nothing says which rows are {benchmark.keep}: expected a label in one of the columns "
            f"{', '.join(table['label'])}; found {columns_found(row.fields for row in rows[:100])}. Name it with "
            f"--column label=NAME, or with --column label= if every row is {benchmark.keep}"
        )
    wanted = (benchmark.keep, None) if benchmark.own else (benchmark.keep,)
    kept = [row for row, label in zip(rows, labels, strict=True) if label in wanted]
    for row, label in zip(rows, labels, strict=True):
        if label is None and not benchmark.own:
            reason = "no label: nothing in the row says whether it is harmful or benign"
            problems.append(RowProblem(source, row.number, column_of(row.fields, names) or "label", reason))
    counts = Counter(label or "no label" for label in labels)
    if not kept and force:
        return [row for row, label in zip(rows, labels, strict=True) if label is not None]
    if not kept:
        found = ", ".join(f"{count} {label}" for label, count in counts.items())
        raise UserError(
            f"{source}: no {benchmark.keep} rows for '{benchmark.name}'; found {found}: give another file, or "
            f"--force-labels {benchmark.name} to ask them all the same"
        )
    if benchmark.own and counts["no label"]:
        notes.append(f"{source}: {counts.pop('no label')} rows say nothing of what they are, and are asked, too")
    if others := ", ".join(f"{count} {label}" for label, count in counts.items() if label != benchmark.keep):
        notes.append(f"{source}: {counts[benchmark.keep]} {benchmark.keep} rows taken; left out: {others}")
    return kept


def check_labels(
    rows: Sequence[RawRow], benchmark: Benchmark, table: Table, source: str, notes: list[str], *, force: bool
) -> None:
    """Refuse rows, or a file's name, that say the opposite of what the benchmark asks for; with `force` note them.

    Raises:
        UserError: the message counts the rows, names the first and the column, and says how to ask them all the same.
    """
    if benchmark.suite == "reasoning" or not table["label"]:
        return
    wrong: Label = "benign" if benchmark.suite == "safety" else "harmful"
    names = label_columns(rows, table)
    found = [(row, column) for row in rows for column, label in labels_of(row.fields, names) if label == wrong]
    numbers = list(dict.fromkeys(row.number for row, _ in found))
    if numbers:
        column = found[0][1]
        values = list(dict.fromkeys(repr(value_of(each.fields, (own,))) for each, own in found if own == column))
        said = (
            f"{len(numbers)} of {len(rows)} rows say that they are {wrong} (column '{column}': "
            f"{', '.join(values[:3])}; {numbered(numbers)}), and '{benchmark.name}' asks "
            f"{'harmful' if wrong == 'benign' else 'benign'} ones"
        )
    elif _name_says(source, wrong):
        said = f"the file's name says that its rows are {wrong}, and '{benchmark.name}' asks the opposite"
    else:
        return
    if not force:
        raise UserError(
            f"{source}: {said}. Give another file, --column label=NAME if another column has the label, or "
            f"--force-labels {benchmark.name} to ask them all the same"
        )
    notes.append(f"{source}: {said}; asked all the same (--force-labels)")


def numbered(rows: Sequence[int]) -> str:
    """Return "row 3", or "rows 3, 7, 9 and 12 more"."""
    shown = ", ".join(str(row) for row in rows[:NAMED])
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def _named_so(source: str, keep: str) -> bool:
    name = PurePath(source).name.lower()
    benign = any(word in name for word in ("benign", "safe", "harmless")) and "unsafe" not in name
    harmful = any(word in name for word in ("harmful", "unsafe", "toxic", "wildjailbreak")) and "benign" not in name
    return benign if keep == "benign" else harmful


def _name_says(source: str, label: Label) -> bool:
    words = set(re.split(r"[^a-z]+", PurePath(source).name.lower()))
    harmful, benign = bool(words & _HARMFUL_NAMES), bool(words & _BENIGN_NAMES)
    return harmful and not benign if label == "harmful" else benign and not harmful


def chosen(rows: list[RawRow], benchmark: Benchmark, table: Table, seed: int, notes: list[str]) -> list[RawRow]:
    """Return the published choice among rows that carry the right label (see `Benchmark.rule`)."""
    if benchmark.pick == "every-5th":
        if len(rows) == benchmark.size:
            notes.append(
                f"{benchmark.name}: the file holds {len(rows)} rows, the published choice itself: all are taken"
            )
            return rows
        return rows[::STEP]
    if benchmark.pick == "seeded" and benchmark.draw is not None:
        return drawn(rows, benchmark.draw, seed)
    if benchmark.pick == "harmbench":
        kept = [row for row in rows if text_of(row.fields, ("FunctionalCategory",)).strip().lower() != "copyright"]
        if len(kept) < len(rows):
            notes.append(f"{benchmark.name}: {len(rows) - len(kept)} copyright behaviours left out: {benchmark.rule}")
        return kept
    if benchmark.pick == "sorry-bench":
        return _only(rows, benchmark, "prompt_style", ("", "base"), notes)
    if benchmark.pick == "coconot":
        return _only(rows, benchmark, "category", ("", "requests with safety concerns"), notes)
    if benchmark.pick == "wildchat":
        return _wildchat(rows, notes)
    return rows


def _only(
    rows: list[RawRow], benchmark: Benchmark, column: str, values: tuple[str, ...], notes: list[str]
) -> list[RawRow]:
    """Return the rows with one of these values in a column; "": the column is empty or not there."""
    kept = [row for row in rows if text_of(row.fields, (column,)).strip().lower() in values]
    if len(kept) < len(rows):
        notes.append(f"{benchmark.name}: {len(rows) - len(kept)} rows left out by '{column}': {benchmark.rule}")
    return kept


def drawn(rows: list[RawRow], count: int, seed: int) -> list[RawRow]:
    """Return `count` rows in the order in which `datasets.Dataset.shuffle(seed).select(range(count))` draws them."""
    if len(rows) <= count:
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[int(place)] for place in order[:count]]


def sampled(rows: list[RawRow], count: int, seed: int) -> list[RawRow]:
    """Return a seeded sample of `count` rows, in the file's order."""
    kept = {id(row) for row in drawn(rows, count, seed)}
    return [row for row in rows if id(row) in kept]


def _wildchat(rows: list[RawRow], notes: list[str]) -> list[RawRow]:
    """Choose as the reference does: toxic, English, one turn, last turn flagged; the highest scores of each category.

    The last turn is the model's reply, so the scores are the reply's: this is the published rule.
    """
    scored: list[tuple[str, float, RawRow]] = []
    for row in rows:
        category, score = _moderation(row.fields)
        if category:
            scored.append((category, score, row))
    if not scored:
        notes.append("wildchat-toxic: the file holds no moderation scores: every row is taken as chosen already")
        return rows
    kept = []
    for category in sorted({category for category, _, _ in scored}):
        of_it = [(score, row) for name, score, row in scored if name == category]
        kept += [row for _, row in sorted(of_it, key=lambda pair: -pair[0])[:PER_CATEGORY]]
    notes.append(
        f"wildchat-toxic: {len(scored)} of {len(rows)} rows are toxic, English, of one turn and flagged; "
        f"{len(kept)} of them, at most {PER_CATEGORY} a category, are taken"
    )
    return kept


def _moderation(fields: Row) -> tuple[str, float]:
    """Return a row's highest moderation category and its score; ("", 0.0) when the rule leaves the row out."""
    reduced = column_of(fields, ("category_score",))
    if reduced is not None and column_of(fields, ("category",)):  # the reference's own reduced file
        return text_of(fields, ("category",)), float(fields[reduced])
    turns = _read(value_of(fields, ("openai_moderation",)))
    if not isinstance(turns, list) or not turns or not isinstance(turns[-1], Mapping):
        return "", 0.0
    right = {"toxic": ("true", "1"), "language": ("english",), "turn": ("1", "1.0")}
    for name, accepted in right.items():
        value = text_of(fields, (name,)).strip().lower()
        if value and value not in accepted:
            return "", 0.0
    scores = turns[-1].get("category_scores")
    if not turns[-1].get("flagged") or not isinstance(scores, Mapping):
        return "", 0.0
    # The hub writes each category twice ("self-harm", "self_harm"); None stands where a row lacks one.
    numbers = {str(name): float(score) for name, score in scores.items() if score is not None and "_" not in str(name)}
    best = max(numbers, key=lambda name: numbers[name], default="")
    return best, numbers.get(best, 0.0)


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
