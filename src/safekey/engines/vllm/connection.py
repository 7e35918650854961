"""The connection to a vLLM that safekey started: the server engine, for a server that may die and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from safekey.engines.server import ServerEngine
from safekey.engines.transport import Transport
from safekey.engines.vllm.service import Served, VllmError
from safekey.schema import NO_ANSWER, Completion
from safekey.text.chat import ChatFormat

_LOOK = 0.25  # seconds between two looks at a server that starts


class Connection(ServerEngine):
    """A connection to a running server; what it has not answered when it dies is asked again when it is back."""

    def __init__(self, url: str, served: Served, chat: ChatFormat, ends: tuple[int, ...], **how: Any) -> None:
        self._served, self._loaded = served, chat
        super().__init__(url, mode="tokens", **how)
        self._ends = ends

    @property
    def context(self) -> int | None:
        """The longest sequence that the server takes."""
        return self._context

    def _transport(self, name: str, key_env: str | None, timeout: float, attempts: int, backoff: float) -> Transport:
        served = self._served
        return Transport(
            self._url, name, None, timeout, attempts, backoff, key=served.key, alive=lambda: served.state.status == "up"
        )

    def _format(self, tokenizer: str | None, revision: str | None, today: str) -> ChatFormat | None:
        return self._loaded

    async def _limited(self, job: Callable[[], Awaitable[Completion]]) -> Completion:
        """Do a job, and do it again when the server died under it and was started again.

        Raises:
            VllmError: it is down for good.
        """
        async with self._loop.slots(self.concurrency):
            while True:
                began = await self._up()
                made = await job()
                if made.finish != "error" or not made.error.startswith(NO_ANSWER):
                    return made
                await asyncio.sleep(_LOOK)  # its owner may not have seen yet that it ended
                state = self._served.state
                if state.status == "up" and state.number == began:
                    return made

    async def _up(self) -> int:
        """Wait until the server is up; return which start it is."""
        while (state := self._served.state).status != "up":
            if state.status == "down":
                raise VllmError(state.why)
            await asyncio.sleep(_LOOK)
        return state.number


def wait_until_up(served: Served, seconds: float) -> None:
    """Wait for a server that another process starts.

    Raises:
        VllmError: it is down, or did not start in time.
    """
    end = time.monotonic() + 2 * seconds
    while (state := served.state).status != "up":
        if state.status == "down" or time.monotonic() > end:
            raise VllmError(state.why or "the server that this evaluation shares does not start")
        time.sleep(_LOOK)
