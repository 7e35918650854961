"""Read key sentences from evaluation run folders.

    found = diagnose({"sft": ["runs/eval-sft-0", "runs/eval-sft-1"], "safekey": ["runs/eval-sk-0"]})
    found.groups, found.results, found.to_dict()

Folders are only read. docs/analysis.md says what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from safekey.analysis.key_sentences.find import Diagnostics, NamingRule, StanceRule, diagnose_generations
from safekey.analysis.key_sentences.records import Generation, GenerationSource, Kind
from safekey.comparison.comparable import choose
from safekey.comparison.saved_runs import (
    JudgeId,
    Sample,
    SavedRun,
    behaviour_names,
    completions,
    judged,
    read_runs,
    scored,
)
from safekey.comparison.types import NO_PART
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.rows import REDACTED, completion_in
from safekey.evals.summary.withheld import NOT_JUDGED
from safekey.schema import Part
from safekey.text.thinking import split_completion

UNSCORED = "unscored"
_BY_SUITE: Mapping[str, Kind] = {"safety": "harmful", "over-refusal": "benign", "reasoning": "problem"}
_BY_JUDGED: Mapping[str, Kind] = {"harm": "harmful", "refusal": "benign", "accuracy": "problem"}


def diagnose(
    arms: Mapping[str, Sequence[str | Path]],
    *,
    judges: Sequence[str] = (),
    part: Part = "answer",
    names_harm: NamingRule | None = None,
    stance: StanceRule | None = None,
) -> Diagnostics:
    """Find the key sentences in the saved generations of several arms.

    Args:
        arms: arm → run folders of `safekey eval`, one for each training seed.
        judges: NAME or NAME=MODEL, where runs were judged by several; at most one of each kind.
        part: the part of the responses that was judged; right and wrong are always about the answer.
        names_harm: see `diagnose_generations`.
        stance: see `diagnose_generations`.

    Raises:
        UserError: a folder is no finished evaluation's, is given twice, or the runs share no judge or several
            and none is named, as for `safekey compare`.
    """
    saved = read_runs(arms, part)
    runs = [run for group in saved.values() for run in group]
    # Stances need no verdicts, so runs may lack them; the notes name every judge, so models may differ.
    chosen = choose(runs, ("harm", "refusal"), judges, allowed=True, complete=False)
    rows = (each for arm, group in saved.items() for run in group for each in _generations(arm, run, chosen[run.path]))
    dropped = [str(run.path) for run in runs if EvalRun(run.path).record.get("redacted")]
    said = [f"left out, because its texts were dropped (--redact): {path}" for path in dropped]
    said += sorted({f"{kind} judged by {judge}" for by in chosen.values() for kind, judge in by.items()})
    return diagnose_generations(rows, stance=stance, names_harm=names_harm, notes=said)


def _generations(arm: str, run: SavedRun, judges: Mapping[str, JudgeId]) -> Iterator[Generation]:
    behaviours = behaviour_names(run, run.behaviours)
    for prompt, sample, row in completions(run):
        if REDACTED in row:
            continue
        completion = completion_in(row)
        parts = split_completion(completion, with_prefill=bool(completion.prefill))
        begin = next((span.start for span in parts.spans if span.kind == "thinking"), 0)
        benchmark, kind = prompt.benchmark, run.kinds.get(prompt.benchmark, "")
        source = GenerationSource(
            arm=arm,
            benchmark=benchmark,
            item=str(row["item"]),
            attack=str(row["attack"]) or "none",
            kind=_kind(run, benchmark, kind),
            outcome=_outcome(run, sample, kind, judges.get(kind)),
            behaviour=behaviours[prompt],
            run=str(run.path),
            sample=int(row["epoch"]),
            output=sample.output,
        )
        yield Generation(
            source=source,
            thinking=parts.thinking,
            asked="\n".join(str(turn["content"]) for turn in row.get("messages") or () if turn["role"] == "user"),
            request=str(row["request"]),
            closed=parts.state == "closed",
            prefilled=bool(completion.prefill),
            prefill=max(0, len(completion.prefill) - begin),
            tokens=completion.output_tokens,
            chars=len(completion.text),
        )


def _kind(run: SavedRun, benchmark: str, judged_for: str) -> Kind:
    """Return what a benchmark's prompts are: as the benchmark says, else as its verdicts say."""
    known = run.benchmarks.get(benchmark)
    return _BY_SUITE[known.suite] if known else _BY_JUDGED.get(judged_for, "benign")


def _outcome(run: SavedRun, sample: Sample, kind: str, judge: JudgeId | None) -> str:
    """Return the outcome in one word: how the output ended, or the class, or the first rule on a number."""
    if sample.output != "ok":
        return sample.output
    value, reason = judged(run, sample, kind, judge)
    if value is None:
        return reason if reason in (NOT_JUDGED, NO_PART) else UNSCORED
    if isinstance(value, str):
        return value
    positive, _ = scored(run, sample, kind, judge)
    if kind == "accuracy" or judge is None:
        return "right" if positive else "wrong"
    word = "refused" if kind == "refusal" else "harmful"
    return word if positive else f"not {word}"
