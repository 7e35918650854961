"""Write a report: one HTML page, a Markdown document, plots.

written = write_report({"sft": [Path("runs/eval-sft-0")], "safekey": [Path("runs/eval-sk-0")]}, Path("runs/report"),
                       reference="sft")

runs/report/
  report.html     everything, self-contained, under 5 MB
  report.md       verdicts and tables for a paper or a model card
  plots/          each plot as SVG and PNG
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from safekey.analysis.key_sentences.find import Diagnostics
from safekey.errors import UserError
from safekey.evals.request import ALLOWED_UNSCORED
from safekey.report.content import Content, read_content
from safekey.report.inside.section import InsideSection, read_sections
from safekey.report.key_sentences import KeySentenceSection, key_sentences
from safekey.report.markdown import markdown
from safekey.report.notes import all_notes
from safekey.report.packing import EmbeddedData, embed
from safekey.report.page import page
from safekey.report.plots import Plot, draw
from safekey.report.transcripts import read_transcripts
from safekey.run_folder import hold
from safekey.run_folder.ownership import LEDGER, Ledger, kind_of
from safekey.schema import Part

MOST_BYTES = 5_000_000  # of the page
KIND = "report"
_SPARE = 20_000  # for text that depends on which transcripts are embedded


@dataclass(frozen=True)
class Written:
    """The files of a report.

    Attributes:
        html: the page.
        markdown: the Markdown document.
        plots: SVG and PNG files.
        sizes: bytes of each of these files.
        shown: responses in the page.
        total: responses in the run folders.
        verdicts: arm → its verdict's class; empty for one arm alone.
    """

    html: Path
    markdown: Path
    plots: tuple[Path, ...]
    sizes: Mapping[Path, int]
    shown: int
    total: int
    verdicts: Mapping[str, str]


def write_report(
    arms: Mapping[str, Sequence[Path]],
    output: Path,
    *,
    reference: str,
    settings: Mapping[str, Any] | None = None,
    judges: Sequence[str] = (),
    part: Part = "answer",
    margin: float = 0.03,
    title: str = "What fine-tuning did",
    about: str = "",
    allow_different_settings: bool = False,
    allow_unscored: float = ALLOWED_UNSCORED,
    notes: Sequence[str] = (),
    diagnostics: Diagnostics | None = None,
    judge_records: Sequence[str] = (),
    labels: Sequence[str] = (),
    analyses: Sequence[str | Path] = (),
) -> Written:
    """Write the report of one or more arms' evaluations into a folder; files of an earlier report are replaced.

    Args:
        arms: arm → the run folders of its evaluations, one for each training seed.
        output: the folder to write into.
        reference: the arm that the others are compared with.
        settings: the whole experiment's settings, shown as they are.
        judges: NAME or NAME=MODEL, where runs were judged by several.
        part: the part of the responses that verdicts are about.
        margin: how much worse over-refusal and accuracy may be at the interval's edge, 0–1.
        title: the page's heading.
        about: what holds for the whole experiment, its data for instance; below the headline.
        allow_different_settings: compare runs that were decoded differently; the page says so.
        allow_unscored: give rates up to this share of missing verdicts; 1: always.
        notes: further notes for the page.
        diagnostics: the runs' key sentences; None: they are found here.
        judge_records: files of `safekey judges validate`: rates are shown corrected for their judges' errors as well.
        labels: files of people's labels of the runs' answers: the same.
        analyses: folders that `safekey analyze … --output` wrote, for a section of the page.

    Raises:
        UserError: a folder is no finished evaluation's, the runs have too little in common, the reference is no arm, or
            the folder cannot be written.
    """
    if reference not in arms:
        raise UserError(f"the reference '{reference}' is no arm; there are: {', '.join(arms) or 'none'}")
    folder = check_folder(output)
    inside = read_sections(analyses)
    content = read_content(
        arms,
        reference,
        judges=judges,
        part=part,
        margin=margin,
        allow_different_settings=allow_different_settings,
        allow_unscored=allow_unscored,
        judge_records=judge_records,
        labels=labels,
    )
    plots = draw(content)
    said = all_notes(content, notes)
    keys = key_sentences(content, diagnostics)
    html, embedded = render(content, title, about, plots, said, settings, keys, inside=inside)
    text = markdown(content, title, said, keys, plots, about)
    return _written(folder, html, text, plots, embedded, content)


def check_folder(output: Path) -> Path:
    """Check that a report may be written into a folder, before anything is computed; return the folder.

    Raises:
        UserError: it is the folder of another verb, or holds a file that a report would replace and no report wrote.
    """
    folder = output.expanduser()
    if (kind := kind_of(folder)) not in ("", KIND):
        raise UserError(f"{folder}: is the folder of another verb ({kind}): give another --output")
    _check_files(folder, [folder / "report.html", folder / "report.md"])
    return folder


def _check_files(folder: Path, files: Sequence[Path]) -> None:
    if not _is_older_report(folder):
        Ledger.of_folder(folder, KIND).check(files, "report", "give another --output, or move it away")


def _is_older_report(folder: Path) -> bool:
    """Whether a report lies there that a version without ledgers wrote."""
    if (folder / LEDGER).exists() or (folder / "report.html").is_symlink():
        return False
    try:
        return "Written by safekey " in (folder / "report.html").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def render(
    content: Content,
    title: str,
    about: str,
    plots: Sequence[Plot],
    notes: Sequence[str],
    settings: Mapping[str, Any] | None,
    keys: KeySentenceSection | None,
    shared: Content | None = None,
    inside: Sequence[InsideSection] = (),
) -> tuple[str, EmbeddedData]:
    """Return the page's HTML with as many transcripts as fit, and these.

    Args:
        content: what the page shows; transcripts are read from its run folders.
        title: its heading.
        about: what the reader has to know first, in words; "" for nothing.
        plots: its plots.
        notes: its notes.
        settings: the whole experiment's settings.
        keys: the section on key sentences.
        shared: for readers elsewhere: the same content, without what names files of this machine.
        inside: what `safekey analyze` found.

    Raises:
        UserError: the page is too large even without transcripts.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    generated = f"Written by safekey {metadata.version('safekey')} at {now}."
    rest: dict[str, Any] = {"plots": plots, "notes": notes, "settings": settings, "keys": keys}
    rest |= {"generated": generated, "about": about, "shared": shared is not None, "inside": inside}
    shown = shared or content
    bare = len(page(shown, title, embedded=None, **rest).encode())
    prompts, responses = read_transcripts(content)
    runs = [[record.label for record in content.records[arm]] for arm in content.arms]
    head = {"arms": content.arms, "runs": runs, "pair": _pair(content)}
    embedded = embed(prompts, responses, runs, head, MOST_BYTES - _SPARE - bare)
    html = page(shown, title, embedded=embedded, **rest)
    size = len(html.encode())
    if size >= MOST_BYTES:
        raise UserError(f"the page is {size:,} bytes without transcripts, over {MOST_BYTES:,}: report on fewer arms")
    return html, embedded


def _pair(content: Content) -> list[int]:
    """Return the places of the reference and of the trained arm that differs most from it; −1 where there is none."""
    gaps: dict[str, float] = {}
    for row in content.headline.comparisons if content.headline else ():
        if row.difference is not None and not row.described:
            gaps[row.arm] = gaps.get(row.arm, 0.0) + row.difference.square
    if not gaps:
        return [0, 1 if len(content.arms) > 1 else -1]
    return [0, content.arms.index(max(gaps, key=lambda arm: gaps[arm]))]


def _written(
    folder: Path, html: str, text: str, plots: Sequence[Plot], embedded: EmbeddedData, content: Content
) -> Written:
    page_path, text_path = folder / "report.html", folder / "report.md"
    content_of = {folder / "plots" / f"{plot.name}.svg": plot.svg.encode("utf-8", "backslashreplace") for plot in plots}
    content_of |= {folder / "plots" / f"{plot.name}.png": plot.png for plot in plots}
    files = sorted(content_of)
    content_of |= {text_path: text.encode("utf-8", "backslashreplace")}
    content_of |= {page_path: html.encode("utf-8", "backslashreplace")}
    _check_files(folder, list(content_of))
    ledger, lock = Ledger.of_folder(folder, KIND), hold(folder, "another safekey writes a report here: wait for it")
    try:
        (folder / "plots").mkdir(exist_ok=True)
        for path, written in content_of.items():
            ledger.write(path, written)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; give another --output") from error
    finally:
        lock.release()
    sizes = {path: path.stat().st_size for path in (page_path, text_path, *files)}
    verdicts = content.headline.verdicts if content.headline else {}
    return Written(
        html=page_path,
        markdown=text_path,
        plots=tuple(files),
        sizes=sizes,
        shown=embedded.shown,
        total=embedded.total,
        verdicts={name: verdict.verdict for name, verdict in verdicts.items()},
    )
