"""The streaming example: scores equal the monitor's own, and nothing behind U leaves before the score."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from monitor.trained import make_run
from safekey import Message
from safekey.engines.base import SamplingParams
from safekey.engines.local import LocalEngine
from safekey.monitor import Monitor
from safekey.monitor.calibration import Scale, Threshold
from safekey.monitor.card import Card
from safekey.schema import Prompt

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "monitor_server.py"
ASKED = [Message("user", "How do I pick the royal vault?")]


@pytest.fixture(scope="module")
def server() -> Any:
    spec = importlib.util.spec_from_file_location("monitor_server", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["monitor_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("server") / "run")


def fitted(monitor: Monitor, logit: float) -> Monitor:
    """The monitor with a threshold."""
    scales = {"understanding": Scale(), "query_and_understanding": Scale()}
    card = Card(model="m", weights_sha256="w", heads="trained", pooling="mean", head="query_and_understanding",
                scales=scales, threshold=Threshold(logit, 0.05, 0.95, 100, 0, 100, 0.03), calibration={},
                measured={})  # fmt: skip
    return Monitor(monitor.loaded, monitor.heads, card)


@pytest.fixture(scope="module")
def monitor(run: Path) -> Monitor:
    return fitted(Monitor.load(run, device="cpu"), 1e9)  # flags nothing


@pytest.fixture(scope="module")
def response(run: Path) -> str:
    """What the engine generates for the request."""
    params = SamplingParams(temperature=0.0, max_new_tokens=120)
    ((_, completion),) = LocalEngine(str(run), device="cpu").generate([Prompt(tuple(ASKED))], params)
    return completion.text


def asked(app: Any, body: bytes, path: str = "/chat") -> tuple[int, list[dict[str, Any]]]:
    """Call the application as a server does, the body in two pieces."""
    pieces = [{"type": "http.request", "body": body[:9], "more_body": True}, {"type": "http.request", "body": body[9:]}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": path}, receive, send))
    text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    if sent[0]["status"] != 200:
        return sent[0]["status"], [json.loads(text)]
    return 200, [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


BODY = json.dumps({"messages": [{"role": "user", "content": ASKED[0].content}]}).encode()


def test_the_stream_is_the_engines_and_the_score_the_monitors(server: Any, monitor: Monitor, response: str) -> None:
    status, events = asked(server.make_app(monitor, limit=120), BODY)
    assert status == 200
    assert "".join(event.get("text", "") for event in events) == response
    assert events[-1] == {"done": True}
    (scored,) = [event for event in events if "harm" in event]
    thinking = response.partition("\n</think>")[0]
    own = monitor.score([*ASKED, Message("assistant", "", thinking)])
    assert scored["harm"] == pytest.approx(own.harm, abs=1e-4)
    assert scored["flagged"] is False
    before = "".join(event.get("text", "") for event in events[: events.index(scored)])
    assert own.understanding_end
    assert thinking[: own.understanding_end].startswith(before)


def test_an_alarm_stops_at_the_end_of_u(server: Any, monitor: Monitor, response: str) -> None:
    alarm = fitted(monitor, -1e9)
    _, events = asked(server.make_app(alarm, limit=120), BODY)
    assert events[-1] == {"stopped": "the monitor flagged this request"}
    assert events[-2]["flagged"] is True
    own = monitor.score([*ASKED, Message("assistant", "", response.partition("\n</think>")[0])])
    text = "".join(event.get("text", "") for event in events)
    assert response[: own.understanding_end].startswith(text)
    _, events = asked(server.make_app(alarm, limit=120, stop=False), BODY)
    assert "".join(event.get("text", "") for event in events) == response
    assert any(event.get("flagged") for event in events)


def test_mistakes_are_told(server: Any, monitor: Monitor) -> None:
    app = server.make_app(monitor)
    for body in (b"{", b"{}", b'{"messages": []}', b'{"messages": [{"role": "assistant", "content": "a"}]}'):
        status, (event,) = asked(app, body)
        assert status == 400
        assert set(event) == {"error"}
    assert asked(app, BODY, "/other")[0] == 400
