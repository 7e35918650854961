"""Inspect's solver: one completion for each sample, generated now or taken over from a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, GenerateConfig, get_model
from inspect_ai.model._generate_config import active_generate_config
from inspect_ai.solver import Generate, Solver, TaskState, solver

from safekey.errors import UserError
from safekey.evals.model_api.convert import asked_hash, failed_output, output_of, record_of
from safekey.evals.model_api.provider import NoAnswerError, SafeKeyAPI
from safekey.evals.records.rows import Row, completion_key, completion_row, is_final, open_rows
from safekey.evals.tasks.session import TaskJudges


@solver
def respond(store: str | None = None, judging: Mapping[str, Any] | None = None) -> Solver:
    """Generate one completion, or take over the one that a run folder holds.

    Args:
        store: the run folder.
        judging: fields of `TaskJudges`; the judges are opened before the first generation, so that one that does not
            answer is found in time.
    """
    judges = TaskJudges(**judging) if judging else None
    settings: list[GenerateConfig] = []

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if judges is not None:
            await judges.opened()
        rows = open_rows(store)
        if not settings:  # the same for every sample of a task
            settings.append(get_model().config.merge(active_generate_config()))
        asked = asked_hash(state.messages, settings[0])
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
            rows.completions.add(row_of(state, settings[0], asked, prompt))
        return state

    return solve


def row_of(
    state: TaskState, config: GenerateConfig | None = None, asked: str = "", prompt: list[ChatMessage] | None = None
) -> Row:
    """Return the row of a sample's completion.

    Args:
        state: of the sample, after generation.
        config: the settings that were asked for, for outputs that do not record their own.
        asked: as in `completion_row`.
        prompt: the messages before generation.
    """
    record = record_of(state.output, config or GenerateConfig())
    messages = [{"role": message.role, "content": message.text} for message in prompt or ()]
    return completion_row(
        state.metadata, str(state.sample_id), state.epoch, state.target.text, str(state.model), record, asked, messages
    )


async def _generated(state: TaskState, generate: Generate) -> TaskState:
    """Generate; a failure of this one prompt, or of a server, becomes an output that says so."""
    last = state.messages[-1]
    if isinstance(last, ChatMessageAssistant) and not isinstance(get_model().api, SafeKeyAPI):
        raise UserError(f"{state.model}: only safekey/… models continue a prefill token for token: this task needs one")
    try:
        return await generate(state)
    except (NoAnswerError, UserError) as error:
        reason = str(error)
        state.output = failed_output(str(state.model), reason.removeprefix(f"{state.model.name}: "))
        return state
