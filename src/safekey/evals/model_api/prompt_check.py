"""Check that a model can be asked what a plan asks, before anything is generated."""

from __future__ import annotations

from dataclasses import replace

from inspect_ai.model import Model

from safekey.engines.base import SamplingParams
from safekey.errors import UserError
from safekey.evals.attacks.apply import check_raw
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.plan import EvalPlan


def check_prompts(plan: EvalPlan, model: Model) -> EvalPlan:
    """Check one prompt of each task with the model; a suite leaves out tasks whose prefill the model cannot continue.

    Raises:
        UserError: a named benchmark cannot be run on this engine, or none of the suite can; or the engine cannot ask
            without a chat template, and shall.
    """
    problems: dict[str, str] = {}
    check_raw([item for task in plan.tasks for item in task.items], model)
    for task in plan.tasks:
        if isinstance(model.api, SafeKeyAPI):
            try:  # checks the prompt; generates nothing yet
                model.api.engine.generate([task.items[0].prompt], SamplingParams(max_new_tokens=1))
            except UserError as error:
                problems[task.benchmark.name] = str(error)
        elif task.benchmark.kind == "prefill":
            problems[task.benchmark.name] = f"{model}: only safekey's own engines prefill exactly"
    named = [name for name in problems if plan.request.tasks or name in plan.request.benchmarks]
    if problems and (named or len(problems) == len(plan.tasks)):
        name, reason = next((name, problems[name]) for name in [*named, *problems])
        raise UserError(f"{name}: {reason}")
    return replace(
        plan,
        tasks=tuple(task for task in plan.tasks if task.benchmark.name not in problems),
        left_out={**plan.left_out, **problems},
    )
