"""`safekey data validate | segment | inspect`: look at training data, and prepare it."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.errors import DataError, RowProblem, UserError
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.data import Examples, Summary
    from safekey.schema import Example


def add_parser(subparsers: Any) -> None:
    """Add `data` and its three verbs."""
    group = subparsers.add_parser("data", help="check, segment and look at training data")
    verbs = group.add_subparsers(metavar="VERB", required=True)
    reading = _reading_options()

    validate = verbs.add_parser(
        "validate", parents=[reading], help="count what is usable, and list what is not, and why"
    )
    validate.add_argument("files", nargs="+", metavar="FILE", help="data files, saved folders or hub ids")
    validate.add_argument("--format", choices=("text", "json"), default="text")
    validate.add_argument("--limit", type=_count, default=20, metavar="N", help="problems to list (default 20)")
    validate.add_argument("--problems", metavar="OUT.jsonl", help="write every problem to this file")
    validate.set_defaults(run=run_validate)

    segment = verbs.add_parser("segment", parents=[reading], help="find U and K in every row, and write them beside it")
    segment.add_argument("input", metavar="IN")
    segment.add_argument("--output", required=True, metavar="OUT.jsonl")
    segment.add_argument("--overwrite", action="store_true", help="find U and K anew in rows that already have them")
    segment.add_argument("--limit", type=_count, metavar="N", help="only the first N usable rows")
    segment.add_argument("--annotator-url", metavar="URL", help="an OpenAI-compatible endpoint (default: OpenAI's own)")
    segment.add_argument("--annotator-model", metavar="M", help="ask this model for U and K, in place of the rule")
    segment.add_argument("--concurrency", type=_count, default=8, metavar="N", help="requests at a time (default 8)")
    segment.set_defaults(run=run_segment)

    inspect = verbs.add_parser("inspect", parents=[reading], help="show rows with X, U, K, R and the answer in colours")
    inspect.add_argument("input", metavar="FILE")
    inspect.add_argument("--model", metavar="M", help="count tokens with this model's tokenizer (folder or hub id)")
    inspect.add_argument("--row", type=_count, metavar="N", help="only the row with this number (1 is the first)")
    inspect.add_argument("--limit", type=_count, default=5, metavar="N", help="rows to show (default 5)")
    inspect.add_argument("--max-length", type=_count, default=8192, metavar="T", help="tokens, as in training")
    inspect.set_defaults(run=_run_inspect)


def _reading_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--strict", action="store_true", help="a row that cannot be used is an error")
    options.add_argument("--label", choices=("harmful", "benign"), help="every row's label, whatever the rows say")
    options.add_argument("--label-column", metavar="NAME", help="the column that holds the label")
    options.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="KEY=NAME",
        help="the column to read as prompt, response, thinking, messages, system, id or source (docs/data.md)",
    )
    options.add_argument("--split", help="split of a hub data set or saved folder")
    options.add_argument("--revision", help="revision of a hub data set")
    options.add_argument("--config", help="configuration of a hub data set")
    return options


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {value}")
    return value


def load(path: str, args: argparse.Namespace) -> Examples:
    """Load a source as the reading options say."""
    from safekey.data import load_examples

    columns = {}
    for entry in args.column:
        key, equals, name = entry.partition("=")
        if not equals:
            raise UserError(f"--column {entry}: expected KEY=NAME, as in --column prompt=my_question")
        columns[key] = name
    return load_examples(
        path,
        split=args.split,
        revision=args.revision,
        config=args.config,
        columns=columns,
        label=args.label,
        label_column=args.label_column,
        strict=args.strict,
    )


def nothing_usable(path: str, examples: Examples) -> UserError:
    """Return the error for a source whose every row has a problem: one line, with the first problem in it."""
    return UserError(f"{path}: none of its {examples.rows_read} rows can be used; the first: {examples.problems[0]}")


def run_validate(args: argparse.Namespace) -> int:
    """Print counts, warnings and problems. Returns 0, or 2 when nothing is usable or a file cannot be read."""
    from safekey.data import Examples, summarize

    total, per_file, unreadable = Examples(), {}, []
    strict, args.strict = args.strict, False  # list every problem first, then fail
    for path in args.files:
        try:
            loaded = load(path, args)
        except DataError as error:
            unreadable.append(str(error))
            continue
        per_file[path] = summarize(loaded)
        total.add(loaded)
    summary = summarize(total)
    if args.problems:
        _write_problems(total.problems, args.problems)
    if args.format == "json":
        print(_as_json(summary, per_file, unreadable, total, args.limit))
    elif per_file:
        print(_as_text(summary, per_file, total, args.limit))
    useless = [f"{path}: no row of it can be used" for path, entry in per_file.items() if not entry.usable]
    for line in [*(f"warning: {warning}" for warning in summary.warnings()), *unreadable, *useless]:
        print(printable(f"safekey: {line}"), file=sys.stderr)
    return 2 if unreadable or not summary.usable or (strict and total.problems) else 0


def _as_json(summary: Summary, per_file: dict[str, Summary], unreadable: list[str], total: Examples, limit: int) -> str:
    report = {
        "total": summary.to_dict(),
        "files": {path: entry.to_dict() for path, entry in per_file.items()},
        "unreadable": unreadable,
        "warnings": summary.warnings(),
        "notes": total.notes,
        "problems": [_problem_row(problem) for problem in total.problems[:limit]],
        "problems_total": len(total.problems),
    }
    return json.dumps(report, indent=2, ensure_ascii=False)


def _as_text(summary: Summary, per_file: dict[str, Summary], total: Examples, limit: int) -> str:
    lines = []
    for path, entry in per_file.items():
        lines.append(f"{path}: {entry.usable} of {entry.read} rows usable")
        lines += [f"  label by {rule}: {count}" for rule, count in entry.label_rules.items()]
    lines += [f"note: {note}" for note in total.notes]
    lines += [
        "",
        f"rows usable      {summary.usable} of {summary.read}",
        *(f"  skipped        {count}  {kind}" for kind, count in summary.skipped.items()),
        f"harmful          {summary.harmful}",
        f"benign           {summary.benign}",
        f"unlabelled       {summary.unlabelled}",
        f"with U and K     {summary.with_spans}  ({summary.empty_understanding} with an empty U: SFT only)"
        + ("" if summary.with_spans == summary.usable else "; `segment`, or training itself, finds the others'"),
        f"duplicates       {summary.duplicates}",
        f"label conflicts  {summary.conflicts}",
    ]
    if total.problems:
        lines += ["", "rows that are not used:", total.describe_problems(limit)]
    return printable("\n".join(lines))


def _problem_row(problem: RowProblem) -> dict[str, Any]:
    return {"file": problem.file, "row": problem.row, "field": problem.field, "reason": problem.reason}


def _write_problems(problems: list[RowProblem], path: str) -> None:
    lines = [json.dumps(_problem_row(problem), ensure_ascii=False) + "\n" for problem in problems]
    try:
        Path(path).write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--problems {path}: cannot be written: {error.strerror}") from error


def run_segment(args: argparse.Namespace) -> int:
    """Write the input's rows with U and K found. Returns 0, or 2 when no row is usable."""
    from safekey.data import segment, write_jsonl

    output = Path(args.output)
    if output.suffix != ".jsonl":
        raise UserError(f"--output {args.output}: expected a name that ends in .jsonl")
    if output.exists() and Path(args.input).exists() and output.samefile(args.input):
        raise UserError(f"--output {args.output}: is the input; name another file")
    if args.annotator_url and not args.annotator_model:
        raise UserError("--annotator-url: needs --annotator-model, the model to ask there")
    loaded = load(args.input, args)
    if not loaded:
        raise nothing_usable(args.input, loaded)
    examples: list[Example] = loaded[: args.limit]
    reasons: Counter[str] = Counter()
    if args.annotator_model:
        segmented, reasons = _annotate(examples, args)
    else:
        segmented = [segment(example, overwrite=args.overwrite) for example in examples]
    written = write_jsonl(segmented, output)
    lines = _segment_report(segmented, loaded, written, args.output)
    lines += [f"the rule's answer was used in {count} rows: {reason}" for reason, count in reasons.most_common(10)]
    print(printable("\n".join(lines)))
    return 0


def _annotate(examples: list[Example], args: argparse.Namespace) -> tuple[list[Example], Counter[str]]:
    """Ask the annotator for every row; its replies are kept beside the output, so that a stopped run goes on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from safekey.data.annotate import annotate

    replies = Path(args.output).with_suffix(".replies.jsonl")
    print(f"replies are kept in {printable(str(replies))}; the same command goes on from there", file=sys.stderr)
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        annotated = annotate(
            examples,
            model=args.annotator_model,
            base_url=args.annotator_url,
            concurrency=args.concurrency,
            output=replies,
            overwrite=args.overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    reasons = Counter(entry.reason for entry in annotated if entry.reason)
    return [entry.example for entry in annotated], reasons


def _segment_report(segmented: list[Example], loaded: Examples, written: int, output: str) -> list[str]:
    from safekey.text.thinking import thinking_span

    sources = Counter(str(example.span_source) for example in segmented)
    outside = sum((example.key_sentence_end or 0) > thinking_span(example.response)[1] for example in segmented)
    lines = [
        f"{output}: {written} rows written of {loaded.rows_read} read",
        *(f"  U and K {name:<19}{count}" for name, count in sources.most_common()),
        f"  empty U (SFT only)         {sum(not example.understanding for example in segmented)}",
        f"  empty K (SFT only)         {sum(not example.key_sentence for example in segmented)}",
        f"  K in the answer            {outside}",
        *(f"note: {note}" for note in loaded.notes),
    ]
    if loaded.problems:
        lines += [f"skipped, not written: {len(loaded.problems)}", loaded.describe_problems()]
    return lines


def _run_inspect(args: argparse.Namespace) -> int:
    from safekey.cli.data_inspect import run_inspect

    return run_inspect(args, load(args.input, args))
