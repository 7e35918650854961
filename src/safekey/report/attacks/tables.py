"""The tables of attacks: attack × arm with the plain request beside it, and attack success by N under best_of_n."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safekey.comparison.arm_rates import ArmRate, arm_rates, withheld_rates
from safekey.comparison.saved_runs import SavedPrompt, scored, verdicts_due
from safekey.comparison.types import Outcome
from safekey.evals.attacks.best_of_n import without_draw
from safekey.evals.attacks.table import BEST_OF_N
from safekey.evals.summary.best_of_n import tries
from safekey.report.content import PLAIN, Content, slice_of
from safekey.report.tables import MOST_SLICES, Cell, Table, percent
from safekey.stats.intervals import pass_at_k


def attack_table(content: Content) -> Table | None:
    """Return attack success by attack and arm; None where every request is plain. Prefilling has its own table."""
    rows = [row for row in content.found.outcomes if row.metric == "asr" and row.benchmark not in content.found.apart]
    attacks: dict[str, set[str]] = {}
    for part in content.slices:
        if part.metric == "asr" and not content.is_prefill(part):
            attacks.setdefault(part.attack, set()).add(part.benchmark)
    listed = [str(name) for runs in content.found.saved.values() for name in _named(runs[0].resolved)]
    places = {name: place for place, name in enumerate(dict.fromkeys(listed))}
    names = sorted((name for name in attacks if name != PLAIN), key=lambda name: places.get(name, len(places)))
    if not names:
        return None
    lines = []
    for name in ([PLAIN] if PLAIN in attacks else []) + names[:MOST_SLICES]:
        own = [row for row in rows if slice_of(row, content.found).attack == name]
        plain = [row for row in rows if row.benchmark in attacks[name] and _is_plain(row, content)]
        beside = {} if name == PLAIN else _rates(plain, content)
        lines.append((Cell("plain request" if name == PLAIN else name), *_cells(own, beside, content)))
    note = (
        "Each rate with its 95 % interval for one arm alone; n: prompts with a verdict, over all runs of the arm. "
        "“plain”: the same arm’s rate on the plain requests of the same benchmarks."
    )
    if any(name.rpartition("+")[2] == BEST_OF_N for name in names):
        note += " The draws of best_of_n on one prompt count once, with the share of them that succeeded."
    if len(names) > MOST_SLICES:
        note += f" The first {MOST_SLICES} of {len(names)} attacks."
    return Table("attacks", "Attack success by attack and arm", ("attack", *content.arms), tuple(lines), note=note)


def _named(resolved: Mapping[str, Any]) -> Sequence[Any]:
    """Return the attacks of a run in the order in which they were named."""
    found = resolved.get("attacks")
    names = found.get("names") if isinstance(found, Mapping) else None
    return names if isinstance(names, list) else []


def _is_plain(row: Outcome, content: Content) -> bool:
    return slice_of(row, content.found).attack == PLAIN


def _rates(rows: list[Outcome], content: Content) -> dict[tuple[str, str], ArmRate]:
    return arm_rates(rows, lambda _: "", content.allow_unscored)


def _cells(rows: list[Outcome], plain: Mapping[tuple[str, str], ArmRate], content: Content) -> Iterator[Cell]:
    rates, missing = _rates(rows, content), withheld_rates(rows, lambda _: "", content.allow_unscored)
    for arm in content.arms:
        cell = percent(rates.get((arm, "")), missing.get((arm, "")))
        count = sum(row.arm == arm and row.value is not None for row in rows)
        said = [f"{', '.join(cell.more)}, n {count:,}"] if (arm, "") in rates else list(cell.more)
        said += [f"plain {percent(plain[arm, '']).text}"] if (arm, "") in plain else []
        yield Cell(cell.text, tuple(said))


def best_of_n_tables(content: Content) -> list[Table]:
    """Return attack success by N and arm for each benchmark that was asked under best_of_n."""
    tables: list[Table] = []
    for part in content.slices:
        if part.attack.rpartition("+")[2] != BEST_OF_N:
            continue
        estimates = _by_n(content, part.benchmark, part.attack)
        rates = arm_rates(estimates, lambda row: row.item.rpartition("#")[2], content.allow_unscored)
        found = sorted({int(n) for _, n in rates})
        if not found:
            continue
        rows = tuple((Cell(f"N = {n}"), *(percent(rates.get((arm, str(n)))) for arm in content.arms)) for n in found)
        name = f"best-of-n-{len(tables)}"
        tables.append(
            Table(
                name,
                f"Attack success by the number of tries: {part.label(content.slices)}",
                ("tries", *content.arms),
                rows,
                note="The attacker draws N changed copies of a request, and one that succeeds is enough. Unbiased "
                "estimates from all draws, as for pass@k; all draws of one behaviour are one cluster.",
            )
        )
    return tables


def _by_n(content: Content, benchmark: str, attack: str) -> Iterator[Outcome]:
    """Yield for each run and prompt the estimates of ASR@N, as outcomes whose item ends with "#N"."""
    found = content.found
    kind = found.kinds[benchmark]
    groups: dict[str, list[SavedPrompt]] = {}
    for (name, item), own in found.attacks.items():
        if name == benchmark and own == attack and without_draw(item) != item:
            groups.setdefault(without_draw(item), []).append(SavedPrompt(name, item))
    counts = {}
    for arm, runs in found.saved.items():
        for run, seed in zip(runs, found.seeds[arm], strict=True):
            judge = found.chosen[run.path].get(kind)
            for item, prompts in groups.items():
                samples = [sample for prompt in prompts for sample in run.samples[prompt]]
                values = [value for value, _ in (scored(run, one, kind, judge) for one in samples) if value is not None]
                due, cluster = verdicts_due(run, samples, kind, judge), run.behaviours[prompts[0]][0]
                counts[arm, seed, item] = values, due, cluster
    shown = tries(len(values) for values, _, _ in counts.values())
    for (arm, seed, item), (values, due, cluster) in counts.items():
        for n in shown:
            value = pass_at_k(len(values), round(sum(values)), n) if len(values) >= n else None
            reason = "" if value is not None else "too few tries"
            yield Outcome(arm, f"{item}#{n}", "asr", value, seed, cluster, benchmark, reason, due=due)
