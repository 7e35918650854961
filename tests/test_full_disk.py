"""A full disk in the middle of a line: later lines are whole, and stand where the store says."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safekey.data.write import append_record, open_for_append, read_records
from safekey.errors import UserError
from safekey.evals.records.rows import RowStore
from safekey.run_folder.appending import append_line, end_last_line
from safekey.training.loop.callbacks import append_log, start_log


class Full:
    """A file on a disk that takes so many bytes more; where `stuck`, what is there cannot be cut off either."""

    def __init__(self, file: Any, room: int, stuck: bool = False) -> None:
        self.file, self.room, self.stuck = file, room, stuck

    def write(self, data: Any) -> int:
        part = bytes(data)[: self.room]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(part)
        self.file.write(part)
        return len(part)

    def truncate(self, place: int) -> int:
        if self.stuck:
            raise OSError(errno.EIO, "Input/output error")
        return int(self.file.truncate(place))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("room", [0, 1, 20, 39])
def test_rows_after_a_full_disk_stand_where_the_store_says(tmp_path: Path, room: int, stuck: bool) -> None:
    store = RowStore(tmp_path / "rows.jsonl", lambda row: row["id"])
    store.add({"id": 1, "text": "a" * 20})
    disk: Any = store._file
    store._file = Full(disk, room, stuck)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        store.add({"id": 2, "text": "b" * 40})
    assert 2 not in store
    store._file = disk
    for number in (3, 2, 4):
        store.add({"id": number, "text": str(number) * 10})
    assert [store.get(number)["text"][0] for number in (1, 2, 3, 4)] == ["a", "2", "3", "4"]  # type: ignore[index]
    store.close()
    again = RowStore(tmp_path / "rows.jsonl", lambda row: row["id"])
    assert [row["id"] for row in again.rows()] == [1, 3, 2, 4]


def test_a_rewrite_on_a_full_disk_keeps_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RowStore(tmp_path / "rows.jsonl", lambda row: row["id"])
    for number in (2, 1):
        store.add({"id": number})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.rewrite(lambda row: row["id"])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    store.add({"id": 3})
    store.rewrite(lambda row: row["id"])
    assert [row["id"] for row in store.rows()] == [1, 2, 3]


def test_a_limit_of_the_system_does_the_same(tmp_path: Path) -> None:
    """RLIMIT_FSIZE, in a process of its own: the kernel itself writes a part of the line."""
    code = (
        "import resource, sys, pathlib\n"
        "from safekey.evals.records.rows import RowStore\n"
        "store = RowStore(pathlib.Path(sys.argv[1]), lambda row: row['id'])\n"
        "store.add({'id': 1, 'text': 'a' * 900})\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))\n"
        "try: store.add({'id': 2, 'text': 'b' * 900})\n"
        "except OSError as error: print(error.strerror)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "store.add({'id': 3, 'text': 'c' * 900})\n"
        "print(store.get(3)['text'][0], 2 in store, [row['id'] for row in store.rows()])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "rows.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["File too large", "c False [1, 3]"]
    assert [json.loads(line)["id"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [1, 3]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1024


def test_replies_of_an_annotator(tmp_path: Path) -> None:
    path = tmp_path / "o.replies.jsonl"
    disk = open_for_append(path)
    append_record(disk, {"key": "a", "reason": ""})
    with pytest.raises(UserError, match="cannot be written"):
        append_record(Full(disk, 9), {"key": "b", "reason": ""})  # type: ignore[arg-type]
    append_record(disk, {"key": "c", "reason": ""})
    disk.close()
    assert list(read_records(path)) == ["a", "c"]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b'{"key": "b", "rea', b""),  # half a line of ours
        (b'{"ke', b""),
        (b'{"key": "b", "reason": ""}', b'{"key": "b", "reason": ""}\n'),  # whole, but an editor took the line end
        (b"somebody's text", b"somebody's text\n"),
    ],
)
def test_a_last_line_without_an_end(tmp_path: Path, tail: bytes, kept: bytes) -> None:
    first = b'{"key": "a"}\n'
    (tmp_path / "x").write_bytes(first + tail)
    with (tmp_path / "x").open("ab+", buffering=0) as file:
        end_last_line(file, b'{"key": "')
        append_line(file, b"new\n")
    assert (tmp_path / "x").read_bytes() == first + kept + b"new\n"


def test_the_log_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_log(tmp_path, {"step": 1})
    whole = Path.open
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda self, *a, **k: Context(Full(whole(self, *a, **k), 5)))
        with pytest.raises(OSError, match="No space"):
            append_log(tmp_path, {"step": 2})
    append_log(tmp_path, {"step": 3})
    assert (tmp_path / "train_log.jsonl").read_text() == '{"step": 1}\n{"step": 3}\n'
    start_log(tmp_path, 1)
    assert (tmp_path / "train_log.jsonl").read_text() == '{"step": 1}\n'


class Context:
    """`with` for a `Full`."""

    def __init__(self, file: Full) -> None:
        self.file = file

    def __enter__(self) -> Full:
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.file.close()
