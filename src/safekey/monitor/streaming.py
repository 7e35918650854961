"""Hold a stream back until it is scored: nothing behind U is released before

    watch = Watch(monitor, messages)
    for text in stream:                   # as the model writes it, tags included
        step = watch.feed(text)
        send(step.release)                # at first only what is known to be U
        if step.score and step.score.flagged:
            break
    send(watch.finish().release)

The score is that of `Monitor.score` on the same turns: it is made from X and U alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safekey.monitor.border import Border
from safekey.monitor.monitor import Monitor, Score
from safekey.schema import Message
from safekey.text.thinking import split_thinking


@dataclass(frozen=True, slots=True)
class Step:
    """What to do after a piece of the stream.

    Attributes:
        release: text that may go out now.
        score: the score, in the one step in which it was made.
    """

    release: str
    score: Score | None = None


class Watch:
    """Watches one response while it is written.

    Attributes:
        score: None until U has ended.
        text: everything that was fed, prefill included.
        released: how many of its characters were released.
    """

    def __init__(
        self, monitor: Monitor, messages: Sequence[Message], *, prefill: str = "", inside: bool | None = None
    ) -> None:
        """Begin.

        Args:
            monitor: makes the score.
            messages: the turns before the response.
            prefill: the response's first words, where they were written for the model.
            inside: whether the stream begins inside an open thinking; default: as the chat template ends the prompt.
        """
        self._monitor, self._messages = monitor, tuple(messages)
        self._inside = monitor.loaded.chat.opened if inside is None else inside
        self._border = Border(self._messages)
        self.score: Score | None = None
        self.text = ""
        self.released = 0
        if prefill:
            self.feed(prefill)

    def feed(self, text: str) -> Step:
        """Take the next piece of the stream, of any length."""
        self.text += text
        if self.score is not None:
            return Step(self._release(len(self.text)))
        start, thinking, closed = self._thinking()
        if thinking is None:
            return Step("")
        self._border.feed(thinking[len(self._border.text) :])
        if closed:
            self._border.finish(thinking)
        if self._border.end is None:
            return Step(self._release(start + self._border.safe))
        return self._scored(thinking[: self._border.end])

    def finish(self) -> Step:
        """Say that the stream has ended; a thinking that never left U is scored now."""
        if self.score is not None:
            return Step(self._release(len(self.text)))
        _, thinking, _ = self._thinking()
        self._border.feed((thinking or "")[len(self._border.text) :])
        return self._scored((thinking or "")[: self._border.finish()])

    def _scored(self, understanding: str) -> Step:
        end = self._border.end
        turn = self._monitor.loaded.reading(self._messages, understanding)
        self.score = self._monitor.score_readings([turn], [end])[0]
        return Step(self._release(len(self.text)), self.score)

    def _thinking(self) -> tuple[int, str | None, bool]:
        """Return where the thinking begins, its text so far (None: not begun), and whether it has ended."""
        parts = split_thinking(self.text, self._inside)
        spans = [span for span in parts.spans if span.kind == "thinking"]
        if parts.state == "absent":
            head = self.text.lstrip()
            waits = not head or (head.startswith("<") and ">" not in head[:40] and len(head) < 40)
            return 0, None if waits else "", not waits  # an answer without thinking: X alone is read
        if not spans:
            return len(self.text), "" if parts.state == "closed" else None, parts.state == "closed"
        start = spans[0].start
        if parts.state == "closed":
            return start, self.text[start : spans[0].end], True
        return start, self.text[start:], False

    def _release(self, end: int) -> str:
        if end <= self.released:
            return ""
        begin, self.released = self.released, end
        return self.text[begin:end]
