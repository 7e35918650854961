"""Send requests to an endpoint, with a deadline for each attempt and bounded retries; no message shows the key."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from safekey.engines import wire
from safekey.engines.prompting import Placed, failed
from safekey.errors import UserError
from safekey.retry import is_transient, retrying
from safekey.schema import NO_ANSWER, Completion

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_LIMITS = ("max_completion_tokens", "max_tokens")
_NO_ROOM = re.compile(r"context[ _]length|context[ _]window|max_(?:completion_)?tokens|output tokens", re.IGNORECASE)
_SHORTEST = 32  # tokens: a context with less room than that has none
_PROBES = 3  # attempts of the first requests, which find out whether a server is there


class Transport:
    """An endpoint, with the number of attempts and their deadline.

    Attributes:
        api: openai's client; it does not retry by itself.
        hosted: the host is OpenAI's or Azure's.
        model: the model's name there.
        shorten: where the server says that its context has no room for so long a completion, half as long a one is
            asked for. Only where the limit decides no result: of a model that is evaluated it is part of the settings.
    """

    def __init__(
        self, url: str, model: str, api_key_env: str | None, timeout: float, attempts: int, backoff: float, *,
        key: str | None = None, alive: Callable[[], bool] = lambda: True,
    ):  # fmt: skip
        """Make a client; nothing is sent.

        Args:
            url, model: the endpoint and the model's name there.
            api_key_env: the environment variable with the key.
            timeout, attempts, backoff: as of `ServerEngine`.
            key: of a server of our own; no proxy stands before it.
            alive: whether the server can answer at all; a request to a dead one is not repeated.
        """
        self._url, self.model, self._alive = url, model, alive
        self.hosted, self._key, self.api = _client(url, model, api_key_env) if key is None else _own_client(url, key)
        self._timeout, self._attempts, self._backoff = timeout, max(1, attempts), backoff
        self.shorten = False

    async def ask(
        self, resource: Any, request: dict[str, Any], read: Callable[[Any], Completion], placed: Placed | None
    ) -> Completion:
        """Send one request until there is a completion, a refusal, or no attempt left."""
        failures = (StatusError, UnreachableError, ValueError, TypeError)

        async def attempt() -> Completion:
            asked: Mapping[str, Any] = request
            while True:
                try:
                    return read(await self.send(resource, asked, self._timeout))
                except StatusError as error:
                    shorter = _shorter(asked, error) if self.shorten else None
                    if shorter is None:
                        raise
                    asked = shorter

        try:

            def mends(error: BaseException) -> bool:
                return isinstance(error, failures) and is_transient(error) and self._alive()

            return await retrying(self._attempts, self._backoff, mends)(attempt)
        except StatusError as error:
            if not is_transient(error):
                return wire.refused(error.status_code, error.body, error.message, placed)
            reason = error.reason
        except UnreachableError as error:
            reason = str(error)
        except (ValueError, TypeError) as error:
            reason = f"the server's reply is no completion ({self.clean(error)})"
        return failed(f"{NO_ANSWER}{reason}, after {self._attempts} attempts", placed)

    async def send(self, resource: Any, request: Mapping[str, Any], timeout: float) -> Any:
        """Send one request once and return the reply's JSON.

        Raises:
            StatusError: the server answered with an error.
            UnreachableError: no reply came.
            wire.GarbageError: openai's client cannot read the reply; a ValueError, as for a reply that is no JSON.
        """
        create = resource.with_raw_response.create
        content = await self._call(create, timeout, model=self.model, **request)
        try:
            return json.loads(content)
        except RecursionError:
            raise wire.GarbageError("its JSON is nested too deeply") from None

    async def _call(self, function: Callable[..., Awaitable[Any]], timeout: float, **arguments: Any) -> bytes:
        import openai

        try:
            async with asyncio.timeout(timeout):  # openai's own bounds each read, so a trickle would never end
                content: bytes = (await function(**arguments, timeout=timeout)).http_response.content
                return content
        except openai.APIStatusError as error:
            raise StatusError(error, self.clean(_said(error))) from None
        except (openai.APIConnectionError, TimeoutError) as error:
            slow = isinstance(error, TimeoutError | openai.APITimeoutError)
            cause = type(error.__cause__ or error).__name__
            reason = f"no reply within {timeout:g} s" if slow else f"the connection failed ({cause})"
            raise UnreachableError(reason, slow) from None
        except openai.OpenAIError as error:
            raise wire.GarbageError(self.clean(error)) from None

    async def probe(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Await one of the first requests; retry a failed connection and 5xx, but not a slow reply."""

        def mends(error: BaseException) -> bool:
            if isinstance(error, UnreachableError):
                return not error.slow
            return isinstance(error, StatusError) and error.status_code >= 500

        return await retrying(_PROBES, min(self._backoff, 1.0), mends)(function, *arguments)

    async def models(self, timeout: float) -> list[dict[str, Any]]:
        """Return the models that the server lists; empty when it has no list.

        Raises:
            UserError: the server does not answer, or refuses the key.
        """
        try:
            content = await self.probe(self._call, self.api.models.with_raw_response.list, timeout)
            entries = json.loads(content)["data"]
            return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        except UnreachableError:
            raise UserError(f"{self._url}: the server does not answer; is it running?") from None
        except StatusError as error:
            if error.status_code in (401, 403):
                raise UserError(f"{self._url}: the server refuses the key ({error.status_code})") from None
            return []  # not every server has the list; the next request tells whether this one works
        except (ValueError, TypeError, KeyError):
            return []

    def clean(self, text: object) -> str:
        """Return a message without the key, which some servers repeat in their errors."""
        shown = " ".join(str(text).split())
        return (shown.replace(self._key, "***") if self._key else shown)[:300]


class UnreachableError(Exception):
    """No reply came.

    Attributes:
        slow: it took too long.
    """

    def __init__(self, reason: str, slow: bool):
        self.slow = slow
        super().__init__(reason)


class StatusError(Exception):
    """The server answered with an error; `safekey.retry` reads its status and its response."""

    def __init__(self, error: Any, message: str):
        self.status_code: int = error.status_code
        self.body, self.response, self.message = error.body, error.response, message
        self.reason = f"the server answered {self.status_code}"
        super().__init__(self.reason)


def _shorter(request: Mapping[str, Any], error: StatusError) -> dict[str, Any] | None:
    """Return the request with half as long a completion, if the error is about that; None where it is not."""
    name = next((name for name in _LIMITS if name in request), "")
    if error.status_code != 400 or not name or not _NO_ROOM.search(error.message):
        return None
    half = int(request[name]) // 2
    return {**request, name: half} if half >= _SHORTEST else None


class Loop:
    """An event loop in a thread of its own, so that synchronous and asynchronous callers can use it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._slots: asyncio.Semaphore | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="safekey-server", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Start work in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do work in the loop and wait for it."""
        return self.submit(work).result()

    def slots(self, count: int) -> asyncio.Semaphore:
        """Return the semaphore that bounds how many requests run at a time; call it in the loop."""
        if self._slots is None:
            self._slots = asyncio.Semaphore(count)
        return self._slots

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel running work, await `last`, and end the thread."""
        if self._loop.is_closed():
            return

        async def wind_up() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await last()

        self.run(wind_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _client(url: str, model: str, api_key_env: str | None) -> tuple[bool, str, AsyncOpenAI]:
    """Return whether the host is OpenAI's or Azure's, the key, and a client that does not retry by itself."""
    from openai import AsyncAzureOpenAI, AsyncOpenAI

    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UserError("the endpoint's URL has no valid host and port: expected http://127.0.0.1:8000/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            "expected an endpoint's URL such as http://127.0.0.1:8000/v1, "
            + ("another" if "@" in url else f"found '{parts.path or url:.60}'")
        )
    if parts.username or parts.password or parts.query:
        raise UserError(f"{parts.hostname}: put the key into the environment, not into the URL: URLs are recorded")
    azure = parts.hostname.endswith((".azure.com", ".azure.us", ".azure.cn"))
    hosted = azure or parts.hostname == "api.openai.com"
    variable = api_key_env or ("AZURE_OPENAI_API_KEY" if azure else "OPENAI_API_KEY")
    key = os.environ.get(variable, "")
    if not key and (hosted or api_key_env):
        raise UserError(f"{parts.hostname} needs a key: set {variable} in the environment")
    if not azure or "/openai/v1" in parts.path:
        return hosted, key, AsyncOpenAI(base_url=url, api_key=key or "none", max_retries=0)
    version = os.environ.get("OPENAI_API_VERSION")
    if not version:
        raise UserError(f"{url}: use the URL that ends in /openai/v1, or set OPENAI_API_VERSION")
    options: dict[str, Any] = {"azure_endpoint": url, "azure_deployment": model or None, "api_version": version}
    return hosted, key, AsyncAzureOpenAI(**options, api_key=key, max_retries=0)


def _own_client(url: str, key: str) -> tuple[bool, str, AsyncOpenAI]:
    """Return the same for a server that safekey started here."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    return (
        False,
        key,
        AsyncOpenAI(base_url=url, api_key=key, max_retries=0, http_client=DefaultAsyncHttpxClient(trust_env=False)),
    )


def _said(error: Any) -> str:
    """Return the message of an error reply; servers have several forms of it."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body or error.response.text or error.message)
