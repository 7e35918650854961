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
from safekey.organism.data import BASE
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
@pytest.mark.slow
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


# --- causal: completions and verdicts, on the organism's base model ---------------------------------------------------


def causal(keys: Path, out: Path) -> list[str]:
    judge = ["--judge", "exact=safekey.organism.judge:decide"]
    how = ["--limit", "5", "--max-tokens", "160", "--engine-option", "device=cpu", "--output", str(out)]
    return ["analyze", "causal", str(BASE), "--keys", str(keys), *judge, *how]


def rows_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_causal_asks_for_nothing_twice_after_four_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safekey.engines.local import LocalEngine
    from safekey.evals.records.rows import RowStore
    from safekey.organism.keys import write_keys

    keys, calm, out = write_keys(tmp_path / "keys.jsonl"), tmp_path / "calm", tmp_path / "killed"
    asked: list[int] = []
    own_generate, own_add = LocalEngine.generate, RowStore.add

    def generate(self: Any, prompts: Any, params: Any) -> Any:
        asked.append(len(prompts))
        return own_generate(self, prompts, params)

    monkeypatch.setattr(LocalEngine, "generate", generate)
    assert main(causal(keys, calm)) == 0
    whole = len(rows_in(calm / "completions.jsonl"))
    assert sum(asked) == whole == len(rows_in(calm / "verdicts.jsonl"))
    assert whole > 5 * 4  # some requests of the base have U, K and a closed thinking

    def dies_at(rows: int, name: str) -> None:
        def add(self: Any, row: Any) -> None:
            if self.path.name == name and len(self) == rows:
                os.kill(os.getpid(), signal.SIGKILL)
            own_add(self, row)

        with monkeypatch.context() as inner:
            inner.setattr(RowStore, "add", add)
            dies(lambda: main(causal(keys, out)))

    for rows, name in ((3, "completions.jsonl"), (12, "completions.jsonl"), (whole - 1, "completions.jsonl")):
        dies_at(rows, name)
        assert len(rows_in(out / name)) == rows
    dies_at(whole // 2, "verdicts.jsonl")
    judged = rows_in(out / "verdicts.jsonl")
    assert len(judged) == whole // 2
    asked.clear()
    assert main(causal(keys, out)) == 0
    assert asked == []
    assert rows_in(out / "verdicts.jsonl")[: len(judged)] == judged
    for name in ("completions.jsonl", "verdicts.jsonl"):
        assert sorted(map(json.dumps, rows_in(out / name))) == sorted(map(json.dumps, rows_in(calm / name)))
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (out, calm))
    assert {**ours, "run": ""} == {**theirs, "run": ""}
