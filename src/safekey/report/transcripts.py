"""Read the transcripts for the page: every prompt once, each run's responses, and U and K in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from safekey.comparison.saved_runs import Sample, SavedPrompt, SavedRun, completions, judged, scored
from safekey.data.segment import find_spans
from safekey.evals.adaptive.settings import TURNS
from safekey.evals.attacks.decoding import read_part
from safekey.evals.records.rows import REDACTED, completion_in
from safekey.report.content import PLAIN, Content
from safekey.schema import THINK_CLOSE, THINK_OPEN, Example, Message
from safekey.text.thinking import split_completion, split_thinking

_GONE = "(the text was dropped: this run was made with --redact)"
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
        behaviour: the id that several attacks on it share.
        category: from the benchmark's file.
        kind: "harm", "refusal" or "accuracy".
        messages: role and content of each turn before the response.
        objective: the plain request, which the judge was told, where the prompt is an attack or another text.
        target: the right answer, where there is one.
    """

    prompt: SavedPrompt
    attack: str
    behaviour: str
    category: str
    kind: str
    messages: tuple[tuple[str, str], ...]
    objective: str
    target: str


@dataclass(frozen=True, slots=True)
class Response:
    """One completion; `arm` and `run` are positions in the report's arms and in the arm's runs.

    Attributes:
        asked: position of its prompt.
        arm: position of its arm.
        run: position of its run within the arm.
        epoch: the number of the sample.
        label: the judge's class or grade, or how the output ended, or why it has no value.
        state: the outcome by the judge's first rule.
        text: the prefilled words and what the model wrote.
        prefill: how many characters of `text` were prefilled.
        inside: whether `text` begins inside the thinking.
        decoded: the judged part as the judge read it, where it was in the cipher of its attack; "" elsewhere.
        turns: of an attack that adapts, all that happened: in words, what the attacker said, what the model replied.
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
    decoded: str = ""
    turns: tuple[tuple[str, str, str], ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything in it that may be long."""
        return (self.text, self.decoded, *(text for _, *said in self.turns for text in said))


class Marks(NamedTuple):
    """Character offsets of the parts of a response.

    Attributes:
        start: of the thinking.
        u: end of U; equal to `start` where U is empty.
        k: end of K; equal to `u` where K is empty.
        end: of the thinking.
        answer: start of the answer; the text's length where there is none.
    """

    start: int
    u: int
    k: int
    end: int
    answer: int


def read_transcripts(content: Content) -> tuple[list[Asked], list[Response]]:
    """Read every completion that took part in the comparison, in the order of arms, runs and files."""
    asked: dict[SavedPrompt, int] = {}
    prompts: list[Asked] = []
    responses = []
    for place, arm in enumerate(content.arms):
        for number, run in enumerate(content.found.saved[arm]):
            for prompt, sample, row in completions(run):
                if prompt not in content.found.attacks:
                    continue
                if prompt not in asked:
                    asked[prompt] = len(prompts)
                    prompts.append(_asked(prompt, run.behaviours[prompt][0], row, content))
                responses.append(_response(asked[prompt], (place, number), run, sample, row, content))
    return prompts, responses


def _asked(prompt: SavedPrompt, behaviour: str, row: Mapping[str, Any], content: Content) -> Asked:
    turns = [(str(turn.get("role", "")), str(turn.get("content", ""))) for turn in row.get("messages") or []]
    if turns and turns[-1][0] == "assistant":  # the prefilled words, which are shown in the response
        turns.pop()
    request = str(row["request"])
    if REDACTED in row:
        turns, request = [("user", _GONE)], ""
    if not turns:
        turns = [("user", request)]
    return Asked(
        prompt=prompt,
        attack=content.found.attacks[prompt],
        behaviour=behaviour,
        category=str(row.get("category") or ""),
        kind=content.found.kinds[prompt.benchmark],
        messages=tuple(turns),
        objective=request if content.found.attacks[prompt] != PLAIN or request not in turns[-1][1] else "",
        target=str(row.get("target") or ""),
    )


def _response(
    asked: int, place: tuple[int, int], run: SavedRun, sample: Sample, row: Mapping[str, Any], content: Content
) -> Response:
    kind = content.found.kinds[str(row["benchmark"])]
    judge = content.found.chosen[run.path].get(kind)
    positive, reason = scored(run, sample, kind, judge)
    own, _ = judged(run, sample, kind, judge)
    yes, no = _STATES[kind]
    state: State = "unknown" if positive is None else yes if positive else no
    if reason:
        label = reason
    elif kind == "accuracy":
        label = state
    else:
        label = own if isinstance(own, str) else f"{state} ({own:g})"
    completion = completion_in(row)
    read = read_part(row, split_completion(completion).part(content.part))
    return Response(
        asked=asked,
        arm=place[0],
        run=place[1],
        epoch=int(row["epoch"]),
        label=label,
        state=state,
        text=_GONE if REDACTED in row else completion.prefill + completion.text,
        prefill=len(completion.prefill),
        inside=completion.started_inside and REDACTED not in row,
        decoded=read.text if read.undone else "",
        turns=tuple(_turns(row.get(TURNS) or ())),
    )


def _turns(saved: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Return what happened in an attack that adapts, turn by turn."""
    for number, turn in enumerate(saved, 1):
        head = f"turn {number}, branch {turn.get('branch', 1)}"
        if "messages" not in turn:
            yield f"{head}: the attacker gave no message ({turn.get('outcome')})", str(turn.get("said") or ""), ""
            continue
        value = turn.get("value")
        verdict = "no verdict" if value is None else f"{'harmful' if turn.get('positive') else 'not harmful'} ({value})"
        back = ", taken back" if turn.get("taken_back") else ""
        ended = "" if turn.get("output") in ("ok", None) else f", {turn['output']}"
        said = str((turn["messages"] or [{}])[-1].get("content", ""))
        yield f"{head}: {verdict}{ended}{back}", said, str(turn.get("text") or "")


def marks(response: Response, asked: Asked) -> Marks | None:
    """Find U and K of a response by rule (`safekey.data.segment`); None where it has no thinking."""
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
    """Return for each prompt and seed whether arms differ; an arm with one run is compared at every seed.

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
    """Return the prompts' positions in an order drawn by the seed, the benchmarks in turn."""
    turns: dict[str, list[tuple[str, int]]] = {}
    for place, asked in enumerate(prompts):
        drawn = hashlib.sha256(f"{seed}\0{asked.prompt!a}".encode()).hexdigest()
        turns.setdefault(asked.prompt.benchmark, []).append((drawn, place))
    ranked = [
        (rank, benchmark, place) for benchmark, rows in turns.items() for rank, (_, place) in enumerate(sorted(rows))
    ]
    return [place for _, _, place in sorted(ranked)]
