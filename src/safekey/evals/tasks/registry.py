"""What Inspect finds under its entry point: importing this module registers our names, and loads nothing heavy.

Inspect imports it for every command, also for those that have nothing to do with us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inspect_ai import Task, task
from inspect_ai.model import ModelAPI, modelapi

from safekey.evals.benchmarks.catalog import BENCHMARKS
from safekey.evals.tasks.scorers import correct, judged, scored
from safekey.evals.tasks.solver import respond

__all__ = ["TASKS", "correct", "judged", "respond", "safekey", "scored"]


@modelapi(name="safekey")
def safekey() -> type[ModelAPI]:
    """``--model safekey/PATH_OR_ID`` and ``--model safekey/http://host:port/v1#name``."""
    from safekey.evals.model_api.provider import SafeKeyAPI

    return SafeKeyAPI


def _task(name: str) -> Callable[..., Task]:
    """Make the task `safekey/NAME`; its arguments (`-T data_dir=…`) are those of `tasks.build_task`."""

    def made(
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
        parts: str | Sequence[str] = ("answer", "thinking"),
        preset: str = "default",
        samples: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        unsafe_local_exec: bool = False,
        judge: bool = True,
        store: str | None = None,
    ) -> Task:
        given = {argument: value for argument, value in locals().items() if argument != "name"}
        from inspect_ai._util.error import PrerequisiteError

        from safekey.errors import UserError
        from safekey.evals.tasks.build import build_task

        try:
            return build_task(name, **given)
        except UserError as error:
            raise PrerequisiteError(str(error)) from error  # Inspect prints these as one line

    registered: Callable[..., Task] = task(name=name)(made)
    return registered


TASKS: Mapping[str, Callable[..., Task]] = {benchmark.name: _task(benchmark.name) for benchmark in BENCHMARKS}
"""Benchmark → the function that builds its task."""
