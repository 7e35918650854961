"""One rater's way through the drawn answers: which is next, what was said, and the way back."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from safekey.errors import UserError
from safekey.evals.labelling.answers import Answer
from safekey.evals.labelling.store import LabelFile
from safekey.evals.labelling.wording import WORDINGS

RATER = "rater1"
_LONGEST_NAME = 60  # characters


@dataclass(frozen=True, slots=True)
class Progress:
    """How many answers a rater has labelled and skipped, of how many."""

    labelled: int
    skipped: int
    total: int

    @property
    def left(self) -> int:
        """Answers that were neither labelled nor skipped."""
        return self.total - self.labelled - self.skipped


class Session:
    """The drawn answers, and what one rater said of them. Its methods may be called from several threads."""

    def __init__(self, file: LabelFile, rater: str = RATER) -> None:
        """Read what this rater said before.

        Raises:
            UserError: the name is empty, too long or no printable text, or the file cannot be read.
        """
        if not rater.strip() or not rater.isprintable() or len(rater) > _LONGEST_NAME:
            raise UserError(f"--rater {rater[:_LONGEST_NAME]!r}: expected a name of 1 to {_LONGEST_NAME} characters")
        self.file, self.rater = file, rater.strip()
        self.wording = WORDINGS[file.draw.kind]
        self._answers = file.draw.answers
        self._places = {answer.completion: place for place, answer in enumerate(self._answers, 1)}
        self._lock = threading.Lock()
        self._said: dict[int, int | None] = {}  # place → label, the latest last
        for row in file.rows():
            if row["rater"] == self.rater and row["completion"] in self._places:
                self._said[self._places[row["completion"]]] = row["label"]

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, place: int) -> Answer:
        """Return the answer at a place, from 1."""
        return self._answers[place - 1]

    def place_of(self, completion: str) -> int | None:
        """Return the place of a completion, or None."""
        return self._places.get(completion)

    def said(self, place: int) -> tuple[bool, int | None]:
        """Return whether the rater has been at a place, and the label; None: skipped."""
        with self._lock:
            return place in self._said, self._said.get(place)

    def next(self) -> int | None:
        """Return the first place where the rater has not been, or None."""
        with self._lock:
            return next((place for place in range(1, len(self._answers) + 1) if place not in self._said), None)

    def skipped(self) -> int | None:
        """Return the first place that the rater skipped, or None."""
        with self._lock:
            return min((place for place, label in self._said.items() if label is None), default=None)

    def before(self, place: int | None = None) -> int | None:
        """Return the place that was labelled last, or last before another one; None where there is none."""
        with self._lock:
            order = list(self._said)
        order = order[: order.index(place)] if place in order else order
        return order[-1] if order else None

    def label(self, place: int, label: int | None) -> None:
        """Record what the rater says of a place: 1, 0, or None to skip; it is on the disk when this returns.

        A change keeps the place's turn, so that going back further still goes backwards.

        Raises:
            UserError: the file cannot be written.
        """
        if not 1 <= place <= len(self._answers) or label not in (0, 1, None):
            raise ValueError(f"expected a place from 1 to {len(self._answers)} and 1, 0 or None")
        with self._lock:
            if place in self._said and self._said[place] == label:
                return
            self.file.add(self._answers[place - 1], label, self.rater)
            self._said[place] = label

    def progress(self) -> Progress:
        """Return how far the rater is."""
        with self._lock:
            skipped = sum(label is None for label in self._said.values())
            return Progress(len(self._said) - skipped, skipped, len(self._answers))

    def in_words(self, label: int | None) -> str:
        """Return a label in words."""
        return "Skipped" if label is None else self.wording.yes if label else self.wording.no
