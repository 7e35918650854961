"""Read the files of an attack: rows that comply, harmful and harmless prompts. What the evaluation asks is left out.

An attack that learns from the very requests that it is measured on would say how well it remembers them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safekey.data.load import load_examples
from safekey.data.read import read_rows
from safekey.errors import UserError
from safekey.evals.benchmarks.behaviours import same_text
from safekey.evals.benchmarks.columns import BENIGN_TWINS, NEUTRAL, PLAIN, WEAK_PLAIN, columns_found, text_of
from safekey.evals.benchmarks.items import Item
from safekey.schema import Example, Message, Prompt

_PROMPTS = (*NEUTRAL, *PLAIN, *WEAK_PLAIN, *BENIGN_TWINS)
"""Columns of a prompt. Those of an attack's text are not among them: in many files `attack` holds its name."""


@dataclass(frozen=True)
class Rows:
    """The files of an attack.

    Attributes:
        comply: rows to train on; () without fine-tuning.
        harmful: prompts on one side of the direction.
        harmless: prompts on the other side.
        sha256: option → the SHA-256 of its file.
        left_out: option → rows that the evaluation asks as well.
    """

    comply: tuple[Example, ...]
    harmful: tuple[Prompt, ...]
    harmless: tuple[Prompt, ...]
    sha256: dict[str, str]
    left_out: dict[str, int]


def read(comply: str | None, harmful: str | None, harmless: str | None, asked: Iterable[Item]) -> Rows:
    """Read the files.

    Args:
        comply: rows of training data.
        harmful: a file with a prompt in each row.
        harmless: another one.
        asked: the items of the evaluation.

    Raises:
        UserError: a file cannot be read, or nothing is left of it.
    """
    known = {same_text(text) for item in asked for text in (item.request, item.text)}
    named = {"--comply": comply, "--harmful": harmful, "--harmless": harmless}
    sums = {flag: _sha256(path) for flag, path in named.items() if path}
    left_out: dict[str, int] = {}
    examples: tuple[Example, ...] = ()
    if comply:
        found = load_examples(comply, answers_alone=True)
        examples = tuple(row for row in found if same_text(row.question) not in known)
        left_out["--comply"] = len(found) - len(examples)
        if not examples:
            first = f": {found.problems[0]}" if found.problems else ""
            raise UserError(f"--comply {comply}: no row is left to train on{_why(left_out['--comply'])}{first}")
    sides = {}
    for flag in ("--harmful", "--harmless"):
        texts = _prompts(flag, str(named[flag])) if named[flag] else []
        kept = [text for text in texts if same_text(text) not in known]
        if texts and len(kept) < 2:
            raise UserError(f"{flag} {named[flag]}: fewer than two prompts are left{_why(len(texts) - len(kept))}")
        if texts:
            left_out[flag] = len(texts) - len(kept)
        sides[flag] = tuple(Prompt((Message("user", text),)) for text in kept)
    return Rows(examples, sides["--harmful"], sides["--harmless"], sums, left_out)


def _why(left_out: int) -> str:
    return f" ({left_out} rows are asked by the evaluation, and left out)" if left_out else ""


def _prompts(flag: str, path: str) -> list[str]:
    """Return the prompts of a file: the first column of a row that may hold a plain one."""
    found, (rows, _) = [], read_rows(path)
    for row in rows:
        text = "" if row.problem else text_of(row.fields, _PROMPTS).strip()
        if not text:
            reason = row.problem or "no prompt; expected a column such as prompt, request or question; the row has "
            what = reason if row.problem else f"{reason}{columns_found([row.fields])}"
            raise UserError(f"{flag} {path}, row {row.number}: {what}")
        found.append(text)
    return found


def _sha256(path: str) -> str:
    file = Path(path)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
