"""`safekey train RECIPE key=value …`: from a recipe to a trained run folder, alone or through accelerate."""

from __future__ import annotations

import argparse
from typing import Any

from safekey.cli.common import add_json, add_verb, console

_EXAMPLES = """examples:
  safekey train r1-distill-qwen-7b data=star1.json --dry-run
  safekey train r1-distill-qwen-7b 'data=[star1.json, benign.jsonl]' --launch fsdp2 --num-processes 8
  safekey train my.yaml learning_rate=2e-5 data.0.weight=0.5 output_dir=runs/mine

The same command again continues from the last complete checkpoint. docs/recipes.md explains the keys,
docs/multi-gpu.md several GPUs and nodes (accelerate's own flags follow after `--`)."""


def add_parser(subparsers: Any) -> None:
    """Add `train`."""
    parser = add_verb(subparsers, "train", "fine-tune a model as a recipe says", run, _EXAMPLES)
    parser.mixed_order = True
    add_recipe(parser)
    parser.add_argument("--dry-run", action="store_true", help="print rows, tokens, steps and memory, then stop")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run wrote to output_dir")
    add_json(parser)


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, its overrides, and how a training run is launched."""
    parser.add_argument("recipe", metavar="RECIPE", help="a packaged recipe's name, or a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="set a key in place of the recipe's value")
    parser.add_argument("--launch", choices=("none", "ddp", "fsdp2", "zero3"), default="none",
                        help="how a training run is launched: none is one process (default)")  # fmt: skip
    parser.add_argument("--num-processes", type=int, metavar="N", help="processes of a training run, on all machines")


def run(args: argparse.Namespace) -> int:
    """Train; see `safekey.training.command.train`."""
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
    args.document = {}
    code = execute(request, console(args.json), args.document)
    if not args.dry_run:
        args.document["status"] = "finished" if code == 0 else "interrupted"
    return code
