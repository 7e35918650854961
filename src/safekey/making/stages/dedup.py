"""Remove requests that come twice, nearly twice, or from a benchmark. The first of several stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import find_benchmark
from safekey.evals.benchmarks.contamination import NGRAM, SHORTEST_INSIDE, runs_of, texts_of, words_of
from safekey.evals.benchmarks.load import load_benchmark
from safekey.making.near import NearIndex
from safekey.making.rows import Aside, Outcome, Row
from safekey.making.work import Work

_EVERY = 500  # rows between two reports of progress


def run(rows: Sequence[Row], work: Work) -> Outcome:
    """Compare every request with the benchmarks and with the requests that were kept before it.

    Raises:
        UserError: a benchmark cannot be read.
    """
    kept, removed = [], []
    benchmarks = [(name, [" ".join(words_of(text)) for text in texts]) for name, texts in _benchmarks(work)]
    notes = [f"compared with {len(texts)} prompts of {name}" for name, texts in benchmarks]
    plain = [" ".join(words_of(row.question)) or row.question for row in rows]
    seen = _Seen(benchmarks, plain, work.config.near)
    for count, (row, text) in enumerate(zip(rows, plain, strict=True), start=1):
        reason = seen.look(row.id, row.question, text)
        if reason:
            removed.append(Aside(row.id, reason))
        else:
            kept.append(row)
        if count % _EVERY == 0 or count == len(rows):
            work.progress(work.stage, count, len(rows))
    found = Counter(entry.kind for entry in removed if entry.kind.startswith("in benchmark"))
    notes += [f"{count} requests overlap with {kind.removeprefix('in benchmark ')}" for kind, count in found.items()]
    return Outcome(kept, removed, notes)


class _Seen:
    """What was kept before, and what the benchmarks hold."""

    def __init__(self, benchmarks: Sequence[tuple[str, Sequence[str]]], plain: Sequence[str], near: float) -> None:
        """Keep the benchmarks' prompts apart from the requests.

        Args:
            benchmarks: name and normalised prompts of each.
            plain: all requests, normalised, in the order in which they will be looked at.
            near: the threshold of near-duplicates; 0: none are looked for.
        """
        self._names = [(name, "") for name, texts in benchmarks for _ in texts]  # (benchmark or "", row) by place
        self._exact: dict[str, str] = {}
        self._plain: dict[str, tuple[str, str]] = {}
        self._runs: dict[int, dict[int, str]] = {NGRAM: {}}  # length → hash of a run of words → benchmark
        everything = [*(text for _, texts in benchmarks for text in texts), *plain]
        self._near = NearIndex(everything, near) if near else None
        for place, text in enumerate(everything[: len(self._names)]):
            name = self._names[place][0]
            words = tuple(text.split())
            self._plain.setdefault(text, (name, ""))
            length = min(NGRAM, len(words))
            if length >= SHORTEST_INSIDE:
                self._runs.setdefault(length, {}).update(dict.fromkeys(runs_of(words, length), name))
            if self._near is not None:
                self._near.add(place)

    def look(self, name: str, text: str, plain: str) -> str:
        """Return why the next request is removed; "" and keep it otherwise."""
        place = len(self._names)
        self._names.append(("", name))
        if text in self._exact:
            return f"exact duplicate: of {self._exact[text]}"
        if plain in self._plain:
            benchmark, row = self._plain[plain]
            return f"in benchmark {benchmark}: the same words" if benchmark else f"normalised duplicate: of {row}"
        words = tuple(plain.split())
        for length, hashes in self._runs.items():
            shared = next((hashes[run] for run in runs_of(words, length) if run in hashes), "") if hashes else ""
            if shared:
                return f"in benchmark {shared}: {length} words in a row"
        if self._near is not None:
            found = self._near.nearest(place)
            if found is not None:
                benchmark, row = self._names[found]
                return f"in benchmark {benchmark}: nearly the same" if benchmark else f"near duplicate: of {row}"
            self._near.add(place)
        self._exact[text], self._plain[plain] = name, ("", name)
        return ""


def _benchmarks(work: Work) -> Iterator[tuple[str, list[str]]]:
    """Yield each named benchmark with its prompts."""
    for word in work.config.benchmarks:
        name, _, file = word.partition("=")
        find_benchmark(name)
        if file and not Path(file).expanduser().is_file():
            raise UserError(f"benchmarks: {name}={file}: no such file")
        items = load_benchmark(name, None if file else work.config.data_dir, file or None, prefill_tokens=(1,))
        yield name, list(dict.fromkeys(text for item in items for text in texts_of(item)))
