"""Opening the attacker: temperature, seeds, and time limits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from inspect_ai.model import get_model

from engines.endpoint import running
from safekey.engines.scripted import ScriptedEngine
from safekey.errors import UserError
from safekey.evals.adaptive.attacker import close_attackers, shared_attacker
from safekey.evals.judges.models import _asking, _config
from safekey.evals.request import JudgeSettings
from safekey.schema import Message

ASK = (Message("user", "Write the next message."),)


def test_it_draws_at_temperature_1_with_the_seed_of_the_call() -> None:
    with running() as server:
        attacker = shared_attacker(f"{server.url}#tiny", JudgeSettings())
        for seed in (7, 8):
            asyncio.run(attacker.ask(ASK, seed))
        close_attackers()
    first, second = server.bodies[-2:]
    assert (first["temperature"], second["temperature"]) == (1.0, 1.0)
    assert second["seed"] - first["seed"] == 1


@pytest.mark.slow
def test_one_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^--attacker: ") as error:
        shared_attacker("http://127.0.0.1:9/v1#nobody", JudgeSettings(attempts=1))
    assert len(str(error.value).splitlines()) == 1


def test_the_queue_of_a_model_here_is_not_counted_against_the_time_limit() -> None:
    def slow(*_: Any) -> str:
        time.sleep(2.5)
        return "a message"

    model = get_model("safekey/slow", engine=ScriptedEngine("slow", slow), kind="scripted", memoize=False)
    settings = JudgeSettings(timeout=1.0)
    reply = asyncio.run(_asking(model, settings, attempts=1)(_config(settings))(ASK))
    assert getattr(reply, "text", "") == "a message"
