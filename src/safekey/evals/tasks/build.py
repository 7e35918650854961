"""One Inspect task for each benchmark of the catalog.

    inspect eval safekey/strongreject --model safekey/runs/r1-7b -T data_dir=benchmarks \\
        --model-role judge=openai/gpt-4.1

`safekey eval` builds the same tasks. A task's arguments are names and numbers only, so that Inspect can write them into
a log and build the task again (`inspect eval-retry`, `inspect score`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args

from inspect_ai import Epochs, Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
)
from inspect_ai.scorer import Scorer

from safekey.errors import UserError
from safekey.evals.benchmarks.load import Item, Items, find_benchmark, load_benchmark
from safekey.evals.judges.open import DEFAULTS, ROLE
from safekey.evals.model_api.provider import prefill_message
from safekey.evals.tasks.scorers import correct, judged
from safekey.evals.tasks.solver import respond
from safekey.schema import THINK_CLOSE, THINK_OPEN, Message, Part

PARTS: tuple[Part, ...] = get_args(Part)
DEFAULT_PARTS: tuple[Part, ...] = ("answer", "thinking")
PRESETS: Mapping[str, float] = {"default": 1.0, "paper": 1.2}
"""Preset → repetition penalty for safety and over-refusal; the reference generated with 1.2."""

MAX_TOKENS: Mapping[str, int] = {"safety": 8_000, "over-refusal": 8_000, "reasoning": 32_768}
SAMPLES: Mapping[str, int] = {"safety": 1, "over-refusal": 1, "reasoning": 4}


def decoding(
    suite: str,
    preset: str = "default",
    *,
    seed: int = 0,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
) -> GenerateConfig:
    """Return how a suite is decoded.

    Safety and over-refusal: greedy, 8,000 tokens. Reasoning: the model's own temperature and top-p, 32,768 tokens:
    greedy decoding cripples long reasoning.

    Args:
        suite: "safety", "over-refusal" or "reasoning".
        preset: "default" or "paper".
        seed: of the draws; every sample of a prompt has another.
        temperature: in place of the suite's.
        top_p: in place of the model's own.
        max_tokens: in place of the suite's.

    Raises:
        UserError: the preset does not exist.
    """
    if preset not in PRESETS:
        raise UserError(f"preset '{preset}' does not exist: choose {' or '.join(PRESETS)}")
    greedy = suite != "reasoning"
    penalty = PRESETS[preset] if greedy else 1.0
    return GenerateConfig(
        temperature=0.0 if greedy and temperature is None else temperature,
        top_p=top_p,
        max_tokens=max_tokens or MAX_TOKENS[suite],
        seed=seed,
        extra_body={"repetition_penalty": penalty} if penalty != 1.0 else None,
    )


def build_task(
    name: str,
    *,
    data_dir: str | None = None,
    file: str | None = None,
    hub_id: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    prefill_tokens: int | Sequence[int] = (20,),
    judges: str | Sequence[str] = (),
    templates: Mapping[str, str] | None = None,
    judge_settings: Mapping[str, Any] | None = None,
    parts: str | Sequence[str] = DEFAULT_PARTS,
    preset: str = "default",
    samples: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    unsafe_local_exec: bool = False,
    judge: bool = True,
    store: str | None = None,
) -> Task:
    """Build the task of a benchmark; `docs/evaluation.md` explains the arguments.

    Raises:
        UserError: an argument is wrong, or the benchmark cannot be loaded.
    """
    items = load_items(
        name, data_dir, file, hub_id=hub_id, revision=revision, columns=columns, limit=limit, sample=sample, seed=seed,
        prefill_tokens=prefill_tokens,
    )  # fmt: skip
    benchmark = items.benchmark
    config = decoding(
        benchmark.suite, preset, seed=seed or 0, temperature=temperature, top_p=top_p, max_tokens=max_tokens
    )
    return task_of(
        items,
        config,
        judges=_words(judges),
        templates=templates,
        judge_settings=judge_settings,
        parts=check_parts(_words(parts)),
        samples=samples or SAMPLES[benchmark.suite],
        unsafe_local_exec=unsafe_local_exec,
        judge=judge,
        store=store,
    )


def load_items(
    name: str,
    data_dir: str | None = None,
    file: str | None = None,
    *,
    columns: Mapping[str, str | None] | None = None,
    prefill_tokens: int | Sequence[int] = (20,),
    **rest: Any,
) -> Items:
    """Load a benchmark once for each set of arguments, which are those of `load_benchmark`."""
    tokens = (prefill_tokens,) if isinstance(prefill_tokens, int) else tuple(prefill_tokens)
    kept = tuple(sorted((columns or {}).items()))
    return _load(name, data_dir, file, kept, tokens, tuple(sorted(rest.items())))


@lru_cache(maxsize=32)
def _load(
    name: str,
    data_dir: str | None,
    file: str | None,
    columns: tuple[tuple[str, str | None], ...],
    tokens: tuple[int, ...],
    rest: tuple[tuple[str, Any], ...],
) -> Items:
    return load_benchmark(name, data_dir, file, columns=dict(columns), prefill_tokens=tokens, **dict(rest))


def task_of(
    items: Items,
    config: GenerateConfig,
    *,
    judges: Sequence[str] = (),
    templates: Mapping[str, str] | None = None,
    judge_settings: Mapping[str, Any] | None = None,
    parts: Sequence[Part] = DEFAULT_PARTS,
    samples: int = 1,
    unsafe_local_exec: bool = False,
    store: str | None = None,
    judge: bool = True,
) -> Task:
    """Build the task of a loaded benchmark.

    Args:
        items: the benchmark.
        config: how to decode.
        judges: NAME=MODEL; default: the suite's own judge, asked through the Inspect role "judge".
        templates: judge → file with its prompt template.
        judge_settings: fields of `JudgeSettings`.
        parts: which parts of a response are judged.
        samples: completions of each prompt.
        unsafe_local_exec: run generated code in a sealed local process.
        store: a run folder: what its rows hold is neither generated nor judged again, and new rows are added to it.
        judge: False: generate only.
    """
    benchmark = items.benchmark
    scorer: Scorer | None = None
    judging: dict[str, Any] = {}
    if benchmark.suite == "reasoning":
        scorer = correct(benchmark.scoring, unsafe_local_exec, store)
    elif judge:
        kind: Any = benchmark.scoring
        judging = {
            "judges": list(judges) or [f"{DEFAULTS[kind]}=role:{ROLE}"],
            "parts": list(parts),
            "templates": dict(templates or {}),
            "settings": dict(judge_settings or {}),
            "store": store,
        }
        scorer = judged(kind, **judging)
        judging["kind"] = kind
    return Task(
        dataset=MemoryDataset([to_sample(item) for item in items], name=benchmark.name, location=items.source),
        solver=respond(store, judging or None),
        scorer=scorer,
        config=config,
        epochs=Epochs(samples, "mean") if samples > 1 else None,
        name=benchmark.name,
        metadata={"source": items.source, "sha256": items.sha256, "revision": items.revision, "notes": items.notes},
    )


def to_sample(item: Item) -> Sample:
    """Turn an item into Inspect's sample; what a scorer needs besides is in its metadata."""
    prompt = item.prompt
    messages = [_message(turn) for turn in prompt.messages]
    if prompt.prefill:
        messages.append(prefill_message(prompt.prefill, prompt.prefill_tokens, answer=prompt.prefill_answer))
    own = {"benchmark": item.benchmark, "behaviour": item.behaviour, "category": item.category, "attack": item.attack}
    return Sample(
        id=item.id, input=messages, target=item.target, metadata={**item.metadata, **own, "request": item.request}
    )


def check_parts(parts: Sequence[str]) -> tuple[Part, ...]:
    """Return the parts, "answer" first.

    Raises:
        UserError: there is no such part, or none is named.
    """
    for part in parts:
        if part not in PARTS:
            raise UserError(f"part '{part}' does not exist: choose from {', '.join(PARTS)}")
    if not parts:
        raise UserError(f"no part is named: choose from {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in parts)


def find_names(words: Sequence[str]) -> list[str]:
    """Return the benchmarks that these words name: whole names, or beginnings that fit one benchmark only.

    Raises:
        UserError: a word names none; the message lists those that there are.
    """
    from safekey.evals.benchmarks.catalog import BENCHMARKS

    names = [row.name for row in BENCHMARKS]
    found = []
    for word in words:
        fitting = [name for name in names if name.startswith(word)]
        found.append(word if word in names else fitting[0] if len(fitting) == 1 else find_benchmark(word).name)
    return list(dict.fromkeys(found))


def _message(turn: Message) -> ChatMessage:
    if turn.role == "user":
        return ChatMessageUser(content=turn.content)
    if turn.role == "assistant":
        text = f"{THINK_OPEN}{turn.thinking}{THINK_CLOSE}{turn.content}" if turn.thinking else turn.content
        return ChatMessageAssistant(content=text)
    return ChatMessageSystem(content=turn.content)


def _words(value: str | Sequence[str]) -> list[str]:
    words = value.split(",") if isinstance(value, str) else value
    return [word.strip() for word in words if word.strip()]
