"""Find the answers of a run that a file of labels is about: by the completion's hash, else by request and answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safekey.errors import UserError
from safekey.evals.benchmarks.behaviours import same_text
from safekey.evals.judge_error.correct import Label
from safekey.evals.judge_error.labels import Labels, read_labels
from safekey.evals.records.rows import REDACTED, completion_hash, completion_in
from safekey.schema import JUDGED_KINDS, Part
from safekey.text.thinking import split_completion

Found = dict[tuple[str, str], dict[str, Label]]


def labels_of_runs(
    files: Sequence[str], rows: Iterable[Mapping[str, Any]], kinds: Mapping[str, str], parts: Sequence[Part]
) -> Found:
    """Return people's labels of the answers in `rows`: (kind, part) → hash of the completion → label.

    Args:
        files: files of labels, as for `read_labels`; a row that names no part is about the answer.
        rows: of `completions.jsonl`, of one or more runs.
        kinds: benchmark → what its answers are judged for.
        parts: the parts that were judged.

    Raises:
        UserError: a file cannot be read, or not one label is about an answer of these runs.
    """
    wanted = [kind for kind in JUDGED_KINDS if kind in kinds.values()]
    sets, reasons = [], []
    for kind in wanted:
        for part in parts:
            try:
                sets.append(read_labels(files, kind, part=part, unnamed_part="answer"))
            except UserError as error:
                reasons.append(error)
    if not sets:
        raise reasons[0] if reasons else UserError(f"--labels {', '.join(files)}: these runs have nothing to judge")
    found: Found = {}
    by_kind = [(each, _by_hash(each), _by_text(each)) for each in sets]
    for row in rows:
        for labels, hashes, texts in by_kind:
            if kinds.get(row["benchmark"]) == labels.kind:
                label = _label(row, labels.part, hashes, texts)
                if label is not None:
                    found.setdefault((labels.kind, labels.part), {})[completion_hash(row)] = label
    if not found:
        many = sum(len(each.answers) for each in sets)
        raise UserError(
            f"--labels {', '.join(files)}: none of its {many} labelled answers is an answer of these runs (compared by "
            "the completion's hash, and by request and answer)"
        )
    return found


def _label(
    row: Mapping[str, Any], part: Part, hashes: Mapping[str, Label], texts: Mapping[tuple[str, str], Label]
) -> Label | None:
    digest = completion_hash(row)
    if digest in hashes or REDACTED in row or not texts:
        return hashes.get(digest)
    said = split_completion(completion_in(row)).part(part)
    return texts.get((same_text(str(row["request"])), said.strip()))


def _by_hash(labels: Labels) -> dict[str, Label]:
    return {row.completion: Label(row.positive, row.stratum) for row in labels.answers if row.completion}


def _by_text(labels: Labels) -> dict[tuple[str, str], Label]:
    """Return labels by request and answer; texts that have both labels are left out."""
    found: dict[tuple[str, str], set[Label]] = {}
    for row in labels.answers:
        if not row.completion:
            key = same_text(row.request), row.response.strip()
            found.setdefault(key, set()).add(Label(row.positive, row.stratum))
    return {key: said.pop() for key, said in found.items() if len(said) == 1}
