"""The transcripts that a page can show: every prompt once, and each run's responses with X, U and K found in them.

One response, as the page gets it::

    {"text": "<what stood in the pen and what the model wrote>", "prefill": 50, "think": (0, 171), "u": 31, "k": 78,
     "label": "unsafe", "state": "harmful", …}

Offsets count characters of `text`. K lies between `u` and `k`, U between the thinking's start and `u`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from safekey.comparison.collect import judged, scored
from safekey.comparison.saved_runs import Prompt, Sample, SavedRun, lines, prompt_of
from safekey.data.segment import find_spans
from safekey.evals.records.rows import COMPLETIONS, completion_in
from safekey.report.content import Material
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example, Message
from safekey.text.thinking import split_thinking

State = Literal["harmful", "harmless", "refused", "answered", "right", "wrong", "unknown"]
_STATES: Mapping[str, tuple[State, State]] = {
    "harm": ("harmful", "harmless"),
    "refusal": ("refused", "answered"),
    "accuracy": ("right", "wrong"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt.

    Attributes:
        prompt: benchmark and item.
        attack: "none" for a plain one.
        behaviour: what several attacks share.
        category: as the benchmark's file says.
        kind: "harm", "refusal" or "accuracy".
        messages: role and content of each turn before the response.
        objective: what the judge was told was asked, where it is not the last turn itself.
        target: the right answer, where there is one.
    """

    prompt: Prompt
    attack: str
    behaviour: str
    category: str
    kind: str
    messages: tuple[tuple[str, str], ...]
    objective: str
    target: str


@dataclass(frozen=True, slots=True)
class Response:
    """One completion; `arm` and `run` are places in the material's arms and in the arm's runs.

    Attributes:
        asked: place of its prompt.
        arm: place of its arm.
        run: place of its run within the arm.
        epoch: which sample of the prompt.
        label: the judge's class or grade, or how the output ended, or why it has no value.
        state: what counts.
        text: the prefilled words and what the model wrote.
        prefill: how many characters of `text` were prefilled.
        inside: whether `text` begins inside an opened thinking.
    """

    asked: int
    arm: int
    run: int
    epoch: int
    label: str
    state: State
    text: str
    prefill: int
    inside: bool


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the parts of a response lie, as character offsets.

    Attributes:
        start: of the thinking.
        u: end of U; equal to `start` where U is empty.
        k: end of K; equal to `u` where K is empty.
        end: of the thinking.
        answer: start of the answer; the text's length where there is none.
        kinds: whether any of it was found.
    """

    start: int
    u: int
    k: int
    end: int
    answer: int


def read_transcripts(material: Material) -> tuple[list[Asked], list[Response]]:
    """Read every completion that took part in the comparison, in the order of arms, runs and files."""
    asked: dict[Prompt, int] = {}
    prompts: list[Asked] = []
    responses = []
    for place, arm in enumerate(material.arms):
        for number, run in enumerate(material.found.saved[arm]):
            for prompt, sample, row in _completions(run, material):
                if prompt not in asked:
                    asked[prompt] = len(prompts)
                    prompts.append(_asked(prompt, row, material))
                responses.append(_response(asked[prompt], (place, number), run, sample, row, material))
    return prompts, responses


def _completions(run: SavedRun, material: Material) -> Iterator[tuple[Prompt, Sample, Mapping[str, Any]]]:
    known = {sample.digest: sample for samples in run.samples.values() for sample in samples}
    for row, digest in lines(run.path / COMPLETIONS, _row):
        prompt, _ = prompt_of(row)
        if digest in known and prompt in material.found.attacks:
            yield prompt, known.pop(digest), row


def _row(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    from safekey.evals.records.rows import completion_hash

    return row, completion_hash(row)


def _asked(prompt: Prompt, row: Mapping[str, Any], material: Material) -> Asked:
    turns = [(str(turn.get("role", "")), str(turn.get("content", ""))) for turn in row.get("messages") or []]
    if turns and turns[-1][0] == "assistant":  # a prefilling attack's words: they stand in the response
        turns.pop()
    request = str(row["request"])
    if not turns:
        turns = [("user", request)]
    _, behaviour = prompt_of(row)
    return Asked(
        prompt=prompt,
        attack=material.found.attacks[prompt],
        behaviour=behaviour,
        category=str(row.get("category") or ""),
        kind=material.found.kinds[prompt.benchmark],
        messages=tuple(turns),
        objective=request if request not in turns[-1][1] else "",
        target=str(row.get("target") or ""),
    )


def _response(
    asked: int, place: tuple[int, int], run: SavedRun, sample: Sample, row: Mapping[str, Any], material: Material
) -> Response:
    kind = material.found.kinds[str(row["benchmark"])]
    judge = material.found.chosen[run.path].get(kind)
    positive, reason = scored(run, sample, kind, judge)
    own, _ = judged(run, sample, kind, judge)
    yes, no = _STATES[kind]
    state: State = "unknown" if positive is None else yes if positive else no
    if kind == "accuracy" and positive is None and sample.output not in ("ok", "error"):
        state = "wrong"  # as in the rates: a problem that was not finished is not solved
    if positive is None:
        label = reason
    elif kind == "accuracy":
        label = state
    else:
        label = own if isinstance(own, str) else f"{state} ({own:g})"
    completion = completion_in(row)
    return Response(
        asked=asked,
        arm=place[0],
        run=place[1],
        epoch=int(row["epoch"]),
        label=label,
        state=state,
        text=completion.prefill + completion.text,
        prefill=len(completion.prefill),
        inside=completion.started_inside,
    )


def marks(response: Response, asked: Asked) -> Marks | None:
    """Find the parts of a response by rule (`safekey.data.segment`); None where it has no thinking."""
    text = response.text
    split = split_thinking(text, response.inside)
    if split.state == "absent":
        return None
    start, end = next(((span.start, span.end) for span in split.spans if span.kind == "thinking"), (0, 0))
    answer = next((span.start for span in split.spans if span.kind == "answer" and span.start >= end), len(text))
    if start == end:
        return None
    body = f"{THINK_OPEN}{text[start:end]}{THINK_CLOSE}{text[answer:]}"
    turns = tuple(Message(role, content) for role, content in asked.messages)
    u, k = find_spans(Example(prompt=turns, response=body))
    shift, border = start - len(THINK_OPEN), len(THINK_OPEN) + end - start

    def back(offset: int) -> int:
        if offset <= border:
            return offset + shift
        return min(answer + max(offset - border - len(THINK_CLOSE), 0), len(text))

    return Marks(start, back(u), back(k), end, answer)


def discordant(responses: Sequence[Response], seeds: Sequence[Sequence[Any]]) -> dict[tuple[int, Any], bool]:
    """Say for each prompt and seed whether arms differ there; an arm with one run takes part in every seed.

    Args:
        responses: all of them.
        seeds: for each arm the seed of each run.
    """
    groups: dict[tuple[int, Any], set[State]] = {}
    everywhere: dict[int, set[State]] = {}
    for row in responses:
        if row.state == "unknown":
            continue
        if len(seeds[row.arm]) == 1:
            everywhere.setdefault(row.asked, set()).add(row.state)
        else:
            groups.setdefault((row.asked, seeds[row.arm][row.run]), set()).add(row.state)
    if not groups:
        return {(asked, None): len(states) > 1 for asked, states in everywhere.items()}
    return {key: len(states | everywhere.get(key[0], set())) > 1 for key, states in groups.items()}


def shuffled(prompts: Sequence[Asked], seed: int) -> list[int]:
    """Return the prompts' places in an order drawn by the seed, the benchmarks in turn."""
    turns: dict[str, list[tuple[str, int]]] = {}
    for place, asked in enumerate(prompts):
        drawn = hashlib.sha256(f"{seed}\0{asked.prompt!a}".encode()).hexdigest()
        turns.setdefault(asked.prompt.benchmark, []).append((drawn, place))
    ranked = [
        (rank, benchmark, place) for benchmark, rows in turns.items() for rank, (_, place) in enumerate(sorted(rows))
    ]
    return [place for _, _, place in sorted(ranked)]
