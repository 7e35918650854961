"""Count the rows of a data set, and warn of what the counts mean for training."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from safekey.data.load import Examples
from safekey.errors import RowProblem

_NAME_THEM = "name the labels (--label, --label-column; in a recipe the keys label, label_column of an entry of data)"


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over one or more sources, in rows unless stated otherwise.

    Attributes:
        read: rows in the sources.
        usable: rows that training can use.
        skipped: the other rows, by the fixed phrase at the beginning of their reason.
        harmful, benign, unlabelled: usable rows by label.
        with_spans: usable rows that already have U and K.
        empty_understanding: of those, rows with an empty U, which take part in SFT only.
        duplicates: usable rows that repeat an earlier row's prompt and response; they are kept.
        conflicts: prompts that are labelled both harmful and benign.
        layouts, label_rules: usable rows by layout, and by the rule that decided the label.
    """

    read: int
    usable: int
    skipped: dict[str, int]
    harmful: int
    benign: int
    unlabelled: int
    with_spans: int
    empty_understanding: int
    duplicates: int
    conflicts: int
    layouts: dict[str, int] = field(default_factory=dict)
    label_rules: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain JSON values."""
        return {**asdict(self), "skipped_total": sum(self.skipped.values())}

    def warnings(self) -> list[str]:
        """Return warnings for a user who trains on these rows, one sentence each."""
        out = []
        if self.usable and not (self.harmful and self.benign):
            only = "harmful" if self.harmful else "benign" if self.benign else "unlabelled"
            out.append(f"ONE CLASS ONLY: every labelled row is {only}; " if only != "unlabelled" else "NO LABELS: ")
            out[-1] += "DPSH needs harmful and benign rows and will be switched off; mix in rows of the other class"
            if only == "unlabelled":
                out[-1] += f", or {_NAME_THEM}"
        if self.unlabelled and self.unlabelled < self.usable:
            out.append(f"{self.unlabelled} usable rows have no label: {_NAME_THEM}")
        if self.conflicts:
            out.append(f"{self.conflicts} prompts are labelled both harmful and benign")
        if self.duplicates:
            out.append(f"{self.duplicates} rows repeat an earlier row's prompt and response (kept)")
        return out


def problem_kind(problem: RowProblem) -> str:
    """Return the fixed phrase at the beginning of a reason, by which problems are counted."""
    return problem.reason.partition(":")[0]


def summarize(examples: Examples) -> Summary:
    """Count the rows and problems that `load_examples` or `load_mixture` returned."""
    labels = Counter(example.harmful for example in examples)
    by_prompt: dict[object, set[bool | None]] = {}
    for example in examples:
        by_prompt.setdefault(example.prompt, set()).add(example.harmful)
    spanned = [example for example in examples if example.understanding_end is not None]
    return Summary(
        read=examples.rows_read,
        usable=len(examples),
        skipped=dict(Counter(map(problem_kind, examples.problems)).most_common()),
        harmful=labels[True],
        benign=labels[False],
        unlabelled=labels[None],
        with_spans=len(spanned),
        empty_understanding=sum(not example.understanding for example in spanned),
        duplicates=len(examples) - len({(example.prompt, example.response) for example in examples}),
        conflicts=sum({True, False} <= labels for labels in by_prompt.values()),
        layouts=dict(examples.layouts),
        label_rules=dict(examples.label_rules),
    )
