"""The report's page for readers elsewhere: without local paths and host names; with transcripts only when asked for

files = shared_pages(run, results.folders, "anna/r1-7b-safekey", transcripts=False)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from safekey.errors import UserError
from safekey.report.content import Content, read_content
from safekey.report.key_sentences import key_sentences
from safekey.report.notes import all_notes
from safekey.report.page import page
from safekey.report.plots import draw
from safekey.report.run_records import RunRecord
from safekey.report.write import render
from safekey.sharing.facts import Training
from safekey.sharing.files import Shared, from_bytes
from safekey.sharing.private import Private

_SHORTEST_ID = 4


def shared_pages(
    run: Training, folders: Sequence[Path], title: str, *, transcripts: bool, judges: Sequence[str] = ()
) -> list[Shared]:
    """Return the page of each evaluation: "report.html", or "report-NAME.html" where there are several.

    Args:
        run: the training whose model was evaluated.
        folders: run folders of its evaluations.
        title: the pages' heading.
        transcripts: whether prompts and responses are in the page.
        judges: NAME or NAME=MODEL, where an evaluation was judged by several.

    Raises:
        UserError: there is no evaluation, a page cannot be made, or it would tell a local path.
    """
    if not folders:
        raise UserError("--with-page: no evaluation of this model was found: --eval RUN names one")
    found = []
    for place in folders:
        name = "report.html" if len(folders) == 1 else f"report-{_name(place)}.html"
        html = _page(run, place, title, transcripts, judges)
        found.append(from_bytes(name, html.encode("utf-8", "backslashreplace")))
    if len({file.name for file in found}) < len(found):
        raise UserError("--with-page: two evaluations have folders of one name: rename one, or give one --eval")
    return found


def _name(place: Path) -> str:
    return "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in place.resolve().name)


def _page(run: Training, place: Path, title: str, transcripts: bool, judges: Sequence[str]) -> str:
    arm = "this model"
    content = read_content({arm: [place]}, arm, judges=judges)
    plots = draw(content)
    keys = key_sentences(content)
    private = run.private.also([place])
    notes = [private.public(note) for note in all_notes(content, ())]
    shown = _without_places(content, private)
    if not transcripts:
        notes = _without_ids(content, notes)
    if transcripts:
        html, embedded = render(content, title, "", plots, notes, None, keys, shown)
        text = html.replace(embedded.data, "")
    else:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        generated = f"Written by safekey {metadata.version('safekey')} at {now}."
        html = page(
            shown, title, plots=plots, notes=notes, settings=None, keys=keys, generated=generated, embedded=None,
            shared=True,
        )  # fmt: skip
        text = html
    if leak := private.leak(text):
        raise UserError(f"the page of {place} would tell the name of a local folder or machine ({leak})")
    return html


def _without_ids(content: Content, notes: Sequence[str]) -> list[str]:
    """Return notes without the ids of prompts: in some benchmarks the request itself is the id."""
    runs = [run for runs in content.found.saved.values() for run in runs]
    ids = {prompt.item for run in runs for prompt in run.samples}
    ids |= {item.rpartition("@")[0] for item in ids if "@" in item}
    ids |= {behaviour for run in runs for behaviour, _ in run.behaviours.values()}
    known = sorted((name for name in ids if len(name) >= _SHORTEST_ID), key=len, reverse=True)
    found = []
    for note in notes:
        for name in known:
            note = note.replace(name, "…")
        found.append(note)
    return found


def _without_places(content: Content, private: Private) -> Content:
    """Return content in which folders are names and models, judges and notes name no path and no server."""
    found = replace(
        content.found,
        judges={metric: private.public(judge) for metric, judge in content.found.judges.items()},
        notes=tuple(private.public(note) for note in content.found.notes),
    )
    records = {arm: tuple(_named(record, private) for record in rows) for arm, rows in content.records.items()}
    return replace(content, found=found, records=records)


def _named(record: RunRecord, private: Private) -> RunRecord:
    training = record.training
    if training is not None:
        training = replace(
            training, folder=Path(training.folder.name), config=private.public_value(dict(training.config))
        )
    resolved = private.public_value(dict(record.resolved))
    return replace(record, folder=Path(record.folder.name), resolved=resolved, training=training)
