"""Errors that a user can mend. The command line prints them as one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class UserError(Exception):
    """Something in the user's input is wrong; the message says what, where, and what to do."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why one row of a data file cannot be used.

    Attributes:
        file: path or hub id of the data.
        row: 1-based row number; for JSONL this is the line number.
        field: the column at fault, or "" when the whole row is.
        reason: what was found, what was expected, and what to do.
    """

    file: str
    row: int
    field: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.file}, row {self.row}" + (f", field '{self.field}'" if self.field else "")
        return f"{where}: {self.reason}"


class DataError(UserError):
    """A data file or a row in it cannot be used."""

    @classmethod
    def from_problem(cls, problem: RowProblem) -> DataError:
        """Build the error that `--strict` raises for the first unusable row."""
        return cls(str(problem))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'head_weight'?" for a mistyped word, or "" where no known one is near."""
    near = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
