"""One evaluation's run folder as comparisons see it: prompts, how outputs ended, and verdicts, without the texts.

    run = read_run("runs/eval-sft-0")
    run.samples[Prompt("strongreject", "row-1")]  -> one `Sample` for each completion of the prompt

Folders are only read: rows that another process appends meanwhile stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safekey.errors import UserError
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.rows import COMPLETIONS, VERDICTS, completion_hash
from safekey.evals.summary.summary import METRIC
from safekey.schema import Part, Value

T = TypeVar("T")


class Prompt(NamedTuple):
    """What is paired: a benchmark's item, and the attack on it where the item's id does not say it."""

    benchmark: str
    item: str


class JudgeId(NamedTuple):
    """Who judged: the judge, the model that answered, and the prompt's hash; "" where no model is asked."""

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
    """What a comparison needs of one run folder.

    Attributes:
        path: the folder.
        resolved: its settings.
        samples: the completions of each prompt.
        behaviours: the behaviour of each prompt, and a hash of the request.
        attacks: the attack of each prompt; "none" for a plain one.
        asked: a hash of what each prompt says.
        sampling: how each benchmark was decoded, as its first completion records it.
        kinds: "harm", "refusal" or "accuracy" for each benchmark that has a verdict.
        parts: which parts judges saw.
        judges: who judged each kind, on the part in question, in the order of the rows.
        verdicts: (completion, kind) → judge → value and reason.
    """

    path: Path
    resolved: Mapping[str, Any]
    samples: dict[Prompt, list[Sample]] = field(default_factory=dict)
    behaviours: dict[Prompt, tuple[str, str]] = field(default_factory=dict)
    attacks: dict[Prompt, str] = field(default_factory=dict)
    asked: dict[Prompt, str] = field(default_factory=dict)
    sampling: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    parts: set[str] = field(default_factory=set)
    judges: dict[str, dict[JudgeId, None]] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], dict[JudgeId, tuple[Value | None, str]]] = field(default_factory=dict)


def read_run(folder: str | Path, part: Part = "answer") -> SavedRun:
    """Read one evaluation's run folder.

    Raises:
        UserError: it is no evaluation's, or the evaluation is not finished.
    """
    run = EvalRun(Path(folder).expanduser())
    if not run.path.is_dir():
        raise UserError(f"{run.path}: there is no such folder")
    resolved, status = run.resolved, run.record.get("status")
    if not isinstance(resolved.get("tasks"), Mapping):
        raise UserError(f"{run.path}: no evaluation's run folder (its resolved.yaml names no tasks)")
    if status != "finished":
        raise UserError(
            f"{run.path}: this evaluation is not finished ({status or 'not begun'}): "
            "the same `safekey eval` command goes on"
        )
    saved = SavedRun(run.path, resolved)
    newest = {(row.prompt, row.epoch): row for row in lines(run.path / COMPLETIONS, _completion)}
    for row in newest.values():
        saved.samples.setdefault(row.prompt, []).append(row.sample)
        saved.behaviours[row.prompt], saved.attacks[row.prompt] = row.about, row.attack
        saved.asked[row.prompt] = row.asked
        saved.sampling.setdefault(row.prompt.benchmark, row.sampling)
    current = {sample.digest for samples in saved.samples.values() for sample in samples}
    for verdict in lines(run.path / VERDICTS, _verdict):
        _keep(saved, verdict, part, current)
    return saved


class _Verdict(NamedTuple):
    completion: str
    benchmark: str
    kind: str
    part: str
    judge: JudgeId
    value: Value | None
    unscored: str


class _Completion(NamedTuple):
    prompt: Prompt
    epoch: int
    sample: Sample
    about: tuple[str, str]
    attack: str
    asked: str
    sampling: Mapping[str, Any]


def prompt_of(row: Mapping[str, Any]) -> tuple[Prompt, str]:
    """Return what a row of `completions.jsonl` is paired by, and its behaviour."""
    item, behaviour, attack = str(row["item"]), str(row["behaviour"]), str(row["attack"])
    if attack not in ("", "none"):
        # An id that ends with its attack (ID@story) names the behaviour, too, where the row named no other.
        behaviour = behaviour.removesuffix(f"@{attack}")
        item = item if item.endswith(f"@{attack}") else f"{item}@{attack}"
    return Prompt(str(row["benchmark"]), item), behaviour


def _completion(row: Mapping[str, Any]) -> _Completion:
    prompt, behaviour = prompt_of(row)
    said = [row["request"], row.get("target", ""), row.get("messages", [])]
    return _Completion(
        prompt=prompt,
        epoch=row["epoch"],
        sample=Sample(completion_hash(row), str(row["output"])),
        about=(behaviour, _hash(row["request"])),
        attack=str(row["attack"]) or "none",
        asked=_hash(said),
        sampling=row.get("sampling") or {},
    )


def _hash(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _verdict(row: Mapping[str, Any]) -> _Verdict:
    judge = JudgeId(str(row["judge"]), str(row["model"]), str(row["prompt_hash"]))
    return _Verdict(
        row["completion"], row["benchmark"], row["kind"], row["part"], judge, row["value"], str(row["unscored"])
    )


def _keep(saved: SavedRun, row: _Verdict, part: Part, current: set[str]) -> None:
    if row.completion not in current or row.kind not in METRIC:
        return
    if row.kind != "accuracy":
        saved.parts.add(row.part)
    if row.kind == "accuracy" or row.part == part:
        saved.kinds[row.benchmark] = row.kind
        saved.judges.setdefault(row.kind, {})[row.judge] = None
        saved.verdicts.setdefault((row.completion, row.kind), {})[row.judge] = (row.value, row.unscored)


def lines(path: Path, read: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    """Yield what is made of each line; half a line at the end is passed over, and the file is not touched."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield read(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{path}, line {number}: is no row of this file ({type(error).__name__})") from error
