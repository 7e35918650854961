"""Ask for the key on every path of vLLM's server but `/health`. vLLM loads a copy of this file, as its middleware.

vLLM itself asks for the key under a few paths only: `/invocations`, for one, generates text for everybody. The copy
runs in vLLM's environment, so it imports only the standard library. `/health` proves with an HMAC that this server has
the key, so that safekey never sends it to another program that took the port.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, Callable[[], Awaitable[_Message]], _Send], Awaitable[None]]
ASKED, PROOF = b"x-safekey-asked", b"x-safekey-proof"


class Keyed:
    """ASGI middleware that refuses requests without the key of the environment's VLLM_API_KEY."""

    def __init__(self, app: _App) -> None:
        self._app, self._key = app, os.environ["VLLM_API_KEY"].encode()

    async def __call__(self, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: _Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if scope["type"] == "http" and scope["path"] == "/health":
            proof = hmac.new(self._key, headers.get(ASKED, b""), "sha256").hexdigest().encode()
            await self._app(scope, receive, _proving(send, proof))
        elif hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self._key):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})


def _proving(send: _Send, proof: bytes) -> _Send:
    async def proving(message: _Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (PROOF, proof)]
        await send(message)

    return proving
