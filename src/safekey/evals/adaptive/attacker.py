"""Open the attacker model that `--attacker MODEL` names, once in a process; MODEL is written as for a judge.

attacker = shared_attacker("http://127.0.0.1:8001/v1#attacker", JudgeSettings())
reply = await attacker.ask(messages, seed)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from safekey.errors import UserError
from safekey.evals.adaptive.search import AskAttacker
from safekey.evals.request import JudgeSettings

_opened: dict[tuple[str, JudgeSettings], OpenAttacker] = {}


@dataclass(frozen=True, slots=True)
class OpenAttacker:
    """An attacker model: its name for the record, and the function that asks it."""

    name: str
    ask: AskAttacker
    close: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)


def shared_attacker(model: str, settings: JudgeSettings) -> OpenAttacker:
    """Return the attacker; the first call in a process opens it and checks that it answers.

    Args:
        model: as for a judge: an endpoint's URL#NAME, a folder, local:ID, role:NAME, a model name of Inspect's, or
            scripted:FILE.json.
        settings: time limit, attempts and calls at a time, as for judges. It draws at temperature 1.

    Raises:
        UserError: it cannot be opened, or does not answer.
    """
    key = (model, settings)
    if key not in _opened:
        try:
            _opened[key] = _open(model, settings)
        except UserError as error:
            raise UserError(f"--attacker: {error}") from error
    return _opened[key]


def close_attackers() -> None:
    """Close all attackers."""
    while _opened:
        _opened.popitem()[1].close()


def _open(model: str, settings: JudgeSettings) -> OpenAttacker:
    if model.startswith("scripted:"):
        from safekey.evals.judges.open import scripted

        name, said = scripted(model.removeprefix("scripted:"))
        return OpenAttacker(name, lambda messages, seed: said(messages))
    from safekey.evals.judges.models import open_drawing_model

    return OpenAttacker(*open_drawing_model(model, settings, probe=True))
