"""Write a report: one page, its Markdown, its plots.

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
from safekey.report.content import Material, gather
from safekey.report.key_sentences import Section, key_sentences
from safekey.report.markdown import markdown
from safekey.report.notes import all_notes
from safekey.report.packing import Packed, pack
from safekey.report.page import page
from safekey.report.plots import Plot, draw
from safekey.report.transcripts import read_transcripts
from safekey.run_folder import write
from safekey.schema import Part

MOST_BYTES = 5_000_000  # of the page
_SPARE = 20_000  # for words that depend on what was packed


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        html: the page.
        markdown: the Markdown document.
        plots: SVG and PNG files.
        sizes: bytes of each of these files.
        shown: responses in the page.
        total: responses there are.
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
    allow_different_settings: bool = False,
    notes: Sequence[str] = (),
    diagnostics: Diagnostics | None = None,
) -> Written:
    """Write the report of one or more arms' evaluations into a folder; files of an earlier report are replaced.

    Args:
        arms: arm → the run folders of its evaluations, one for each training seed.
        output: the folder to write into.
        reference: the arm that the others are held against.
        settings: the whole experiment's settings, shown as they are.
        judges: NAME or NAME=MODEL, where runs were judged by several.
        part: the part of the responses that verdicts are about.
        margin: how much worse over-refusal and accuracy may be at the interval's edge, 0–1.
        title: the page's heading.
        allow_different_settings: compare runs that were decoded differently; the page says so.
        notes: what a reader should know besides.
        diagnostics: the runs' key sentences, where they are known already.

    Raises:
        UserError: a folder is no finished evaluation's, the runs have too little in common, the reference is no arm, or
            the folder cannot be written.
    """
    if reference not in arms:
        raise UserError(f"the reference '{reference}' is no arm; there are: {', '.join(arms) or 'none'}")
    material = gather(arms, reference, judges=judges, part=part, margin=margin,
                      allow_different_settings=allow_different_settings)  # fmt: skip
    plots = draw(material)
    said = all_notes(material, notes)
    keys = key_sentences(material, diagnostics)
    html, packed = _page(material, title, plots, said, settings, keys)
    text = markdown(material, title, said, keys, [f"{plot.name}.png|{plot.title}" for plot in plots])
    return _written(output, html, text, plots, packed, material)


def _page(
    material: Material, title: str, plots: Sequence[Plot], notes: Sequence[str], settings: Mapping[str, Any] | None,
    keys: Section | None,
) -> tuple[str, Packed]:  # fmt: skip
    now = datetime.now(UTC).isoformat(timespec="seconds")
    generated = f"Written by safekey {metadata.version('safekey')} at {now}."
    rest: dict[str, Any] = {"plots": plots, "notes": notes, "settings": settings, "keys": keys,
                            "generated": generated}  # fmt: skip
    bare = len(page(material, title, packed=None, **rest).encode())
    prompts, responses = read_transcripts(material)
    runs = [[record.label for record in material.records[arm]] for arm in material.arms]
    head = {"arms": material.arms, "runs": runs, "pair": _pair(material)}
    packed = pack(prompts, responses, runs, head, MOST_BYTES - _SPARE - bare)
    html = page(material, title, packed=packed, **rest)
    size = len(html.encode())
    if size >= MOST_BYTES:
        raise UserError(f"the page is {size:,} bytes without transcripts, over {MOST_BYTES:,}: report on fewer arms")
    return html, packed


def _pair(material: Material) -> list[int]:
    """Return the reference and the arm that differs most from it, as places; −1 where there is none."""
    gaps: dict[str, float] = {}
    trained = {arm for arm, records in material.records.items() if any(record.training for record in records)}
    only = trained - {material.arms[0]} or set(material.arms)  # the untrained model differs most, and tells least
    for row in material.headline.comparisons if material.headline else ():
        if row.difference is not None and row.arm in only:
            gaps[row.arm] = gaps.get(row.arm, 0.0) + row.difference.square
    if not gaps:
        return [0, 1 if len(material.arms) > 1 else -1]
    return [0, material.arms.index(max(gaps, key=lambda arm: gaps[arm]))]


def _written(output: Path, html: str, text: str, plots: Sequence[Plot], packed: Packed, material: Material) -> Written:
    folder = output.expanduser()
    page_path, text_path, files = folder / "report.html", folder / "report.md", []
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        for plot in plots:
            svg, png = (folder / "plots" / f"{plot.name}.{ending}" for ending in ("svg", "png"))
            write(svg, plot.svg)
            png.write_bytes(plot.png)
            files += [svg, png]
        write(text_path, text)
        write(page_path, html)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; give another --output") from error
    sizes = {path: path.stat().st_size for path in (page_path, text_path, *files)}
    verdicts = material.headline.verdicts if material.headline else {}
    return Written(
        html=page_path,
        markdown=text_path,
        plots=tuple(files),
        sizes=sizes,
        shown=packed.shown,
        total=packed.total,
        verdicts={name: verdict.verdict for name, verdict in verdicts.items()},
    )
