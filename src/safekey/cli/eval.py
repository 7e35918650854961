"""`safekey eval`, `safekey judge` and `safekey benchmarks`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safekey.errors import UserError
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.evals.judges.open import JudgeSettings
    from safekey.evals.plan import Order

_EVAL = """examples:
  safekey eval runs/r1-7b --suite all --data-dir benchmarks --judge-url http://127.0.0.1:8000/v1 --judge-model guard-8b
  safekey eval runs/r1-7b --tasks xstest,strongreject --data-dir benchmarks --limit 20 \\
      --judge harm_1to5=openai/gpt-4.1 --judge refusal_keywords
  safekey eval r1-7b --engine server --server-url http://127.0.0.1:8000/v1 --suite reasoning --data-dir benchmarks

The same command again goes on where it stopped. docs/evaluation.md explains the options and the table."""
_JUDGE = """examples:
  safekey judge runs/eval-r1-7b-safety                                    ask again where a judge failed
  safekey judge runs/eval-r1-7b-safety --judge harm_rubric=openai/gpt-4.1  one more judge, and how far they agree

Nothing is generated, and a verdict that is there is not asked for again."""


def add_parser(subparsers: Any) -> None:
    """Add `eval`, `judge` and `benchmarks`."""
    _add_eval(subparsers)
    judge = _verb(subparsers, "judge", "judge the saved generations of an evaluation", _JUDGE, run_judge)
    judge.add_argument("run_folder", metavar="RUN", help="the run folder of an evaluation")
    judge.add_argument("--parts", metavar="PARTS", help="answer,thinking,whole; default: the evaluation's")
    _judge_options(judge)
    _table_options(judge)
    table = _verb(subparsers, "benchmarks", "list the benchmarks: source, size, licence, needs", None, run_benchmarks)
    table.add_argument("--json", action="store_true", help="print everything as JSON")


def _verb(subparsers: Any, name: str, text: str, epilog: str | None, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _add_eval(subparsers: Any) -> None:
    parser = _verb(subparsers, "eval", "evaluate a model on safety, over-refusal and reasoning", _EVAL, run_eval)
    parser.add_argument("model", metavar="MODEL", help="a run's or model's folder, a hub id, or an endpoint's URL#NAME")
    evaluation_options(parser)
    parser.add_argument("--no-judge", action="store_true", help="generate only; `safekey judge` judges later")
    parser.add_argument("--output", metavar="RUN", help="the run folder (default: runs/eval-MODEL-SUITE)")
    _table_options(parser)


def evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which benchmarks are run, how models generate and who judges; `evaluation_order` reads them."""
    what = parser.add_argument_group("what to run")
    what.add_argument("--suite", choices=("safety", "over-refusal", "reasoning", "all"))
    what.add_argument(
        "--tasks", metavar="NAME,NAME", help="single benchmarks instead (`safekey benchmarks` lists them)"
    )
    what.add_argument("--data-dir", metavar="DIR", help="a folder of benchmark files")
    what.add_argument("--file", metavar="NAME=PATH", action="append", default=[], help="one benchmark's file")
    what.add_argument(
        "--revision", metavar="NAME=COMMIT", action="append", default=[], help="take it from the hub, there"
    )
    what.add_argument("--column", metavar="KEY=NAME", action="append", default=[], help="a column's name in the files")
    what.add_argument("--limit", type=int, metavar="N", help="only the first N rows of each benchmark")
    what.add_argument("--sample", type=int, metavar="N", help="only N rows of each, drawn by --seed")
    what.add_argument("--seed", type=int, metavar="S", help="of draws and sampling (default: the published ones, 0)")
    what.add_argument(
        "--prefill-tokens", metavar="N,N", default="20", help="every N of the prefilling attack (default 20)"
    )
    how = parser.add_argument_group("how to generate")
    how.add_argument("--preset", choices=("default", "paper"), default="default", help="paper: repetition penalty 1.2")
    how.add_argument("--samples", type=int, metavar="K", help="completions of each prompt (default 1; reasoning 4)")
    how.add_argument("--temperature", type=float, help="in place of 0 (reasoning: of the model's own)")
    how.add_argument("--top-p", type=float, help="in place of the model's own")
    how.add_argument("--max-tokens", type=int, metavar="N", help="longest completion (default 8000; reasoning 32768)")
    how.add_argument("--engine", choices=("auto", "local", "server", "inspect"), default="auto")
    how.add_argument("--server-url", metavar="URL", help="an OpenAI-compatible endpoint that serves MODEL")
    how.add_argument("--engine-option", metavar="KEY=VALUE", action="append", default=[],
                     help="batch_size, device, dtype, tokenizer, concurrency, timeout, api_key_env, …")  # fmt: skip
    how.add_argument(
        "--unsafe-local-exec", action="store_true", help="run HumanEval's code in a sealed process, not docker"
    )
    _judge_options(parser)
    parser.add_argument(
        "--parts", default="answer,thinking", metavar="PARTS", help="what judges see: answer,thinking,whole"
    )


def _judge_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("judges (docs/judges.md)")
    group.add_argument("--judge", metavar="NAME[=MODEL]", action="append", default=[],
                       help="harm_1to5=openai/gpt-4.1, refusal_3class=URL#MODEL, …; repeatable")  # fmt: skip
    group.add_argument("--judge-url", metavar="URL", help="an endpoint for judges that name no model")
    group.add_argument(
        "--judge-model", metavar="NAME", help="the model there, or an Inspect model name without --judge-url"
    )
    group.add_argument(
        "--judge-template", metavar="NAME=FILE", action="append", default=[], help="a guard's published prompt"
    )
    group.add_argument("--judge-key-env", metavar="VAR", help="environment variable with the endpoint's key")
    group.add_argument("--judge-concurrency", type=int, metavar="N", help="calls at a time (default 16)")
    group.add_argument("--judge-timeout", type=float, metavar="S", help="seconds for one attempt (default 120)")
    group.add_argument("--judge-attempts", type=int, metavar="N", help="attempts for one verdict (default 5)")
    group.add_argument("--vote", choices=("majority", "any", "mean"), help="also show the vote of several judges")


def _table_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the table")
    group.add_argument("--by", metavar="NAME,NAME", default="", help="also group by category, attack or behaviour")
    group.add_argument("--allow-unscored", type=float, metavar="SHARE", nargs="?", const=1.0,
                       help="print rates with more than 5 %% unscored (up to SHARE; alone: always)")  # fmt: skip


def run_eval(args: argparse.Namespace) -> int:
    """Evaluate; see `safekey.evals.evaluate`."""
    console = _prepare()
    from safekey.evals.evaluate import StoppedError, evaluate

    order = evaluation_order(args, args.model, judge=not args.no_judge, output=args.output)
    try:
        report = evaluate(order, console=console, **_table(args))
    except StoppedError as error:
        print(f"safekey: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsafekey: interrupted. The same command goes on; what is finished is not done again.", file=sys.stderr)
        return 130
    _print_report(console, report.run.path, report.summary, report.left_out)
    return 0


def run_judge(args: argparse.Namespace) -> int:
    """Judge or re-judge; see `safekey.evals.rejudge`."""
    console = _prepare()
    from safekey.evals.judges.open import parse_judges
    from safekey.evals.rejudge import rejudge

    specs = parse_judges(args.judge, args.judge_url, args.judge_model, _pairs(args.judge_template, "--judge-template"))
    parts = _words(args.parts) if args.parts else None
    run, summary = rejudge(args.run_folder, specs, _settings(args), parts=parts, console=console, **_table(args))
    _print_report(console, run.path, summary)
    return 0


def run_benchmarks(args: argparse.Namespace) -> int:
    """Print the table of benchmarks."""
    from safekey.evals.benchmarks.catalog import benchmark_rows

    rows = benchmark_rows()
    if args.json:
        args.document = rows
        return 0
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "suite", "size", "licence", "hub data set", "needs", "verified"):
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "suite"))
    for row in rows:
        pinned = f" @ {row['revision'][:8]}" if " " not in row["revision"] and row["revision"] else ""
        needs = row["needs"].replace("an engine that prefills token for token", "exact prefills")
        needs = needs.replace("; a licence agreement at the hub", "; gated at the hub")
        source = f"{row['hub']}{pinned}" if row["hub"] else "–"
        table.add_row(
            row["name"], row["suite"], str(row["size"] or "–"), row["licence"], source, needs, row["verified"]
        )
    console = Console()
    console.print(table)
    print(
        "Each is read from a file in --data-dir, or from the hub with --revision NAME=COMMIT. --json says more: which\n"
        "file names are recognised and which rows are taken. 'unverified': not yet held against a published number."
    )
    return 0


def _prepare() -> Console:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a warning at every fork otherwise
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from rich.console import Console

    return Console()


def evaluation_order(args: argparse.Namespace, model: str, *, judge: bool = True, output: str | None = None) -> Order:
    """Return the evaluation that `evaluation_options` describe.

    Raises:
        UserError: an option's value has another form than expected.
    """
    from safekey.evals.plan import Order

    if not judge and (args.judge or args.judge_url or args.judge_model):
        raise UserError("--no-judge and --judge exclude one another")
    return Order(
        model=model,
        suite=args.suite,
        tasks=_words(args.tasks or ""),
        data_dir=args.data_dir,
        files=_pairs(args.file, "--file"),
        revisions=_pairs(args.revision, "--revision"),
        columns={key: value or None for key, value in _pairs(args.column, "--column", empty=True).items()},
        limit=args.limit,
        sample=args.sample,
        seed=args.seed,
        prefill_tokens=_numbers(args.prefill_tokens, "--prefill-tokens"),
        engine=args.engine,
        server_url=args.server_url,
        engine_options={key: _value(value) for key, value in _pairs(args.engine_option, "--engine-option").items()},
        judges=tuple(args.judge),
        judge_url=args.judge_url,
        judge_model=args.judge_model,
        templates=_pairs(args.judge_template, "--judge-template"),
        judge_settings=_settings(args),
        judge=judge,
        parts=_words(args.parts),
        preset=args.preset,
        samples=args.samples,
        temperature=args.temperature,
        top_p=args.top_p,
        max_tokens=args.max_tokens,
        unsafe_local_exec=args.unsafe_local_exec,
        output=output,
    )


def _settings(args: argparse.Namespace) -> JudgeSettings:
    from safekey.evals.judges.open import JudgeSettings

    given = {
        "concurrency": args.judge_concurrency,
        "timeout": args.judge_timeout,
        "attempts": args.judge_attempts,
        "api_key_env": args.judge_key_env,
    }
    for name, value in given.items():
        if isinstance(value, int | float) and value <= 0:
            raise UserError(f"--judge-{name}: expected more than 0, found {value}")
    return JudgeSettings(**{name: value for name, value in given.items() if value is not None})


def _table(args: argparse.Namespace) -> dict[str, Any]:
    from safekey.evals.summary.rates import ALLOWED_UNSCORED

    by = _words(args.by)
    for name in by:
        if name not in ("category", "attack", "behaviour"):
            raise UserError(f"--by {name}: choose from category, attack, behaviour")
    share = ALLOWED_UNSCORED if args.allow_unscored is None else args.allow_unscored
    if not 0 <= share <= 1:
        raise UserError(f"--allow-unscored: expected a share from 0 to 1, found {share}")
    return {"allow_unscored": share, "voting": args.vote, "by": by}


def _print_report(console: Console, path: Any, summary: Any, left_out: Mapping[str, str] | None = None) -> None:
    from safekey.evals.summary.tables import left_out_lines, print_summary

    print_summary(console, summary)
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    for line in left_out_lines(left_out or {}):
        console.print(line, style="bold yellow", **plain)
    console.print(f"\n{path}: metrics.json, completions.jsonl, verdicts.jsonl", **plain)
    console.print(f"look at single samples: inspect view --log-dir {path}/logs", **plain)


def _pairs(words: Sequence[str], option: str, *, empty: bool = False) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not (value or empty):
            raise UserError(f"{option} {word}: expected NAME=VALUE")
        found[name] = value
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise UserError(f"{option} {text}: expected whole numbers, such as 5,10,20,50") from None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
