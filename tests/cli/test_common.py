"""What all verbs share: suggestions, completion, one JSON document, tables that are piped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safekey.cli.app import main
from safekey.cli.common import arms_of
from safekey.errors import UserError
from safekey.organism import write_world


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evla", "m"], "there is no 'evla'; did you mean 'eval'? (choose from demo, data, make, train, eval"),
        (["data", "inspekt", "x"], "did you mean 'inspect'?"),
        (["eval", "m", "--limt", "3"], "there is no option --limt; did you mean '--limit'"),
        (["train", "r", "--dry-rnu", "a=1"], "there is no option --dry-rnu; did you mean '--dry-run'?"),
        (["grid", "r", "--seds=3"], "there is no option --seds; did you mean '--seeds'"),
        (["compare", "a", "b", "--part", "answr"], "there is no 'answr'; did you mean 'answer'?"),
        (["report", "a", "--margin", "much"], "argument --margin: invalid points value: 'much'"),
        (["data", "segment"], "the following arguments are required: FILE, --output"),
        (["--vresion", "benchmarks"], "there is no option --vresion; did you mean '--version'?"),
        (["benchmarks", "extra"], "unexpected: extra"),
        (["train", "base", "dpsh_weight=0"], "unknown key 'dpsh_weight'; did you mean 'head_weight'"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.startswith("safekey: error: ")
    assert expected in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("key-sentences", "--discordant", "over-refusal"):
        assert word in script


def test_bash_completes_verbs_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    (tmp_path / "safekey.bash").write_text(capsys.readouterr().out)
    ask = (
        "source safekey.bash; COMP_WORDS=(safekey {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        '_shtab_safekey; echo "${{COMPREPLY[@]}}"'
    )
    for words, expected in (("an", "analyze"), ("compare --discor", "--discordant"), ("train --launch zer", "zero3")):
        command = ["bash", "-c", ask.format(words=words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
        assert done.stdout.split() == [expected], done


def test_help_does_not_import_what_it_does_not_need() -> None:
    code = (
        "import sys; from safekey.cli.app import build_parser; build_parser().format_help()\n"
        "print({'torch', 'rich', 'shtab', 'yaml', 'numpy'} & set(sys.modules))"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert time.perf_counter() - begin < 20  # a guard; the promise is 0.5 s on an idle machine


def test_arms_by_name_and_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    arms, reference = arms_of([str(tmp_path / "a")], ["b=x,y"], "b")
    assert (arms, reference) == ({"a": (str(tmp_path / "a"),), "b": ("x", "y")}, "b")
    with pytest.raises(UserError, match="nothing to analyze: give at least one run"):
        arms_of([], [], to="analyze")


def test_json_is_the_only_thing_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "question": "How do I brew tea?",
        "response": "<think>\nThe user asks. It is safe. So.\n</think>\n\nBoil.",
    }
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(row) + "\n" + json.dumps({"question": "x"}) + "\n")

    def document(*words: str) -> dict[str, object]:
        assert main([*words, "--json"]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    shown = document("data", "inspect", str(data))
    assert shown["usable"] == 1
    assert [part["tag"] for part in shown["rows"][0]["parts"]] == ["X", "U", "K", "R", "A"]  # type: ignore[index]
    segmented = document("data", "segment", str(data), "--output", str(tmp_path / "out.jsonl"))
    assert (segmented["written"], segmented["read"], segmented["spans_by"]) == (1, 2, {"rule": 1})
    assert document("data", "validate", str(data))["problems_total"] == 1
    assert main(["data", "validate", str(tmp_path / "none"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["unreadable"]
    assert err


def test_tables_that_are_piped_do_not_wrap(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    from safekey.cli.common import console

    table = Table("name", "value")
    table.add_row("a" * 150, "b" * 150)
    console().print(table)
    assert any("a" * 150 in line and "b" * 150 in line for line in capsys.readouterr().out.splitlines())


def test_a_dry_run_of_train_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world(tmp_path / "world")
    words = [f"model_name_or_path={world.base}", f"data={world.train}", f"output_dir={tmp_path / 'run'}"]
    assert main(["train", "organism", *words, "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    plan = json.loads(out)
    assert (plan["rows"]["trained_on"], plan["steps"]["rows"], plan["output_dir"]) == (2000, 32, str(tmp_path / "run"))
    assert plan["memory_bytes"]["total"] > 1e6
    assert "nothing was trained" in err
    assert not (tmp_path / "run").exists()
    assert main(["train", "organism", *words, "max_steps=1", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["status"], done["output_dir"], done["steps"]["total"]) == ("finished", str(tmp_path / "run"), 1)


def test_a_dry_run_of_a_grid_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world(tmp_path / "world")
    words = [f"model_name_or_path={world.base}", f"data={world.train}", "--data-dir", str(world.folder)]
    given = ["grid", "organism", *words, "--arms", "base,sft", "--seeds", "2", "--output", str(tmp_path / "grid")]
    assert main([*given, "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    plan = json.loads(out)
    assert [(job["arm"], job["seed"], job["done"]) for job in plan["jobs"]] == [
        ("base", None, False), ("sft", 0, False), ("sft", 1, False)]  # fmt: skip
    assert "nothing was trained" in err


def test_an_engine_option_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_world(tmp_path / "world")
    words = ["--data-dir", str(world.folder), "--tasks", "strongreject", "--no-judge"]
    assert (
        main(["eval", str(world.base), *words, "--output", str(tmp_path / "run"), "--engine-option", "batchsize=4"])
        == 2
    )
    line = capsys.readouterr().err
    assert "the local engine has no option 'batchsize'; did you mean 'batch_size'? (it has revision, adapt" in line
    assert line.count("\n") == 1
    words = [f"model_name_or_path={world.base}", f"data={world.train}", "--data-dir", str(world.folder)]
    assert main(["grid", "organism", *words, "--dry-run", "--engine-option", "batchsize=4"]) == 2
    assert "did you mean 'batch_size'" in capsys.readouterr().err
