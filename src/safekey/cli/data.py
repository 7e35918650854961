"""`safekey data validate | segment | inspect`: check, segment and show training data."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.bars import progress
from safekey.cli.common import add_json, add_verb, whole
from safekey.errors import DataError, UserError
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.data import Examples, Summary
    from safekey.data.unsure import Unsure
    from safekey.schema import Example


_FEW = 5  # unsure rows that are printed; --json has as many as --limit says


def add_parser(subparsers: Any) -> None:
    """Add `data` and its three verbs."""
    group = subparsers.add_parser("data", help="check, segment and show training data")
    verbs = group.add_subparsers(metavar="VERB", required=True)

    validate = add_verb(verbs, "validate", "count the usable rows, and list the others with the reasons", run_validate)
    validate.add_argument("files", nargs="+", metavar="FILE", help="data files, saved folders or hub ids")
    validate.add_argument(
        "--limit", type=whole(1), default=20, metavar="N", help="problems and unsure rows to list (default 20)"
    )
    validate.add_argument("--problems", metavar="OUT.jsonl", help="write every problem to this file")

    segment = add_verb(verbs, "segment", "find U and K in every row, and write the rows with them", run_segment)
    segment.add_argument("input", metavar="FILE", help="a data file, saved folder or hub id")
    segment.add_argument("--output", required=True, metavar="OUT.jsonl", help="the file to write")
    segment.add_argument("--redo", action="store_true", help="find U and K again in rows that already have them")
    segment.add_argument("--limit", type=whole(1), metavar="N", help="only the first N usable rows")
    segment.add_argument("--annotator-url", metavar="URL", help="an OpenAI-compatible endpoint (default: OpenAI's own)")
    segment.add_argument("--annotator-model", metavar="M", help="ask this model for U and K, in place of the rule")
    segment.add_argument(
        "--unsure-only", action="store_true", help="ask the model only for rows of which the rule is unsure"
    )
    segment.add_argument("--concurrency", type=whole(1), default=8, metavar="N", help="requests at a time (default 8)")

    inspect = add_verb(verbs, "inspect", "show rows with X, U, K, R and the answer in colours", run_inspect)
    inspect.add_argument("input", metavar="FILE", help="a data file, saved folder or hub id")
    inspect.add_argument("--model", metavar="M", help="count tokens with this model's tokenizer (folder or hub id)")
    inspect.add_argument("--row", type=whole(1), metavar="N", help="only the row with this number (1 is the first)")
    inspect.add_argument("--limit", type=whole(1), default=5, metavar="N", help="rows to show (default 5)")
    inspect.add_argument("--max-length", type=whole(1), default=8192, metavar="T", help="tokens, as in training")
    for parser in (validate, segment, inspect):
        _add_reading(parser)
        add_json(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("how to read the data (docs/data.md)")
    options.add_argument("--strict", action="store_true", help="a row that cannot be used is an error")
    options.add_argument("--label", choices=("harmful", "benign"), help="every row's label, whatever the rows say")
    options.add_argument("--label-column", metavar="NAME", help="the column that holds the label")
    options.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="KEY=NAME",
        help="the column to read as prompt, response, thinking, messages, system, id or source",
    )
    options.add_argument("--split", help="split of a hub data set or saved folder")
    options.add_argument("--revision", help="revision of a hub data set")
    options.add_argument("--config", help="configuration of a hub data set")


def _load(path: str, args: argparse.Namespace) -> Examples:
    from safekey.data import load_examples

    columns = {}
    for entry in args.column:
        key, equals, name = entry.partition("=")
        if not equals:
            raise UserError(f"--column {entry}: expected KEY=NAME, as in --column prompt=my_question")
        columns[key] = name
    given = {name: getattr(args, name) for name in ("split", "revision", "config", "label", "label_column", "strict")}
    return load_examples(path, columns=columns, **given)


def _usable(path: str, examples: Examples) -> Examples:
    """Return the rows; none is an error of one line, with the first problem in it."""
    if not examples:
        read, first = examples.rows_read, examples.problems[0]
        raise UserError(f"{path}: none of its {read} rows can be used; the first: {first}")
    return examples


def run_validate(args: argparse.Namespace) -> int:
    """Print counts, warnings and problems. Returns 0, or 2 when nothing is usable or a file cannot be read."""
    from safekey.data import Examples, summarize
    from safekey.data.unsure import unsure_rows
    from safekey.data.write import check_output, write_text

    if args.problems:
        check_output(
            args.problems,
            "--problems",
            {
                "file to check" if n == 1 else f"file to check, number {n},": path
                for n, path in enumerate(args.files, 1)
            },
        )
    total, per_file, unreadable = Examples(), {}, []
    strict, args.strict = args.strict, False  # list every problem first, then fail
    for path in args.files:
        try:
            loaded = _load(path, args)
        except DataError as error:
            unreadable.append(str(error))
            continue
        per_file[path] = summarize(loaded)
        total.add(loaded)
    summary = summarize(total)
    unsure = unsure_rows(total)
    if args.problems:
        try:
            write_text(args.problems, (json.dumps(asdict(one), ensure_ascii=False) for one in total.problems))
        except UserError as error:
            raise UserError(f"--problems {error}") from error
    args.document = {
        "total": summary.to_dict(),
        "files": {path: entry.to_dict() | _columns(total, path) for path, entry in per_file.items()},
        "unreadable": unreadable,
        "warnings": summary.warnings(),
        "notes": total.notes,
        "problems": [asdict(problem) for problem in total.problems[: args.limit]],
        "problems_total": len(total.problems),
        "unsure": [row.to_dict() for row in unsure[: args.limit]],
        "unsure_total": len(unsure),
    }
    if per_file:
        print(_as_text(summary, per_file, total, unsure, args.limit))
    useless = [f"{path}: no row of it can be used" for path, entry in per_file.items() if not entry.usable]
    for line in [*(f"warning: {warning}" for warning in summary.warnings()), *unreadable, *useless]:
        print(printable(f"safekey: {line}"), file=sys.stderr)
    return 2 if unreadable or not summary.usable or (strict and total.problems) else 0


def _columns(total: Examples, path: str) -> dict[str, Any]:
    """Return which columns of a file were read and which were not, as JSON values."""
    use = total.columns[path]
    return {"columns_read": list(use.read), "columns_not_read": dict(use.unread)}


def _shown(total: Examples, path: str) -> list[tuple[str, str]]:
    use = total.columns[path]
    unread = ", ".join(f"{name} ({count} rows)" for name, count in use.unread.items())
    return [("read", ", ".join(use.read) or "none"), ("not read", unread or "none")]


def _as_text(summary: Summary, per_file: dict[str, Summary], total: Examples, unsure: list[Unsure], limit: int) -> str:
    lines = []
    for path, entry in per_file.items():
        lines.append(f"{path}: {entry.usable} of {entry.read} rows usable")
        lines += [f"  label by {rule}: {count}" for rule, count in entry.label_rules.items()]
        lines += [f"  columns {name.replace('_', ' ')}: {value}" for name, value in _shown(total, path)]
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
        f"unsure U and K   {len(unsure)}" + ("  (the rule's guess; see below)" if unsure else ""),
        f"duplicates       {summary.duplicates}",
        f"label conflicts  {summary.conflicts}",
    ]
    if total.problems:
        lines += ["", "rows that are not used:", total.describe_problems(limit)]
    if unsure:
        shown = unsure[: min(limit, _FEW)]
        lines += ["", "rows of which the rule is unsure (confidence, reason, its key sentence):", *map(str, shown)]
        more = f"... and {len(unsure) - len(shown)} more; " if len(unsure) > len(shown) else ""
        lines.append(f"{more}`safekey data segment --annotator-model M --unsure-only` asks a model for them")
    return printable("\n".join(lines))


def run_segment(args: argparse.Namespace) -> int:
    """Write the input's rows with U and K found. Returns 0, or 2 when no row is usable."""
    from safekey.data import segment, write_jsonl
    from safekey.data.unsure import unsure_rows
    from safekey.data.write import check_output, check_records
    from safekey.text.thinking import thinking_span

    output = Path(args.output)
    if output.suffix != ".jsonl":
        raise UserError(f"--output {args.output}: expected a name that ends in .jsonl")
    check_output(output, "--output", {"input": args.input})
    if args.annotator_model:
        check_records(_replies(args), {"input": args.input})
    for name in ("annotator_url", "unsure_only"):
        if getattr(args, name) and not args.annotator_model:
            raise UserError(f"--{name.replace('_', '-')}: needs --annotator-model, the model to ask")
    loaded = _usable(args.input, _load(args.input, args))
    examples: list[Example] = loaded[: args.limit]
    reasons: Counter[str] = Counter()
    if args.annotator_model:
        segmented, reasons = _annotate(examples, args)
    else:
        segmented = [segment(example, overwrite=args.redo) for example in examples]
    sources = Counter(str(example.span_source) for example in segmented)
    counts: dict[str, Any] = {
        "written": write_jsonl(segmented, output),
        "read": loaded.rows_read,
        "spans_by": dict(sources.most_common()),
        "empty_understanding": sum(not example.understanding for example in segmented),
        "unsure": len(unsure_rows(segmented)),
        "empty_key_sentence": sum(not example.key_sentence for example in segmented),
        "key_sentence_in_answer": sum(
            (example.key_sentence_end or 0) > thinking_span(example.response)[1] for example in segmented
        ),
    }
    args.document = {
        "output": args.output, **counts, "notes": loaded.notes, "annotator_failures": dict(reasons),
        "problems": [asdict(problem) for problem in loaded.problems],
    }  # fmt: skip
    lines = [
        f"{args.output}: {counts['written']} rows written of {counts['read']} read",
        *(f"  U and K {name:<19}{count}" for name, count in counts["spans_by"].items()),
        f"  empty U (SFT only)         {counts['empty_understanding']}",
        f"  empty K (SFT only)         {counts['empty_key_sentence']}",
        f"  K in the answer            {counts['key_sentence_in_answer']}",
        f"  the rule is unsure of      {counts['unsure']}",
        *(f"note: {note}" for note in (*loaded.reading(), *loaded.notes)),
    ]
    if loaded.problems:
        lines += [f"skipped, not written: {len(loaded.problems)}", loaded.describe_problems()]
    lines += [f"the rule's answer was used in {count} rows: {reason}" for reason, count in reasons.most_common(10)]
    print(printable("\n".join(lines)))
    return 0


def _replies(args: argparse.Namespace) -> Path:
    return Path(args.output).with_suffix(".replies.jsonl")


def _annotate(examples: list[Example], args: argparse.Namespace) -> tuple[list[Example], Counter[str]]:
    """Ask the annotator for every row, or for those of which the rule is unsure.

    Its replies are kept beside the output, so that a stopped run goes on.
    """
    from safekey.data.annotate import annotate

    replies = _replies(args)
    print(f"replies are kept in {printable(str(replies))}; the same command goes on from there", file=sys.stderr)
    with progress("asking") as told:
        annotated = annotate(
            examples,
            model=args.annotator_model,
            base_url=args.annotator_url,
            concurrency=args.concurrency,
            output=replies,
            overwrite=args.redo,
            unsure_only=args.unsure_only,
            progress=told,
        )
    reasons = Counter(entry.reason for entry in annotated if entry.reason)
    return [entry.example for entry in annotated], reasons


def run_inspect(args: argparse.Namespace) -> int:
    """Show rows; see `safekey.cli.data_inspect`."""
    examples = _load(args.input, args)
    chosen = [example for example in examples if example.row == args.row]
    if args.row is None:
        chosen = _usable(args.input, examples)[: args.limit]
    elif not chosen:
        reasons = [str(problem) for problem in examples.problems if problem.row == args.row]
        raise UserError(reasons[0] if reasons else f"{args.input}: there is no row {args.row}")
    from safekey.cli.common import console
    from safekey.cli.data_inspect import load_tokenizer, print_rows

    tokenizer = load_tokenizer(args.model) if args.model else None
    shown = print_rows(console(args.json), chosen, tokenizer, args.max_length)
    args.document = {
        "rows": shown, "usable": len(examples), "problems": len(examples.problems), "notes": examples.notes,
        **_columns(examples, args.input),
    }  # fmt: skip
    print()
    for line in (*examples.reading(), *(f"note: {note}" for note in examples.notes)):
        print(printable(line))
    unusable = f"; {len(examples.problems)} rows cannot be used (see `safekey data validate`)"
    print(f"{len(chosen)} of {len(examples)} usable rows shown{unusable if examples.problems else ''}")
    return 0
