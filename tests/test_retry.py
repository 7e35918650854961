"""The one rule of retries: how often, how long, and for which errors."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from safekey.retry import LONGEST_WAIT, is_transient, retrying


class HttpError(Exception):
    def __init__(self, status: int, retry_after: str = "") -> None:
        self.status_code = status
        self.response = SimpleNamespace(headers={"retry-after": retry_after} if retry_after else {})


def failing(*errors: BaseException):
    """A request that fails with these errors in turn, then succeeds."""
    waiting, calls = list(errors), []

    async def request(value: int) -> int:
        calls.append(value)
        if waiting:
            raise waiting.pop(0)
        return value

    return request, calls


def test_transient_errors_are_retried_and_others_are_raised_at_once() -> None:
    request, calls = failing(HttpError(429), HttpError(503), ConnectionError())
    assert asyncio.run(retrying(4, 0.001, is_transient)(request, 7)) == 7
    assert calls == [7] * 4
    refused = HttpError(400)
    request, calls = failing(refused)
    with pytest.raises(HttpError) as caught:
        asyncio.run(retrying(4, 0.001, is_transient)(request, 7))
    assert caught.value is refused
    assert len(calls) == 1


def test_the_last_error_is_raised_as_it_is() -> None:
    last = HttpError(500)
    request, calls = failing(HttpError(500), last, HttpError(500))
    with pytest.raises(HttpError) as caught:
        asyncio.run(retrying(2, 0.001, is_transient)(request, 7))
    assert caught.value is last
    assert len(calls) == 2


def wait(error: Exception, attempt: int) -> float:
    outcome = SimpleNamespace(exception=lambda: error)
    state: Any = SimpleNamespace(attempt_number=attempt, outcome=outcome)
    return retrying(9, 1.0, is_transient).wait(state)


def test_the_wait_grows_and_is_never_shorter_than_the_server_asks() -> None:
    for error in (ConnectionError(), HttpError(429, "tomorrow")):
        assert 1 <= wait(error, 1) <= 2
        assert 4 <= wait(error, 3) <= 5
        assert wait(error, 20) == LONGEST_WAIT
    assert [wait(HttpError(429, "7"), attempt) for attempt in (1, 3, 20)] == [7, 7, LONGEST_WAIT]
    assert wait(HttpError(429, "9999"), 1) == LONGEST_WAIT


def test_the_server_s_pause_is_kept() -> None:
    request, _ = failing(HttpError(429, "0.2"))
    began = time.monotonic()
    asyncio.run(retrying(2, 0.001, is_transient)(request, 7))
    assert time.monotonic() - began >= 0.2
