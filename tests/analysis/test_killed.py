"""SIGKILL inside `safekey analyze`: the same command then ends with the numbers of a run that nobody stopped."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safekey.analysis import attention, kl
from safekey.analysis.probe import states
from safekey.cli.app import main
from safekey.run_folder.kept import ROWS, Kept
from small_inside import write_models, write_rows

ROOM = {"kl": kl, "attention": attention, "probe": states}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_models(folder)
    write_rows(folder / "rows.jsonl", 32)
    lines = (folder / "rows.jsonl").read_text()
    (folder / "rows.jsonl").write_text(lines + lines.splitlines()[0] + "\n")  # a row that is there twice
    return folder


def words(verb: str, home: Path, out: Path) -> list[str]:
    named = {"kl": ["model-1", "model-2"], "attention": ["model-1", "--base", "model-2"], "probe": ["model-1"]}
    paths = [word if word.startswith("--") else str(home / word) for word in named[verb]]
    how = ["--data", str(home / "rows.jsonl"), "--device", "cpu", "--batch-size", "3", "--output", str(out)]
    return ["analyze", verb, *paths, *how]


def counted(verb: str, patch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that are computed from now on."""
    own, sizes = ROOM[verb]._batch, []

    def batch(seen: Any, *rest: Any) -> Any:
        sizes.append(len(seen))
        return own(seen, *rest)

    patch.setattr(ROOM[verb], "_batch", batch)
    return sizes


def dies(action: Callable[[], object]) -> None:
    """Do it in a child of this process, which kills itself."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill_after(rows: int, verb: str, home: Path, out: Path, patch: pytest.MonkeyPatch, *, torn: bool = False) -> None:
    """Give the command to a process that kills itself when so many rows are kept, perhaps within the next one."""
    own, told = Kept.add, Counter[str]()

    def add(self: Kept, name: str, array: Any) -> None:
        if told["rows"] == rows:
            if torn:
                with self.path.open("ab") as file:
                    file.write(b'{"key": "5d1f')
            os.kill(os.getpid(), signal.SIGKILL)
        told["rows"] += 1
        own(self, name, array)

    with patch.context() as inner:
        inner.setattr(Kept, "add", add)
        dies(lambda: main(words(verb, home, out)))


@pytest.mark.parametrize("verb", ["kl", "attention", "probe"])
def test_after_three_kills_the_numbers_are_the_same(
    verb: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, out = tmp_path / "calm", tmp_path / "killed"
    sizes = counted(verb, monkeypatch)
    assert main(words(verb, home, calm)) == 0
    batches = len(sizes)
    assert batches >= 11
    assert sum(sizes) == (2 if verb == "attention" else 1) * 33
    for more, torn in ((0, False), (7, True), (9, False)):  # 2, 5 whole batches and one begun
        kill_after(more, verb, home, out, monkeypatch, torn=torn)
    assert (out / ROWS).is_file()
    assert not (out / "result.json").exists()
    sizes.clear()
    assert main(words(verb, home, out)) == 0
    assert len(sizes) == batches - 5  # two whole batches, then three: what is finished is not computed again
    assert (out / "result.json").read_bytes() == (calm / "result.json").read_bytes()
    assert {path.name for path in out.iterdir()} == {path.name for path in calm.iterdir()}


def test_other_weights_use_nothing_of_what_is_kept(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = counted("probe", monkeypatch)
    kill_after(12, "probe", home, tmp_path / "out", monkeypatch)
    changed = [word.replace("model-1", "model-2") for word in words("probe", home, tmp_path / "out")]
    assert main(changed) == 0
    assert sum(sizes) == 33
    changed[-1] = str(tmp_path / "calm")
    assert main(changed) == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == json.loads(
        (tmp_path / "calm" / "result.json").read_text()
    )
