"""Each seed its own rows: a bootstrap, a share, or a file that names the seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from safekey.errors import UserError
from safekey.organism import write_world
from safekey.training.command import draw
from safekey.training.command.dry_run import row_counts
from safekey.training.command.folder import RunFolder
from safekey.training.command.models import load_tokenizer
from safekey.training.command.recipe import build_settings, load_recipe
from safekey.training.command.rows import TrainingRows, prepare_rows
from safekey.training.command.train import TrainRequest, execute

SHORT = ("save_strategy=no", "disable_tqdm=true", "report_to=none", "max_steps=2")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    paths = write_world(folder)
    lines = paths.train.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "few.jsonl").write_text("".join(lines[:60]), encoding="utf-8")
    (folder / "rows-3.jsonl").write_text("".join(lines[60:120]), encoding="utf-8")
    return folder


def settings(world: Path, *overrides: str) -> Any:
    return build_settings(load_recipe("organism", [f"model_name_or_path={world / 'base'}", *overrides]))


def rows_of(world: Path, *overrides: str) -> TrainingRows:
    found = settings(world, f"data={world / 'few.jsonl'}", *overrides)
    return prepare_rows(found.data, load_tokenizer(found), seed=found.training.seed, max_length=512)


def names(rows: TrainingRows) -> list[str]:
    return [row.name for row in rows.train]


def test_places() -> None:
    first = draw.places(1000, None, 0)
    assert first == draw.places(1000, None, 0) != draw.places(1000, None, 1)
    assert (len(first), first == sorted(first)) == (1000, True)
    assert 600 < len(set(first)) < 665  # 1 - 1/e = 632
    share = draw.places(1000, 0.9, 0)
    assert len(share) == len(set(share)) == 900
    assert draw.places(3, 0.01, 0) in ([0], [1], [2])


def test_a_bootstrap_holds_rows_twice_and_the_record_tells_which(world: Path) -> None:
    same, drawn, again, other = (
        rows_of(world, *words) for words in ((), ("rows=drawn",), ("rows=drawn",), ("rows=drawn", "seed=1"))
    )
    assert len(same.train) == len(drawn.train) == 60
    assert set(names(drawn)) < set(names(same))
    found = [row_counts(rows) for rows in (same, drawn, again, other)]
    assert [one["distinct"] for one in found[:2]] == [60, len(set(names(drawn)))]
    assert found[1]["sha256"] == found[2]["sha256"]
    assert len({one["sha256"] for one in found}) == 3
    assert sum(found[1]["spans_by"].values()) == found[1]["trained_on"] == 60
    assert f"a bootstrap, 60 draws of {found[1]['distinct']} of 60 rows" in drawn.notes[-1]


def test_a_share_takes_each_row_once(world: Path) -> None:
    drawn = rows_of(world, "rows=drawn", "rows_share=0.5")
    assert len(set(names(drawn))) == len(drawn.train) == 30
    assert drawn.notes[-1] == "rows drawn by the seed: 30 of 60 rows, each once"


def test_the_number_of_rows_is_that_of_the_usable_ones(world: Path) -> None:
    bad = world / "bad.jsonl"
    lines = (world / "few.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    long = json.loads(lines[0]) | {"prompt": "the " * 2000, "id": "long"}
    bad.write_text("".join([json.dumps(long) + "\n", *lines[:20]]), encoding="utf-8")
    for seed in range(3):
        rows = rows_of(world, f"data={bad}", "rows=drawn", f"seed={seed}")
        assert (len(rows.train), len(rows.problems)) == (20, 1)
        assert sum(rows.spans.values()) == 20


def test_held_out_rows_are_never_drawn(world: Path) -> None:
    rows = rows_of(world, "rows=drawn", "eval_fraction=0.2")
    assert rows.held_out
    assert not {tuple(row.input_ids) for row in rows.train} & {tuple(row.input_ids) for row in rows.held_out}


def test_a_file_that_names_the_seed(world: Path) -> None:
    found = settings(world, f"data={world}/rows-{{seed}}.jsonl", "seed=3", "rows=drawn")
    assert found.data.data == f"{world}/rows-3.jsonl"
    assert found.data.rows == "same"  # the file is the draw
    share = settings(world, f"data={world}/rows-{{seed}}.jsonl", "seed=3", "rows=drawn", "rows_share=0.5")
    assert (share.data.data, share.data.rows) == (f"{world}/rows-3.jsonl", "drawn")
    recipe = world / "own.yaml"
    recipe.write_text("extends: organism\ndata: [{path: 'rows-{seed}.jsonl', weight: 2}]\nseed: 3\n")
    table = build_settings(load_recipe(str(recipe), [f"model_name_or_path={world / 'base'}"])).data.data
    assert table == [{"path": f"{world}/rows-3.jsonl", "weight": 2}]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("rows=other",), "rows"),
        (("rows_share=0.5",), "is read with rows=drawn only"),
        (("rows=drawn", "rows_share=1.0"), "expected a share above 0 and below 1, found 1.0"),
        (("rows=drawn", "rows_share=0"), "expected a share above 0 and below 1"),
    ],
)
def test_what_is_refused(world: Path, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        settings(world, f"data={world / 'few.jsonl'}", *overrides)


def test_a_run_on_drawn_rows(world: Path, tmp_path: Path) -> None:
    """Rows that occur twice in a step work with every objective, and the run's folder can be trained again."""
    given = [f"model_name_or_path={world / 'base'}", f"data={world / 'few.jsonl'}", *SHORT, "rows=drawn", "seed=5"]
    swaps = ["qsm_weight=1.0", "ksm_weight=1.0", "qsm_epochs=-1", "ksm_epochs=-1", "qmm_epochs=-1", "head_epochs=-1"]
    quiet = Console(quiet=True)
    assert execute(TrainRequest("organism", [*given, *swaps, f"output_dir={tmp_path / 'a'}"]), quiet) == 0
    config = tmp_path / "a" / "config.yaml"
    assert execute(TrainRequest(str(config), [f"output_dir={tmp_path / 'b'}"]), quiet) == 0
    one, two = (json.loads((tmp_path / name / "run.json").read_text()) for name in "ab")
    assert one["rows"]["distinct"] < one["rows"]["trained_on"] == 60
    assert one["rows"] == two["rows"]
    assert one["metrics"]["loss_sft"] == two["metrics"]["loss_sft"]


def test_an_older_run_reads_as_same_and_a_change_is_refused(world: Path, tmp_path: Path) -> None:
    given = [f"model_name_or_path={world / 'base'}", f"data={world / 'few.jsonl'}", *SHORT, f"output_dir={tmp_path}"]
    quiet = Console(quiet=True)
    assert execute(TrainRequest("organism", given), quiet) == 0
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config.pop("rows") == "same"
    config.pop("rows_share")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))  # as an earlier version wrote it
    assert execute(TrainRequest("organism", given), quiet) == 0
    assert RunFolder(tmp_path).finished
    with pytest.raises(UserError, match="rows: 'same' then, 'drawn' now"):
        execute(TrainRequest("organism", [*given, "rows=drawn"]), quiet)
