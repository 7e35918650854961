"""What `safekey push` uploads: model, heads and card, and the page on request, as one list that can be looked at first

parcel = pack(read_training("runs/first"), "anna/r1-7b-safekey", PushRequest())
[(file.name, file.size) for file in parcel.files]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safekey.errors import UserError
from safekey.sharing.card import CARD, MARK, CardRequest, make_card, weights_hash
from safekey.sharing.facts import Training, base_of
from safekey.sharing.files import Shared, from_bytes, model_files
from safekey.sharing.page import shared_pages
from safekey.sharing.upload import listed
from safekey.sharing.usage import REPO


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What to upload.

    Attributes:
        card: what a card is made from, where the run has none yet.
        card_file: a card that was written before; None: `README.md` in the run folder, if it is there.
        page: add the page, without prompts and responses.
        transcripts: add the page with prompts and responses.
        judges: NAME or NAME=MODEL, for the page, where an evaluation was judged by several.
    """

    card: CardRequest = field(default_factory=CardRequest)
    card_file: str | None = None
    page: bool = False
    transcripts: bool = False
    judges: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Parcel:
    """Everything that is uploaded, and what is not.

    Attributes:
        files: in the order of names; the list of all files is the last one.
        left_out: names in the model's folder that are not uploaded.
        notes: what the user should know.
    """

    files: tuple[Shared, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def pack(run: Training, repo: str, request: PushRequest) -> Parcel:
    """Collect the files; nothing is uploaded and nothing is written.

    Raises:
        UserError: a file may not leave, the card is about other weights, or it tells a local path.
    """
    place = _card_file(run, request)
    if place is not None and (request.card.licence or (request.card.evaluations and not _paged(request))):
        raise UserError(f"{place}: is the card already; --eval and --license are for making one: run `safekey card`")
    made = make_card(run, request.card) if place is None or _paged(request) else None
    if place is None:
        assert made is not None
        text = made.text
        notes = [*made.notes, "the card is made now: `safekey card` writes it to a file first, to edit it"]
    else:
        text, notes = _read(run, place), []
    model = model_files(run, base_of(run, request.card.base_model))
    card = from_bytes(CARD, text.replace(REPO, repo).encode(), "the card")
    files = [*model.files, card]
    if _paged(request):
        assert made is not None
        folders = made.results.folders
        files += shared_pages(run, folders, repo, transcripts=request.transcripts, judges=request.judges)
    notes += [f"{file.name}: {file.note}" for file in model.files if file.note]
    files.sort(key=lambda file: file.name)
    return Parcel((*files, listed(files)), model.left_out, tuple(notes))


def _paged(request: PushRequest) -> bool:
    return request.page or request.transcripts


def _card_file(run: Training, request: PushRequest) -> Path | None:
    """Return the card that was written before; None where there is none.

    Raises:
        UserError: the file that is named is not there, or is a symbolic link.
    """
    place = Path(request.card_file).expanduser() if request.card_file else run.folder / CARD
    if place.is_symlink():
        raise UserError(f"{place}: is a symbolic link, which is not followed: put the card itself there")
    if place.is_file():
        return place
    if request.card_file:
        hint = "`safekey card RUN --output FILE` writes one"
        raise UserError(f"--card {request.card_file}: there is no such file; {hint}")
    return None


def _read(run: Training, place: Path) -> str:
    """Read a card, which its author may have edited.

    Raises:
        UserError: it is no text, is about other weights, or tells a local path.
    """
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{place}: cannot be read: {error}") from error
    marked = re.search(re.escape(MARK) + r"([0-9a-f]{64})", text)
    if marked and marked[1] != weights_hash(run):
        raise UserError(f"{place}: is about other weights, from before the model was trained anew: run `safekey card`")
    if leak := run.private.leak(text):
        raise UserError(f"{place}: names a folder or machine ({leak}): remove it, then push again")
    return text
