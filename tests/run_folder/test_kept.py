"""Rows that a stopped verb leaves: whole after a kill at any byte, gone when it has finished."""

from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from safekey.errors import UserError
from safekey.run_folder import kept as module
from safekey.run_folder.kept import ROWS, Kept, filled, keeping
from safekey.run_folder.ownership import kind_of

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([np.inf, -0.0, 1e-300]), np.zeros((0, 4))]
NAMES = [hashlib.sha256(bytes([n])).hexdigest() for n in range(len(ARRAYS))]


def written(path: Path) -> bytes:
    kept = Kept(path)
    for name, array in zip(NAMES, ARRAYS, strict=True):
        kept.add(name, array)
    kept.close()
    return path.read_bytes()


def whole(path: Path) -> int:
    """How many of the arrays are there, each as it was."""
    kept = Kept(path)
    for count, (name, array) in enumerate(zip(NAMES, ARRAYS, strict=True)):
        if name not in kept:
            assert not any(later in kept for later in NAMES[count:])
            return count
        found = kept.get(name)
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
    return len(ARRAYS)


def test_a_kill_at_any_byte_costs_the_last_row_at_most(tmp_path: Path) -> None:
    content = written(tmp_path / ROWS)
    counts = []
    for size in range(len(content) + 1):
        (tmp_path / ROWS).write_bytes(content[:size])
        counts.append(whole(tmp_path / ROWS))
        written(tmp_path / ROWS)  # goes on behind what is whole
        assert whole(tmp_path / ROWS) == len(ARRAYS)
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}
    (tmp_path / ROWS).write_bytes(content[:-30] + bytes(30))  # a power cut leaves zeros
    assert whole(tmp_path / ROWS) == 2


def test_another_file_of_that_name_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_text("my notes\n")
    with pytest.raises(UserError, match=r"rows\.part: is no file of rows that safekey keeps"):
        Kept(tmp_path / ROWS)
    assert (tmp_path / ROWS).read_text() == "my notes\n"


def test_only_what_is_missing_is_computed_and_by_whole_batches(tmp_path: Path) -> None:
    computed: list[int] = []

    def one(batch: int) -> list[np.ndarray]:
        computed.append(batch)
        return [np.full(2, 10.0 * batch + row) for row in range(3)]

    def names(batch: int) -> list[str]:
        return [hashlib.sha256(f"{batch} {row}".encode()).hexdigest() for row in range(3)]

    def run(upto: int) -> list[float]:
        with keeping(tmp_path / "out", "analysis") as kept:
            found = [float(a[0]) for b in range(upto) for a in filled(kept, names(b), lambda b=b: one(b))]
            if upto < 4:
                raise KeyboardInterrupt
        return found

    for upto in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(upto)
        assert kind_of(tmp_path / "out") == "analysis"
    assert computed == [0, 1, 2]
    kept = Kept(tmp_path / "out" / ROWS)
    kept._file.truncate(kept._places[names(2)[2]][0] - 1)  # the last batch lost a row
    kept.close()
    assert run(4) == [10.0 * batch + row for batch in range(4) for row in range(3)]
    assert computed == [0, 1, 2, 2, 3]
    assert not (tmp_path / "out" / ROWS).exists()
    assert filled(None, names(0), lambda: [ARRAYS[0]])[0] is ARRAYS[0]


def test_a_second_process_is_told_to_wait(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom safekey.run_folder.kept import keeping\n"
        f"keeping(Path({str(tmp_path)!r}), 'analysis').__enter__()"
    )
    with keeping(tmp_path, "analysis"):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another safekey works here: wait for it, or end it" in other.stderr


def test_a_full_disk_is_one_line_and_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(tmp_path / ROWS)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "append_line", full)
    kept = Kept(tmp_path / ROWS)
    with pytest.raises(
        UserError, match=r"rows\.part: cannot be read or written: No space left on device; .*free space"
    ):
        kept.add("new", ARRAYS[0])
    assert "new" not in kept
    assert (tmp_path / ROWS).read_bytes() == content
