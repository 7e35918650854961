"""Benchmarks of the user's own: a name, a kind and a file, on the command line and again from a run's settings.

    own = own_benchmarks({"bank-requests": "harmful:requests.jsonl"})
    own["bank-requests"].benchmark.scoring, own["bank-requests"].path  -> ("harm", "requests.jsonl")

The kind is all that a run folder needs to know what its rows are: `benchmarks_of` reads it from resolved.yaml. There is
no table that a name is added to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safekey import run_folder
from safekey.errors import UserError, did_you_mean
from safekey.evals.benchmarks.catalog import BENCHMARKS, Benchmark, Kind, Scoring, Suite, find_benchmark
from safekey.evals.benchmarks.columns import plain


class _Like(NamedTuple):
    suite: Suite
    scoring: Scoring
    kind: Kind
    keep: Literal["harmful", "benign"] | None = None


KINDS: Mapping[str, _Like] = {
    "harmful": _Like("safety", "harm", "request", "harmful"),
    "benign": _Like("over-refusal", "refusal", "request", "benign"),
    "prefill": _Like("safety", "harm", "prefill", "harmful"),
    "multi-turn": _Like("safety", "harm", "conversation", "harmful"),
    "math": _Like("reasoning", "math", "math"),
    "letter": _Like("reasoning", "choice", "choice"),
    "integer": _Like("reasoning", "integer", "math"),
    "code": _Like("reasoning", "code", "code"),
}
"""Kind, as users type it → how its rows are asked and scored."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_TAKEN = ("all", "own")  # words of tables, and the name of the Inspect task
_FORM = f"NAME=KIND:PATH, where KIND is one of {', '.join(KINDS)}"


@dataclass(frozen=True, slots=True)
class Own:
    """A benchmark of the user's own, and its file."""

    benchmark: Benchmark
    path: str


def own_benchmark(name: str, kind: str) -> Benchmark:
    """Return the row of a benchmark that is in no table.

    Args:
        name: a word that no benchmark of the table has; it is a name in tables and of files.
        kind: a key of `KINDS`.

    Raises:
        UserError: the name or the kind cannot be used.
    """
    _check_name(name)
    if kind not in KINDS:
        raise UserError(
            f"benchmark '{name}': there is no kind '{kind}'{did_you_mean(kind.lower(), KINDS)} ({', '.join(KINDS)})"
        )
    like = KINDS[kind]
    return Benchmark(
        name, like.suite, like.scoring, like.kind, None, (), name,
        keep=like.keep, own=kind,
        rule="every row; of a file whose rows say what they are, all but those that say the opposite",
    )  # fmt: skip


def own_benchmarks(given: Mapping[str, str]) -> dict[str, Own]:
    """Read the benchmarks that `--benchmark` names: NAME → KIND:PATH. A path may hold ":" and "=".

    Raises:
        UserError: a name, kind or path cannot be used, or two names are alike.
    """
    found: dict[str, Own] = {}
    alike: dict[str, str] = {}
    for name, said in given.items():
        kind, colon, path = said.partition(":")
        if not colon or not path.strip():
            raise UserError(f"--benchmark {name}={said}: expected {_FORM}")
        benchmark = own_benchmark(name, kind.strip())
        if (other := alike.setdefault(plain(name), name)) != name:
            raise UserError(f"--benchmark {name}=…: '{other}' and '{name}' differ in case or in '-' and '_' alone")
        if not Path(path).expanduser().is_file():
            what = "is a folder: name a file in it" if Path(path).expanduser().is_dir() else "there is no such file"
            raise UserError(f"--benchmark {name}={said}: {path}: {what}")
        found[name] = Own(benchmark, str(Path(path).expanduser()))
    return found


def benchmarks_of(resolved: Mapping[str, Any]) -> dict[str, Benchmark]:
    """Return the benchmarks of a run by name, from its settings (resolved.yaml).

    Names that are in no table, with a kind that this version does not know, are left out.
    """
    table = {row.name: row for row in BENCHMARKS}
    found = {}
    for name, settings in (resolved.get("tasks") or {}).items():
        kind = settings.get("kind") if isinstance(settings, Mapping) else None
        if isinstance(kind, str) and kind in KINDS:
            found[name] = own_benchmark(name, kind)
        elif kind is None and name in table:
            found[name] = table[name]
    return found


def scorings_of(resolved: Mapping[str, Any]) -> dict[str, Scoring]:
    """Return how each benchmark of a run is scored, by name, from its settings.

    Raises:
        UserError: a name is in no table, or of a kind that this version does not know.
    """
    known = benchmarks_of(resolved)
    return {name: (known.get(name) or find_benchmark(name)).scoring for name in resolved.get("tasks") or {}}


def find_names(given: Sequence[str], own: Sequence[str] = ()) -> list[str]:
    """Return the benchmarks with these names, or with names that begin so if there is only one.

    Args:
        given: the names.
        own: the names of the user's own benchmarks.

    Raises:
        UserError: there is no such benchmark; the message lists all.
    """
    names = [*(row.name for row in BENCHMARKS), *own]
    found = []
    for word in given:
        fitting = [name for name in names if name.startswith(word)]
        found.append(word if word in names else fitting[0] if len(fitting) == 1 else find_benchmark(word).name)
    return list(dict.fromkeys(found))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"benchmark '{name:.60}': expected a name of letters, digits, '-' and '_', at most 48 of them, that begins "
            "with a letter or digit"
        )
    taken = next((row.name for row in BENCHMARKS if plain(row.name) == plain(name)), "")
    if taken:
        raise UserError(
            f"benchmark '{name}': the name is taken: '{taken}' is a published benchmark (`safekey benchmarks`), which "
            f"--tasks {taken} --file {taken}=PATH reads; give your own rows another name"
        )
    if plain(name) in _TAKEN:
        raise UserError(f"benchmark '{name}': the word means something else in tables and tasks: give another name")
    if not run_folder.without_secrets({name: ""}):
        raise UserError(
            f"benchmark '{name}': what is called so is kept out of records, as a key or password would be: give "
            f"another name, such as '{plain(name)}-requests'"
        )
