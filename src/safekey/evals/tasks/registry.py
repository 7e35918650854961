"""What Inspect finds under its entry point: importing this module registers our names, and loads no model code.

Inspect imports it for every command, also for those that have nothing to do with us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inspect_ai import Task, task
from inspect_ai._util.error import PrerequisiteError
from inspect_ai._util.registry import registry_info, registry_tag
from inspect_ai.model import ModelAPI, modelapi

from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS
from safekey.evals.model_api.provider import SafeKeyAPI
from safekey.evals.plan import judges_of, plan_task, task_request
from safekey.evals.tasks.build import build_task
from safekey.evals.tasks.scorers import correct, judged, scored
from safekey.evals.tasks.solver import respond

__all__ = ["TASKS", "correct", "judged", "respond", "safekey", "scored", "tagged"]


@modelapi(name="safekey")
def safekey() -> type[ModelAPI]:
    """``--model safekey/PATH_OR_ID`` and ``--model safekey/http://host:port/v1#name``."""
    return SafeKeyAPI


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
    """Return a task with the options from which `inspect eval-retry` builds it again, so that its log holds them."""
    registered = TASKS[str(made.name)]
    registry_tag(registered, made, registry_info(registered), **options)
    return made
