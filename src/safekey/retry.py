"""Retry a request to an endpoint: exponential backoff with jitter, never shorter than the server's Retry-After."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

LONGEST_WAIT = 60.0  # seconds between two attempts, at most


def retrying(attempts: int, backoff: float, retried: Callable[[BaseException], bool]) -> AsyncRetrying:
    """Return a function that calls and awaits another one until it succeeds: ``await retrying(...)(function)``.

    The error of the last attempt, or one that is not retried, is raised as it is.

    Args:
        attempts: number of attempts, at least one.
        backoff: seconds before the second attempt; doubled for each further one, up to `LONGEST_WAIT`.
        retried: whether an error is worth another attempt; see `is_transient`.
    """
    grow = wait_exponential(multiplier=backoff, max=LONGEST_WAIT) + wait_random(0, min(backoff, LONGEST_WAIT))

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return min(LONGEST_WAIT, max(_retry_after(error), grow(state)))

    return AsyncRetrying(
        stop=stop_after_attempt(max(1, attempts)), wait=wait, retry=retry_if_exception(retried), reraise=True
    )


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed: an error without an HTTP `status_code`, or with 408, 409, 429 or 5xx."""
    status = getattr(error, "status_code", None)
    return status is None or status in (408, 409, 429) or status >= 500


def _retry_after(error: BaseException | None) -> float:
    """Return the seconds that the reply of an HTTP error asks to wait; 0 when it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return max(0.0, float(headers.get("retry-after") or 0))
    except ValueError:
        return 0.0
