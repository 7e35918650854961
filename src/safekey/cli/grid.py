"""`safekey grid RECIPE key=value …`: train every arm with every seed on the same rows, evaluate all, compare.

What the command line does not say, the recipe's `grid:` section may. Its keys are the options, with underscores;
`safekey train` ignores it.

    grid:
      arms: [base, sft, safekey, qsm]
      seeds: 3
      suite: all
      data_dir: organism
      judge: [exact=safekey.organism.judge:decide]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_allow_unscored, add_json, add_verb, console, points, whole
from safekey.cli.compare import print_comparison
from safekey.cli.eval import evaluation_options, evaluation_request
from safekey.cli.grid_rows import WorldRows, add_options, world_rows
from safekey.cli.train import add_recipe
from safekey.errors import UserError
from safekey.options import function_of, unknown
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.grid.request import GridRequest
    from safekey.grid.results import Results
    from safekey.grid.run import GridReport

_NOT_HERE = (
    *("recipe", "overrides", "run", "json", "dry_run", "output", "arm"),
    "status",
    "cancel",
)  # not in the section
_MOST_ANCESTORS = 20
_ARMS = "base,sft,dpsh,qmm,safekey"
_EXAMPLES = """examples:
  safekey grid organism                                                   the recipe's own arms, seeds and benchmarks
  safekey grid r1-distill-qwen-7b data=star1.json --arms base,sft,safekey,qsm --seeds 3 \\
      --suite all --data-dir benchmarks --judge-url http://127.0.0.1:8000/v1 --judge-model guard-8b
  safekey grid my.yaml --arms sft,safekey --arm strong='qmm_weight=1.0' --seeds 11,12 --launch fsdp2 --num-processes 8

The same command again continues where it stopped; more arms or seeds are added to the folder. docs/grid.md explains
arms, controls, the folder and the verdicts."""


def add_parser(subparsers: Any) -> None:
    """Add `grid`."""
    text = "train every arm with every seed on the same rows, evaluate all, compare"
    parser = add_verb(subparsers, "grid", text, run_grid, _EXAMPLES)
    parser.mixed_order = True
    add_recipe(parser)
    grid = parser.add_argument_group("the grid")
    grid.add_argument("--arms", metavar="NAME,NAME", default=_ARMS,
                      help=f"packaged arms (default {_ARMS}; also qsm, ksm, safekey-qsm, key, detached)")  # fmt: skip
    grid.add_argument("--arm", metavar="NAME='key=value …'", action="append", default=[],
                      help="an arm of your own: overrides of the recipe; repeatable")  # fmt: skip
    grid.add_argument("--seeds", metavar="N|S,S", type=parse_seeds, default=(0, 1, 2),
                      help="the number of training seeds, or the seeds (default 3: 0, 1, 2)")  # fmt: skip
    grid.add_argument("--reference", metavar="NAME", default="sft",
                      help="the arm that the others are compared with (default sft)")  # fmt: skip
    grid.add_argument("--margin", type=points, default=0.03, metavar="POINTS",
                      help="how much worse ORR and reasoning may be at the interval's edge (default 3)")  # fmt: skip
    grid.add_argument("--compare-judge", metavar="NAME", action="append", default=[],
                      help="compare this judge's verdicts, where several judge; repeatable")  # fmt: skip
    add_allow_unscored(grid)
    grid.add_argument("--jobs", type=whole(1), metavar="N", help="jobs at a time (default: as many as fit)")
    grid.add_argument("--executor", choices=("local", "slurm"), default="local",
                      help="where jobs run: here (default), or on a Slurm cluster, a Slurm job for each")  # fmt: skip
    grid.add_argument("--slurm-option", metavar="NAME=VALUE", action="append", default=[],
                      help="an option of sbatch: partition=gpu, gres=gpu:1, time=12:00:00; repeatable")  # fmt: skip
    grid.add_argument("--output", metavar="DIR", help="the grid's folder (default runs/grid-RECIPE, or …-MIX)")
    grid.add_argument("--names-harm", metavar="MODULE:FUNCTION",
                      help="a function that says whether U names the request, in place of shared words")  # fmt: skip
    grid.add_argument("--no-report", action="store_true", help="write no page")
    instead = grid.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="check everything, list the jobs, and stop")
    instead.add_argument("--status", action="store_true", help="say how each job of the grid stands, and stop")
    instead.add_argument("--cancel", action="store_true", help="cancel the grid's jobs in Slurm, and stop")
    add_json(grid)
    add_options(parser)
    evaluation_options(parser)
    defaults = {}  # taken away here: a recipe may set what the command line does not give
    for action in parser._actions:
        if action.option_strings and action.dest != "help":
            defaults[action.dest], action.default = action.default, None
    parser.set_defaults(request=partial(_request, parser, defaults))


def run_grid(args: argparse.Namespace) -> int:
    """Run a grid; see `safekey.grid.run`.

    Returns:
        0 when every job is done, 1 when one failed, 2 when one failed for a reason that the user can mend, 130 when
        interrupted.
    """
    out = console(bool(args.json))
    if args.status or args.cancel:
        args.document = _print_status(args, out) if args.status else _cancel(args, out)
        return 0
    request: GridRequest = args.request(args)
    world: WorldRows | None = args.world
    if args.dry_run:
        with world.elsewhere(request) if world else nullcontext(request) as planned:
            args.document = _dry_run(planned, out)
        return 0
    from safekey.grid.run import run_grid as work
    from safekey.report.write import check_folder

    if not args.no_report:
        check_folder(Path(request.output) / "report")
    if world:
        world.write()
    report = work(request, out)
    code = exit_code(report)
    args.document = report.to_dict()
    if report.results is not None:
        print_results(report.results, out)
    if not args.no_report and not report.interrupted and report.folder.evaluations():
        from safekey.grid.page import write_page

        about = f"The data mix: {world.mix.words}." if world else ""
        out.print(f"\nThe page, for a browser:\n{write_page(report.folder, about=about)[0].html}", **PLAIN)
    return code


def _request(parser: argparse.ArgumentParser, defaults: dict[str, Any], args: argparse.Namespace) -> GridRequest:
    """Return the grid that is asked for; `args.world` gets the rows of the organism that have to be written for it."""
    _fill_in(args, parser, defaults)
    function_of("--names-harm", args.names_harm)  # a name that cannot be imported is found now, not after the trainings
    from safekey.evals.request import ALLOWED_UNSCORED
    from safekey.grid.arms import choose
    from safekey.grid.request import GridRequest
    from safekey.grid.slurm.options import parse as slurm_options

    names = [word.strip() for word in args.arms.split(",") if word.strip()]
    args.world = world = world_rows(args)
    name = f"grid-{Path(args.recipe).stem}{f'-{world.mix.name}' if world and world.named else ''}"
    return GridRequest(
        recipe=args.recipe,
        overrides=(*args.overrides, *([world.override] if world else [])),
        arms=choose(names, args.arm),
        seeds=args.seeds,
        evaluation=evaluation_request(args, ""),
        output=args.output or str(Path("runs") / name),
        reference=args.reference,
        margin=args.margin,
        allow_unscored=ALLOWED_UNSCORED if args.allow_unscored is None else args.allow_unscored,
        judges=tuple(args.compare_judge),
        names_harm=args.names_harm,
        rows=args.rows,
        rows_share=args.rows_share,
        jobs=args.jobs,
        launch=args.launch,
        processes=args.num_processes,
        executor=args.executor,
        slurm=slurm_options(args.slurm_option),
    )


def _fill_in(args: argparse.Namespace, parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """Set the options that the command line does not give, to what the recipe's `grid:` section says or to defaults.

    Raises:
        UserError: the section has an unknown key, or a value of another form than the option takes.
    """
    section, where = _read_section(args.recipe)
    options = {action.dest: action for action in parser._actions if action.dest not in (*_NOT_HERE, "help")}
    chosen = args.suite or args.tasks  # they exclude one another: the section's other one must not come back
    for key, value in section.items():
        name = str(key).replace("-", "_")
        if name not in options:
            raise unknown(str(key), options, f"{where}: section 'grid'")
        fitting = _fitting(options[name], value, f"{where}: key 'grid.{key}'")
        if getattr(args, name) is None and not (chosen and name in ("suite", "tasks")):
            setattr(args, name, fitting)
    for name, default in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, default)


def _read_section(name_or_path: str) -> tuple[dict[str, Any], str]:
    """Return the `grid:` table of a recipe, or of the nearest recipe that it extends, and the file that holds it.

    Raises:
        UserError: no such recipe, or the section is no table.
    """
    from safekey.training.command.recipe import find_recipe
    from safekey.training.command.yaml_values import read_yaml

    path = find_recipe(name_or_path, Path.cwd())
    for _ in range(_MOST_ANCESTORS):
        own = read_yaml(path)
        if "grid" in own:
            if not isinstance(own["grid"], dict):
                raise UserError(f"{path}: key 'grid': expected a table, found {own['grid']!r:.60}")
            return own["grid"], str(path)
        if not own.get("extends"):
            break
        path = find_recipe(str(own["extends"]), path.parent)
    return {}, str(path)


def _fitting(action: argparse.Action, value: Any, where: str) -> Any:
    """Return a value as argparse would have read it from the command line."""
    several = isinstance(action, argparse._AppendAction)
    if several:
        return [str(one) for one in value] if isinstance(value, list) else [str(value)]
    if isinstance(action, argparse._StoreTrueAction):
        if not isinstance(value, bool):
            raise UserError(f"{where}: expected true or false, found {value!r:.60}")
        return value
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        found = action.type(text) if callable(action.type) else text
    except (ValueError, argparse.ArgumentTypeError):
        raise UserError(f"{where}: {value!r:.60} is no value for this option") from None
    if action.choices is not None and found not in action.choices:
        raise UserError(f"{where}: expected one of {', '.join(map(str, action.choices))}, found {value!r:.60}")
    return found


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return "3" as (0, 1, 2) and "11,12" as (11, 12).

    Raises:
        UserError: neither a number nor a list of numbers.
    """
    try:
        numbers = tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] < 1):
        raise UserError(f"--seeds {text}: expected how many (3), or which (11,12,13)")
    return numbers if "," in text else tuple(range(numbers[0]))


def _dry_run(request: GridRequest, out: Console) -> dict[str, Any]:
    from safekey.grid.prepare import prepare

    prepared = prepare(request)
    jobs = [task.job for task in prepared.tasks]
    for name, arm in request.arms.items():
        out.print(f"{name:12} {' '.join(arm.overrides) or '–':70} {arm.about}", **PLAIN)
    out.print(f"rows: {prepared.rows}", **PLAIN)
    done = sum(job.done for job in jobs)
    out.print(f"{len(jobs)} jobs in {prepared.folder.path}, {done} finished; {prepared.at_once} at a time", **PLAIN)
    if request.executor == "slurm":
        options = " ".join(f"{name}={value}" for name, value in request.slurm.items())
        out.print(f"Each is a Slurm job with {options or 'the defaults of the cluster'}.", **PLAIN)
    out.print("Dry run: nothing was trained and nothing was written.", **PLAIN)
    arms = {name: {"overrides": list(arm.overrides), "about": arm.about} for name, arm in request.arms.items()}
    listed = [{"arm": job.arm, "seed": job.seed, "folder": str(job.folder), "done": job.done} for job in jobs]
    about = {"folder": str(prepared.folder.path), "at_once": prepared.at_once, "rows": prepared.rows}
    return {**about, "arms": arms, "jobs": listed}


def _print_status(args: argparse.Namespace, out: Console) -> dict[str, Any]:
    from safekey.grid.status import as_values, find_grid, job_states

    folder = find_grid(args.recipe, args.output)
    states = job_states(folder)
    wide = max(len(one.name) for one in states)
    for one in states:
        place = f"{one.log}{f'  (Slurm job {one.slurm})' if one.slurm else ''}"
        line = f"{one.name:{wide}}  {one.state:9}  {one.detail:30}  {place}"
        out.print(printable(line), **PLAIN)
    values = as_values(folder, states)
    counts = ", ".join(f"{count} {state}" for state, count in values["counts"].items() if count)
    out.print(f"{folder.path}: {len(states)} jobs: {counts}", **PLAIN)
    return values


def _cancel(args: argparse.Namespace, out: Console) -> dict[str, Any]:
    from safekey.grid.status import cancel, find_grid

    folder = find_grid(args.recipe, args.output)
    ended = cancel(folder)
    for name, number in ended.items():
        out.print(printable(f"{name}: Slurm job {number} is cancelled"), **PLAIN)
    out.print(f"{len(ended)} jobs cancelled; the same grid command without --cancel submits them again", **PLAIN)
    return {"folder": str(folder.path), "cancelled": ended}


def exit_code(report: GridReport) -> int:
    """Print what did not end well, to stderr; return the exit code."""
    done, total = report.done
    if report.left:
        print(
            f"safekey: interrupted with {done} of {total} jobs finished; {report.left} go on in Slurm: the same "
            "command comes back to them, --status says how they stand, --cancel ends them",
            file=sys.stderr,
        )
        return 130
    if report.interrupted:
        print(f"safekey: interrupted with {done} of {total} jobs finished; the same command goes on", file=sys.stderr)
        return 130
    if report.failed:
        name, first = next(iter(report.failed.items()))
        more = f" ({len(report.failed) - 1} more failed)" if len(report.failed) > 1 else ""
        print(f"safekey: error: {printable(f'{name}{more}: {first.said}')}\n"
              f"{done} of {total} jobs are finished; correct it and give the same command again: it goes on. "
              f"Logs: {report.folder.path}/arms/*/*/log.txt", file=sys.stderr)  # fmt: skip
        return 2 if any(one.code == 2 for one in report.failed.values()) else 1
    return 0


def print_results(results: Results, out: Console) -> None:
    """Print the comparison: table, verdicts, the prefilling attack apart, notes."""
    print_comparison(out, results.report, results.apart)
    for line in (results.ground, *results.found.notes):
        if line:
            out.print(f"note: {printable(line)}", **PLAIN)
