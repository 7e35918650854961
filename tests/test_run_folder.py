"""What all run folders share: the lock, one record without secrets, and the format version."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from safekey import run_folder
from safekey.cli.app import main
from safekey.errors import UserError
from safekey.evals.records.folder import EvalRun
from safekey.grid.folder import GridFolder
from safekey.training.command.folder import RunFolder


def test_every_folder_carries_the_format(tmp_path: Path) -> None:
    training, evaluation, grid = RunFolder(tmp_path / "t"), EvalRun(tmp_path / "e"), GridFolder(tmp_path / "g")
    training.begin({"learning_rate": 0.1}, {"processes": 1}, [])
    training.mark("finished")
    evaluation.path.mkdir()
    evaluation.begin({"tasks": {}}, {})
    grid.path.mkdir()
    grid.begin({"arms": {"sft": []}, "seeds": [0], "threads": 1})
    assert [training.record["format"], evaluation.record["format"], grid.settings["format"]] == [1, 1, 1]


def test_a_newer_folder_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, grid = tmp_path / "run", tmp_path / "grid"
    for folder in (run, grid):
        folder.mkdir()
    (run / "run.json").write_text('{"format": 2, "status": "finished"}')
    (run / "resolved.yaml").write_text("tasks: {}\n")
    (run / "config.yaml").write_text("learning_rate: 0.1\n")
    (grid / "grid.yaml").write_text("format: 2\narms: {sft: []}\nseeds: [0]\n")
    for words in (["compare", run, run.parent / "other"], ["compare", grid], ["report", grid]):
        assert main([str(word) for word in words]) == 2
        line = capsys.readouterr().err
        assert "was written by a newer safekey (format 2; this one reads 1): update safekey" in line
        assert line.count("\n") == 1
    with pytest.raises(UserError, match="update safekey"):
        RunFolder(run).check({"learning_rate": 0.1}, {}, 1)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from safekey.run_folder import hold\n"
        "lock = hold(pathlib.Path(sys.argv[1]), 'busy'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"run: another one is here$"):
            run_folder.hold(tmp_path / "run", "another one is here")
        other.kill()
        other.wait()
        run_folder.hold(tmp_path / "run", "another one is here").release()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: cannot be written: Not a directory; give another --output"):
        run_folder.hold(tmp_path / "file" / "run", "busy")


def test_secrets_are_left_out_and_words_like_them_kept() -> None:
    settings = {
        "hub_token": "a", "eos_token": "<s>", "api_key_env": "KEY", "model": {"HF_TOKEN": "b", "max_tokens": 5},
        "overrides": ["hub_token=c", "model_init_kwargs.token=d", "judge=exact=f", "learning_rate=0.1"],
    }  # fmt: skip
    assert run_folder.without_secrets(settings) == {
        "eos_token": "<s>", "api_key_env": "KEY", "model": {"max_tokens": 5},
        "overrides": ["judge=exact=f", "learning_rate=0.1"],
    }  # fmt: skip


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_folder.write_json(tmp_path / "run.json", {"a": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        run_folder.write_json(tmp_path / "run.json", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert json.loads((tmp_path / "run.json").read_text()) == {"a": 1}


def test_settings_that_differ_are_named() -> None:
    before, now = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [1], "e": None}
    assert run_folder.changes(before, now) == {"a.c": "a.c: 2 then, 3 now"}


def test_a_file_system_without_locks_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that means "locked" by being there would stay behind when a node kills its process."""

    def unknown(fd: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    first = run_folder.hold(tmp_path / "run", "busy")
    again = run_folder.hold(tmp_path / "run", "busy")
    assert not first.is_locked
    assert not again.is_locked
    again.release()
