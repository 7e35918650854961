"""No verb deletes or replaces what it did not make, and a failed first try blocks nothing.

Each test keeps a copy of every file that is not safekey's (`Kept`), runs the verb, and compares.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.saved_runs import arm, write_run
from safekey.cli.app import main
from safekey.errors import UserError
from safekey.run_folder.ownership import Ledger, check_apart, kind_of

SMALL = str(Path(__file__).with_name("small.yaml"))
SHORT = ("max_steps=2", "qmm_epochs=0.5", "head_epochs=0.5", "max_length=300", "use_cpu=true", "limit=16",
         "self_test=false", "eval_fraction=0")  # fmt: skip
THINKING = "<think>\nThe user asks how to brew tea. That is harmless. Water first.\n</think>\n\nBoil water."
ROW = {"id": "1", "question": "How do I brew tea?", "harmful": False, "response": THINKING}


def digest(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, with its contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file() and path.name not in (".lock",):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that must be refused; return its one line."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("safekey: error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from small_model import save_small_model
    from small_world import rows, write_rows

    folder = tmp_path_factory.mktemp("small")
    save_small_model(folder / "base", [f"{row['question']} {row['response']}" for row in rows()], seed=1)
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a checkpoint."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(train(small, run, "save_strategy=steps", "save_steps=1")) == 0
    return run


def train(small: Path, run: Path, *words: str, base: object = "", data: object = "") -> list[str]:
    paths = [f"model_name_or_path={base or small / 'base'}", f"data={data or small / 'rows.jsonl'}"]
    return ["train", SMALL, *paths, f"output_dir={run}", *SHORT, *words]


# ---- train


@pytest.mark.parametrize("more", [(), ("--overwrite",), ("--overwrite", "--dry-run")])
@pytest.mark.parametrize("theirs", ["model", "linked model", "run.json", "checkpoint-4", "notes.txt", "all"])
def test_train_refuses_a_folder_that_it_did_not_make(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], theirs: str
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if theirs in ("model", "all"):
        shutil.copytree(small / "base", run / "model")
    if theirs == "linked model":
        shutil.copytree(small / "base", tmp_path / "elsewhere")
        (run / "model").symlink_to(tmp_path / "elsewhere")
    if theirs in ("checkpoint-4", "all"):
        (run / "checkpoint-4").mkdir()
        (run / "checkpoint-4" / "model.safetensors").write_text("weights of another trainer")
    if theirs in ("run.json", "all"):
        (run / "run.json").write_text('{"status": "finished", "of": "another tool"}')
        (run / "config.yaml").write_text("learning_rate: 1\n")
    if theirs == "notes.txt":
        (run / "notes.txt").write_text("mine")
    before = digest(tmp_path)
    base = run / "model" if theirs in ("model", "linked model") else ""
    assert "give another output_dir" in refused(capsys, *train(small, run, *more, base=base))
    assert digest(tmp_path) == before


def test_train_does_not_delete_the_model_that_it_begins_from(
    small: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is ours; its model, named directly, through a link, or as a checkpoint, is the input of the next."""
    run = shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "link").symlink_to(run / "model")
    before = digest(tmp_path)
    for base in (run / "model", tmp_path / "link", run / "checkpoint-2"):
        said = refused(capsys, *train(small, run, "--overwrite", base=base))
        assert "the model_name_or_path" in said
        assert "would be replaced" in said
        assert digest(tmp_path) == before


def test_train_does_not_replace_its_data(
    small: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    rows = tmp_path / "rows.jsonl"
    shutil.copy(small / "rows.jsonl", rows)
    (run / "train_log.jsonl").unlink()
    (run / "train_log.jsonl").symlink_to(rows)
    assert "is the data" in refused(capsys, *train(small, run, "--overwrite", data=rows))
    (run / "train_log.jsonl").unlink()
    os.link(rows, run / "train_log.jsonl")
    assert "is the data" in refused(capsys, *train(small, run, "--overwrite", data=rows))
    assert rows.read_bytes() == (small / "rows.jsonl").read_bytes()


@pytest.mark.parametrize("place", ["model/merged.gguf", "checkpoint-2/notes.txt", "checkpoint-7/model.safetensors"])
def test_train_does_not_delete_what_somebody_put_into_its_folders(
    small: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).write_text("mine")
    before = digest(run)
    said = refused(capsys, *train(small, run, "--overwrite"))
    assert place.partition("/")[0] in said
    assert "no training of safekey wrote it" in said
    assert digest(run) == before


def test_train_anew_deletes_what_is_ours_and_keeps_the_rest(small: Path, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "notes.txt").write_text("mine")
    again = train(small, run, "--overwrite", "learning_rate=1e-4")
    assert main([again[0], str(run / "config.yaml"), *again[2:]]) == 0  # its own config is its recipe
    assert (run / "notes.txt").read_text() == "mine"
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert not (run / "checkpoint-1").exists()
    assert (run / "model" / "model.safetensors").is_file()


def test_a_failed_first_training_blocks_nothing(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small / "base", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    assert "weights in safetensors form" in refused(capsys, *train(small, tmp_path / "run", base=tmp_path / "base"))
    assert main(train(small, tmp_path / "run", "learning_rate=1e-3")) == 0


# ---- data


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_validate_does_not_write_its_problems_over_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.jsonl", ROW, {"question": "x"})
    (tmp_path / "link.jsonl").symlink_to(rows)
    os.link(rows, tmp_path / "hard.jsonl")
    other = write(tmp_path / "other.jsonl", ROW)
    before = digest(tmp_path)
    for problems in ("rows.jsonl", "link.jsonl", "hard.jsonl"):
        said = refused(capsys, "data", "validate", other, rows, "--problems", tmp_path / problems)
        assert "is the file to check, number 2," in said
    assert "not what safekey wrote there" in refused(capsys, "data", "validate", rows, "--problems", other)
    assert digest(tmp_path) == before
    problems = tmp_path / "p.jsonl"
    for _ in range(2):  # ours may be replaced
        assert main(["data", "validate", str(rows), "--problems", str(problems)]) == 0
        assert json.loads(problems.read_text())["row"] == 2
    problems.write_text("my remarks")  # no longer as it was written
    assert "not what safekey wrote there" in refused(capsys, "data", "validate", rows, "--problems", problems)


def test_problems_may_go_to_a_device(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", ROW, {"question": "x"})
    assert main(["data", "validate", str(rows), "--problems", "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()


def test_segment_replaces_its_own_output_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = write(tmp_path / "in.jsonl", ROW), tmp_path / "out.jsonl"
    theirs = write(tmp_path / "theirs.jsonl", ROW | {"understanding_end": 9, "key_sentence_end": 20})
    (tmp_path / "link.jsonl").symlink_to(theirs)
    (tmp_path / "dir.jsonl").mkdir()
    before = digest(tmp_path)
    for name, words in (
        ("theirs", "not what safekey wrote there"),
        ("link", "not what safekey wrote there"),
        ("dir", "is a folder"),
        ("in", "is the input"),
    ):
        assert words in refused(capsys, "data", "segment", rows, "--output", tmp_path / f"{name}.jsonl")
    assert digest(tmp_path) == before
    for _ in range(2):
        assert main(["data", "segment", str(rows), "--output", str(out)]) == 0
    with out.open("a") as file:  # somebody's own work on it
        file.write(json.dumps(ROW) + "\n")
    edited = out.read_bytes()
    assert "not what safekey wrote there" in refused(capsys, "data", "segment", rows, "--output", out)
    assert out.read_bytes() == edited
    empty = tmp_path / "empty.jsonl"
    empty.touch()  # from mktemp, say
    assert main(["data", "segment", str(rows), "--output", str(empty)]) == 0
    (tmp_path / "new.jsonl").symlink_to(tmp_path / "behind.jsonl")  # a link to nowhere: written through it
    assert main(["data", "segment", str(rows), "--output", str(tmp_path / "new.jsonl")]) == 0
    assert (tmp_path / "new.jsonl").is_symlink()
    assert (tmp_path / "behind.jsonl").read_bytes() == empty.read_bytes()


def test_segment_appends_replies_to_its_own_file_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "out.replies.jsonl", ROW)
    asked = ["--annotator-url", "http://127.0.0.1:9/v1", "--annotator-model", "m"]
    before = digest(tmp_path)
    said = refused(capsys, "data", "segment", rows, "--output", tmp_path / "out.jsonl", *asked)
    assert "replies" in said
    assert "is the input" in said
    other = write(tmp_path / "in.jsonl", ROW)
    said = refused(capsys, "data", "segment", other, "--output", tmp_path / "out.jsonl", *asked)
    assert "holds no replies that safekey saved" in said
    other.unlink()
    assert digest(tmp_path) == before


# ---- eval, judge, compare, report


def evaluation(tmp_path: Path, output: Path, *words: str) -> list[str]:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    write(data / "xstest_safe.jsonl", {"id": "q1", "prompt": "How do I bake a cake?", "label": "safe"})
    return ["eval", "scripted", "--tasks", "xstest-safe", "--data-dir", str(data), "--output", str(output), *words]


@pytest.mark.parametrize("theirs", ["resolved.yaml", "run.json", "completions.jsonl", "thesis.tex"])
def test_an_evaluation_refuses_anothers_folder(tmp_path: Path, theirs: str) -> None:
    from safekey.evals.records.folder import EvalRun

    run = tmp_path / "run"
    run.mkdir()
    (run / theirs).write_text('{"status": "failed", "starts": ["today"]}')
    before = digest(run)
    with pytest.raises(UserError, match="is not empty and no evaluation's run folder"):
        EvalRun(run).check({"tasks": {}})
    assert digest(run) == before


def test_run_folders_of_other_verbs_are_refused(
    small: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safekey.evals.records.folder import EvalRun

    run = write_run(tmp_path / "eval", arm(30, 10, 60, n=40))
    assert (kind_of(run), kind_of(trained)) == ("evaluation", "training")
    before = digest(tmp_path), digest(trained)
    assert "folder of another verb (evaluation)" in refused(capsys, *train(small, run, "--overwrite"))
    assert "folder of another verb (evaluation)" in refused(capsys, "report", run, "--output", run)
    assert "folder of another verb (training)" in refused(capsys, "report", run, "--output", trained)
    with pytest.raises(UserError, match=r"folder of another verb \(training\)"):
        EvalRun(trained).check({"tasks": {}})
    assert "no evaluation's run folder" in refused(capsys, "judge", trained, "--judge", "refusal_keywords")
    for folder in (run, trained):
        with pytest.raises(UserError, match="no grid's folder"):
            grid_at(folder).check_ours()
    assert (digest(tmp_path), digest(trained)) == before


def grid_at(folder: Path) -> Any:
    from safekey.grid.folder import GridFolder

    return GridFolder(folder)


def test_an_evaluation_does_not_write_over_its_inputs(tmp_path: Path) -> None:
    from safekey.evals.records.folder import EvalRun

    run = EvalRun(write_run(tmp_path / "run", arm(3, 3, 3, n=4)))
    (tmp_path / "link.jsonl").symlink_to(run.path / "completions.jsonl")
    for path in (run.path / "verdicts.jsonl", tmp_path / "link.jsonl"):
        with pytest.raises(UserError, match=r"is the file of math500 .*give another --output"):
            run.check(run.resolved, {"file of math500": str(path)})
    run.check(run.resolved, {"file of math500": str(tmp_path)})


@pytest.mark.parametrize("theirs", ["report.html", "report.md", "plots/arms.svg"])
def test_a_report_refuses_anothers_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], theirs: str) -> None:
    run = write_run(tmp_path / "eval", arm(30, 10, 60, n=40))
    made = tmp_path / "made"
    assert main(["report", str(run), "--output", str(made)]) == 0
    name = theirs if "/" not in theirs else next(f"plots/{path.name}" for path in sorted((made / "plots").iterdir()))
    page = tmp_path / "page"
    (page / name).parent.mkdir(parents=True)
    (page / name).write_text("by hand")
    (page / "notes.txt").write_text("mine")
    before = digest(page)
    assert "not what safekey wrote there" in refused(capsys, "report", run, "--output", page)
    assert digest(page) == before
    (page / name).unlink()
    for _ in range(2):  # beside other files, and again over its own
        assert main(["report", str(run), "--output", str(page)]) == 0
    assert (page / "notes.txt").read_text() == "mine"
    (page / "report.md").write_text("corrected by hand")
    assert "report.md" in refused(capsys, "report", run, "--output", page)
    assert (page / "report.md").read_text() == "corrected by hand"


def test_a_report_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    run = write_run(tmp_path / "eval", arm(30, 10, 60, n=40))
    page = tmp_path / "page"
    assert main(["report", str(run), "--output", str(page)]) == 0
    (page / ".safekey").unlink()  # earlier versions wrote none
    assert main(["report", str(run), "--output", str(page)]) == 0


@pytest.mark.slow
def test_a_failed_first_evaluation_blocks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from inspect_ai.model import get_model

    from safekey.engines.scripted import ScriptedEngine

    engine = ScriptedEngine(default="<think>\nA cake.\n</think>\n\nTake flour.")
    monkeypatch.setattr(
        "safekey.evals.evaluate.open_model",
        lambda request: get_model("safekey/scripted", engine=engine, kind="scripted", memoize=False),
    )
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = tmp_path / "run"
    for judge, words in (
        ("exact=nowhere:decide", "cannot be imported"),
        ("refusal_3class=openai/gpt-4.1", "OPENAI_API_KEY"),
        ("refusal_3class=http://127.0.0.1:9/v1#m", "refusal_3class"),
    ):
        said = refused(capsys, *evaluation(tmp_path, run, "--judge", judge, "--judge-attempts", "1"))
        assert words in said
        assert [path.name for path in run.glob("[!.]*")] == []
    assert main(evaluation(tmp_path, run, "--judge", "refusal_keywords")) == 0
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_an_evaluation_that_failed_before_its_first_row_binds_nobody(tmp_path: Path) -> None:
    from safekey.evals.records.folder import EvalRun

    run = EvalRun(tmp_path / "run")
    run.hold()
    run.begin({"tasks": {}, "seed": 1}, {})
    with pytest.raises(UserError, match="seed: 1 then, 2 now"):
        run.check({"tasks": {}, "seed": 2})
    run.mark("failed")
    run.check({"tasks": {}, "seed": 2})
    (run.path / "completions.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="seed: 1 then, 2 now"):
        run.check({"tasks": {}, "seed": 2})
    run.release()


# ---- grid, demo, world


def test_a_grid_that_failed_before_its_first_step_binds_nobody(tmp_path: Path) -> None:
    grid = grid_at(tmp_path / "grid")
    first: dict[str, Any] = {"arms": {"sft": ["x=0"]}, "seeds": [0], "values": {"a": 1}, "threads": 1,
                             "evaluation": {"judges": ["exact=a:b"]}}  # fmt: skip
    grid.path.mkdir()
    grid.begin(first)
    place = grid.path / "arms" / "sft" / "seed-0"
    (place / "train").mkdir(parents=True)
    (place / "log.txt").write_text("safekey: error: no such judge\n")
    grid.check({**first, "values": {"a": 2}})  # nothing is there yet
    (place / "train" / "train_log.jsonl").write_text("{}\n")
    judged = {**first, "evaluation": {"judges": ["exact=c:d"]}}
    grid.check(judged)  # trained, but nothing generated: another judge is no other grid
    assert grid.begin(judged)["evaluation"] == {"judges": ["exact=c:d"]}
    with pytest.raises(UserError, match="a: 1 then, 2 now"):
        grid.check({**judged, "values": {"a": 2}})
    (place / "eval").mkdir()
    (place / "eval" / "completions.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"evaluation\.judges"):
        grid.check(first)


def test_a_grid_does_not_replace_anothers_results(tmp_path: Path) -> None:
    grid = grid_at(tmp_path / "grid")
    grid.path.mkdir()
    grid.begin({"arms": {"sft": []}, "seeds": [0], "threads": 1})
    (grid.path / "compare.json").write_text('{"version": 1, "made": "by safekey compare --json"}')
    with pytest.raises(UserError, match=r"compare\.json: is there already, and no grid wrote it"):
        grid.check_ours()
    (grid.path / "compare.json").write_text('{"ground": "of an earlier version"}')
    grid.check_ours()
    grid.write_result("compare.json", '{"ground": ""}')
    grid.check_ours()
    (grid.path / "compare.json").write_text('{"ground": "edited"}')
    with pytest.raises(UserError, match=r"compare\.json: is there already"):
        grid.check_ours()


@pytest.mark.parametrize(
    "theirs",
    ["world/novel.txt", "world/train.jsonl", "grid/notes.txt", "grid/arms/sft/seed-0/train/model.bak/x/y",
     "grid/report/mine.html", "novel.txt"],
)  # fmt: skip
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_demo_deletes_no_foreign_world(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], theirs: str, overwrite: bool
) -> None:
    demo = tmp_path / "demo"
    (demo / theirs).parent.mkdir(parents=True)
    (demo / theirs).write_text("a world of my own")
    before = digest(demo)
    if overwrite:
        said = refused(capsys, "demo", "--output", demo, "--overwrite")
        assert "which no demo writes" in said
        assert digest(demo) == before
    elif theirs == "world/train.jsonl" or theirs.startswith("grid"):
        refused(capsys, "demo", "--output", demo)
        assert digest(demo) == before


@pytest.mark.parametrize(
    "place", ["train/model/merged.gguf", "train/notes.txt", "eval/table.csv", "train/checkpoint-3/x"]
)
def test_a_demo_deletes_no_file_that_somebody_put_into_its_runs(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    from safekey.organism.demo import check_clear

    demo = tmp_path / "demo"
    seed = demo / "grid" / "arms" / "sft" / "seed-0"
    shutil.copytree(trained, seed / "train")
    (seed / "eval").mkdir()
    grid_at(demo / "grid").begin({"arms": {"sft": []}, "seeds": [0], "threads": 1,
                                  "values": {"model_name_or_path": str(demo / "world" / "base")}})  # fmt: skip
    check_clear(demo)
    (seed / place).parent.mkdir(exist_ok=True)
    (seed / place).write_text("mine")
    before = digest(demo)
    said = refused(capsys, "demo", "--output", demo, "--overwrite")
    assert "holds grid/arms/sft/seed-0/" in said
    assert "which no demo writes" in said
    assert digest(demo) == before


def test_a_demo_deletes_its_own_world(tmp_path: Path) -> None:
    from rich.console import Console

    from safekey.organism.demo import clear, prepare_world

    quiet = Console(quiet=True)
    for _ in range(2):
        prepare_world(tmp_path / "demo" / "world", quiet, from_scratch=False)
    rows = tmp_path / "demo" / "world" / "train.jsonl"
    (tmp_path / "demo" / "world" / "base" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds world/base/notes\.txt"):
        clear(tmp_path / "demo")
    (tmp_path / "demo" / "world" / "base" / "notes.txt").unlink()
    text = rows.read_text()
    rows.write_text(text + text.splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"world/train\.jsonl"):
        clear(tmp_path / "demo")
    with pytest.raises(UserError, match=r"train\.jsonl: is there already"):
        prepare_world(tmp_path / "demo" / "world", quiet, from_scratch=False)
    rows.write_text(text)
    clear(tmp_path / "demo")
    assert not (tmp_path / "demo" / "world").exists()


def test_a_base_is_built_into_no_foreign_folder(tmp_path: Path) -> None:
    from safekey.organism.build import build_base

    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(UserError, match="no base was built there"):
        build_base(tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "weights"


# ---- the rule itself


def test_a_kill_at_any_moment_leaves_the_file_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the steps of one replacement, the file is the old one or the new one, and known as ours."""
    path = tmp_path / "out.jsonl"
    ledger = Ledger.of_file(path)
    ledger.write(path, b"one\n")

    class Killed(BaseException):
        pass

    own, steps = os.replace, [0]
    monkeypatch.setattr(Path, "replace", lambda self, target: step(self, target))

    def step(source: Path, target: Path) -> None:
        steps[0] += 1
        if steps[0] == stop:
            raise Killed
        own(source, target)

    for stop in (1, 2, 3):
        steps[0] = 0
        with pytest.raises(Killed):
            ledger.write(path, f"{stop}\n".encode())
        assert path.read_text() in ("one\n", "3\n")
        assert ledger.owns(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".out.jsonl.safekey", "out.jsonl"]


def test_inputs_and_outputs_are_compared_by_identity(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for given, words in (
        (tmp_path / "link", "is the data"),
        (tmp_path / "link" / "x", "holds the data"),
        (tmp_path / "out" / ".." / "link" / "x", "holds the data"),
    ):
        with pytest.raises(UserError, match=words):
            check_apart({"data": given}, [tmp_path / "out"], "move it")
    check_apart({"data": "owner/name", "other": tmp_path}, [tmp_path / "out"], "move it")
