"""Which rows a grid trains on: `--rows`, and the mix of the organism's rows, which are written before it begins."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.common import share
from safekey.errors import UserError

if TYPE_CHECKING:
    from safekey.grid.request import GridRequest
    from safekey.organism.mix import Mix

_SHARES = ("benign_wrapped", "harmful_wrapped", "harmful_attacks")
_WORLD = "organism"  # the recipe


@dataclass(frozen=True)
class WorldRows:
    """Rows of the organism that a grid needs.

    Attributes:
        folder: the world's.
        mix: which rows are wrapped.
        seeds: each gets a draw of its own; empty: all the same rows.
        named: whether the user gave the mix.
    """

    folder: Path
    mix: Mix
    seeds: tuple[int, ...] = ()
    named: bool = False

    @property
    def override(self) -> str:
        """The recipe's key that names the rows."""
        return f"data={self._file(self.folder)}"

    def _file(self, folder: Path) -> Path:
        return folder / f"train-{self.mix.name}{'-seed-{seed}' if self.seeds else ''}.jsonl"

    def write(self, folder: Path | None = None) -> None:
        """Write the rows, and what else of the world is not there.

        Raises:
            UserError: the folder cannot be written, or holds another world.
        """
        from safekey.organism.data import add_rows

        add_rows(folder or self.folder, self._files(folder or self.folder), self.mix)

    def _files(self, folder: Path) -> dict[int, Path]:
        """Return the seed of each draw → its file."""
        return {seed: Path(str(self._file(folder)).replace("{seed}", str(seed))) for seed in self.seeds or (0,)}

    @contextmanager
    def elsewhere(self, request: GridRequest) -> Iterator[GridRequest]:
        """For a dry run: yield a request that reads the rows in a temporary folder, where they are not written yet."""
        if all(path.exists() for path in self._files(self.folder).values()):
            yield request
            return
        with tempfile.TemporaryDirectory() as place:
            self.write(Path(place))
            own = [f"data={self._file(Path(place))}"]
            if not any(word.startswith("model_name_or_path=") for word in request.overrides):
                own.append(f"model_name_or_path={place}/base")
            evaluation = replace(request.evaluation, data_dir=place)
            yield replace(request, overrides=(*request.overrides, *own), evaluation=evaluation)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this module."""
    rows = parser.add_argument_group("the rows")
    rows.add_argument("--rows", choices=("same", "drawn"), default="same",
                      help="same: every seed trains on the same rows; drawn: each seed draws its own, for all arms: a "
                      "bootstrap, the file that names the seed (data=rows-{seed}.jsonl), or another draw of the "
                      "organism (default same)")  # fmt: skip
    rows.add_argument("--rows-share", type=share, metavar="S",
                      help="with --rows drawn: this share of the rows, each once, in place of a bootstrap")  # fmt: skip
    mix = parser.add_argument_group("the mix of the organism's rows (docs/organism.md)")
    mix.add_argument("--benign-wrapped", type=share, metavar="S",
                     help="share of the benign rows that are wrapped in an attack (default 0.3)")  # fmt: skip
    mix.add_argument("--harmful-wrapped", type=share, metavar="S",
                     help="share of the harmful rows that are wrapped (default 0)")  # fmt: skip
    mix.add_argument("--harmful-attacks", type=attacks, metavar="N|NAME,NAME",
                     help="in which attacks: the first N of 6, or names; others are unseen (default 3)")  # fmt: skip


def attacks(text: str) -> int | tuple[str, ...]:
    """Return "3" as a number, and "story,research" as names."""
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else words


def world_rows(args: argparse.Namespace) -> WorldRows | None:
    """Return the organism's rows that the options ask for; None where the recipe's own are meant.

    Raises:
        UserError: options of the mix for other data than the organism's, or values that no mix has.
    """
    if args.rows_share is not None and args.rows != "drawn":
        raise UserError("--rows-share says how rows are drawn: add --rows drawn, or leave it out")
    given = {name: value for name in _SHARES if (value := getattr(args, name)) is not None}
    draws = args.rows == "drawn" and args.rows_share is None
    if not given and not (draws and _is_organism(args)):
        return None
    if not _is_organism(args):
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise UserError(
            f"{option} makes rows of the organism: it goes with `safekey grid {_WORLD}` (or a recipe that extends it) "
            "and without data=…"
        )
    from safekey.organism.mix import Mix

    folder = Path(args.data_dir or _WORLD)
    return WorldRows(folder, _mix(Mix, given), tuple(args.seeds) if draws else (), bool(given))


def _mix(kind: type[Mix], given: dict[str, Any]) -> Mix:
    try:
        return kind(**given)
    except UserError as error:
        name, _, rest = str(error).partition("=")
        raise UserError(f"--{name.replace('_', '-')} {rest}" if name in _SHARES else str(error)) from None


def _is_organism(args: argparse.Namespace) -> bool:
    """Whether the data are the packaged recipe's of the organism."""
    if any(word.partition("=")[0].partition(".")[0] == "data" for word in args.overrides):
        return False
    from safekey.training.command.recipe import find_recipe, load_recipe

    origin = load_recipe(args.recipe).origins.get("data")
    return origin is not None and Path(origin) == find_recipe(_WORLD, Path(__file__).parent)
