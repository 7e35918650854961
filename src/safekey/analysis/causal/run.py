"""Run the experiment in a folder of its own: generate, judge; a stopped run goes on, row by row.

runs/causal-sft-0/
  resolved.yaml      what decides the results: model and weights, key sentences, decoding, judge
  run.json           status, starts with versions, the model as its engine describes it
  completions.jsonl  one row for each request and condition, as in an evaluation's folder; the condition is its "attack"
  verdicts.jsonl     the judge's verdict on each
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safekey import run_folder
from safekey.analysis.causal.conditions import FORCED, NATURAL, Own, own_parts, prompt_for
from safekey.analysis.causal.keys import Keys
from safekey.engines.base import Engine, SamplingParams
from safekey.errors import UserError
from safekey.evals.judges.verdicts import OpenJudge, judge_completion
from safekey.evals.records.rows import (
    COMPLETIONS,
    RESOLVED,
    VERDICTS,
    Row,
    RowStore,
    completion_in,
    completion_key,
    completion_row,
    is_final,
    verdict_key,
)
from safekey.run_folder.ownership import kind_of

KIND = "causal"
BENCHMARK = "causal"
_AT_ONCE = 64  # verdicts in progress at a time; the judge's own limit of calls is below it

Told = Callable[[str, int, int], None]
"""Is told what is done ("generated", "judged"), how many, and of how many."""


class CausalRun:
    """One experiment's folder, locked by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse another's folder, and to go on with other settings.

        Raises:
            UserError: it is another's, or a setting differs.
        """
        kind = kind_of(self.path)
        if run_folder.is_foreign(self.path) and kind != KIND:
            what = f"is the folder of another verb ({kind})" if kind else "is not empty, and safekey did not write it"
            raise UserError(f"--output {self.path}: {what}: give another --output")
        if not (self.path / RESOLVED).is_file():
            return
        before = run_folder.read_settings(self.path / RESOLVED, "experiment's folder")
        changed = run_folder.changes(before, run_folder.without_secrets(settings))
        if changed:
            shown = "; ".join(list(changed.values())[:4])
            raise UserError(
                f"--output {self.path}: was made with other settings ({shown}): "
                "give another --output or the old settings"
            )

    def begin(self, settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Write the folder's own files; a run that continues keeps its earlier starts."""
        starts = [*run_folder.read_record(self.path).get("starts", []), run_folder.start()]
        run_folder.mark(self.path, "running", model=about, kind=KIND, starts=starts)
        run_folder.write_settings(self.path / RESOLVED, settings)


def settings_of(
    engine: Engine, keys: Sequence[Keys], params: SamplingParams, judge: OpenJudge
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what decides the results, and all that the engine says of the model."""
    about = engine.describe()
    named = {name: about.get(name) for name in ("kind", "model", "weights_sha256")}
    digest = hashlib.sha256(repr([asdict(each) for each in keys]).encode()).hexdigest()
    judged = {"name": judge.judge.name, "model": judge.model, "prompt_hash": judge.judge.prompt_hash()}
    return {"model": named, "keys_sha256": digest, "decoding": params.to_dict(), "judge": judged}, about


def run_causal(
    engine: Engine, keys: Sequence[Keys], judge: OpenJudge, params: SamplingParams, folder: Path,
    told: Told = lambda what, done, total: None,
) -> tuple[list[Row], dict[tuple[str, str], Row]]:  # fmt: skip
    """Run what is not there yet.

    Args:
        engine: continues prefills exactly.
        keys: the requests and their key sentences.
        judge: an open judge of harm.
        params: how the model is decoded, in every condition.
        folder: the experiment's folder.
        told: is told the progress.

    Returns:
        Every completion's row, and the verdict's row for each (id, condition).

    Raises:
        UserError: the folder is another's or was made with other settings; the engine cannot continue a prefill
            exactly; no response of the model has U and K.
    """
    run = CausalRun(folder)
    settings, about = settings_of(engine, keys, params, judge)
    run.check(settings)
    lock = run_folder.hold(run.path, "another safekey works here: wait for it, or end it")
    try:
        run.begin(settings, about)
        completions = RowStore(run.path / COMPLETIONS, completion_key)
        verdicts = RowStore(run.path / VERDICTS, verdict_key)
        try:
            _generate_all(engine, keys, params, completions, told)
            found = asyncio.run(_judge(list(completions.rows()), judge, verdicts, told))
        except BaseException as error:
            run_folder.mark(run.path, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        finally:
            completions.close()
            verdicts.close()
        run_folder.mark(run.path, "finished")
        return found
    finally:
        lock.release()


def _generate_all(engine: Engine, keys: Sequence[Keys], params: SamplingParams, store: RowStore, told: Told) -> None:
    goal = len(keys) * (1 + len(FORCED))
    _generate(
        engine, [(NATURAL, each, None) for each in keys], params, store, lambda: told("generated", len(store), goal)
    )
    own = own_of(keys, store.rows())
    usable = [(each, parts) for each in keys if isinstance(parts := own.get(each.id), Own)]
    if not usable:
        reasons = ", ".join(sorted({str(reason) for reason in own.values()})) or "none was generated"
        raise UserError(
            f"no response of this model has an understanding and a key sentence in its thinking ({reasons}): "
            "there is no K to put another one in the place of"
        )
    goal = len(keys) + len(usable) * len(FORCED)
    asked = [(condition, each, parts) for each, parts in usable for condition in FORCED]
    _generate(engine, asked, params, store, lambda: told("generated", len(store), goal))


def own_of(keys: Sequence[Keys], rows: Any) -> dict[str, Own | str]:
    """Return the parts of the model's own responses by id, or why a response has none."""
    named = {each.id: each for each in keys}
    return {
        row["metadata"]["id"]: own_parts(named[row["metadata"]["id"]], completion_in(row))
        for row in rows
        if row["attack"] == NATURAL and row["metadata"]["id"] in named
    }


def _generate(
    engine: Engine, asked: Sequence[tuple[str, Keys, Own | None]], params: SamplingParams, store: RowStore,
    told: Callable[[], None],
) -> None:  # fmt: skip
    """Generate what the store does not have."""
    todo = []
    for condition, keys, own in asked:
        known = store.get((BENCHMARK, item_of(keys.id, condition), 1))
        if known is None or not is_final(known):
            todo.append((condition, keys, own))
    told()
    prompts = [prompt_for(*each[:2], each[2]) for each in todo]
    for at, completion in engine.generate(prompts, params) if prompts else ():
        condition, keys, _ = todo[at]
        metadata = {
            "benchmark": BENCHMARK, "behaviour": keys.behaviour, "category": keys.attack, "attack": condition,
            "request": keys.request, "id": keys.id,
        }  # fmt: skip
        record = {**asdict(completion), "sampling": params.to_dict()}
        turns = [{"role": turn.role, "content": turn.content} for turn in keys.messages]
        store.add(completion_row(metadata, item_of(keys.id, condition), 1, "", "", record, messages=turns))
        told()


def item_of(id: str, condition: str) -> str:
    """Return the name of a request under a condition."""
    return id if condition == NATURAL else f"{id}@{condition}"


async def _judge(
    rows: list[Row], judge: OpenJudge, store: RowStore, told: Told
) -> tuple[list[Row], dict[tuple[str, str], Row]]:
    slots = asyncio.Semaphore(_AT_ONCE)
    found: dict[tuple[str, str], Row] = {}

    async def one(row: Row) -> None:
        async with slots:
            (verdict,) = await judge_completion(row, [judge], ["answer"], store, again=True)
            found[row["metadata"]["id"], row["attack"]] = verdict
            told("judged", len(found), len(rows))

    async with asyncio.TaskGroup() as group:
        for row in rows:
            group.create_task(one(row))
    return rows, found
