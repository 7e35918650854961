"""Open a judging model: a function that asks it, with a time limit, retries and a limit on calls at a time.

Endpoints are asked through our server engine, models on this machine through the local engine, all others through
Inspect's providers. A failure is an exception, which `judge_part` turns into an unscored verdict.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import GenerateConfig, Model, ResponseSchema, get_model
from inspect_ai.util import JSONSchema

from safekey.engines.transport import StatusError, Transport, UnreachableError
from safekey.engines.wire import REPLY, GarbageError
from safekey.errors import UserError
from safekey.evals.judges.verdicts import Ask, Reply
from safekey.evals.model_api.convert import completion_from, from_message
from safekey.evals.model_api.provider import SafeKeyAPI, one_line
from safekey.evals.request import JudgeSettings
from safekey.retry import retrying
from safekey.schema import Completion, Message

Opened = tuple[str, Ask, Callable[[], None]]
Asking = Callable[[GenerateConfig], Ask]

_PROBE = "Reply with the word: ready"
_PROBE_SECONDS = 60.0
_FINAL = (401, 403, 404)  # another attempt does not help


def open_judge_model(model: str, settings: JudgeSettings, probe: bool, schema: str = "") -> Opened:
    """Open a judging model.

    Args:
        model: a URL, a model's folder, "local:ID", "role:NAME", or a model name of Inspect's.
        settings: how it is asked.
        probe: check now that it answers.
        schema: the JSON schema that its server must hold every reply to; "" for none.

    Returns:
        its name for the record, the function that asks it, and one that closes it.

    Raises:
        UserError: it cannot be opened, or does not answer the probe.
    """
    name, asking, close = _open_chat(model, settings, probe, schema)
    return name, asking(_config(settings, schema)), close


def open_drawing_model(
    model: str, settings: JudgeSettings, probe: bool
) -> tuple[str, Callable[[Sequence[Message], int], Awaitable[Reply]], Callable[[], None]]:
    """Open a model that is asked as a judge is, but draws its replies at temperature 1, each with a seed of its own.

    Raises:
        UserError: it cannot be opened, or does not answer the probe.
    """
    name, asking, close = _open_chat(model, settings, probe)

    async def ask(messages: Sequence[Message], seed: int) -> Reply:
        return await asking(_config(settings).merge(GenerateConfig(temperature=1.0, seed=seed)))(messages)

    return name, ask, close


def _open_chat(
    model: str, settings: JudgeSettings, probe: bool, schema: str = ""
) -> tuple[str, Asking, Callable[[], None]]:
    """Return a model's name, how it is asked with some settings, and how it is closed."""
    if model.startswith("role:"):
        role = model.removeprefix("role:")
        if probe:
            _need_role(role)
        return model, _role_ask(role, settings), _nothing
    if model.startswith(("http://", "https://")):
        # One attempt from here: the engine makes its own, and knows which failures are worth another one.
        api = _safekey_model(
            model, kind="server", mode="chat", concurrency=settings.concurrency, timeout=settings.timeout,
            max_attempts=settings.attempts, backoff=settings.backoff, api_key_env=settings.api_key_env,
            probe_timeout=min(_PROBE_SECONDS, settings.timeout), reply_schema=json.loads(schema) if schema else None,
            shorten=True,
        )  # fmt: skip
        if probe:
            _open(api)
        return model, _asking(api, settings, attempts=1), api.api.close
    name = model.removeprefix("local:")
    if name != model or Path(model).expanduser().is_dir():
        if schema:
            raise UserError(f"--judge-structured: {model} is run on this machine; serve it, and name its URL")
        api = _safekey_model(name, kind="local")
        weights = _open(api).get("weights_sha256")
        return f"{name}@{str(weights)[:12]}", _asking(api, settings, attempts=1), api.api.close
    try:
        api = get_model(model, config=_config(settings), memoize=False)
        if probe:
            asyncio.run(_probe(get_model(model, memoize=False)))
    except (PrerequisiteError, ValueError, ImportError) as error:
        raise UserError(f"{model}: {one_line(error)}") from error
    return model, _asking(api, settings, settings.attempts), _nothing


def open_text_model(model: str, settings: JudgeSettings, probe: bool) -> Opened:
    """Open an endpoint that gets plain text, for judges whose published prompt is one text.

    Raises:
        UserError: it does not answer the probe.
    """
    url, _, name = model.partition("#")

    def transport() -> Transport:
        made = Transport(url, name, settings.api_key_env, settings.timeout, settings.attempts, settings.backoff)
        made.shorten = True
        return made

    if probe:
        asyncio.run(_probe_text(transport(), model))
    wire, slots = transport(), asyncio.Semaphore(settings.concurrency)

    async def ask(messages: Sequence[Message]) -> Reply:
        request = {"prompt": messages[-1].content, "temperature": 0.0, "max_tokens": settings.max_tokens}
        async with slots:
            return await wire.ask(wire.api.completions, request, _read_text, None)

    return model, ask, _nothing


def _read_text(body: Any) -> Completion:
    try:
        choice = body["choices"][0]
        text, finish = choice["text"], choice["finish_reason"]
    except (TypeError, KeyError, IndexError):
        raise GarbageError("no choices with a text") from None
    if not isinstance(text, str):
        raise GarbageError("a choice without text")
    return Completion(text, "length" if finish == "length" else "stop")


async def _probe_text(wire: Transport, model: str) -> None:
    try:
        await wire.send(wire.api.completions, {"prompt": _PROBE, "max_tokens": 1}, _PROBE_SECONDS)
    except StatusError as error:
        if error.status_code != 429:  # busy is not down
            raise UserError(f"{model}: {error.reason}: {error.message}") from None
    except (UnreachableError, ValueError) as error:
        raise UserError(f"{model}: {wire.clean(error)}") from None


def _safekey_model(target: str, **options: Any) -> Model:
    try:
        return get_model(f"safekey/{target}", memoize=False, **options)
    except PrerequisiteError as error:
        raise UserError(one_line(error)) from error


def _open(model: Model) -> dict[str, Any]:
    described: dict[str, Any] = model.api.engine.describe()  # type: ignore[attr-defined]
    return described


def _config(settings: JudgeSettings, schema: str = "") -> GenerateConfig:
    form = JSONSchema.model_validate_json(schema) if schema else None
    return GenerateConfig(
        response_schema=None if form is None else ResponseSchema(name=REPLY, json_schema=form, strict=True),
        temperature=0.0,
        max_tokens=settings.max_tokens,
        max_connections=settings.concurrency,
        max_retries=1,  # `_ask` tries again, in the same way for every provider
        attempt_timeout=int(settings.timeout) + 1,
    )


def _asking(model: Model, settings: JudgeSettings, attempts: int) -> Asking:
    return lambda config: _ask(model, settings, attempts, config)


def _ask(model: Model, settings: JudgeSettings, attempts: int, config: GenerateConfig) -> Ask:
    # Our own engines queue calls and limit the time of each attempt themselves; a limit here would count the queue.
    limit = settings.timeout if attempts > 1 else None
    if isinstance(model.api, SafeKeyAPI):
        # Inspect's own limit would count it as well; the engine was given the schema when it was opened.
        config = config.model_copy(update={"attempt_timeout": None, "response_schema": None})

    async def once(said: list[Any]) -> Reply:
        async with asyncio.timeout(limit):
            return completion_from(await model.generate(said, config=config, cache=False))

    again = retrying(attempts, settings.backoff, _may_help)

    async def ask(messages: Sequence[Message]) -> Reply:
        reply: Reply = await again.copy()(once, [from_message(message) for message in messages])
        return reply

    return ask


def _may_help(error: BaseException) -> bool:
    return isinstance(error, Exception) and getattr(error, "status_code", None) not in _FINAL


def _role_ask(role: str, settings: JudgeSettings) -> Asking:
    """Ask the model of an Inspect role; it is known only while an evaluation runs."""

    def asking(config: GenerateConfig) -> Ask:
        async def ask(messages: Sequence[Message]) -> Reply:
            return await _ask(get_model(role=role, required=True), settings, settings.attempts, config)(messages)

        return ask

    return asking


def _need_role(role: str) -> None:
    try:
        get_model(role=role, required=True)
    except (PrerequisiteError, ValueError) as error:
        way = "name a model with -T attacker=MODEL" if role == "attacker" else "name judges with -T judges=NAME=MODEL"
        raise UserError(f"no model has the role '{role}': give --model-role {role}=MODEL, or {way}") from error


async def _probe(model: Model) -> None:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await model.generate(_PROBE, config=GenerateConfig(max_tokens=64, max_retries=0))
    except Exception as error:
        status = getattr(error, "status_code", None)
        if status != 429:  # busy is not down
            reason = f"it answers {status}" if status else type(error).__name__
            raise UserError(f"{model}: does not answer ({reason}); is the server there and the key right?") from None
    finally:
        await model.api.aclose()


def _nothing() -> None:
    """Close nothing."""
