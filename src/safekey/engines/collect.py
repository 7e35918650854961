"""Collect requests that come one at a time, from many tasks, into batches for an engine."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any

from safekey.engines.base import Engine, SamplingParams
from safekey.errors import UserError
from safekey.schema import Completion, Prompt

_SHORTEST, _LONGEST = 0.002, 0.5  # seconds to wait for one more request


@dataclass(frozen=True, slots=True)
class _Item:
    prompt: Prompt
    params: SamplingParams
    future: Future[Completion] = field(default_factory=Future)


class Collector:
    """Feeds one engine from its own thread; requests that arrive during a batch form the next batch.

    A request that is cancelled while it waits is not generated; one that is cancelled later is generated and dropped.
    """

    def __init__(self, engine: Engine, most: int, linger: float = _SHORTEST):
        """Start the thread.

        Args:
            engine: the engine.
            most: most requests in one call of the engine; several batches, so that it can sort them by length.
            linger: seconds without a new request after which the first batch starts; later batches wait for a fiftieth
                of the time that the previous batch took.
        """
        self._engine, self._most, self._linger = engine, most, linger
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._open = True
        self._thread = threading.Thread(target=self._work, name="safekey-collector", daemon=True)
        self._thread.start()

    def submit(self, prompt: Prompt, params: SamplingParams) -> Future[Completion]:
        """Submit one request."""
        if not self._open:
            raise RuntimeError("the engine is closed")
        item = _Item(prompt, params)
        self._waiting.put(item)
        return item.future

    def close(self) -> None:
        """Cancel waiting requests, stop the engine, and end the thread."""
        if not self._open:
            return
        self._open = False
        self._waiting.put(None)
        self._engine.close()
        self._thread.join()

    def _work(self) -> None:
        while self._open:
            items = [item for item in self._gather() if item.future.set_running_or_notify_cancel()]
            if items:
                self._generate(items)
        while not self._waiting.empty():
            item = self._waiting.get()
            if item is not None:
                item.future.cancel()

    def _gather(self) -> list[_Item]:
        """Wait for a request, and for others that follow shortly after it."""
        items: list[_Item] = []
        wait: float | None = None
        while len(items) < self._most:
            try:
                item = self._waiting.get(timeout=wait)
            except queue.Empty:
                break
            if item is None:
                for each in items:
                    each.future.cancel()
                return []
            items.append(item)
            wait = self._linger
        return items

    def _generate(self, items: list[_Item]) -> None:
        """Generate for a batch and complete every future in it, whatever happens."""
        began = time.monotonic()
        try:
            try:
                results = self._engine.generate([item.prompt for item in items], [item.params for item in items])
            except UserError:  # raised before any work: a refused prompt must not fail the whole batch
                items = self._acceptable(items)
                results = self._engine.generate([item.prompt for item in items], [item.params for item in items])
            for index, completion in results:
                _settle(items[index].future.set_result, completion)
            problem: BaseException = RuntimeError("the engine gave no completion for this prompt")
        except BaseException as error:  # a dead thread would leave all callers waiting
            problem = error
        for item in items:
            if not item.future.done():
                _settle(item.future.set_exception, problem)
        self._linger = min(_LONGEST, max(_SHORTEST, (time.monotonic() - began) / 50))

    def _acceptable(self, items: list[_Item]) -> list[_Item]:
        """Return the items that the engine accepts; complete the others with its error."""
        taken = []
        for item in items:
            try:
                self._engine.generate([item.prompt], [item.params])
                taken.append(item)
            except UserError as error:
                _settle(item.future.set_exception, error)
        return taken


def _settle(setter: Callable[[Any], None], value: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # settled already
        setter(value)
