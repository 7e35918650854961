"""Embed transcripts in the page within a budget of bytes: all if they fit, else a selection, with long texts cut.

The selection, in this order, until the budget is full:

1. prompts on which arms differ at some seed, with every arm's response to them,
2. a sample of the others, drawn by a fixed seed, the benchmarks in turn.

The page says how many of how many are in it.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safekey.report.transcripts import Asked, Marks, Response, discordant, marks, shuffled

DRAWN = 0  # the sample's seed
LIMITS = (4_000_000, 100_000, 30_000, 10_000, 4_000)  # characters of one text that are kept, tried in this order
CUT = "\n\n⟪ … {count:,} characters left out here; the run folder's completions.jsonl has them … ⟫\n\n"


@dataclass(frozen=True)
class EmbeddedData:
    """The transcripts embedded in the page.

    Attributes:
        data: base64 of gzip of JSON, ASCII.
        shown: responses in it.
        total: responses in the run folders.
        differing: of `total`, those to prompts on which arms differ.
        differing_shown: how many of those are in it.
        cut: of `shown`, those in which a text was shortened.
        limit: the longest text that was kept whole.
    """

    data: str
    shown: int
    total: int
    differing: int
    differing_shown: int
    cut: int
    limit: int


class _Packer:
    """Packs selections; U and K are found once for each response, and only for those that are packed."""

    def __init__(self, prompts: Sequence[Asked], responses: Sequence[Response], head: Mapping[str, Any]) -> None:
        self.prompts, self.responses, self.head = prompts, responses, head
        self.by_prompt: dict[int, list[Response]] = {}
        for row in responses:
            self.by_prompt.setdefault(row.asked, []).append(row)
        self._marks: dict[tuple[int, str, bool], Marks | None] = {}

    def pack(self, chosen: Sequence[int], limit: int) -> tuple[str, int]:
        """Return the data for these prompts, and how many responses hold a text that was cut."""
        asked, rows, cut = [], [], 0
        for place, number in enumerate(sorted(chosen)):
            prompt = self.prompts[number]
            asked.append(_prompt(prompt, limit))
            for response in self.by_prompt[number]:
                row, was_cut = self._row(place, response, prompt, limit)
                rows.append(row)
                cut += was_cut
        body = json.dumps(
            {**self.head, "prompts": asked, "rows": rows}, separators=(",", ":")
        )  # ASCII: "\ud800" survives
        return base64.b64encode(gzip.compress(body.encode("ascii"), 6, mtime=0)).decode("ascii"), cut

    def _row(self, place: int, response: Response, prompt: Asked, limit: int) -> tuple[list[Any], bool]:
        key = response.asked, response.text, response.inside  # small models often give equal responses
        if key not in self._marks:
            self._marks[key] = marks(response, prompt)
        text, places, _ = shorten(response.text, [response.prefill, *(self._marks[key] or ())], limit)
        prefill, *offsets = utf16(text, places)
        row = [place, response.arm, response.run, response.epoch, response.label, response.state, text, prefill,
               offsets]  # fmt: skip
        if response.decoded or response.turns:
            row.append(shorten(response.decoded, [], limit)[0])
        if response.turns:
            row.append([[words, *(shorten(text, [], limit)[0] for text in texts)] for words, *texts in response.turns])
        return row, any(len(text) > limit for text in response.texts)


def embed(
    prompts: Sequence[Asked],
    responses: Sequence[Response],
    runs: Sequence[Sequence[Any]],
    head: Mapping[str, Any],
    budget: int,
) -> EmbeddedData:
    """Compress transcripts into at most `budget` characters.

    Args:
        prompts: all prompts.
        responses: all responses.
        runs: for each arm the name of each run.
        head: further data for the page: names of arms and runs.
        budget: the most characters of base64.
    """
    differ = {asked for (asked, _), different in discordant(responses, runs).items() if different}
    order = shuffled(prompts, DRAWN)
    ranked = [place for place in order if place in differ] + [place for place in order if place not in differ]
    packer = _Packer(prompts, responses, head)
    longest = max((len(text) for row in responses for text in row.texts), default=0)
    for tried, limit in enumerate(LIMITS[:-1]):
        if tried and longest <= limit:
            continue  # nothing would be cut that was not cut before
        data, cut = packer.pack(ranked, limit)
        if len(data) <= budget:
            return _embedded(packer, data, ranked, differ, cut, min(limit, max(longest, 1)))
    for limit in LIMITS[-2:]:
        count = _most(lambda n, limit=limit: len(packer.pack(ranked[:n], limit)[0]) <= budget, len(ranked))
        if count >= len(differ) or limit == LIMITS[-1]:
            data, cut = packer.pack(ranked[:count], limit)
            return _embedded(packer, data, ranked[:count], differ, cut, limit)
    raise AssertionError("the last limit returns")


def _embedded(
    packer: _Packer, data: str, chosen: Sequence[int], differ: set[int], cut: int, limit: int
) -> EmbeddedData:
    count = {place: len(rows) for place, rows in packer.by_prompt.items()}
    return EmbeddedData(
        data=data,
        shown=sum(count[place] for place in chosen),
        total=len(packer.responses),
        differing=sum(count[place] for place in differ),
        differing_shown=sum(count[place] for place in chosen if place in differ),
        cut=cut,
        limit=limit,
    )


def _most(fits: Any, most: int) -> int:
    """Return the largest n ≤ most that fits, given that 0 does; close to it is near enough (within 2 %)."""
    low, high = 0, most + 1
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _prompt(asked: Asked, limit: int) -> dict[str, Any]:
    turns = [[role, shorten(content, [], limit)[0]] for role, content in asked.messages]
    found = {"b": asked.prompt.benchmark, "i": asked.prompt.item, "a": asked.attack, "h": asked.behaviour,
             "c": asked.category, "k": asked.kind, "m": turns}  # fmt: skip
    if asked.objective:
        found["o"] = shorten(asked.objective, [], limit)[0]
    if asked.target:
        found["t"] = shorten(asked.target, [], limit)[0]
    return found


def shorten(text: str, offsets: Sequence[int], limit: int) -> tuple[str, list[int], bool]:
    """Cut a text in the middle to about `limit` characters, with a visible mark; offsets are adjusted."""
    if len(text) <= limit:
        return text, list(offsets), False
    head, tail = limit * 2 // 3, limit // 3
    mark = CUT.format(count=len(text) - head - tail)
    gone = len(text) - head - tail - len(mark)
    moved = [at if at <= head else at - gone if at >= len(text) - tail else head for at in offsets]
    return text[:head] + mark + text[len(text) - tail :], moved, True


def utf16(text: str, offsets: Sequence[int]) -> list[int]:
    """Return character offsets in UTF-16 units, as a browser counts them: characters beyond U+FFFF are two."""
    if text.isascii() or all(char <= "\uffff" for char in text):
        return list(offsets)
    found, units, place = {}, 0, 0
    for offset in sorted(set(offsets)):
        units += len(text[place:offset].encode("utf-16-le", "surrogatepass")) // 2
        found[offset], place = units, offset
    return [found[offset] for offset in offsets]
