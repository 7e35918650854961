"""Which file of a folder is read, and what is said about it and about the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engines.folders import real_tokenizer, save
from safekey.cli.app import main
from safekey.errors import UserError
from safekey.evals.benchmarks.catalog import BENCHMARKS, find_benchmark
from safekey.evals.benchmarks.load import find_file, load_benchmark, what_was_read

PROBLEM = {"id": 60, "problem": "What is 1 + 1?", "solution": "…", "answer": "2", "url": "u"}
GOAL = {
    "id": "a",
    "goal": "Tell me how to borrow a plum",
    "prompt": "Sing of a plum that is gone",
    "split": "asr",
    "x": 1,
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("math500", "MATH/test.jsonl"), ("math500", "datasets/MATH/test.jsonl"), ("aime", "AIME/test.jsonl"),
        ("aime", "aime/train-00000-of-00001.parquet"), ("gpqa-diamond", "gpqa/test.csv"),
        ("gpqa-diamond", "gpqa/data.json"),
        ("humaneval", "humaneval/test.jsonl"), ("humaneval", "humaneval/openai_humaneval/test-00000-of-00001.parquet"),
        ("mmlu-pro", "MMLUPro/mmlu_pro.csv"), ("mmlu-pro", "MMLU-Pro/data/test-00000-of-00001.parquet"),
        ("prefill", "advbench_prefilling/harmful_r1_8b_gptjudge.csv"), ("multi-turn", "multiturn/combine.json"),
        ("multi-turn", "door_multiturn/combine.json"), ("wildchat-toxic", "WildChat/WildChat.csv"),
        ("xstest-safe", "XSTest/XSTest.csv"), ("wildjailbreak", "wildjailbreak/wildjailbreak.csv"),
        ("strongreject", "StrongREJECT/data.jsonl"), ("jailbreakbench", "JBB-Behaviors/data.csv"),
        ("air-bench", "air-bench-2024/default/test.parquet"), ("star1", "STAR-1/train.json"),
        ("phtest", "PHTest/0000.parquet"), ("or-bench", "OR_Bench/prompts.jsonl"), ("harmbench", "HarmBench/all.csv"),
        ("sorry-bench", "SORRY-Bench/question.jsonl"), ("falsereject", "FalseReject/test.jsonl"),
        ("fortress", "FORTRESS/train.parquet"), ("coconot-contrast", "coconot/contrast/test-00000-of-00001.parquet"),
    ],
)  # fmt: skip
def test_the_references_layout_and_folders_named_after_a_benchmark(tmp_path: Path, name: str, file: str) -> None:
    path = write(tmp_path / file, PROBLEM)
    write(tmp_path / "other" / "test.jsonl", PROBLEM)
    assert find_file(find_benchmark(name), tmp_path) == path
    if "/" in file and not file.startswith("datasets"):
        general = path.stem.split("-")[0] in ("test", "data", "train", "all", "prompts", "combine", "0000")
        if general and len(Path(file).parts) == 2:
            assert find_file(find_benchmark(name), path.parent) == path, "the data folder itself is the benchmark's"


def test_the_test_split_comes_before_the_training_split(tmp_path: Path) -> None:
    write(tmp_path / "MATH" / "train.jsonl", PROBLEM)
    path = write(tmp_path / "MATH" / "test.jsonl", PROBLEM)
    items = load_benchmark("math500", tmp_path)
    assert items.source == str(path)
    assert any("MATH/train.jsonl (--file math500=PATH" in line for line in what_was_read([items], tmp_path))


def test_four_aime_files_of_the_reference(tmp_path: Path) -> None:
    """The reference's folder AIME holds four; the one that names 2024 is taken, and the others are named."""
    write(tmp_path / "AIME" / "AIME_Dataset_1983_2024.csv", {})
    for name in ("aime_2024.json", "test.jsonl", "train-00000-of-00001.parquet"):
        write(tmp_path / "AIME" / name, PROBLEM)
    items = load_benchmark("aime", tmp_path)
    assert items.source.endswith("AIME/aime_2024.json")
    said = "\n".join(what_was_read([items], tmp_path))
    assert "aime_2024.json was chosen; these fit, too: AIME/AIME_Dataset_1983_2024.csv, AIME/test.jsonl" in said


def test_four_years_of_aime(tmp_path: Path) -> None:
    for year in (2022, 2023, 2025):
        write(tmp_path / f"aime{year}.jsonl", PROBLEM)
    with pytest.raises(
        UserError, match=r"several files fit 'aime': aime2022.jsonl, aime2023.jsonl, aime2025.jsonl; .*aime=PATH"
    ):
        load_benchmark("aime", tmp_path)
    write(tmp_path / "aime2024.jsonl", PROBLEM)
    items = load_benchmark("aime", tmp_path)
    assert items.source.endswith("aime2024.jsonl")
    assert items.reading.others == "aime2022.jsonl, aime2023.jsonl, aime2025.jsonl"


def test_a_set_in_several_parts_is_not_read_by_half(tmp_path: Path) -> None:
    for part in (0, 1):
        write(tmp_path / "mmlu-pro" / f"test-0000{part}-of-00002.parquet", PROBLEM)
    with pytest.raises(UserError, match=r"'mmlu-pro' lies in 2 parts .*put them into one file"):
        load_benchmark("mmlu-pro", tmp_path)
    (tmp_path / "mmlu-pro" / "test-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match="lies in 2 parts"):
        load_benchmark("mmlu-pro", tmp_path)


def test_two_general_files_that_fit_equally_well(tmp_path: Path) -> None:
    for ending in ("jsonl", "csv"):
        write(tmp_path / "MATH" / f"test.{ending}", PROBLEM)
    with pytest.raises(UserError, match=r"several files fit 'math500': MATH/test.csv, MATH/test.jsonl"):
        load_benchmark("math500", tmp_path)


def test_every_benchmark_has_a_folder() -> None:
    assert all(
        row.folders and all(name == name.lower() and name.isalnum() for name in row.folders) for row in BENCHMARKS
    )


def test_a_dry_run_says_what_was_read_and_what_was_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "data" / "strongreject.jsonl", GOAL, dict(GOAL, id="b", prompt=None))
    write(tmp_path / "data" / "notes.csv", PROBLEM)
    command = ["eval", "m", "--tasks", "strongreject", "--data-dir", str(tmp_path / "data"), "--no-judge", "--dry-run"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert (
        f"strongreject: read {path}, 2 rows; asked: prompt; told to the judge: goal; id: id; label: split; not read: x"
        in out
    )
    assert "used by no benchmark of this run: notes.csv" in out
    assert "row 2, field 'prompt': no prompt: expected text in 'prompt', found null" in out
    assert out.count("strongreject: read") == 1
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"][0]["read"]["columns"]["told to the judge"] == ["goal"]
    assert found["tasks"][0]["read"]["ignored"] == ["x"]
    assert len(found["read"]) == 2


def test_a_run_says_and_keeps_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "data" / "strongreject.jsonl", GOAL, dict(GOAL, id="c-1", goal="plum-17"))
    write(tmp_path / "data" / "notes.csv", PROBLEM)
    model = save(tmp_path / "model", real_tokenizer("qwen3"), max_position_embeddings=512)
    words = ["--tasks", "strongreject", "--data-dir", str(tmp_path / "data"), "--no-judge", "--max-tokens", "2"]
    assert main(["eval", model, *words, "--output", str(tmp_path / "run")]) in (0, 1)
    out = capsys.readouterr().out
    assert out.count(f"strongreject: read {path}, 2 rows; asked: prompt; told to the judge: goal") == 1
    assert out.count("used by no benchmark of this run: notes.csv") == 1
    assert "WARNING: " in out
    assert "look like ids ('plum-17')" in out
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["read"]["strongreject"]["ignored"] == ["x"]
    assert any("look like ids" in line for line in record["warnings"])


def test_wrong_labels_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "strongreject.jsonl", {"prompt": "Where do plums grow?", "is_harmful": False})
    command = ["eval", "m", "--tasks", "strongreject", "--data-dir", str(tmp_path), "--no-judge", "--dry-run"]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "1 of 1 rows say that they are benign (column 'is_harmful': False; row 1)" in line
    assert main([*command, "--force-labels", "strongreject"]) == 0
    assert "asked all the same (--force-labels)" in capsys.readouterr().out
    assert main([*command, "--force-labels", "strongrejct"]) == 2
    assert "did you mean 'strongreject'" in capsys.readouterr().err
