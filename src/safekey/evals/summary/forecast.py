"""Forecast an evaluation before it begins: rows, completions, judge calls, tokens.

forecast(plan)["total"]  -> {"completions": 313, "judge_calls": 626, "prompt_tokens": 21500, "most_new_tokens": 2504000}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from safekey.evals.adaptive.settings import ATTACK
from safekey.evals.benchmarks.items import Item
from safekey.evals.plan import EvalPlan, PlannedTask
from safekey.terminal import printable

_BYTES_PER_TOKEN = 4  # of ordinary English text in current tokenizers
_TOTALS = ("completions", "judge_calls", "prompt_tokens", "most_new_tokens")


def forecast(plan: EvalPlan) -> dict[str, Any]:
    """Return what a plan needs, by task and in total; nothing is opened or generated.

    Prompt tokens are estimated at four bytes a token. `most_new_tokens` is reached only if every completion is cut off.
    """
    tasks: list[dict[str, Any]] = []
    for task in plan.tasks:
        prompts = sum(len(text.encode()) for item in task.items for text in _texts(item)) // _BYTES_PER_TOKEN
        tasks.append(
            {
                "task": task.benchmark.name,
                "rows": len(task.items),
                "source": task.items.source,
                "samples": task.samples,
                "completions": task.completions,
                "judges": [str(spec) for spec in task.judges],
                "judge_calls": task.verdicts if task.judges else 0,
                "prompt_tokens": prompts * task.samples,
                "most_new_tokens": task.completions * (task.config.max_tokens or 0),
                "read": task.items.reading.to_dict(),
                "warnings": task.items.warnings,
                "notes": task.items.notes,
                "problems": [str(problem) for problem in task.items.problems],
                **_of_attacks(task),
            }
        )
    total = {name: sum(task[name] for task in tasks) for name in _TOTALS}
    about = {"left_out": dict(plan.left_out), "parts": list(plan.parts), "read": plan.read}
    return {"tasks": tasks, **about, "total": total}


def _of_attacks(task: PlannedTask) -> dict[str, Any]:
    """Return the most calls that attacks that adapt take; {} without them."""
    if task.adaptive is None:
        return {}
    attacked = task.samples * sum(ATTACK in item.metadata for item in task.items)
    calls, judges = attacked * task.adaptive.budget, len(task.judges) * len(task.parts)
    most = attacked * (task.adaptive.budget + task.adaptive.most_misses)
    adaptive = {"prompts": attacked, "target_calls": calls, "attacker_calls": most, "judge_calls": calls * judges}
    return {"adaptive": adaptive | {"attacker": task.adaptive.attacker}}


def print_forecast(console: Console, found: dict[str, Any]) -> None:
    """Print a forecast as a table, then the judges and the notes on the files."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("task", "rows", "samples", "completions", "prompt tokens", "new tokens", "judge calls"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=name == "task")
    for task in found["tasks"]:
        table.add_row(printable(task["task"]), str(task["rows"]), str(task["samples"]), *_numbers(task))
    table.add_section()
    table.add_row("all", "", "", *_numbers(found["total"]))
    console.print(table)
    judges = dict.fromkeys(judge for task in found["tasks"] for judge in task["judges"])
    lines = [f"judges: {', '.join(judges)}; each sees: {', '.join(found['parts'])}"] if judges else []
    lines += found["read"]
    for task in found["tasks"]:
        if own := task.get("adaptive"):
            lines.append(
                f"{task['task']}: {own['prompts']:,} of these are attacked by {own['attacker']}, and take at most "
                f"{own['target_calls']:,} completions, {own['attacker_calls']:,} calls to the attacker and "
                f"{own['judge_calls']:,} to judges; the table counts one completion for each"
            )
        lines += [*(f"WARNING: {line}" for line in task["warnings"]), *task["notes"], *task["problems"]]
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _numbers(of: dict[str, Any]) -> tuple[str, ...]:
    calls = f"{of['judge_calls']:,}" if of["judge_calls"] else "–"
    return f"{of['completions']:,}", f"≈ {of['prompt_tokens']:,}", f"≤ {of['most_new_tokens']:,}", calls


def _texts(item: Item) -> Iterator[str]:
    for turn in item.prompt.messages:
        yield turn.content
        yield turn.thinking or ""
    yield item.prompt.prefill
