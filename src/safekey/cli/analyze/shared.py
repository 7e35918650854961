"""What the verbs of `safekey analyze` share: options of data and models, tables, files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_json, console, quiet_transformers, whole
from safekey.errors import UserError
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.analysis.rows import Rows
    from safekey.analysis.sheets import Sheet
    from safekey.report.plots import Plot
    from safekey.run_folder.kept import Kept

KIND = "analysis"


def add_data(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--data` and how it is read."""
    parser.add_argument("--data", required=True, metavar="FILE|RUN", help=text)
    options = parser.add_argument_group("how to read the data (docs/data.md)")
    options.add_argument("--group", metavar="COLUMN",
                         help="the column that names each row's behaviour (default: behaviour, objective)")  # fmt: skip
    options.add_argument("--label", choices=("harmful", "benign"), help="every row's label, whatever the rows say")
    options.add_argument("--label-column", metavar="NAME", help="the column that holds the label")
    options.add_argument("--column", action="append", default=[], metavar="KEY=NAME",
                         help="the column to read as prompt, response, thinking, messages, system or id")  # fmt: skip
    options.add_argument("--split", help="split of a hub data set or saved folder")
    options.add_argument("--limit", type=whole(1), metavar="N", help="only the first N usable rows")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add how models are loaded and run."""
    options = parser.add_argument_group("the models")
    options.add_argument("--device", metavar="NAME", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    options.add_argument("--dtype", default="auto", metavar="NAME", help="float32, bfloat16, float16 (default auto)")
    options.add_argument("--batch-size", type=whole(1), default=8, metavar="N", help="rows in a batch (default 8)")
    options.add_argument(
        "--max-length", type=whole(8), default=4096, metavar="T", help="tokens of a row (default 4096)"
    )
    options.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with a model")


def add_result(parser: argparse.ArgumentParser) -> None:
    """Add where the result goes."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="write result.json, tables.md and plots into this folder; one that was stopped goes on",
    )
    add_json(parser)


def rows_of(args: argparse.Namespace, path: str) -> Rows:
    """Read the rows that the command line names."""
    from safekey.analysis.read import read_rows

    columns = {}
    for entry in args.column:
        key, equals, name = entry.partition("=")
        if not equals:
            raise UserError(f"--column {entry}: expected KEY=NAME, as in --column prompt=my_question")
        columns[key] = name
    given = {name: getattr(args, name) for name in ("split", "label", "label_column")}
    return read_rows(path, group=args.group, limit=args.limit, columns=columns, **given)


def open_model(args: argparse.Namespace, name: str, *, eager: bool = False) -> Any:
    """Load a model to look inside."""
    quiet_transformers()
    from safekey.analysis.inside import open_inside

    return open_inside(
        name, device=args.device, dtype=args.dtype, eager=eager, trust_remote_code=args.trust_remote_code
    )


def check_output(args: argparse.Namespace, inputs: Mapping[str, str]) -> None:
    """Check before any work that the output's folder may be written.

    Raises:
        UserError: it is an input, or another's.
    """
    if not args.output:
        return
    from safekey.run_folder.ownership import check_apart, kind_of
    from safekey.run_folder.records import is_foreign

    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {args.output}: is a file; expected a folder")
    kind = kind_of(folder)
    if kind not in ("", KIND) or (not kind and is_foreign(folder)):
        what = f"is the folder of another verb ({kind})" if kind else "is not empty, and safekey did not write it"
        raise UserError(f"--output {args.output}: {what}; give another folder")
    check_apart(inputs, [folder], "give another folder", "--output")


@contextmanager
def kept_rows(args: argparse.Namespace) -> Iterator[Kept | None]:
    """Keep finished rows in the output's folder until the block ends; without one nothing is kept.

    Raises:
        UserError: another process works in the folder, or it cannot be written.
    """
    if not args.output:
        yield None
        return
    from safekey.run_folder.kept import keeping

    with keeping(Path(args.output), KIND) as kept:
        yield kept


def show(
    args: argparse.Namespace, document: dict[str, Any], sheets: Sequence[Sheet], notes: Sequence[str],
    plots: Callable[[], Sequence[Plot]],
) -> None:  # fmt: skip
    """Print the tables and notes, set the document, and write the files."""
    args.document = document = with_tables(document, sheets, notes)
    out = console(args.json)
    for sheet in sheets:
        out.print(_table(sheet))
    for note in notes:
        out.print(printable(note), **PLAIN)
    if args.output:
        for path in write_files(Path(args.output), document, sheets, notes, plots()):
            out.print(printable(str(path)), **PLAIN)


def with_tables(document: dict[str, Any], sheets: Sequence[Sheet], notes: Sequence[str]) -> dict[str, Any]:
    """Return the document with what is shown of it: the tables' cells, and the notes."""
    tables = [
        {"title": each.title, "columns": list(each.columns), "rows": list(map(list, each.rows))} for each in sheets
    ]
    return {**document, "tables": tables, "notes_shown": list(notes)}


def _table(sheet: Sheet) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text(printable(sheet.title)), title_justify="left")
    for place, name in enumerate(sheet.columns):
        table.add_column(Text(printable(name)), justify="right" if place else "left", overflow="fold")
    for row in sheet.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def write_files(
    folder: Path, document: dict[str, Any], sheets: Sequence[Sheet], notes: Sequence[str], plots: Sequence[Plot]
) -> list[Path]:
    """Write result.json, tables.md and the plots into a folder; return their paths.

    Raises:
        UserError: one of them is another's, or the folder cannot be written.
    """
    import json

    from safekey.run_folder.ownership import Ledger
    from safekey.run_folder.records import make_private

    text = "\n\n".join([*(sheet.markdown() for sheet in sheets), *(f"- {printable(note)}" for note in notes)])
    drawn = [{"name": plot.name, "title": plot.title, "description": plot.description} for plot in plots]
    files = {"result.json": json.dumps(document, indent=2, default=str) + "\n", "tables.md": text + "\n"}
    files |= {"plots.json": json.dumps({"plots": drawn}, indent=2) + "\n"}
    contents = {folder / name: content.encode("utf-8", "backslashreplace") for name, content in files.items()}
    for plot in plots:
        contents |= {folder / f"{plot.name}.svg": plot.svg.encode(), folder / f"{plot.name}.png": plot.png}
    ledger = Ledger.of_folder(folder, KIND)
    try:
        make_private(folder)
        ledger.check(contents, "--output", "give another folder")
        for path, content in contents.items():
            ledger.write(path, content)
    except OSError as error:
        raise UserError(f"--output {folder}: cannot be written: {error.strerror}; give another folder") from error
    return list(contents)
