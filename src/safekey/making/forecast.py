"""What a recipe would ask, before anything is asked: calls, tokens and money of each stage (`--dry-run`).

Requests are collected and deduplicated for real, in memory. Behind that nobody knows how many rows a stage will set
aside, so every number of calls is the most that there can be; tokens are letters divided by four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safekey.making import prompting
from safekey.making.card import money
from safekey.making.config import RULE, MakeConfig, MakeRecipe
from safekey.making.journal import LETTERS_A_TOKEN, Asker, Progress
from safekey.making.models import Models, Role, check_roles
from safekey.making.policies import Policies, load_policies
from safekey.making.rows import Row, StageReport
from safekey.making.stages import classify, collect, dedup
from safekey.making.work import Work

_VERDICT = 80  # tokens of a judge's reply without thinking


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one stage would ask of one model.

    Attributes:
        stage, role: which stage, and which model.
        calls: at most so many.
        tokens_in: of all questions.
        tokens_out: as the recipe expects them, never more than tokens_most: at the limit of every reply.
        money, money_most: dollars at the given prices; None without prices.
    """

    stage: str
    role: Role
    calls: int
    tokens_in: int
    tokens_out: int
    tokens_most: int
    money: float | None
    money_most: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A dry run's result: the stages that were run, and the forecast of the others."""

    reports: Sequence[StageReport]
    forecasts: Sequence[Forecast]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as one document."""
        return {"stages": [one.to_dict() for one in self.reports], "forecast": [asdict(one) for one in self.forecasts]}


def forecast(recipe: MakeRecipe, progress: Progress = lambda stage, done, of: None) -> Plan:
    """Run the stages that ask nobody up to the first that asks, and count what the others would ask.

    Raises:
        UserError: as `run.make`, as far as it can be known without asking.
    """
    config = recipe.config
    check_roles(config)
    policies = load_policies(config.policies)
    nowhere = Path("nowhere")
    work = Work(config, policies, Asker(nowhere, Models(config), {}, progress), nowhere, progress)
    rows: list[Row] = []
    reports: list[StageReport] = []
    forecasts: list[Forecast] = []
    asked = False
    for number, name in enumerate(config.stages[:-1], start=1):
        work.stage = f"{number}-{name}"
        if name in ("collect", "dedup") and not asked:
            outcome = (collect if name == "collect" else dedup).run(rows, work)
            reports.append(StageReport.of(work.stage, len(rows), outcome))
            rows = list(outcome.rows)
            continue
        found, rows = _stage(name, work.stage, rows, config, policies)
        asked = asked or bool(found)
        forecasts += found
    return Plan(reports, forecasts)


def _stage(
    name: str, stage: str, rows: list[Row], config: MakeConfig, policies: Policies
) -> tuple[list[Forecast], list[Row]]:
    """Return what a stage asks, and the rows behind it if none is set aside."""
    judged = config.judge != RULE
    listed = len(policies.listed())
    longest = {policy.name: len(policy.text) for policy in (*policies.values(), policies.general)}
    policy = sum(longest.get(row.category, max(longest.values())) for row in rows) // max(1, len(rows))
    own = config.expect_tokens
    answer = min(own, config.max_tokens) * LETTERS_A_TOKEN
    texts = config.max_tokens

    def count(prompt: str, about: Sequence[Row], role: Role, more: int, out: int, most: int) -> Forecast:
        fixed = len(prompting.load(prompt).system) + len(prompting.load(prompt).user) + more
        letters = sum(fixed + len(row.question) for row in about)
        ins, outs, mosts = letters // LETTERS_A_TOKEN, min(out, most) * len(about), most * len(about)
        return Forecast(
            stage, role, len(about), ins, outs, mosts, money(config, role, ins, outs), money(config, role, ins, mosts)
        )

    if name == "classify" and judged:
        asked = [row for row in rows if classify.needs_question(row)]
        return [count("classify", asked, "judge", listed, _VERDICT, config.judge_tokens)], rows
    if name == "benign":
        harmful = [row for row in rows if row.label != "benign"]
        made = [Row(f"{row.id}~benign", row.question, "benign", row.category) for row in harmful]
        found = [
            count("benign", harmful, "writer", 0, _VERDICT, texts),
            count("classify", made, "judge", listed, _VERDICT, config.judge_tokens),
        ]
        return found, [*(rows if config.keep_harmful else [row for row in rows if row.label == "benign"]), *made]
    if name == "deliberate":
        return [count("deliberate", rows, "teacher", policy, own, texts)], rows
    if name == "self" and config.thinking == "opened":  # the thinking, then the answer behind it
        short = config.think_tokens
        first = count("self_harmful", rows, "model", 0, own, short)
        return [first, count("self_harmful", rows, "model", short * LETTERS_A_TOKEN, own, texts)], rows
    if name == "self":
        return [count("self_harmful", rows, "model", 0, own, texts)], rows
    if name == "score" and judged:
        return [count("score", rows, "judge", policy + answer, _VERDICT, config.judge_tokens)], rows
    if name == "segment" and config.segment_by == "annotator":
        return [count("score", rows, "judge", answer, _VERDICT, config.judge_tokens)], rows
    return [], rows
