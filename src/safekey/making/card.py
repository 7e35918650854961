"""The data card: counts by stage, category, source and licence; hashes; prompts; models; cost. No time, no path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safekey.making.config import MakeConfig, MakeRecipe
from safekey.making.journal import Spent
from safekey.making.models import Role, asked_roles, short_name, spec_of
from safekey.making.rows import Row, StageReport, tally
from safekey.making.work import Work
from safekey.run_folder.ownership import file_sha256

_MILLION = 1_000_000


def card_of(
    recipe: MakeRecipe, work: Work, rows: Sequence[Row], reports: Sequence[StageReport], path: Path
) -> dict[str, Any]:
    """Return what is known of the rows, for `card.json`.

    Args:
        recipe: what was asked for.
        work: the policies, the prompts used, and what was spent.
        rows: the rows that were written.
        reports: one for each stage.
        path: of the rows.
    """
    config = recipe.config
    return {
        "recipe": recipe.name,
        "rows": len(rows),
        "sha256": file_sha256(path),
        "stages": [report.to_dict() for report in reports],
        "by": {
            "label": tally((row.label for row in rows), "unlabelled"),
            "category": tally(row.category for row in rows),
            "source": tally(row.source for row in rows),
            "license": tally((row.license for row in rows), "not known"),
            "spans": tally((row.span_source or "" for row in rows), "not segmented"),
        },
        "sources": [_source(source) for source in config.source_tables()],
        "models": {role: public_name(spec.target) for role in asked_roles(config) if (spec := spec_of(config, role))},
        "prompts": dict(sorted(work.prompts.items())),
        "policies": {"names": list(work.policies), "sha256": work.policies.sha256},
        "cost": {role: cost_of(config, role, spent) for role, spent in work.asker.spent.items()},
        "seed": config.seed,
    }


def cost_of(config: MakeConfig, role: Role, spent: Spent) -> dict[str, Any]:
    """Return calls, tokens and, where the recipe has prices, dollars of one role; money is None without prices."""
    found = {"calls": spent.calls, "tokens_in": spent.tokens_in, "tokens_out": spent.tokens_out}
    return found | {"counted": spent.counted, "money": money(config, role, spent.tokens_in, spent.tokens_out)}


def money(config: MakeConfig, role: Role, tokens_in: int, tokens_out: int) -> float | None:
    """Return dollars at the recipe's prices; None when it has none."""
    judge = role == "judge"
    first = config.judge_price_in if judge else config.price_in
    second = config.judge_price_out if judge else config.price_out
    if first is None and second is None:
        return None
    return round(((first or 0) * tokens_in + (second or 0) * tokens_out) / _MILLION, 6)


def public_name(target: str) -> str:
    """Return a model's name for readers elsewhere: without hosts and folders."""
    name = short_name(target)
    if name.startswith(("http://", "https://")):
        return "the only model of an endpoint"
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else name


def markdown(card: Mapping[str, Any]) -> str:
    """Return the card for people."""
    out = [f"# Data card: {card['rows']} rows by `safekey make {card['recipe']}`", ""]
    out += [f"`rows.jsonl`, sha256 `{card['sha256']}`; seed {card['seed']}.", ""]
    out += ["## Stages", "", "| stage | rows in | rows out | set aside, by reason |", "|---|---|---|---|"]
    for stage in card["stages"]:
        reasons = "; ".join(f"{_cell(reason)}: {count}" for reason, count in stage["aside"].items())
        out.append(f"| {stage['stage']} | {stage['rows_in']} | {stage['rows_out']} | {reasons} |")
    for stage in card["stages"]:
        out += [f"\n- {stage['stage']}: {_cell(note)}" for note in stage["notes"]]
        if stage["unanswered"]:
            out.append(f"\n- {stage['stage']}: {stage['unanswered']} rows got no answer; the same command asks again")
    out += ["", "## Rows", ""]
    for name, counts in card["by"].items():
        out.append(f"- {name}: " + ", ".join(f"{_cell(value)} {count}" for value, count in counts.items()))
    out += ["", "## Sources", ""]
    out += [
        f"- {_cell(one['name'])}: licence {_cell(one['license'])}, sha256 {one['sha256']}" for one in card["sources"]
    ]
    out += ["", "## Models, prompts, policies", ""]
    out += [f"- {role}: {_cell(name)}" for role, name in card["models"].items()]
    out += [f"- prompt `{name}.md`, sha256 `{digest}`" for name, digest in card["prompts"].items()]
    out.append(f"- policies: {', '.join(card['policies']['names'])}; sha256 `{card['policies']['sha256']}`")
    out += ["", "## Cost", ""]
    out += [_cost_line(role, cost) for role, cost in card["cost"].items()] or ["- no model was asked"]
    return "\n".join(out) + "\n"


def _cost_line(role: str, cost: Mapping[str, Any]) -> str:
    about = "" if cost["counted"] else "about "
    price = "no price given" if cost["money"] is None else f"{about}{cost['money']:g} dollars"
    tokens = f"{about}{cost['tokens_in']} tokens in, {about}{cost['tokens_out']} out"
    return f"- {role}: {cost['calls']} replies, {tokens}; {price}"


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(str(source["path"]))
    local = path.is_file()
    return {
        "name": path.name if path.exists() else str(source["path"]),
        "revision": source.get("revision"),
        "license": source.get("license") or "of each row, or not known",
        "sha256": file_sha256(path) if local else "not a file",
    }


def _cell(text: object) -> str:
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())
