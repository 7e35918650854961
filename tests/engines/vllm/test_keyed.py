"""The middleware: without the key, nothing but `/health` answers."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import MutableMapping
from typing import Any

import pytest

from safekey.engines.vllm.keyed import Keyed


async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"generated"})


def ask(monkeypatch: pytest.MonkeyPatch, path: str, headers: dict[bytes, bytes], kind: str = "http") -> list[Any]:
    monkeypatch.setenv("VLLM_API_KEY", "right")
    sent: list[Any] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {}

    asyncio.run(Keyed(app)({"type": kind, "path": path, "headers": list(headers.items())}, receive, send))
    return sent


PATHS = ("/v1/completions", "/invocations", "/tokenize", "/version", "/docs", "/metrics", "/", "/health/", "/ping")


@pytest.mark.parametrize("path", PATHS)
def test_every_path_asks_for_the_key(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    for headers in ({}, {b"authorization": b"Bearer wrong"}, {b"authorization": b"right"}):
        assert ask(monkeypatch, path, headers)[0]["status"] == 401
        assert ask(monkeypatch, path, headers, "websocket")[0]["type"] == "websocket.close"
    assert ask(monkeypatch, path, {b"authorization": b"Bearer right"})[1]["body"] == b"generated"


def test_health_proves_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ask(monkeypatch, "/health", {b"x-safekey-asked": b"nonce"})[0]
    expected = hmac.new(b"right", b"nonce", "sha256").hexdigest().encode()
    assert start["status"] == 200
    assert (b"x-safekey-proof", expected) in start["headers"]
