"""The one builder of Inspect tasks: from a planned benchmark to dataset, solver and scorer.

    inspect eval safekey/strongreject --model safekey/runs/r1-7b -T data_dir=benchmarks \\
        --model-role judge=openai/gpt-4.1

A solver's and a scorer's arguments are names and numbers only, so that Inspect can write them into a log and build them
again (`inspect eval-retry`, `inspect score`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from inspect_ai import Epochs, Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import Scorer

from safekey.evals.benchmarks.items import Item
from safekey.evals.model_api.convert import prefill_message
from safekey.evals.plan import PlannedTask
from safekey.evals.tasks.scorers import correct, judged
from safekey.evals.tasks.solver import respond
from safekey.schema import THINK_CLOSE, THINK_OPEN, Message


def build_task(planned: PlannedTask, store: str | None = None) -> Task:
    """Build the task of a planned benchmark.

    Args:
        planned: what is asked, how it is decoded, who judges; without judges nothing is judged.
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
        dataset=MemoryDataset([to_sample(item) for item in items], name=benchmark.name, location=items.source),
        solver=respond(store, judging or None),
        scorer=scorer,
        config=planned.config,
        epochs=Epochs(planned.samples, "mean") if planned.samples > 1 else None,
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


def _message(turn: Message) -> ChatMessage:
    if turn.role == "user":
        return ChatMessageUser(content=turn.content)
    if turn.role == "assistant":
        text = f"{THINK_OPEN}{turn.thinking}{THINK_CLOSE}{turn.content}" if turn.thinking else turn.content
        return ChatMessageAssistant(content=text)
    return ChatMessageSystem(content=turn.content)
