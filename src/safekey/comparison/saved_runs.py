"""Read an evaluation's run folder for a comparison: prompts, how outputs ended, and verdicts, without the texts.

    run = read_run("runs/eval-sft-0")
    run.samples[SavedPrompt("strongreject", "row-1")]  -> one `Sample` for each completion of the prompt

Folders are only read: rows that another process appends meanwhile stay as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from safekey.comparison.types import APART, NO_PART
from safekey.errors import UserError
from safekey.evals.benchmarks.behaviours import Asked, behaviours
from safekey.evals.benchmarks.catalog import Benchmark
from safekey.evals.benchmarks.contamination import training_of
from safekey.evals.benchmarks.own import benchmarks_of
from safekey.evals.judges.table import EMPTY_PART, UNDECODED, judge_named
from safekey.evals.records.folder import EvalRun, unfinished_judging
from safekey.evals.records.reading import lines
from safekey.evals.records.rows import COMPLETIONS, VERDICTS, asked_in, completion_hash, objective_hash, prompt_hash
from safekey.evals.summary.summary import METRIC
from safekey.evals.summary.withheld import ERROR, LOST, NOT_JUDGED, Due, due, outcome
from safekey.schema import Part, Value
from safekey.terminal import printable

_LONGEST_REASON = 60
_NOT_SHOWN = {EMPTY_PART: NO_PART, UNDECODED: LOST}


class SavedPrompt(NamedTuple):
    """What is paired: a benchmark's item; the id ends with the attack on it (ID@story)."""

    benchmark: str
    item: str


class JudgeId(NamedTuple):
    """Who judged: the judge, the model that replied, and the prompt's hash; "" where no model is asked."""

    name: str
    model: str = ""
    prompt: str = ""

    def __str__(self) -> str:
        model = f" ({self.model}{f', prompt {self.prompt[:8]}' if self.prompt else ''})" if self.model else ""
        return self.name + model

    def answers_to(self, name: str) -> bool:
        """Whether a user's NAME or NAME=MODEL means this judge."""
        return name in (self.name, f"{self.name}={self.model}", str(self))


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion, without its text: the hash that its verdicts name, and how it ended."""

    digest: str
    output: str


@dataclass(slots=True)
class SavedRun:
    """The parts of one run folder that a comparison needs.

    Attributes:
        path: the folder.
        resolved: its settings.
        training: the folder of the training run whose model was evaluated; None where there is no record of one.
        training_config: that run's config.yaml; empty where there is none.
        samples: the completions of each prompt.
        behaviours: the behaviour of each prompt, and a hash of its objective.
        attacks: the attack of each prompt; "none" for a plain one.
        asked: a hash of each prompt's text.
        sampling: how each benchmark was decoded, as its first completion records it.
        kinds: "harm", "refusal" or "accuracy" for each benchmark that has a verdict.
        parts: the parts of responses that were judged.
        judges: who judged each kind, on the part in question, in the order of the rows.
        verdicts: (completion, kind) → judge → value and reason.
        parsers: judge → the versions of what read its replies; only of verdicts with a value.
        judging: the judges of a `safekey judge` that runs, or was stopped; "" for none.
        benchmarks: its benchmarks by name, the user's own among them.
    """

    path: Path
    resolved: Mapping[str, Any]
    training: Path | None = None
    training_config: Mapping[str, Any] = field(default_factory=dict)
    samples: dict[SavedPrompt, list[Sample]] = field(default_factory=dict)
    behaviours: dict[SavedPrompt, tuple[str, str]] = field(default_factory=dict)
    attacks: dict[SavedPrompt, str] = field(default_factory=dict)
    asked: dict[SavedPrompt, str] = field(default_factory=dict)
    sampling: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    parts: set[str] = field(default_factory=set)
    judges: dict[str, dict[JudgeId, None]] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], dict[JudgeId, tuple[Value | None, str]]] = field(default_factory=dict)
    parsers: dict[JudgeId, set[str]] = field(default_factory=dict)
    judging: str = ""
    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)


def read_runs(arms: Mapping[str, Sequence[str | Path]], part: Part) -> dict[str, list[SavedRun]]:
    """Read the run folders of several arms.

    Raises:
        UserError: as `read_run`, or a folder is given twice.
    """
    seen: set[Path] = set()
    for folder in (folder for group in arms.values() for folder in group):
        place = Path(folder).expanduser().resolve()
        if place in seen:
            raise UserError(f"{folder}: this run is given twice")
        seen.add(place)
    return {arm: [read_run(folder, part) for folder in group] for arm, group in arms.items()}


def read_run(folder: str | Path, part: Part = "answer") -> SavedRun:
    """Read one evaluation's run folder.

    Raises:
        UserError: it is no evaluation's, or the evaluation is not finished.
    """
    run = EvalRun(Path(folder).expanduser())
    if not run.path.is_dir():
        raise UserError(f"{run.path}: there is no such folder")
    resolved, record = run.resolved, run.record
    status = record.get("status")
    if not isinstance(resolved.get("tasks"), Mapping):
        raise UserError(f"{run.path}: no evaluation's run folder (its resolved.yaml names no tasks)")
    if status != "finished":
        raise UserError(
            f"{run.path}: this evaluation is not finished ({status or 'not begun'}): "
            "the same `safekey eval` command goes on"
        )
    training = training_of(run.path, str(resolved.get("model") or ""))
    config = read_mapping(training / "config.yaml") if training else {}
    about: dict[str, Any] = {"judging": unfinished_judging(record), "benchmarks": benchmarks_of(resolved)}
    saved = SavedRun(run.path, resolved, training, config, **about)
    newest = {(row.prompt, row.epoch): row for row in lines(run.path / COMPLETIONS, _completion)}
    named = behaviours(row.about for row in newest.values())
    for row, behaviour in zip(newest.values(), named, strict=True):
        saved.samples.setdefault(row.prompt, []).append(row.sample)
        saved.behaviours[row.prompt] = behaviour, row.objective
        saved.attacks[row.prompt] = row.attack
        saved.asked[row.prompt] = row.asked
        saved.sampling.setdefault(row.prompt.benchmark, row.sampling)
    current = {sample.digest for samples in saved.samples.values() for sample in samples}
    list(lines(run.path / VERDICTS, lambda row: _keep(saved, row, part, current)))
    return saved


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Return what a YAML or JSON file holds; empty where it cannot be read or holds no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


class _Completion(NamedTuple):
    prompt: SavedPrompt
    epoch: int
    sample: Sample
    about: Asked
    attack: str
    objective: str
    asked: str
    sampling: Mapping[str, Any]


def completions(run: SavedRun) -> Iterator[tuple[SavedPrompt, Sample, Mapping[str, Any]]]:
    """Yield each row of `completions.jsonl`, superseded ones left out."""
    known = {sample.digest: sample for samples in run.samples.values() for sample in samples}
    for row, digest in lines(run.path / COMPLETIONS, lambda row: (row, completion_hash(row))):
        if digest in known:
            yield prompt_of(row), known.pop(digest), row


def prompt_of(row: Mapping[str, Any]) -> SavedPrompt:
    """Return the prompt that a row of `completions.jsonl` answers."""
    item, attack = str(row["item"]), str(row["attack"])
    if attack not in ("", "none") and not item.endswith(f"@{attack}"):
        item = f"{item}@{attack}"
    return SavedPrompt(str(row["benchmark"]), item)


def _completion(row: Mapping[str, Any]) -> _Completion:
    prompt = prompt_of(row)
    return _Completion(
        prompt=prompt,
        epoch=row["epoch"],
        sample=Sample(completion_hash(row), str(row["output"])),
        about=asked_in(row),
        attack=str(row["attack"]) or "none",
        objective=objective_hash(row),
        asked=prompt_hash(row),
        sampling=row.get("sampling") or {},
    )


def _keep(saved: SavedRun, row: Mapping[str, Any], part: Part, current: Container[str]) -> None:
    """Add a row of `verdicts.jsonl` to the run, if it is about a current completion and the part in question."""
    digest, kind = row["completion"], row["kind"]
    judge = JudgeId(str(row["judge"]), str(row["model"]), str(row["prompt_hash"]))
    verdict = row["value"], str(row["unscored"])
    if digest not in current or kind not in METRIC:
        return
    if kind != "accuracy":
        saved.parts.add(row["part"])
    if kind == "accuracy" or row["part"] == part:
        saved.kinds[row["benchmark"]] = kind
        saved.judges.setdefault(kind, {})[judge] = None
        if row["value"] is not None:
            saved.parsers.setdefault(judge, set()).add(str(row.get("parser", "")))
        saved.verdicts.setdefault((digest, kind), {})[judge] = verdict


def behaviour_names(run: SavedRun, prompts: Collection[SavedPrompt]) -> dict[SavedPrompt, str]:
    """Return a name for the behaviour of each prompt; prompts of several benchmarks and runs may share one.

    Benchmarks share a behaviour where its id and its requests are the same, as a plain request and a prefilling attack
    on it. Equal ids alone are not enough: "row-1" is in every file.
    """
    requests: dict[tuple[str, str], str] = {}
    for prompt in prompts:
        behaviour, request = run.behaviours[prompt]
        key = prompt.benchmark, behaviour
        requests[key] = min(requests.get(key, request), request)
    return {
        prompt: f"{requests[prompt.benchmark, behaviour][:12]}/{behaviour}" if behaviour else ""
        for prompt in prompts
        for behaviour, _ in [run.behaviours[prompt]]
    }


def prefills(run: SavedRun, benchmark: str) -> bool:
    """Whether a benchmark of a run writes the start of the model's reasoning."""
    known = run.benchmarks.get(benchmark)
    return known.kind == "prefill" if known else benchmark in APART


def judged(run: SavedRun, sample: Sample, kind: str, judge: JudgeId | None) -> tuple[Value | None, str]:
    """Return the judge's own value for one completion, such as "refused" or 4.0; or None and the reason."""
    value, reason = _verdict(run, sample, kind, judge)
    return value, _NOT_SHOWN.get(reason, reason) if value is None else reason


def _verdict(run: SavedRun, sample: Sample, kind: str, judge: JudgeId | None) -> tuple[Value | None, str]:
    """Return value and reason as the verdict has them; NOT_JUDGED where there is none."""
    found = run.verdicts.get((sample.digest, kind), {})
    known = found.get(judge) if judge is not None else next(iter(reversed(found.values())), None)
    return (None, NOT_JUDGED) if known is None else known


def scored(run: SavedRun, sample: Sample, kind: str, judge: JudgeId | None) -> tuple[float | None, str]:
    """Return whether one completion counts as positive (1.0 or 0.0), or None and why that is not known.

    A problem without a whole answer (cut off, empty, …) is not solved: 0.0, and how the output ended. One that was cut
    off behind its answer has a value: it counts by its answer.
    """
    value, reason = judged(run, sample, kind, judge)
    stated = kind == "accuracy" and value is not None
    if sample.output != "ok" and (not stated or sample.output == ERROR):
        return (0.0 if kind == "accuracy" and sample.output != ERROR else None), sample.output
    if value is None:
        return None, printable(reason)[:_LONGEST_REASON] or "unscored"
    if kind == "accuracy" or judge is None:
        return float(value == 1.0), ""
    return float(judge_named(kind, judge.name).positive(value)), ""


def verdicts_due(run: SavedRun, samples: Sequence[Sample], kind: str, judge: JudgeId | None) -> Due:
    """Return the verdicts that are due on some completions: those that are there, and those that are missing."""
    ends: Counter[str] = Counter()
    for sample in samples:
        ends[outcome(sample.output, *_verdict(run, sample, kind, judge))] += 1
    return due(ends, answers=kind == "accuracy")
