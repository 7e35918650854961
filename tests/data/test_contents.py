"""Files that are not what their names say, files that unpack without end, and rows that nobody can read."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from safekey.data import canonical, load_examples
from safekey.data.contents import UNPACKED_LIMIT, unpacked_limit
from safekey.data.read import read_rows
from safekey.errors import DataError, UserError

ROW = {"question": "How do I brew tea?", "response": canonical("The user asks for tea.", "Boil water.")}
LINE = json.dumps(ROW)
LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet", "json.gz"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (LFS, "is a Git LFS pointer, not the data (12,345 bytes lie elsewhere): run `git lfs pull`"),
        (b"../../.git/annex/objects/x/y.json\n", "is a git-annex pointer"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page (HTML), not data"),
        (b"\n  <html lang='en'>", "is a web page"),
        (bz2.compress(b"[]"), "compressed with bzip2"),
        (b"\xfd7zXZ\0rest", "compressed with xz"),
        (b"\x28\xb5\x2f\xfdrest", "compressed with zstd"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x80\x04\x95rest", "a pickle, which is never loaded"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"ARROW1\0\0", "an Arrow file"),
    ],
)
def test_the_real_cause_is_named(tmp_path: Path, ending: str, content: bytes, text: str) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.") as error:
        read_rows(str(path))
    assert text in str(error.value)
    if ending == "json.gz":  # the same within gzip
        path.write_bytes(gzip.compress(content))
        with pytest.raises(DataError) as error:
            read_rows(str(path))
        assert text in str(error.value)


def test_a_real_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.json", "w") as file:
        file.writestr("rows.json", "[]")
    with pytest.raises(DataError, match=r"is a zip archive .*: unpack it"):
        read_rows(str(tmp_path / "rows.json"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_gzip_without_its_ending_is_unpacked_and_said(tmp_path: Path, name: str) -> None:
    text = "question,response\na,b\n" if name.endswith("csv") else LINE
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    rows, notes = read_rows(str(tmp_path / name))
    assert len(rows) == 1
    assert "is gzip, although its name does not end in .gz" in notes[0]


def test_parquet_under_another_name_is_read_and_said(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([ROW] * 1500), tmp_path / "rows.json")
    rows, notes = read_rows(str(tmp_path / "rows.json"))
    assert [row.number for row in rows] == list(range(1, 1501))
    assert "is Parquet, although its name ends in .json" in notes[0]
    (tmp_path / "rows.parquet").write_text(LINE)
    with pytest.raises(DataError, match="it is no Parquet file"):
        read_rows(str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("cut", [5, 20, -9, -1])
def test_gzip_that_is_cut_short_or_broken(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINE.encode())[:cut])
    with pytest.raises(DataError, match="gzip data is cut short or broken"):
        read_rows(str(path))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty file"):
        read_rows(str(path))


def test_members_of_gzip_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(f"{LINE}\n".encode()) * 3)
    assert len(read_rows(str(path))[0]) == 3


def test_unpacking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 20), 9) * 300)  # 300 MB out of 0.3 MB
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"unpacks to more than 256 MB.*set {UNPACKED_LIMIT} to more megabytes"):
        read_rows(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 << 20
    monkeypatch.setenv(UNPACKED_LIMIT, "10")
    with pytest.raises(DataError, match="more than 10 MB"):
        read_rows(str(path))
    monkeypatch.setenv(UNPACKED_LIMIT, "400")
    with pytest.raises(DataError, match="is empty"):
        read_rows(str(path))
    monkeypatch.setenv(UNPACKED_LIMIT, "much")
    with pytest.raises(UserError, match="expected a number of megabytes"):
        read_rows(str(path))
    monkeypatch.delenv(UNPACKED_LIMIT)
    assert unpacked_limit(10 << 20) == 1000 << 20  # ordinary text is far below
    assert unpacked_limit(1 << 40) == 4096 << 20


def test_parquet_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": pa.array(["x" * 100_000] * 500)})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert len(read_rows(str(tmp_path / "rows.parquet"))[0]) == 500
    monkeypatch.setenv(UNPACKED_LIMIT, "10")
    with pytest.raises(DataError, match="more than 10 MB"):
        read_rows(str(tmp_path / "rows.parquet"))


# JSON


def rows_of(tmp_path: Path, value: Any, name: str = "rows.json") -> tuple[list[Any], list[str]]:
    (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    rows, notes = read_rows(str(tmp_path / name))
    return [row.fields or row.problem for row in rows], notes


def test_rows_under_a_key(tmp_path: Path) -> None:
    assert rows_of(tmp_path, {"data": [ROW, ROW]}) == ([ROW, ROW], [])
    rows, notes = rows_of(tmp_path, {"version": 2, "data": [ROW], "tags": ["a"]})
    assert rows == [ROW]
    assert "the rows under the key 'data' were read; not read: version, tags" in notes[0]
    with pytest.raises(DataError, match=r"several lists of rows \(train, test\)"):
        rows_of(tmp_path, {"train": [ROW], "test": [ROW]})
    with pytest.raises(DataError, match=r"column by column \(question, response\)"):
        rows_of(tmp_path, {"question": ["a", "b"], "response": ["c", "d"]})
    with pytest.raises(DataError, match="column by column"):
        rows_of(tmp_path, {"question": {"0": "a", "2": "b"}, "response": {"0": "c", "1": "d"}})
    assert rows_of(tmp_path, {"0": ROW, "1": ROW})[0] == [ROW, ROW]


def test_an_object_that_is_a_row(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": ROW["response"]}]
    for row in (ROW, {"messages": turns}, ROW | {"tools": [{"name": "f"}]}, {"id": 3, "messages": turns}):
        assert rows_of(tmp_path, row) == ([row], [])


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_key_that_is_said_twice(tmp_path: Path, name: str) -> None:
    twice = '{"question": "a", "response": "b", "question": "c"}'
    inner = '{"messages": [{"role": "user", "content": "a", "content": "b"}]}'
    text = f"[{LINE}, {twice}, {inner}]" if name == "rows.json" else "\n".join([LINE, twice, inner])
    (tmp_path / name).write_text(text)
    loaded = load_examples(tmp_path / name)
    assert len(loaded) == 1
    assert [(problem.row, problem.field) for problem in loaded.problems] == [(2, "question"), (3, "messages")]
    assert all("the same key twice" in problem.reason for problem in loaded.problems)
    assert "'content'" in loaded.problems[1].reason


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    "bad", [f'{{"note": {DEEP}}}', '{"note": ' + "9" * 5000 + "}", '{"a":' * 200_000 + "1" + "}" * 200_000]
)
def test_one_row_that_cannot_be_read_costs_itself(tmp_path: Path, bad: str) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join([LINE, bad, LINE]))
    (tmp_path / "rows.json").write_text(f'[{LINE},\n {bad}, {{"question": "a, ] \\" b", "response": "}}"}}]\n')
    for name, usable in (("rows.jsonl", 2), ("rows.json", 1)):
        loaded = load_examples(tmp_path / name)
        assert len(loaded) == usable
        assert loaded.problems[0].row == 2
        assert "wrong JSON" in loaded.problems[0].reason
    (tmp_path / "rows.json").write_text(f"[{bad}")
    with pytest.raises(DataError, match="wrong JSON"):
        load_examples(tmp_path / "rows.json")


def test_a_deep_cell_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f'messages\n"{DEEP}"\n')
    loaded = load_examples(tmp_path / "rows.csv")
    assert "nested too deeply" in loaded.problems[0].reason


def test_folders_and_links(tmp_path: Path) -> None:
    (tmp_path / "rows.json").mkdir()
    with pytest.raises(DataError, match=r"rows\.json: is a folder, and cannot be read as one"):
        read_rows(str(tmp_path / "rows.json"))
    (tmp_path / "rows.json" / "a.jsonl").write_text("{broken")
    with pytest.raises(DataError, match=r"It holds a\.jsonl: name one of them"):
        read_rows(str(tmp_path / "rows.json"))
    (tmp_path / "link.json").symlink_to("gone.json")
    with pytest.raises(DataError, match=r"is a link to gone\.json, which does not exist"):
        read_rows(str(tmp_path / "link.json"))


def test_comments_before_a_header_are_passed_over_and_a_header_is_no_comment(tmp_path: Path) -> None:
    cells = [("id", "question", "response"), ("1", "How do I brew tea?", "Boil water."), ("2", "And coffee?", "Grind.")]
    lines = "".join(",".join(row) + "\n" for row in cells)
    for before, notes in (("# version 2\n# by nobody,,\n", 1), ("# a=1,b=2,c=3\n", 1), ("", 0)):
        (tmp_path / "rows.csv").write_text(before + lines)
        found, said = read_rows(str(tmp_path / "rows.csv"))
        assert ([row.fields["id"] for row in found], len(said)) == (["1", "2"], notes)
    (tmp_path / "rows.csv").write_text("# " + lines)
    found, said = read_rows(str(tmp_path / "rows.csv"))
    assert ([row.fields["# id"] for row in found], said) == (["1", "2"], [])
