"""`safekey card RUN` and `safekey push RUN OWNER/NAME`: a model card, and the model on the hub"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_json, add_verb, console
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.sharing.push import Parcel

_CARD_EXAMPLES = """examples:
  safekey card runs/first                                  evaluations that lie beside the run are found
  safekey card runs/first --eval runs/eval-first-all --license apache-2.0
  safekey card runs/grid/arms/safekey/seed-0/train --output card.md

docs/sharing.md says what is on the card, and what never is."""
_PUSH_EXAMPLES = """examples:
  safekey push runs/first anna/r1-7b-safekey --dry-run     lists the files and uploads nothing
  HF_TOKEN=… safekey push runs/first anna/r1-7b-safekey    private; --public for everybody

Model, tokenizer, heads and card are uploaded; never data, logs, optimiser states or checkpoints. The token is read from
HF_TOKEN only. docs/sharing.md has the details."""


def add_parser(subparsers: Any) -> None:
    """Add `card` and `push`."""
    card = add_verb(subparsers, "card", "write a model card for a trained model", run_card, _CARD_EXAMPLES)
    card.add_argument("run_folder", metavar="RUN", help="the run folder of a finished training")
    _add_facts(card)
    card.add_argument("--output", metavar="FILE", help="where to write it (default: README.md in the run folder)")
    add_json(card)
    push = add_verb(subparsers, "push", "upload a trained model, its heads and its card to the hub", run_push,
                    _PUSH_EXAMPLES)  # fmt: skip
    push.add_argument("run_folder", metavar="RUN", help="the run folder of a finished training")
    push.add_argument("repo", metavar="OWNER/NAME", help="the repository; one that is not there is made, private")
    _add_facts(push)
    push.add_argument("--card", metavar="FILE",
                      help="the card (default: README.md in the run folder, else one is made)")  # fmt: skip
    push.add_argument("--with-page", action="store_true",
                      help="also the page, without prompts, transcripts, local paths and host names")  # fmt: skip
    push.add_argument("--with-transcripts", action="store_true",
                      help="also the page with prompts and transcripts, which may be harmful")  # fmt: skip
    push.add_argument("--judge", metavar="NAME", action="append", default=[],
                      help="for the page, where several judged: NAME or NAME=MODEL; repeatable")  # fmt: skip
    push.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    push.add_argument("--overwrite", action="store_true",
                      help="replace files of the same names that safekey did not put there")  # fmt: skip
    push.add_argument("--dry-run", action="store_true", help="list the files with their sizes and upload nothing")
    add_json(push)


def _add_facts(parser: Any) -> None:
    """Add what a card is made from."""
    parser.add_argument("--eval", metavar="RUN", action="append", default=[],
                        help="an evaluation of this model; repeatable (default: those beside the run)")  # fmt: skip
    parser.add_argument("--base-model", metavar="OWNER/NAME",
                        help="the base's name on the hub, where training started from a local folder")  # fmt: skip
    parser.add_argument("--license", metavar="ID",
                        help="the licence, such as apache-2.0 (default: as the base's own card says, if it lies "
                        "here; it is never guessed)")  # fmt: skip


def _facts(args: argparse.Namespace) -> Any:
    from safekey.sharing.card import CardRequest

    return CardRequest(tuple(args.eval), args.base_model, args.license)


def run_card(args: argparse.Namespace) -> int:
    """Write a model card; see `safekey.sharing.card`."""
    from safekey.sharing.card import check_place, make_card, write_card
    from safekey.sharing.facts import read_training

    run = read_training(args.run_folder)
    path = check_place(run, args.output)
    card = make_card(run, _facts(args))
    write_card(card, path)
    folders = [str(folder) for folder in card.results.folders]
    args.document = {"version": 1, "card": str(path), "evaluations": folders, "notes": card.notes}
    out = console(args.json)
    for note in card.notes:
        out.print(f"note: {printable(note)}", **PLAIN)
    source = f"results from {', '.join(folders)}" if folders else "without results"
    out.print(printable(f"{path}: {len(card.text.splitlines())} lines, {source}"), **PLAIN)
    return 0


def run_push(args: argparse.Namespace) -> int:
    """Upload a model; see `safekey.sharing.push` and `safekey.sharing.upload`."""
    from safekey.sharing.facts import read_training
    from safekey.sharing.push import PushRequest, pack
    from safekey.sharing.upload import check_name, token_from_environment, upload

    repo = check_name(args.repo)
    token = "" if args.dry_run else token_from_environment()
    run = read_training(args.run_folder)
    parcel = pack(run, repo, PushRequest(_facts(args), args.card, args.with_page, args.with_transcripts, args.judge))
    out = console(args.json)
    for line in _listed(parcel, args):
        out.print(printable(line), **PLAIN)
    args.document = {
        "version": 1, "repo": repo, "dry_run": args.dry_run, "private": not args.public,
        "files": [{"name": file.name, "bytes": file.size, "sha256": file.sha256} for file in parcel.files],
        "left_out": parcel.left_out, "notes": parcel.notes,
    }  # fmt: skip
    if args.dry_run:
        out.print("Dry run: nothing was uploaded and nothing was written.", **PLAIN)
        return 0
    done = upload(repo, parcel.files, token=token, public=args.public, overwrite=args.overwrite)
    args.document |= {
        "url": done.url, "private": done.private, "created": done.created,
        "replaced": done.replaced, "deleted": done.deleted,
    }  # fmt: skip
    changed = f"; {len(done.replaced)} files were there before" if done.replaced else ""
    changed += f"; deleted, no longer part of the model: {', '.join(done.deleted)}" if done.deleted else ""
    out.print(printable(f"{done.url}: {'private' if done.private else 'PUBLIC'}{changed}"), **PLAIN)
    return 0


def _listed(parcel: Parcel, args: argparse.Namespace) -> list[str]:
    total = sum(file.size for file in parcel.files)
    lines = [f"{file.size:>16,}  {file.name}" for file in parcel.files]
    lines.append(f"{total:>16,}  bytes in {len(parcel.files)} files, for {args.repo}")
    if parcel.left_out:
        lines.append(f"not uploaded, no part of a model: {', '.join(parcel.left_out)}")
    lines += [f"note: {note}" for note in parcel.notes]
    if args.with_transcripts:
        lines.append("note: the page holds prompts and responses, which may be harmful")
    return lines
