"""`safekey tamper`: attack the weights of each arm, evaluate every state, compare. The same command goes on.

OUTPUT/
  tamper.yaml              what decides the results
  run.json                 status, starts with versions, losses, rows that were left out
  arms/NAME/untouched/     a run folder of `safekey eval` for each state of each arm
  arms/NAME/step-5/
  results.json             rates, changes and differences with intervals

A state that is finished is not made again; of an arm whose later states are missing, the steps before are repeated (a
few seconds each), with the same rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inspect_ai.model import Model, get_model
from rich.console import Console

from safekey import run_folder
from safekey.engines.local import LocalEngine
from safekey.errors import UserError
from safekey.evals.evaluate import PLAIN, evaluate
from safekey.evals.plan import EvalPlan, make_plan
from safekey.evals.records.folder import EvalRun
from safekey.evals.request import EvalRequest
from safekey.run_folder.ownership import check_apart, kind_of
from safekey.tamper.directions import directions, removed
from safekey.tamper.engine import TamperedEngine
from safekey.tamper.request import State, TamperRequest, states
from safekey.tamper.results import Results, results
from safekey.tamper.rows import Rows, read
from safekey.tamper.tuning import Tuning
from safekey.terminal import printable

KIND, SETTINGS, RESULTS, ARMS = "tamper", "tamper.yaml", "results.json", "arms"


@dataclass(frozen=True)
class TamperReport:
    """A finished attack: its folder and its results."""

    path: Path
    results: Results


def run_tamper(request: TamperRequest, console: Console | None = None) -> TamperReport:
    """Attack the weights of every arm; go on where an earlier call with the same request stopped.

    Raises:
        UserError: something in the request is wrong; nothing has been generated.
        StoppedError: an evaluation stopped early.
        KeyboardInterrupt: interrupted; the folder is ready to go on.
    """
    console = console or Console(quiet=True)
    folder = Path(request.output).expanduser().absolute()
    plan = make_plan(replace(request.evaluation, model="", output=None))
    if not any(task.benchmark.scoring == "harm" for task in plan.tasks):
        raise UserError("safekey tamper asks who stays safe: name a harmful benchmark, such as --tasks strongreject")
    options = request.options
    asked = [item for task in plan.tasks for item in task.items]
    rows = read(options.comply, options.harmful, options.harmless, asked)
    settings = _settings(request, plan, rows)
    _check(folder, settings, request)
    lock = run_folder.hold(folder, "another safekey works here: wait for it, or end it")
    try:
        starts = [*run_folder.read_record(folder).get("starts", []), run_folder.start()]
        run_folder.mark(folder, "running", kind=KIND, starts=starts, left_out=rows.left_out)
        run_folder.write_settings(folder / SETTINGS, settings)
        for line in _notes(rows):
            console.print(f"note: {printable(line)}", **PLAIN)
        try:
            for name, model in request.arms.items():
                _attack(request, name, model, rows, folder, console)
        except BaseException as error:
            stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            run_folder.mark(folder, stopped, reason=str(error)[:500])
            raise
        found = results({name: _folders(folder, name, request) for name in request.arms}, states(options))
        run_folder.write_json(folder / RESULTS, found.to_dict())
        run_folder.mark(folder, "finished")
        return TamperReport(folder, found)
    finally:
        lock.release()


def _settings(request: TamperRequest, plan: EvalPlan, rows: Rows) -> dict[str, Any]:
    """Return what decides the results; paths of files are not among it."""
    own = asdict(request.options)
    own = {name: value for name, value in own.items() if name not in ("comply", "harmful", "harmless")}
    asked = plan.resolved({})
    kept = {name: value for name, value in asked.items() if name not in ("model", "weights")}
    return {"arms": dict(request.arms), "attack": {**own, "sha256": rows.sha256}, "evaluation": kept}


def _check(folder: Path, settings: Mapping[str, Any], request: TamperRequest) -> None:
    """Refuse another's folder, and to go on with other settings where an arm was begun.

    Raises:
        UserError: which settings differ, or what the folder is.
    """
    kind = kind_of(folder)
    if run_folder.is_foreign(folder) and kind != KIND:
        what = f"is the folder of another verb ({kind})" if kind else "is not empty, and not of `safekey tamper`"
        raise UserError(f"{folder}: {what}: give another --output")
    options = request.options
    inputs = {"--comply": options.comply, "--harmful": options.harmful, "--harmless": options.harmless}
    given = {name: path for name, path in inputs.items() if path} | dict(request.arms)
    check_apart(given, [folder / name for name in (SETTINGS, RESULTS, ARMS, run_folder.RUN)], "give another --output")
    if (folder / SETTINGS).is_file() and (folder / ARMS).is_dir():  # a first try that made nothing binds nobody
        before = run_folder.read_settings(folder / SETTINGS, "folder of `safekey tamper`")
        if changed := run_folder.changes(before, run_folder.without_secrets(settings)):
            shown = "; ".join(list(changed.values())[:6])
            raise UserError(
                f"{folder}: was made with other settings ({shown}): give another --output or the old settings"
            )


def _folders(folder: Path, arm: str, request: TamperRequest) -> dict[str, Path]:
    """Return the run folder of each state of an arm."""
    name = re.sub(r"[^\w.+-]+", "-", arm)
    if name != arm:  # two arms never share a folder
        name += "-" + hashlib.sha256(arm.encode()).hexdigest()[:6]
    return {state.name: folder / ARMS / name / state.name for state in states(request.options)}


def _finished(path: Path) -> bool:
    return EvalRun(path).record.get("status") == "finished"


def _attack(request: TamperRequest, name: str, model: str, rows: Rows, folder: Path, console: Console) -> None:
    """Make and evaluate the states of one arm that are not finished yet."""
    places = _folders(folder, name, request)
    todo = [state for state in states(request.options) if not _finished(places[state.name])]
    if not todo:
        console.print(f"{printable(name)}: every state is finished", **PLAIN)
        return
    console.print(printable(f"{name}: opening {model}"), **PLAIN)
    engine = LocalEngine(model, **request.evaluation.engine_options)
    try:
        found = None
        if any(state.layer is not None for state in todo):
            sides = f"{len(rows.harmful)} harmful and {len(rows.harmless)} harmless prompts"
            console.print(printable(f"{name}: measuring the direction on {sides}"), **PLAIN)
            found = directions(engine, rows.harmful, rows.harmless)
        tuning: Tuning | None = None
        for state in todo:
            console.print(f"{printable(name)}: {state.name}", **PLAIN)
            if state.step:
                if tuning is None:
                    tuning = Tuning(engine, rows.comply, request.options)
                    _say_problems(tuning, console)
                tuning.until(state.step)
                _note_losses(folder, name, tuning)
            changed = _about(state, request, rows)
            order = replace(request.evaluation, model=model, engine="local", output=str(places[state.name]))
            said = console if state is todo[0] else None  # what is read is the same for every state
            with removed(engine.model, found, state.layer):
                doubts = _evaluate(order, engine, changed, said, console)
            for line in () if said else doubts:
                console.print(printable(f"WARNING: {state.name}: {line}"), style="yellow", **PLAIN)
    finally:
        engine.close()


def _say_problems(tuning: Tuning, console: Console) -> None:
    if tuning.problems:
        line = f"note: --comply: {len(tuning.problems)} rows cannot be encoded, and are left out; the first: "
        console.print(printable(f"{line}{tuning.problems[0]}"), **PLAIN)


def _note_losses(folder: Path, arm: str, tuning: Tuning) -> None:
    """Write the loss of each step so far into run.json."""
    record = run_folder.read_record(folder)
    losses = {**record.get("losses", {}), arm: [round(loss, 4) for loss in tuning.losses]}
    run_folder.write_json(folder / run_folder.RUN, {**record, "losses": losses})


def _about(state: State, request: TamperRequest, rows: Rows) -> dict[str, Any]:
    """Return what was done to the weights, for the record; {} for nothing."""
    options = request.options
    if state.layer is not None:
        files = {name: rows.sha256[name] for name in ("--harmful", "--harmless")}
        return {"attack": "refusal direction removed", "layer": state.layer, "sha256": files}
    if state.step:
        named = {
            name: getattr(options, name) for name in ("rows_per_step", "learning_rate", "lora_rank", "tamper_seed")
        }
        return {"attack": "fine-tuned to comply", "step": state.step, **named, "sha256": rows.sha256["--comply"]}
    return {}


def _evaluate(
    order: EvalRequest, engine: LocalEngine, changed: Mapping[str, Any], said: Console | None, progress: Console
) -> tuple[str, ...]:
    """Evaluate one state; return what is doubtful about its numbers."""
    tampered = TamperedEngine(engine, changed)
    model: Model = get_model(f"safekey/{order.model}", memoize=False, kind="local", engine=tampered)
    try:
        return evaluate(order, model=model, console=said, progress=progress).summary.doubts
    finally:
        model.api.close()


def _notes(rows: Rows) -> list[str]:
    return [
        f"{flag}: {count} rows are asked by the evaluation, and left out"
        for flag, count in rows.left_out.items()
        if count
    ]
