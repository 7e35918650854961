"""The generations of an evaluation's run folder as rows: prompt and response as the model saw and wrote them."""

from __future__ import annotations

from collections import Counter

from safekey.analysis.rows import Row, RowKind
from safekey.comparison.saved_runs import behaviour_names, completions, read_run
from safekey.data.segment import segment
from safekey.errors import UserError
from safekey.evals.records.rows import REDACTED, completion_in, messages_in
from safekey.schema import Example
from safekey.text.thinking import canonical, split_completion

_BY_SUITE: dict[str, RowKind] = {"safety": "harmful", "over-refusal": "benign", "reasoning": "problem"}


def rows_of_run(path: str) -> tuple[list[Row], list[str]]:
    """Return one row for each whole generation that the model wrote itself, and notes on the others.

    Raises:
        UserError: the folder is no finished evaluation's, its texts were dropped, or it has no such generation.
    """
    run = read_run(path)
    names = behaviour_names(run, run.behaviours)
    kinds = {name: _BY_SUITE[row.suite] for name, row in run.benchmarks.items()}
    rows: list[Row] = []
    left: Counter[str] = Counter()
    for prompt, sample, saved in completions(run):
        if REDACTED in saved:
            raise UserError(f"{path}: its texts were dropped (--redact), so there is nothing to look into")
        completion = completion_in(saved)
        reason = "were prefilled" if completion.prefill else "" if sample.output == "ok" else f"are {sample.output}"
        parts = split_completion(completion)
        if not reason and not parts.thinking:
            reason = "have no thinking"
        if reason:
            left[reason] += 1
            continue
        kind = kinds.get(prompt.benchmark, "unlabelled")
        example = Example(
            prompt=messages_in(saved),
            response=canonical(parts.thinking, parts.answer),
            harmful={"harmful": True, "benign": False}.get(kind),
            id=f"{prompt.benchmark}/{prompt.item}",
            file=str(run.path),
            row=len(rows) + 1,
        )
        rows.append(Row(segment(example), kind, names[prompt] or example.id, str(saved["attack"]) or "none"))
    if not rows:
        said = ", ".join(f"{count} {reason}" for reason, count in left.items()) or "it has none"
        raise UserError(f"{path}: no generation can be used ({said})")
    return rows, [f"{path}: {count} generations {reason}: left out" for reason, count in left.items()]
