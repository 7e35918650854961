"""`safekey train RECIPE key=value …`: from a recipe to a trained run folder, alone or through accelerate."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from safekey.errors import UserError
from safekey.terminal import printable

_EXAMPLES = """examples:
  safekey train r1-distill-qwen-7b data=star1.json --dry-run
  safekey train r1-distill-qwen-7b 'data=[star1.json, benign.jsonl]' --launch fsdp2 --num-processes 8
  safekey train my.yaml learning_rate=2e-5 data.0.weight=0.5 output_dir=runs/mine

The same command again goes on from the last complete checkpoint. docs/recipes.md explains the keys,
docs/multi-gpu.md several GPUs and nodes (accelerate's own flags follow after `--`)."""


def add_parser(subparsers: Any) -> None:
    """Add `train`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="fine-tune a model as a recipe says",
        description="Fine-tune a model as a recipe says.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a packaged recipe's name, or a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="set a key over the recipe's value")
    parser.add_argument("--dry-run", action="store_true", help="print rows, tokens, steps and memory, then stop")
    parser.add_argument("--launch", choices=("none", "ddp", "fsdp2", "zero3"), default="none", help="several processes")
    parser.add_argument("--num-processes", type=int, metavar="N", help="how many, over all machines")
    parser.add_argument("--overwrite", action="store_true", help="start anew where another run lies in output_dir")
    parser.set_defaults(run=run)
    accept_mixed_order(parser)


def accept_mixed_order(parser: argparse.ArgumentParser) -> None:
    """Let options stand between the overrides (`train r.yaml --dry-run data=x`), which argparse does not by itself."""
    own = parser.parse_known_args

    def parse(args: Any = None, namespace: Any = None) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        before, after = given, []
        if "--" in given:
            before, after = given[: given.index("--")], given[given.index("--") :]
        options: list[str] = []
        words: list[str] = []
        pending = False  # the option before waits for its value
        for word in before:
            is_option = word.startswith("-")
            (options if is_option or pending else words).append(word)
            action = parser._option_string_actions.get(word)
            pending = is_option and action is not None and action.nargs is None
        return own([*options, *words, *after], namespace)

    parser.parse_known_args = parse  # type: ignore[method-assign]


def run(args: argparse.Namespace) -> int:
    """Train; see `safekey.training.command.train`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a warning at every fork otherwise
    from rich.console import Console

    from safekey.training.command.train import TrainRequest, execute

    words: list[str] = args.overrides
    own = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    request = TrainRequest(
        recipe=args.recipe,
        overrides=tuple(words[:own]),
        dry_run=args.dry_run,
        launch=args.launch,
        processes=args.num_processes,
        passed_on=tuple(words[own:]),
        overwrite=args.overwrite,
    )
    return execute(request, Console(soft_wrap=False))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train` alone: what `--launch` starts in every worker."""
    parser = argparse.ArgumentParser(prog="safekey")
    add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except UserError as error:
        print(f"safekey: error: {printable(str(error))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
