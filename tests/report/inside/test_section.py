"""The section on what happens inside: tables and plots of an analysis, and nothing that safekey did not write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from report.worlds import two_arms
from safekey.analysis.sheets import Sheet
from safekey.cli.analyze.shared import with_tables, write_files
from safekey.cli.app import main
from safekey.errors import UserError
from safekey.report.inside.canvas import Point, lines, maps, marks
from safekey.report.inside.section import read_sections

NASTY = "<script>alert(1)</script>"


def write(folder: Path) -> Path:
    sheet = Sheet(f"KL {NASTY}", ("part", "harmful"), (("U", "0.1 (0.0 to 0.2)"), ("K", NASTY)))
    notes = ("3 rows left out",)
    document = with_tables({"analysis": "kl", "models": [{"model": "runs/a"}, {"model": NASTY}]}, [sheet], notes)
    plot = lines(
        "kl", f"KL {NASTY}", ("token", "nats"), {"harmful": [Point(0, 1.0, 0.5, 1.5), Point(1, 2.0)]}, upright=0
    )
    write_files(folder, document, [sheet], notes, [plot])
    return folder


def test_a_section_is_what_was_written(tmp_path: Path) -> None:
    (section,) = read_sections([write(tmp_path / "kl")])
    assert section.title.startswith("KL between two models: a and ")
    assert [[cell.text for cell in row] for row in section.tables[0].rows] == [["U", "0.1 (0.0 to 0.2)"], ["K", NASTY]]
    assert section.notes == ("3 rows left out",)
    assert section.plots[0].svg.lstrip().startswith("<?xml")


def test_the_page_shows_it_and_no_text_is_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(group[0]) for group in two_arms(tmp_path / "world").values()]
    one, two = write(tmp_path / "one"), write(tmp_path / "two")
    words = ["report", *runs, "--output", str(tmp_path / "page")]
    assert main([*words, "--analysis", str(one), "--analysis", str(two)]) == 0
    html = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert 'id="inside"' in html
    assert "3 rows left out" in html
    assert html.count("inside-0-kl-title") == html.count("inside-1-kl-title") > 0
    assert NASTY not in html
    assert main(words) == 0
    assert 'id="inside"' not in (tmp_path / "page" / "report.html").read_text(encoding="utf-8")


def test_what_safekey_did_not_write_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "kl")
    for name, text in (("kl.svg", "<svg onload='x'/>"), ("result.json", json.dumps({"analysis": "kl"}))):
        before = (folder / name).read_text()
        (folder / name).write_text(text)
        with pytest.raises(UserError, match="is not as safekey wrote it"):
            read_sections([folder])
        (folder / name).write_text(before)
    with pytest.raises(UserError, match=r"holds no result\.json"):
        read_sections([tmp_path])
    (tmp_path / "rows.part").touch()  # a killed analysis left it
    with pytest.raises(UserError, match="is not finished: give its command again"):
        read_sections([tmp_path])


def test_plots_are_the_same_bytes_again_and_say_what_they_show() -> None:
    def draw() -> list[object]:
        values = {"harmful": {"U": Point(0, 0.1, 0.0, 0.2), "K": Point(0, 2.0)}}
        return [
            marks("m", "Marks", "nats", ["U", "K"], values),
            maps("h", "Heads", ("head", "layer"), {"U": [[0.1, 0.2], [0.3, 0.4]]}, both=True),
        ]

    assert draw() == draw()
    assert "harmful, K: 2" in draw()[0].description  # type: ignore[attr-defined]
