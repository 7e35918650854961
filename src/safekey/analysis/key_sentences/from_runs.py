"""From evaluation run folders to key-sentence diagnostics: the only place where `evals` and `analysis` meet.

    found = diagnose({"sft": ["runs/eval-sft-0", "runs/eval-sft-1"], "safekey": ["runs/eval-sk-0"]})
    found.groups, found.results, found.to_dict()

Folders are only read. docs/analysis.md says what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safekey.analysis.key_sentences.find import Diagnostics, NamingRule, StanceRule, diagnose_generations
from safekey.analysis.key_sentences.records import Generation, Kind, Source
from safekey.comparison.comparable import choose
from safekey.comparison.saved_runs import JudgeId, SavedRun, read_run
from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS
from safekey.evals.judges.table import EMPTY_PART, JUDGES, exact
from safekey.evals.records.rows import COMPLETIONS, completion_hash, completion_in, completion_key
from safekey.schema import Part
from safekey.text.thinking import split_completion

NOT_JUDGED = "not judged"
UNSCORED = "unscored"
_BY_SUITE: Mapping[str, Kind] = {"safety": "harmful", "over-refusal": "benign", "reasoning": "problem"}
_BY_JUDGED: Mapping[str, Kind] = {"harm": "harmful", "refusal": "benign", "accuracy": "problem"}
_KINDS: Mapping[str, Kind] = {row.name: _BY_SUITE[row.suite] for row in BENCHMARKS}


def diagnose(
    arms: Mapping[str, Sequence[str | Path]],
    *,
    judges: Sequence[str] = (),
    part: Part = "answer",
    names_harm: NamingRule | None = None,
    stance: StanceRule | None = None,
) -> Diagnostics:
    """Look into the saved generations of several arms.

    Args:
        arms: arm → run folders of `safekey eval`, one for each training seed.
        judges: NAME or NAME=MODEL, where runs were judged by several; at most one of each kind.
        part: the part of the responses that outcomes are about; right and wrong are always about the answer.
        names_harm: see `diagnose_generations`.
        stance: see `diagnose_generations`.

    Raises:
        UserError: a folder is no finished evaluation's, is given twice, or the runs share no judge or several
            and none is named, as for `safekey compare`.
    """
    folders = [Path(folder).expanduser().resolve() for group in arms.values() for folder in group]
    for place, folder in enumerate(folders):
        if folder in folders[:place]:
            raise UserError(f"{folder}: this run is given twice")
    saved = {arm: [read_run(folder, part) for folder in group] for arm, group in arms.items()}
    runs = [run for group in saved.values() for run in group]
    # Stances need no verdicts, so runs without any are welcome; the notes name every judge, so models may differ.
    chosen = choose(runs, ("harm", "refusal"), judges, allowed=True, complete=False)
    rows = (each for arm, group in saved.items() for run in group for each in _generations(arm, run, chosen[run.path]))
    said = sorted({f"{kind} judged by {judge}" for by in chosen.values() for kind, judge in by.items()})
    return diagnose_generations(rows, stance=stance, names_harm=names_harm, notes=said)


def _generations(arm: str, run: SavedRun, judges: Mapping[str, JudgeId]) -> Iterator[Generation]:
    behaviours = _behaviours(run)
    for row in _completions(run.path / COMPLETIONS):
        completion = completion_in(row)
        parts = split_completion(completion, with_prefill=bool(completion.prefill))
        begin = next((span.start for span in parts.spans if span.kind == "thinking"), 0)
        benchmark = str(row["benchmark"])
        attack = str(row["attack"]) or "none"
        source = Source(
            arm=arm,
            benchmark=benchmark,
            item=str(row["item"]),
            attack=attack,
            kind=_KINDS.get(benchmark) or _BY_JUDGED.get(run.kinds.get(benchmark, ""), "benign"),
            outcome=_outcome(run, row, run.kinds.get(benchmark, ""), judges),
            behaviour=behaviours.get((benchmark, str(row["behaviour"]).removesuffix(f"@{attack}")), ""),
            run=str(run.path),
            sample=int(row["epoch"]),
            output=str(row["output"]),
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


def _behaviours(run: SavedRun) -> dict[tuple[str, str], str]:
    """Return a name for the behaviour of each benchmark's prompts that other benchmarks and runs give it, too.

    Equal ids alone say nothing, "row-1" is in every file: the request's hash tells behaviours apart.
    """
    hashes: dict[tuple[str, str], str] = {}
    for prompt, (behaviour, request) in run.behaviours.items():
        if behaviour:
            key = prompt.benchmark, behaviour
            hashes[key] = min(hashes.get(key, request), request)
    return {key: f"{request[:12]}/{key[1]}" for key, request in hashes.items()}


def _outcome(run: SavedRun, row: Mapping[str, Any], kind: str, judges: Mapping[str, JudgeId]) -> str:
    """Return the judged outcome in one word: a judge's class as it stands, a number by the judge's first rule."""
    if row["output"] != "ok":
        return str(row["output"])
    found = run.verdicts.get((completion_hash(row), kind), {})
    judge = judges.get(kind)
    known = found.get(judge) if judge is not None else next(iter(reversed(found.values())), None)
    if known is None:
        return NOT_JUDGED
    value, reason = known
    if value is None:
        return "no such part" if reason == EMPTY_PART else UNSCORED
    if isinstance(value, str):
        return value
    if kind == "accuracy" or judge is None:
        return "right" if value == 1.0 else "wrong"
    positive = (JUDGES.get(judge.name) or exact(lambda _: None)).positive(value)
    word = "refused" if kind == "refusal" else "harmful"
    return word if positive else f"not {word}"


def _completions(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows, superseded ones left out; half a line at the end is passed over, and the file is not touched."""
    newest: dict[Any, int] = {}
    for number, key in _lines(path, completion_key):
        newest[key] = number
    last = set(newest.values())
    for number, row in _lines(path, dict):
        if number in last:
            yield row


def _lines(path: Path, read: Callable[[Mapping[str, Any]], Any]) -> Iterator[tuple[int, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield number, read(json.loads(line))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: holds a line that is no row of this file ({type(error).__name__})") from error
