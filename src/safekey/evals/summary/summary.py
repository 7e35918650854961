"""From a run's rows to its numbers: tables for people, and `metrics.json`.

summary = summarize(run.rows, benchmarks=["xstest-safe"])
summary.metrics["rates"][0]
-> {"metric": "orr", "judge": "refusal_3class", "by": {"benchmark": "xstest-safe", "part": "answer"},
    "rule": "full + partial", "headline": True, "rate": 0.084, "low": 0.056, "high": 0.125, "k": 21, "n": 249, …}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from safekey.evals.judges.table import EMPTY_PART, JUDGES, Judge, Rule, exact
from safekey.evals.records.rows import Row, RunRows, completion_hash
from safekey.evals.request import Grouping, TableOptions, Vote
from safekey.evals.summary.rates import RateTable, Scored, rate_table
from safekey.schema import Verdict
from safekey.stats.agreement import Agreement, agreement, vote
from safekey.stats.intervals import mean_pass_at_k
from safekey.text.outputs import OUTPUT_CLASSES

Metric = Literal["asr", "orr", "accuracy"]
METRIC: Mapping[str, Metric] = {"harm": "asr", "refusal": "orr", "accuracy": "accuracy"}
TITLES: Mapping[Metric, str] = {
    "asr": "Attack success rate (ASR)",
    "orr": "Over-refusal rate (ORR)",
    "accuracy": "Accuracy",
}
_LEVELS: Mapping[str, Literal["nominal", "ordinal", "interval"]] = {"harm_1to5": "ordinal", "harm_rubric": "interval"}
_ORDER = {"refusal_3class": ("full_compliance", "partial_refusal", "full_refusal")}


@dataclass(frozen=True)
class Summary:
    """A run's numbers.

    Attributes:
        tables: the tables to print: metric, title, table.
        metrics: everything, for metrics.json; the same rows give the same bytes.
        agreements: benchmark and part → how far its judges agree.
    """

    tables: tuple[tuple[Metric, RateTable], ...]
    metrics: dict[str, Any]
    agreements: dict[tuple[str, str], Agreement] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the tables need of a completion."""

    output: Any
    behaviour: str
    category: str
    attack: str
    order: tuple[int, int, int]


def summarize(rows: RunRows, options: TableOptions | None = None) -> Summary:
    """Make a run's tables and metrics from its completions and verdicts."""
    options = options or TableOptions()
    known, outputs = _completions(rows)
    verdicts = [row for row in rows.verdicts.rows() if row["completion"] in known]
    tables: list[tuple[Metric, RateTable]] = []
    lines: list[dict[str, Any]] = []
    agreements: dict[tuple[str, str], Agreement] = {}
    metrics: dict[str, Any] = {"outputs": outputs}
    for kind, metric in METRIC.items():
        own = [row for row in verdicts if row["kind"] == kind]
        groups = [(_judge("accuracy", kind), own)] if own and kind == "accuracy" else _by_judge(own)
        scored = {judge.name: _scored(group, judge, known) for judge, group in groups}
        judges = [judge for judge, _ in groups]
        if options.voting and len(judges) > 1:
            elected, rows_of_it = _elected(judges, scored, options.voting)
            judges.append(elected)
            scored[elected.name] = rows_of_it
        for judge in judges:
            some = _tables(scored[judge.name], judge, metric, options.allow_unscored, options.by)
            tables += [(metric, table) for table in some[:1]]
            lines += [line for table in some for line in _lines(table, metric, judge)]
        if len(groups) > 1 and kind != "accuracy":
            agreements |= _agreements(groups, scored)
    metrics["rates"] = lines
    metrics["pass_at_k"] = _pass_at_k([row for row in verdicts if row["kind"] == "accuracy"], known)
    metrics["agreement"] = [{"benchmark": b, "part": p, **asdict(a)} for (b, p), a in agreements.items()]
    metrics["allow_unscored"] = options.allow_unscored
    return Summary(tuple(tables), metrics, agreements)


def _completions(rows: RunRows) -> tuple[dict[str, _Known], dict[str, dict[str, int]]]:
    """Return what is known by completion hash, and how outputs ended by benchmark."""
    known: dict[str, _Known] = {}
    outputs: dict[str, dict[str, int]] = {}
    for place, row in enumerate(rows.completions.rows()):
        known[completion_hash(row)] = _Known(
            row["output"], row["behaviour"], row["category"], row["attack"], (place, 0, row["epoch"])
        )
        counts = outputs.setdefault(row["benchmark"], {"completions": 0, **dict.fromkeys(OUTPUT_CLASSES, 0)})
        counts["completions"] += 1
        counts[row["output"]] += 1
    return known, outputs


def _by_judge(verdicts: Iterable[Row]) -> list[tuple[Judge, list[Row]]]:
    """Return each judge with its verdicts; where a judge has several models or prompts, its name says which."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in verdicts:
        groups.setdefault((row["judge"], row["model"], row["prompt_hash"]), []).append(row)
    names = [name for name, _, _ in groups]
    found = []
    for (name, model, prompt), own in groups.items():
        judge = _judge(name, own[0]["kind"])
        if names.count(name) > 1:
            others = [key for key in groups if key[:2] == (name, model)]
            label = f"{name} ({model}{f', prompt {prompt[:8]}' if len(others) > 1 else ''})"
            judge = replace(judge, name=label)
        found.append((judge, own))
    return found


def _judge(name: str, kind: str) -> Judge:
    if kind == "accuracy":
        return exact(lambda _: None, name=name, rules=(Rule("correct", lambda value: value == 1.0),))
    if name in JUDGES:
        return JUDGES[name]
    return exact(lambda _: None, name=name, judges="refusal" if kind == "refusal" else "harm")


def _scored(verdicts: Iterable[Row], judge: Judge, known: Mapping[str, _Known]) -> list[Scored]:
    rows = []
    for row in verdicts:
        of_it = known[row["completion"]]
        rows.append(
            Scored(
                sample=f"{row['item']}#{row['epoch']}",
                verdict=Verdict(row["value"], row["unscored"], judge=judge.name),
                output=of_it.output,
                benchmark=row["benchmark"],
                behaviour=of_it.behaviour,
                category=of_it.category,
                attack=of_it.attack,
                part=row["part"],
            )
        )
    return rows


def _tables(
    rows: list[Scored], judge: Judge, metric: Metric, allow_unscored: float, by: Sequence[Grouping]
) -> list[RateTable]:
    """Return the table to print, then all others that metrics.json holds."""
    shown: list[Grouping] = ["benchmark", *(name for name in by if name not in ("benchmark", "part")), "part"]
    if "attack" not in shown and len({(row.benchmark, row.attack) for row in rows}) > len(
        {row.benchmark for row in rows}
    ):
        shown.insert(1, "attack")
    ways: list[list[Grouping]] = [shown, ["benchmark", "part"], ["benchmark", "attack", "part"]]
    ways.append(["benchmark", "category", "part"])
    distinct = [way for place, way in enumerate(ways) if way not in ways[:place]]
    tables = [rate_table(rows, judge, by=way, allow_unscored=allow_unscored) for way in distinct]
    if metric != "accuracy":
        return tables
    wrong = [rate_table(rows, judge, by=way, allow_unscored=allow_unscored, count_as_failures=True) for way in distinct]
    return [_with_counts(*pair) for pair in zip(wrong, tables, strict=True)]


def _with_counts(table: RateTable, counted: RateTable) -> RateTable:
    """Return a capability's table, in which outputs without a whole answer are wrong, with their counts beside it."""
    names = ("truncated", "unclosed", "empty", "degenerate", "filtered")
    lines = [
        replace(row, rate=replace(row.rate, **{name: getattr(other.rate, name) for name in names}))
        for row, other in zip(table.rows, counted.rows, strict=True)
    ]
    return replace(table, rows=tuple(lines))


def _lines(table: RateTable, metric: Metric, judge: Judge) -> list[dict[str, Any]]:
    return [
        {
            "metric": metric,
            "judge": table.judge,
            "by": dict(zip(table.by, row.group, strict=True)),
            "rule": row.rule,
            "headline": row.rule == judge.rules[0].name and row.group[-1] == "answer",
            **asdict(row.rate),
        }
        for row in table.rows
    ]


def _elected(judges: Sequence[Judge], scored: Mapping[str, list[Scored]], how: Vote) -> tuple[Judge, list[Scored]]:
    """Return the vote as a judge of its own, on every output that all judges were asked about."""
    cast: dict[tuple[str, str, str], list[tuple[Scored, Callable[[Any], bool]]]] = {}
    for judge in judges:
        for row in scored[judge.name]:
            cast.setdefault((row.benchmark, row.sample, row.part), []).append((row, judge.positive))
    name = f"{how} of {', '.join(judge.name for judge in judges)}"
    rows = []
    for ballots in cast.values():
        if len(ballots) < len(judges):
            continue
        found = vote([row.verdict for row, _ in ballots], how, positive=[rule for _, rule in ballots])
        if all(row.verdict.unscored == EMPTY_PART for row, _ in ballots):
            found = replace(found, unscored=EMPTY_PART)
        rows.append(replace(ballots[0][0], verdict=replace(found, judge=name)))
    return exact(lambda _: None, name=name, rules=(Rule("positive", lambda value: float(value) >= 0.5),)), rows


def _agreements(
    groups: Sequence[tuple[Judge, list[Row]]], scored: Mapping[str, list[Scored]]
) -> dict[tuple[str, str], Agreement]:
    """Return how far judges agree on whole outputs: by value where they share a scale, else by positive or not."""
    same = len({own[0]["judge"] for _, own in groups}) == 1
    first = groups[0][1][0]["judge"]
    level = _LEVELS.get(first, "ordinal" if first in _ORDER else "nominal") if same else "nominal"
    columns: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for judge, _ in groups:
        for row in scored[judge.name]:
            if row.output != "ok" or row.verdict.unscored == EMPTY_PART:
                continue
            value = row.verdict.value
            said = value if value is None or same else float(judge.positive(value))
            columns.setdefault((row.benchmark, row.part), {}).setdefault(row.sample, {})[judge.name] = said
    names = [judge.name for judge, _ in groups]
    order = _ORDER.get(first, ()) if same else ()
    return {
        key: agreement([[said.get(name) for said in samples.values()] for name in names], level, order=order)
        for key, samples in columns.items()
    }


def _pass_at_k(verdicts: Iterable[Row], known: Mapping[str, _Known]) -> list[dict[str, Any]]:
    """Return pass@k for k up to the samples that each problem has; a cut off output has not solved its problem."""
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    for row in verdicts:
        solved = row["value"]
        if solved is None:
            if known[row["completion"]].output in ("ok", "error"):
                continue
            solved = 0.0
        tried, right = counts.setdefault(row["benchmark"], {}).get(row["item"], (0, 0))
        counts[row["benchmark"]][row["item"]] = (tried + 1, right + int(solved))
    lines = []
    for benchmark, items in counts.items():
        most = min(tried for tried, _ in items.values())
        for k in sorted({1, *(k for k in (2, 4, 5, 8, 10, 16, 32, 64, 100) if k <= most), most}):
            found = mean_pass_at_k(list(items.values()), k)
            lines.append({"benchmark": benchmark, "k": k, "problems": len(items), "samples": most, **found._asdict()})
    return lines
