"""The Inspect tasks: built from a planned benchmark, and registered under the names that Inspect's commands take.

    inspect eval safekey/strongreject --model safekey/runs/r1-7b -T data_dir=benchmarks \\
        --model-role judge=openai/gpt-4.1

Inspect imports this module for each of its commands, through our entry point. The import loads no model code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from inspect_ai import Epochs, Task, task
from inspect_ai._util.error import PrerequisiteError
from inspect_ai._util.registry import registry_info, registry_tag
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelAPI, modelapi
from inspect_ai.scorer import Scorer

from safekey.errors import UserError
from safekey.evals.attacks.apply import can_be_attacked
from safekey.evals.benchmarks.catalog import BENCHMARKS, find_benchmark
from safekey.evals.benchmarks.items import Item
from safekey.evals.benchmarks.own import own_benchmarks
from safekey.evals.judges.open import ATTACKER, DEFAULTS, ROLE
from safekey.evals.model_api.convert import from_message, prefill_message, raw_message
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.plan import PlannedTask, make_plan
from safekey.evals.request import EvalRequest, JudgeSettings
from safekey.evals.tasks.sample import correct, judged, respond, scored
from safekey.options import unknown, words

__all__ = ["TASKS", "build_task", "correct", "judged", "respond", "safekey", "saved_task", "scored"]


_NOT_OF_A_TASK = (
    "model engine vllm server_url engine_options suite tasks benchmarks judge_url judge_model judge_records "
    "output redact"
)
TASK_OPTIONS = tuple(each.name for each in fields(EvalRequest) if each.name not in _NOT_OF_A_TASK.split())
"""The fields of a request that are `-T` options of an Inspect task."""
_OF_ONE = {"file": "files", "revision": "revisions"}  # option of one task → field of a request
_ATTACKS = ("attack", "attack_templates", "best_of", "no_plain")
_ADAPTIVE = ("adaptive", "attacker", "attack_budget", "attack_branches")
OWN = "own"
"""The task of a benchmark of the user's own: `safekey/own -T benchmark=NAME=KIND:PATH`."""


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
        solver=respond(store, judging or None, planned.adaptive.to_dict() if planned.adaptive else None),
        scorer=scorer,
        config=planned.config,
        epochs=Epochs(planned.samples, "mean") if planned.samples > 1 else None,
        name=benchmark.name,
        metadata={"source": items.source, "sha256": items.sha256, "revision": items.revision, "notes": items.notes},
    )


def _sample(item: Item) -> Sample:
    """Turn an item into Inspect's sample; its metadata holds what a scorer needs besides."""
    prompt = item.prompt
    messages = [raw_message(turn) if prompt.raw else from_message(turn) for turn in prompt.messages]
    if prompt.prefill:
        messages.append(prefill_message(prompt.prefill, prompt.prefill_tokens, answer=prompt.prefill_answer))
    own = {"benchmark": item.benchmark, "behaviour": item.behaviour, "category": item.category, "attack": item.attack}
    return Sample(
        id=item.id, input=messages, target=item.target, metadata={**item.metadata, **own, "request": item.request}
    )


def task_request(name: str, options: Mapping[str, Any]) -> EvalRequest:
    """Return the request of one Inspect task's `-T` options: the fields of EvalRequest, and `file` and `revision`.

    The task "own" has `benchmark` (NAME=KIND:PATH) in place of these two. Lists may be given as "A,B". Without judges,
    the suite's default judge is the model with the Inspect role "judge".

    Raises:
        UserError: an option does not exist or has a wrong value.
    """
    given = dict(options)
    places = ("benchmark",) if name == OWN else tuple(_OF_ONE)
    benchmarks: dict[str, str] = {}
    if name == OWN:
        name, benchmarks = _own(given.pop("benchmark", None))
    for one, several in _OF_ONE.items():
        if one in places and (value := given.pop(one, None)) is not None:
            given[several] = {name: value}
    for key in given:
        if key not in TASK_OPTIONS:
            raise unknown(key, [*TASK_OPTIONS, *places, "store"], f"task '{OWN if benchmarks else name}'")
    given = {key: value for key, value in given.items() if value is not None}
    for key in ("judges", "parts", "attack", "adaptive"):
        if key in given:
            given[key] = words(given[key])
    if given.get("adaptive"):
        given.setdefault("attacker", f"role:{ATTACKER}")
    if "prefill_tokens" in given:
        tokens = given["prefill_tokens"]
        given["prefill_tokens"] = (tokens,) if isinstance(tokens, int) else tuple(tokens)
    if isinstance(given.get("judge_settings"), Mapping):
        given["judge_settings"] = JudgeSettings(**given["judge_settings"])
    own = own_benchmarks(benchmarks)
    kind = (own[name].benchmark if own else find_benchmark(name)).scoring
    if kind in DEFAULTS and not given.get("judges"):
        given["judges"] = (f"{DEFAULTS[kind]}=role:{ROLE}",)
    return EvalRequest(model="", tasks=(name,), benchmarks=benchmarks, **given)


def _own(given: Any) -> tuple[str, dict[str, str]]:
    """Return the name of the one benchmark that the task "own" runs, and NAME → KIND:PATH."""
    word = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given or "")  # Inspect splits at ","
    name, equals, rest = word.partition("=")
    if not equals or not name or not rest:
        raise UserError(f"task '{OWN}': -T benchmark=NAME=KIND:PATH names the benchmark, found {word!r:.80}")
    return name, {name: rest}


def _task(name: str) -> Callable[..., Task]:
    """Make the task `safekey/NAME`; its arguments (`-T data_dir=…`) are those of `task_request`, and `store`."""

    def made(store: str | None = None, **options: Any) -> Task:
        try:
            (planned,) = make_plan(task_request(name, options)).tasks
            return build_task(planned, store)
        except UserError as error:
            raise PrerequisiteError(str(error)) from error  # Inspect prints these as one line

    registered: Callable[..., Task] = task(name=name)(made)
    return registered


TASKS: Mapping[str, Callable[..., Task]] = {name: _task(name) for name in (*(row.name for row in BENCHMARKS), OWN)}
"""Benchmark, and "own" → the function that builds its task from `-T` options."""


def saved_task(planned: PlannedTask, request: EvalRequest, store: str) -> Task:
    """Build a task whose log names the options from which `inspect eval-retry` builds it again.

    Args:
        planned: the planned benchmark.
        request: the evaluation's options; those without a default value are named.
        store: the run folder.
    """
    name, usual = planned.benchmark.name, EvalRequest(model="")
    options = {key: getattr(request, key) for key in TASK_OPTIONS if getattr(request, key) != getattr(usual, key)}
    if not can_be_attacked(planned.benchmark):
        options = {key: value for key, value in options.items() if key not in _ATTACKS}
    if planned.adaptive is None:
        options = {key: value for key, value in options.items() if key not in _ADAPTIVE}
    options |= {"judges": [str(spec) for spec in planned.judges], "store": store}
    for one, several in _OF_ONE.items():
        given = options.pop(several, {})
        if name in given:
            options = {key: value for key, value in options.items() if key != "data_dir"} | {one: given[name]}
    if planned.benchmark.own:
        options = {key: value for key, value in options.items() if key != "data_dir"}
        options["benchmark"] = f"{name}={planned.benchmark.own}:{planned.items.source}"
    options["templates"] = {spec.name: spec.template for spec in planned.judges if spec.template}
    plain: dict[str, Any] = json.loads(json.dumps(options, default=asdict))
    made, registered = build_task(planned, store), TASKS[OWN if planned.benchmark.own else name]
    options = {key: value for key, value in plain.items() if value not in ([], {})}
    registry_tag(registered, made, registry_info(registered), **options)
    return made
