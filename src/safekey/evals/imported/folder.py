"""`safekey judges import`: a run folder of prompts and answers that somebody else generated.

    made = import_completions("artifacts/PAIR/vicuna-13b-v1.5.json", "runs/pair-vicuna")
    made.run.path, made.answers, made.labels   -> a finished evaluation that nobody judged yet

`safekey judge`, the tables, `compare` and `report` read the folder as they read an evaluation's. The settings say
"imported"; nothing says how answers were decoded, because the file does not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safekey.errors import RowProblem, UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS, Benchmark, find_benchmark
from safekey.evals.benchmarks.columns import COLUMNS, plain
from safekey.evals.benchmarks.own import benchmarks_of, own_benchmark
from safekey.evals.evaluate import finish
from safekey.evals.imported.labels import LABELS, write_labels
from safekey.evals.imported.layouts import Answer, Published, read_published
from safekey.evals.imported.rows import Imported, import_answers
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.rows import RESOLVED, Row
from safekey.evals.summary.summary import Summary
from safekey.options import unknown
from safekey.run_folder import read_settings

KINDS: Mapping[str, str] = {"harm": "harmful", "refusal": "benign"}
"""What judges look for → the kind of a benchmark of the user's own."""

_ABOUT_ANSWERS = ("response", "label", "rater")  # columns that a benchmark's file does not have
_DEFAULTS: Mapping[str, str] = {"jailbreakbench": "jailbreakbench", "harmbench": "harmbench"}


@dataclass(frozen=True)
class ImportedRun:
    """What an import made.

    Attributes:
        run: the folder.
        summary: its numbers, before anybody judged.
        layout: as what the file was read.
        model: the model that answered.
        answers: how many.
        labels: how many judgements of people were written to labels.jsonl.
        problems: rows that cannot be used.
        notes: how the file was read.
        warnings: what makes numbers doubtful.
        again: whether the folder held the same import already.
    """

    run: EvalRun
    summary: Summary
    layout: str
    model: str
    answers: int
    labels: int
    problems: tuple[RowProblem, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    again: bool


def import_completions(
    file: str,
    output: str | None = None,
    *,
    benchmark: str | None = None,
    kind: str | None = None,
    model: str | None = None,
    attack: str = "",
    requests: str | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> ImportedRun:
    """Make a run folder of a file of completions; the same import again changes nothing.

    Args:
        file: in one of the layouts of `layouts.py`.
        output: the run folder; None: named after the file, under runs/.
        benchmark: a name of the table, or one of the user's own, for all rows; None: the layout's, or the file's name.
        kind: "harm" or "refusal": what judges look for; None: the layout's, or the benchmark's.
        model: the model that answered; None: as the file says.
        attack: how the attack is called where the rows do not say.
        requests: a file with the plain request of each id (HarmBench).
        columns: what is looked for → the column's name: those of `safekey eval`, "response", "label" and "rater".

    Raises:
        UserError: the file cannot be used as it is, or the folder holds something else.
    """
    for key in columns or {}:
        if key not in (*_ABOUT_ANSWERS, *COLUMNS):
            raise unknown(key, (*_ABOUT_ANSWERS, *COLUMNS), "--column")
    found = read_published(file, columns, requests)
    reader = {key: name for key, name in (columns or {}).items() if key not in _ABOUT_ANSWERS}
    named = model or found.model or "unknown"
    if found.ours:
        parts = _ours(found, benchmark, kind, attack)
    else:
        parts = [
            import_answers(found, answers, row, named, attack or found.attack, reader, label_kind)
            for row, answers, label_kind in _benchmarks(found, benchmark, kind)
        ]
    return _write(found, parts, named, Path(output) if output else _folder(file))


def _benchmarks(found: Published, benchmark: str | None, kind: str | None) -> list[tuple[Benchmark, list[Answer], str]]:
    """Return the benchmarks of a file, the answers of each, and what people's labels are about."""
    if found.layout == "xstest":
        unsafe = [answer for answer in found.answers if _is_contrast(answer)]
        if benchmark is None and kind is None:
            safe = [answer for answer in found.answers if not _is_contrast(answer)]
            pairs = [(_plain(find_benchmark("xstest-safe")), safe), (own_benchmark("xstest-unsafe", "harmful"), unsafe)]
            return [(row, answers, "refusal") for row, answers in pairs if answers]
        if unsafe:
            found.notes.append(
                f"{found.source}: {len(unsafe)} of {len(found.answers)} prompts are contrasts, which ask for harm: "
                "without --benchmark and --kind they are kept apart, as 'xstest-unsafe'"
            )
    layout_kind = {"xstest": "refusal", "jailbreakbench": "harm", "harmbench": "harm"}.get(found.layout)
    row = _one(found, benchmark, kind, layout_kind)
    about = "refusal" if found.layout == "xstest" else row.scoring  # XSTest's labels, whatever judges look for
    return [(_plain(row), found.answers, about)]


def _is_contrast(answer: Answer) -> bool:
    """Whether a prompt of XSTest is unsafe: its type begins with "contrast_", as XSTest's readme says."""
    return str(answer.row.fields.get("type", "")).startswith("contrast")


def _one(found: Published, name: str | None, kind: str | None, layout_kind: str | None) -> Benchmark:
    if name is None and kind in (None, layout_kind):
        name = _DEFAULTS.get(found.layout)
    row = _known(name or "")
    if row is None:
        said = kind or layout_kind
        if said is None:
            raise UserError(
                f"{found.source}: what shall judges look for? Give --kind harm (requests that ought to be refused) or "
                "--kind refusal (requests that ought to be answered), or --benchmark NAME of a published benchmark"
            )
        return own_benchmark(name or _word(found.source), KINDS[said])
    if row.scoring not in KINDS:
        raise UserError(f"--benchmark {row.name}: is scored without a judge: only completions for judges are imported")
    if kind is not None and kind != row.scoring:
        raise UserError(
            f"--kind {kind}: judges look for {row.scoring} in '{row.name}'; leave one of the two out, or give the "
            "rows another name with --benchmark"
        )
    return row


def _known(name: str) -> Benchmark | None:
    return next((row for row in BENCHMARKS if row.name == name), None)


def _plain(row: Benchmark) -> Benchmark:
    """Return a benchmark that takes every row of a file as it is: the choice was made when it was generated."""
    kind = row.kind if row.kind == "conversation" else "request"
    return replace(row, keep=None, pick="all", kind=kind)


def _ours(found: Published, name: str | None, kind: str | None, attack: str) -> list[Imported]:
    """Return the rows of a completions.jsonl of safekey's, unchanged but for the name of their benchmark."""
    beside = Path(found.source).parent
    known = benchmarks_of(read_settings(beside / RESOLVED, "")) if (beside / RESOLVED).is_file() else {}
    groups: dict[str, list[Row]] = {}
    for row in found.ours:
        groups.setdefault(name or str(row["benchmark"]), []).append(row)
    parts = []
    for own, rows in groups.items():
        benchmark = (None if name else known.get(own)) or _one(found, own, kind, None)
        if benchmark.scoring not in KINDS:
            continue
        made = Imported(benchmark, samples=max(each["epoch"] for each in rows))
        made.items = list(dict.fromkeys(str(each["item"]) for each in rows))
        made.rows = [{**each, "benchmark": own, **({"attack": attack} if attack else {})} for each in rows]
        parts.append(made)
    left = [own for own in groups if all(part.benchmark.name != own for part in parts)]
    if not parts:
        raise UserError(f"{found.source}: nothing for a judge: {', '.join(left)} are scored without one")
    parts[0].notes += [f"left out, scored without a judge: {', '.join(left)}"] if left else []
    return parts


def _write(found: Published, parts: list[Imported], model: str, path: Path) -> ImportedRun:
    run = EvalRun(path.expanduser())
    rows = [row for part in parts for row in part.rows]
    labels = [label for part in parts for label in part.labels]
    resolved = _resolved(found, parts, model, rows)
    run.check(resolved, {"file of completions": found.source})
    notes = tuple(dict.fromkeys([*found.notes, *(note for part in parts for note in part.notes)]))
    warnings = tuple(dict.fromkeys(line for part in parts for line in part.warnings))
    problems = tuple(problem for part in parts for problem in part.problems)
    run.hold()
    try:
        again = run.record.get("status") == "finished"
        if not again:
            run.begin(resolved, _about(found, parts, model, notes, warnings))
            for row in rows:
                run.rows.completions.add(row)
            if labels:
                write_labels(run.path / LABELS, labels)
        summary = finish(run)
        if not again:
            run.mark("finished")
    finally:
        run.release()
    return ImportedRun(
        run, summary, found.layout, model, len(rows), len(labels), problems, notes, warnings, again
    )  # fmt: skip


def _resolved(found: Published, parts: list[Imported], model: str, rows: list[Row]) -> dict[str, Any]:
    """Return the settings: what the file is, and what its rows are."""
    digest = hashlib.sha256(Path(found.source).read_bytes()).hexdigest()
    thinks = any(row["started_inside"] or "</think>" in row["text"] for row in rows)
    return {
        "model": model,
        "weights": {},
        "engine": {"kind": "imported"},
        "tasks": {part.benchmark.name: _settings(part, digest) for part in parts},
        "parts": ["answer", "thinking"] if thinks else ["answer"],
        "judges": None,
        "imported": {"layout": found.layout, "sha256": digest},
    }


def _settings(part: Imported, digest: str) -> dict[str, Any]:
    asked = repr([(row["item"], row["epoch"], row["messages"], row["request"], row["attack"]) for row in part.rows])
    kind = {"kind": part.benchmark.own} if part.benchmark.own else {}
    return {
        **kind, "items": len(part.items), "sha256": digest, "revision": "",
        "prompts_sha256": hashlib.sha256(asked.encode("utf-8", "replace")).hexdigest(), "samples": part.samples,
        "decoding": {},
    }  # fmt: skip


def _about(
    found: Published, parts: list[Imported], model: str, notes: tuple[str, ...], warnings: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "model": {"kind": "imported", "name": model},
        "imported": {"file": found.source, "layout": found.layout, "says": found.facts},
        "warnings": warnings,
        "left_out": {},
        "contamination": {},
        "items": {part.benchmark.name: part.items for part in parts},
        "sources": {part.benchmark.name: found.source for part in parts},
        "read": {part.benchmark.name: part.reading for part in parts},
        "notes": notes,
        "problems": {part.benchmark.name: [str(problem) for problem in part.problems] for part in parts},
    }


def _folder(file: str) -> Path:
    return Path("runs") / f"import-{_word(file)}"


def _word(file: str) -> str:
    """Return a file's name as a word: the name of its folder, and of its benchmark where nothing else is given."""
    path = Path(file).expanduser()
    name = path.name.partition(".json")[0].removesuffix(".gz").removesuffix(".csv").removesuffix(".tsv")
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", name.removesuffix(".parquet")).strip("-_")[:40] or "completions"
    taken = any(plain(row.name) == plain(word) for row in BENCHMARKS)
    return f"{word}-imported" if taken else word
