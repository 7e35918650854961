"""Inspect's solver: one completion for each sample, generated now or taken over from a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inspect_ai.model import ChatMessageAssistant, GenerateConfig, get_model
from inspect_ai.model._generate_config import active_generate_config
from inspect_ai.solver import Generate, Solver, TaskState, solver

from safekey.errors import UserError


@solver
def respond(store: str | None = None, judging: Mapping[str, Any] | None = None) -> Solver:
    """Generate one completion, or take over the one that a run folder holds.

    Args:
        store: the run folder.
        judging: fields of `Bench`; its judges are opened before the first generation: a dead one is found in time.
    """
    from safekey.evals.records.completions import (
        asked_hash,
        completion_key,
        completion_row,
        is_final,
        output_of,
        record_of,
    )
    from safekey.evals.tasks.session import Bench, open_rows

    bench = Bench(**judging) if judging else None
    told: list[GenerateConfig] = []

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if bench is not None:
            await bench.referees()
        rows = open_rows(store)
        if not told:  # the same for every sample of a task
            told.append(get_model().config.merge(active_generate_config()))
        asked = asked_hash(state.messages, told[0])
        key = completion_key(
            {"benchmark": state.metadata["benchmark"], "item": str(state.sample_id), "epoch": state.epoch}
        )
        row = rows.completions.get(key) if rows else None
        if row is not None and is_final(row) and row["asked"] == asked:
            state.output = output_of(row, str(state.model))
            state.messages.append(state.output.choices[0].message)
            return state
        prompt = list(state.messages)
        state = await _generated(state, generate)
        if rows is not None:
            record = record_of(state.output, told[0])
            name, target = str(state.model), state.target.text
            rows.completions.add(
                completion_row(state.metadata, str(state.sample_id), state.epoch, target, asked, prompt, name, record)
            )
        return state

    return solve


async def _generated(state: TaskState, generate: Generate) -> TaskState:
    """Generate; what belongs to this one prompt, or to a server's bad moment, becomes an output that says so."""
    from safekey.evals.model_api.provider import NoAnswerError, SafeKeyAPI
    from safekey.evals.records.completions import failed_output

    last = state.messages[-1]
    if isinstance(last, ChatMessageAssistant) and not isinstance(get_model().api, SafeKeyAPI):
        raise UserError(f"{state.model}: only safekey/… models continue a prefill token for token: this task needs one")
    try:
        return await generate(state)
    except (NoAnswerError, UserError) as error:
        reason = str(error)
        state.output = failed_output(str(state.model), reason.removeprefix(f"{state.model.name}: "))
        return state
