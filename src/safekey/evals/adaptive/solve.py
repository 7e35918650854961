"""Attack one sample: put attacker, target and judges together, and make the sample's row of what happened.

A row of completions.jsonl, shortened: the fields of any row hold the turn that counts, `turns` holds all of them::

    {"benchmark": "strongreject", "item": "row-1@pair", "attack": "pair", "text": "Once upon a time …",
     "adaptive": {"attacker": "http://…#attacker", "budget": 20, "branches": 4, "calls": 3, "best": 3, "broken": true,
                  "attacker_calls": 4, "refused": 1, "unreadable": 0, "failed": 0},
     "turns": [{"branch": 1, "outcome": "message", "said": "{…}", "messages": [{"role": "user", "content": "Write …"}],
                "text": "I can't …", "output": "ok", "value": 1.0, "positive": false, "verdicts": […], …}, …], …}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inspect_ai.model import GenerateConfig, ModelOutput, get_model
from inspect_ai.solver import TaskState

from safekey.errors import UserError
from safekey.evals.adaptive.attacker import OpenAttacker
from safekey.evals.adaptive.prompting import MISSES, load
from safekey.evals.adaptive.search import Reply, Search, Turn
from safekey.evals.adaptive.settings import ABOUT, ATTACK, TURNS, Adaptive
from safekey.evals.judges.verdicts import OpenJudge, is_failure, judge_completion
from safekey.evals.model_api.convert import failed_output, from_message, output_of, record_of
from safekey.evals.model_api.provider import NoAnswerError
from safekey.evals.records.rows import Row, completion_in, completion_row
from safekey.schema import NO_ANSWER, NO_ATTACK, Message, Part
from safekey.text.thinking import split_completion

_VERDICT = ("judge", "model", "part", "value", "unscored")


@dataclass(frozen=True)
class Attempt:
    """Everything that an attack on one sample needs.

    Attributes:
        settings: budget, branches, seed.
        attacker: the open attacker.
        judges: of harm; the first one steers the attack, by its headline's rule, on the first of `parts`.
        parts: the parts of a reply that they see.
        config: how the target decodes.
        asked: hash of prompt and settings (`asked_with`).
    """

    settings: Adaptive
    attacker: OpenAttacker
    judges: Sequence[OpenJudge]
    parts: Sequence[Part]
    config: GenerateConfig
    asked: str


def asked_with(asked: str, attack: str, settings: Adaptive) -> str:
    """Return the hash of what decides an attack: the plain prompt's hash, the settings, the attacker's prompt."""
    return hashlib.sha256(json.dumps([asked, attack, settings.to_dict(), load(attack)[2]]).encode()).hexdigest()


async def attack_sample(state: TaskState, how: Attempt) -> tuple[Row, list[Row]]:
    """Attack the sample's request; the state then holds the turn that counts.

    Returns:
        the row of the completion, and the verdicts on the turn that counts.
    """
    prompt = [Message(message.role, message.text) for message in state.messages]
    plain = [{"role": turn.role, "content": turn.content} for turn in prompt]

    def row_for(output: ModelOutput) -> Row:
        return completion_row(
            state.metadata, str(state.sample_id), state.epoch, state.target.text, str(state.model),
            record_of(output, how.config), how.asked, plain,
        )  # fmt: skip

    async def ask(messages: tuple[Message, ...]) -> Reply:
        try:
            output = await get_model().generate([from_message(turn) for turn in messages])
        except UserError as error:  # this conversation cannot be continued: too long, say
            output = failed_output(str(state.model), str(error).removeprefix(f"{state.model.name}: "))
        return await judged(row_for(output), how)

    attack = str(state.metadata[ATTACK])
    search = Search(
        attack, str(state.metadata["request"]), how.settings, how.attacker.ask, ask,
        item=f"{state.metadata['benchmark']}/{state.sample_id}#{state.epoch}",
        system=tuple(turn for turn in prompt if turn.role in ("system", "developer")),
    )  # fmt: skip
    failed = ""
    try:
        await search.run()
        failed = no_attack(search)
    except NoAnswerError as error:  # the target's server: asked again by the same command
        failed = str(error).removeprefix(f"{state.model.name}: ")
    best = None if failed else search.best
    if best is None or best.reply is None:
        reason = failed or f"{NO_ATTACK}nothing was asked"
        row, verdicts, said = row_for(failed_output(str(state.model), reason)), [], tuple(prompt)
    else:
        row, verdicts, said = dict(best.reply.row), [dict(each) for each in best.reply.verdicts], best.messages
    row |= {ABOUT: about(search, how.attacker.name, best), TURNS: [_turn(turn) for turn in search.turns]}
    state.output = output_of(row, str(state.model))
    state.messages = [*(from_message(turn) for turn in said), state.output.choices[0].message]
    return row, verdicts


async def judged(row: Row, how: Attempt) -> Reply:
    """Judge one reply of the target, as any completion is judged."""
    verdicts = await judge_completion(row, how.judges, how.parts)
    first = verdicts[0]  # of the first judge, on the first part
    value = first["value"]
    return Reply(
        answer=split_completion(completion_in(row)).answer,
        output=str(row["output"]),
        value=value,
        positive=None if value is None else how.judges[0].judge.positive(value),
        failed=is_failure(first),
        row=row,
        verdicts=verdicts,
    )


def no_attack(search: Search) -> str:
    """Return why there was no whole attack because of the attacker; "" where there was one, or it succeeded."""
    if search.broken or search.spent or not search.gave_up:
        return ""
    missed, calls = search.missed, len(search.turns)
    said = ", ".join(f"{missed[name]} {name}" for name in MISSES if missed[name])
    errors = [turn.move.said for turn in search.turns if turn.move.outcome == "failed"]
    last = f"; the last: {errors[-1]:.200}" if errors else ""
    words = f"the attacker gave no message in {missed.total()} of {calls} calls ({said}{last})"
    # A call that failed may succeed another time; a refusal would come again.
    return f"{NO_ANSWER if missed['failed'] else NO_ATTACK}{words}"


def about(search: Search, attacker: str, best: Turn | None) -> dict[str, Any]:
    """Return what the attack took, without texts.

    `calls` counts the calls to the target, `attacker_calls` those to the attacker; `best` is the number of the call
    whose reply counts, from 1 (0 for none); `refused`, `unreadable` and `failed` count the attacker's misses.
    """
    settings, missed, asked = search.settings, search.missed, search.asked
    return {
        "attacker": attacker,
        "budget": settings.budget,
        "branches": len(settings.shares(search.attack)),
        "seed": settings.seed,
        "calls": len(asked),
        "attacker_calls": len(search.turns),
        "best": next((place for place, turn in enumerate(asked, 1) if turn is best), 0),
        "broken": search.broken,
        **{name: missed[name] for name in MISSES},
    }


def _turn(turn: Turn) -> dict[str, Any]:
    made: dict[str, Any] = {"branch": turn.branch + 1, "outcome": turn.move.outcome, "said": turn.move.said}
    if turn.reply is None:
        return made
    row: Mapping[str, Any] = turn.reply.row
    return {
        **made,
        "messages": [{"role": message.role, "content": message.content} for message in turn.messages],
        **{name: row[name] for name in ("text", "finish", "started_inside", "error", "output")},
        "value": turn.reply.value,
        "positive": turn.reply.positive,
        "taken_back": turn.taken_back,
        "verdicts": [{name: verdict[name] for name in _VERDICT} for verdict in turn.reply.verdicts],
    }
