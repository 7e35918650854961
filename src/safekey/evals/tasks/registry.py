"""The Inspect tasks: built from a planned benchmark, and registered under the names that Inspect's commands take.

    inspect eval safekey/strongreject --model safekey/runs/r1-7b -T data_dir=benchmarks \\
        --model-role judge=openai/gpt-4.1

Inspect imports this module for each of its commands, through our entry point. The import loads no model code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from inspect_ai import Epochs, Task, task
from inspect_ai._util.error import PrerequisiteError
from inspect_ai._util.registry import registry_info, registry_tag
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ModelAPI,
    modelapi,
)
from inspect_ai.scorer import Scorer

from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS
from safekey.evals.benchmarks.items import Item
from safekey.evals.model_api.convert import prefill_message
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.plan import PlannedTask, judges_of, plan_task, task_request
from safekey.evals.tasks.sample import correct, judged, respond, scored
from safekey.schema import THINK_CLOSE, THINK_OPEN, Message

__all__ = ["TASKS", "build_task", "correct", "judged", "respond", "safekey", "scored", "tagged"]


@modelapi(name="safekey")
def safekey() -> type[ModelAPI]:
    """``--model safekey/PATH_OR_ID`` and ``--model safekey/http://host:port/v1#name``."""
    return SafeKeyAPI


def build_task(planned: PlannedTask, store: str | None = None) -> Task:
    """Build the task of a planned benchmark.

    Args:
        planned: items, decoding and judges; without judges nothing is judged.
        store: a run folder: what its rows hold is neither generated nor judged again, and new rows are added to it.
    """
    items, benchmark = planned.items, planned.benchmark
    scorer: Scorer | None = None
    judging: dict[str, Any] = {}
    if benchmark.suite == "reasoning":
        scorer = correct(benchmark.scoring, planned.unsafe_local_exec, store)
    elif planned.judges:
        judging = {
            "kind": benchmark.scoring,
            "judges": [str(spec) for spec in planned.judges],
            "parts": list(planned.parts),
            "templates": {spec.name: spec.template for spec in planned.judges if spec.template},
            "settings": asdict(planned.judge_settings),
            "store": store,
        }
        scorer = judged(**judging)
    return Task(
        dataset=MemoryDataset([_sample(item) for item in items], name=benchmark.name, location=items.source),
        solver=respond(store, judging or None),
        scorer=scorer,
        config=planned.config,
        epochs=Epochs(planned.samples, "mean") if planned.samples > 1 else None,
        name=benchmark.name,
        metadata={"source": items.source, "sha256": items.sha256, "revision": items.revision, "notes": items.notes},
    )


def _sample(item: Item) -> Sample:
    """Turn an item into Inspect's sample; its metadata holds what a scorer needs besides."""
    prompt = item.prompt
    messages = [_message(turn) for turn in prompt.messages]
    if prompt.prefill:
        messages.append(prefill_message(prompt.prefill, prompt.prefill_tokens, answer=prompt.prefill_answer))
    own = {"benchmark": item.benchmark, "behaviour": item.behaviour, "category": item.category, "attack": item.attack}
    return Sample(
        id=item.id, input=messages, target=item.target, metadata={**item.metadata, **own, "request": item.request}
    )


def _message(turn: Message) -> ChatMessage:
    if turn.role == "user":
        return ChatMessageUser(content=turn.content)
    if turn.role == "assistant":
        text = f"{THINK_OPEN}{turn.thinking}{THINK_CLOSE}{turn.content}" if turn.thinking else turn.content
        return ChatMessageAssistant(content=text)
    return ChatMessageSystem(content=turn.content)


def _task(name: str) -> Callable[..., Task]:
    """Make the task `safekey/NAME`; its arguments (`-T data_dir=…`) are those of `plan.task_request`, and `store`."""

    def made(store: str | None = None, **options: Any) -> Task:
        try:
            request = task_request(name, options)
            return build_task(plan_task(name, request, judges_of(request)), store)
        except UserError as error:
            raise PrerequisiteError(str(error)) from error  # Inspect prints these as one line

    registered: Callable[..., Task] = task(name=name)(made)
    return registered


TASKS: Mapping[str, Callable[..., Task]] = {benchmark.name: _task(benchmark.name) for benchmark in BENCHMARKS}
"""Benchmark → the function that builds its task from `-T` options."""


def tagged(made: Task, options: Mapping[str, Any]) -> Task:
    """Return a task whose log holds the options from which `inspect eval-retry` builds it again."""
    registered = TASKS[str(made.name)]
    registry_tag(registered, made, registry_info(registered), **options)
    return made
