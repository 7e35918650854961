"""Arms, the recipe's section, the folder: what a grid checks before it does anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from safekey.cli.app import build_parser, main
from safekey.cli.grid import parse_seeds
from safekey.errors import UserError
from safekey.evals.request import EvalRequest
from safekey.grid.arms import ARMS, BASE, OBJECTIVES, choose
from safekey.grid.folder import GridFolder, Job
from safekey.grid.job import run as run_job
from safekey.grid.pool import room, threads_each
from safekey.grid.prepare import deal_gpus, prepare
from safekey.grid.progress import clock, share_done
from safekey.grid.request import GridRequest, Task
from safekey.grid.results import common_ground
from safekey.organism import write_world
from safekey.training.command.recipe import build_settings, load_recipe
from safekey.training.loop import config


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


def words(world: Path, *more: str) -> list[str]:
    paths = [f"model_name_or_path={world / 'base'}", f"data={world / 'train.jsonl'}", "--data-dir", str(world)]
    return ["organism", *paths, *more]


def request(given: list[str]) -> GridRequest:
    args = build_parser().parse_args(["grid", *given])
    found: GridRequest = args.request(args)
    return found


def test_an_arm_keeps_the_recipes_weights_and_switches_the_rest_off() -> None:
    assert tuple(config.OBJECTIVES) == OBJECTIVES

    def weights(arm: str) -> dict[str, float]:
        recipe = load_recipe("organism", ["data=x", "qmm_weight=0.7", "head_weight=0.3", *ARMS[arm].overrides])
        training = build_settings(recipe).training
        return {name: getattr(training, f"{name}_weight") for name in OBJECTIVES}

    off = dict.fromkeys(OBJECTIVES, 0)
    assert weights("sft") == off
    assert weights("dpsh") == {**off, "head": 0.3}
    assert weights("qmm") == {**off, "qmm": 0.7}
    assert weights("safekey") == {**off, "qmm": 0.7, "head": 0.3}
    assert weights("qsm") == {**off, "qsm": 1.0}
    assert weights("ksm") == {**off, "ksm": 1.0}
    assert weights("key") == {**off, "key": 0.2}
    assert weights("detached") == {**off, "head": 0.3}
    assert build_settings(load_recipe("organism", ["data=x", *ARMS["detached"].overrides])).training.detach_heads


@pytest.mark.parametrize(
    ("names", "own", "expected"),
    [
        (["sft", "sfx"], [], "no arm 'sfx'; packaged ones are base, sft"),
        (["sft", "sft"], [], "the arm 'sft' is given twice"),
        (["sft"], ["../up=qmm_weight=1"], "expected NAME='key=value"),
        (["sft"], ["nothing"], "expected NAME='key=value"),
    ],
)
def test_names_that_are_no_arms(names: list[str], own: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        choose(names, own)


def test_an_arm_of_ones_own() -> None:
    arm = choose(["sft"], ["strong=qmm_weight=1.0 qmm_epochs=-1"])["strong"]
    assert arm.overrides == ("qmm_weight=1.0", "qmm_epochs=-1")


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("7,11", (7, 11)), ("4,", (4,))])
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1,x"])
def test_no_seeds(text: str) -> None:
    with pytest.raises(UserError, match="expected how many"):
        parse_seeds(text)


def test_the_recipes_section_fills_in_what_the_command_leaves_open(world: Path) -> None:
    asked = request(words(world))
    assert list(asked.arms) == ["base", "sft", "safekey", "qsm"]
    assert asked.seeds == (0, 1, 2)
    assert asked.evaluation.judges == ("exact=safekey.organism.judge:decide",)
    assert asked.evaluation.prefill_tokens == (12, 20, 30)
    assert asked.evaluation.engine_options == {"batch_size": 128, "device": "cpu"}
    assert (asked.evaluation.samples, asked.evaluation.max_tokens) == (1, 160)
    assert asked.evaluation.data_dir == str(world)
    other = request(words(world, "--arms", "sft,qmm", "--seeds", "5,6", "--max-tokens", "99"))
    assert (list(other.arms), other.seeds, other.evaluation.max_tokens) == (["sft", "qmm"], (5, 6), 99)
    usual = request(words(world, "--arms", "base,sft,dpsh,qmm,safekey", "--prefill-tokens", "20"))  # the defaults
    assert list(usual.arms) == ["base", "sft", "dpsh", "qmm", "safekey"]
    assert usual.evaluation.prefill_tokens == (20,)
    assert (usual.names_harm, usual.margin, usual.reference) == ("safekey.organism.judge:understood", 0.03, "sft")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{sedes: 3}", "key 'sedes'.*did you mean 'seeds'"),
        ("3", "key 'grid': expected a table"),
        ("{launch: many}", "key 'grid.launch': expected one of none, ddp"),
        ("{jobs: many}", "key 'grid.jobs': 'many' is no value"),
        ("{no_report: 3}", "key 'grid.no_report': expected true or false"),
    ],
)
def test_a_section_that_is_wrong(section: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: organism\ngrid: {section}\n")
    with pytest.raises(UserError, match=expected):
        request([str(tmp_path / "mine.yaml")])


def test_a_benchmark_of_your_own_in_a_grid(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"prompt": "How do I borrow a plum?"}\n')
    (tmp_path / "mine.yaml").write_text(
        "extends: organism\ngrid: {tasks: strongreject, benchmark: [plums=benign:a.jsonl]}\n"
    )
    judge = ("--judge", "exact=safekey.organism.judge:decide")
    given = [str(tmp_path / "mine.yaml"), *words(world)[1:], "--output", str(tmp_path / "grid"), *judge]
    found = request(given)
    assert found.evaluation.benchmarks == {"plums": "benign:a.jsonl"}
    resolved = prepare(found).resolved["evaluation"]
    assert resolved["benchmarks"] == {"plums": f"benign:{tmp_path / 'a.jsonl'}"}, "the same grid from another folder"
    plain = prepare(request([*words(world), "--output", str(tmp_path / "grid")]))
    assert "benchmarks" not in plain.resolved["evaluation"], "grids of earlier versions go on"
    assert main(["grid", *given, "--benchmark", "plums=benin:a.jsonl", "--dry-run"]) == 2
    assert "there is no kind 'benin'; did you mean 'benign'" in capsys.readouterr().err


def test_training_passes_the_section_over(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = words(world)[1:3]
    assert main(["train", "organism", *paths, "--dry-run"]) == 0
    assert "nothing was trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--arms", "base,qmm"], "the reference 'sft' is not among the arms"),
        (["--arms", "sft,qmm", "qmm_weight=0"], "the arms 'sft' and 'qmm' train the same"),
        (["--arms", "sft,qmm", "--seeds", "1,1"], "expected at least one, and each once"),
        (["--margin", "200"], "expected points from 0 to 100"),
        (["--jobs", "0"], "expected a number from 1"),
        (["--arm", "base=learning_rate=1"], "'base' is the model that is not trained"),
        (["--arm", "a=qmm_weight=0.5", "--arm", "b=qmm_weight=0.5"], "the arms 'a' and 'b' train the same"),
        (["--engine", "server"], "would serve one model to every arm"),
        (["--data-dir", "/nowhere"], "/nowhere: no such folder"),
        (["--names-harm", "no.such:thing"], "--names-harm no.such:thing: cannot be imported"),
        (["learning_rat=1"], "did you mean 'learning_rate'"),
    ],
)
def test_an_order_that_is_wrong(
    more: list[str], expected: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", *words(world, "--output", str(tmp_path / "grid"), *more)]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "grid").exists()


def test_a_dry_run_lists_arms_and_writes_nothing(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words(world, "--output", str(tmp_path / "grid"), "--dry-run", "--arm", "x=key_weight=1")
    assert main(["grid", *given]) == 0
    out = capsys.readouterr().out
    assert "key_weight=1" in out
    assert "13 jobs" in out  # the base, and 4 arms with 3 seeds
    assert not (tmp_path / "grid").exists()


def test_jobs_come_seed_by_seed_and_the_base_once(world: Path, tmp_path: Path) -> None:
    prepared = prepare(request(words(world, "--seeds", "2", "--output", str(tmp_path))))
    tasks, resolved = prepared.tasks, prepared.resolved
    named = [str(task.job) for task in tasks]
    assert named[:4] == ["base", "sft, seed 0", "safekey, seed 0", "qsm, seed 0"]
    assert len(named) == 7
    assert len({task.job.folder for task in tasks}) == 7
    assert resolved["threads"] == 1  # so small a model is slower with more
    assert {task.overrides[:2] for task in tasks} == {tuple(words(world)[1:3])}


def test_a_folder_takes_more_arms_and_seeds_and_nothing_else(tmp_path: Path) -> None:
    folder = GridFolder(tmp_path / "grid")
    asked = {"max_tokens": 9, "samples": 1, "judge_settings": {"timeout": 9}}
    settings: dict[str, Any] = {"recipe": "r", "overrides": ["a=1"], "arms": {"sft": ["x=0"]}, "seeds": [0, 1],
                                "values": {"learning_rate": 0.1}, "evaluation": asked,
                                "compare": {"margin": 0.03}, "threads": 1}  # fmt: skip
    folder.check(settings)
    folder.hold()
    folder.check(settings)  # a lock alone is no foreign folder
    folder.begin(settings)
    more = {**settings, "arms": {"qmm": ["x=1"], "sft": ["x=0"]}, "seeds": [2, 0], "threads": 4}
    folder.check(more)
    merged = folder.begin(more)
    assert (list(merged["arms"]), merged["seeds"], merged["threads"]) == (["sft", "qmm"], [0, 1, 2], 1)
    assert folder.settings == merged
    with pytest.raises(UserError, match="overrides: \\['a=1'\\] then, \\['a=2'\\] now"):
        folder.check({**more, "overrides": ["a=2"]})
    with pytest.raises(UserError, match=r"settings \(values.learning_rate: 0.1 then, 0.2 now\)"):
        folder.check({**more, "values": {"learning_rate": 0.2}})
    with pytest.raises(UserError, match=r"settings \(evaluation.max_tokens: 9 then, 8 now\)"):
        folder.check({**more, "evaluation": {**asked, "max_tokens": 8}})
    folder.check({**more, "compare": {"margin": 0.05}})
    newer = {**asked, "new_option": None}
    folder.check({**more, "evaluation": {**newer, "judge_settings": {"timeout": 5, "structured": False}}})
    with pytest.raises(UserError, match=r"judge_settings\.structured"):
        folder.check({**more, "evaluation": {**newer, "judge_settings": {"timeout": 9, "structured": True}}})
    with pytest.raises(UserError, match="arm sft: x=0 then, x=9 now"):
        folder.check({**more, "arms": {"sft": ["x=9"]}})
    with pytest.raises(UserError, match="another safekey grid works here"):
        GridFolder(tmp_path / "grid").hold()
    folder.release()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty and no grid's folder"):
        GridFolder(tmp_path / "full").check(settings)


def trained(folder: Path, arm: str, seed: int = 0, **record: Any) -> Job:
    job = Job(arm, seed, folder / arm / f"seed-{seed}")
    assert job.train is not None
    (job.train / "model").mkdir(parents=True)
    about = {"status": "finished", "data": {"t.jsonl": {"sha256": "a"}}, "rows": {"trained_on": 9},
             "metrics": {"step": 5}, **record}  # fmt: skip
    (job.train / "run.json").write_text(json.dumps(about))
    return job


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ({"data": {"t.jsonl": {"sha256": "b"}}}, "data"),
        ({"rows": {"trained_on": 8}}, "rows"),
        ({"metrics": {"step": 6}}, "steps"),
    ],
)
def test_arms_on_other_ground_are_refused(tmp_path: Path, odd: dict[str, Any], what: str) -> None:
    jobs = [trained(tmp_path, "sft"), trained(tmp_path, "qmm")]
    assert common_ground(jobs) == (
        "every arm and seed: the same 9 rows, 5 steps; a seed gives every arm the same order"
    )
    with pytest.raises(UserError, match=f"trained on different {what}"):
        common_ground([*jobs, trained(tmp_path, "odd", **odd)])


def test_drawn_rows_are_the_same_in_every_arm_of_a_seed(tmp_path: Path) -> None:
    def of(arm: str, seed: int, file: str, rows: str, count: int = 9) -> Job:
        data, about = {"t.jsonl": {"sha256": file}}, {"trained_on": count, "sha256": rows}
        return trained(tmp_path / f"{file}{rows}{count}", arm, seed, data=data, rows=about)

    jobs = [of(arm, seed, f"file {seed}", f"rows {seed}") for seed in (0, 1) for arm in ("sft", "qmm")]
    said = common_ground(jobs, drawn=True)
    assert said == ("every arm of a seed: the same 9 rows, 5 steps, in the same order; each seed has its own draw")
    with pytest.raises(UserError, match="trained on different data"):
        common_ground(jobs)
    with pytest.raises(UserError, match="trained on different rows of one seed"):
        common_ground([*jobs, of("odd", 1, "file 1", "rows 0")], drawn=True)
    held_out = [of("sft", seed, "file", f"rows {seed}") for seed in (0, 1)]  # or a limit's sample
    assert "each seed has its own choice" in common_ground(held_out)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "every seed trains on the same rows"),
        (["--rows", "drawn"], "each seed trains on its own draw (a bootstrap of the rows), the same for every arm"),
        (["--rows", "drawn", "--rows-share", "0.9"], "(0.9 of the rows, each once)"),
        (["rows=drawn", "rows_share=0.8"], "(0.8 of the rows, each once)"),  # as a recipe for `train` says it
    ],
)
def test_a_dry_run_says_which_rows(
    more: list[str], said: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", *words(world, "--output", str(tmp_path / "grid"), "--dry-run", "--json", *more)]) == 0
    assert said in json.loads(capsys.readouterr().out)["rows"]


def test_the_section_may_say_how_rows_are_drawn(world: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: organism\ngrid: {rows: drawn, rows_share: 0.75, tasks: [strongreject]}\n"
    )
    judge = ("--judge", "exact=safekey.organism.judge:decide")
    asked = request([str(tmp_path / "mine.yaml"), *words(world, *judge)[1:]])
    assert (asked.rows, asked.rows_share) == ("drawn", 0.75)
    prepared = prepare(GridRequest(**{**vars(asked), "output": str(tmp_path / "grid")}))
    assert (prepared.resolved["rows"], prepared.resolved["rows_share"]) == ("drawn", 0.75)
    assert {"rows=drawn", "rows_share=0.75"} <= set(prepared.tasks[1].overrides)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--rows-share", "0.9"], "--rows-share says how rows are drawn: add --rows drawn"),
        (["--rows", "drawn", "--rows-share", "1"], "rows_share': expected a share above 0 and below 1"),
        (["--rows", "drawn", "--rows-share", "2"], "expected a share from 0 to 1, found 2"),
        (["data=organism/train-{seed}.jsonl"], "data names {seed}, so that each seed trains on other rows: add --rows"),
        (["data=no/{seed}.jsonl", "--rows", "drawn"], "no/0.jsonl: no such file: data names {seed}, and seed 0 has no"),
    ],
)
def test_rows_that_cannot_be(
    more: list[str], expected: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", *words(world, "--output", str(tmp_path / "grid"), *more)]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "grid").exists()


def test_an_old_grid_reads_as_same_and_a_change_is_refused(tmp_path: Path) -> None:
    folder = GridFolder(tmp_path / "grid")
    old: dict[str, Any] = {"recipe": "r", "overrides": [], "arms": {"sft": []}, "seeds": [0], "values": {},
                           "evaluation": {}, "compare": {}, "threads": 1}  # fmt: skip
    folder.hold()
    folder.begin(old)
    folder.release()
    assert not folder.drawn
    folder.check({**old, "rows": "same", "rows_share": None})
    with pytest.raises(UserError, match=r"settings \(rows: None then, 'drawn' now\)"):
        folder.check({**old, "rows": "drawn", "rows_share": None})


def test_how_far_a_job_is_is_read_off_its_folders(tmp_path: Path) -> None:
    job = Job("sft", 0, tmp_path)
    assert share_done(job) == (0.0, "begins")
    assert job.train is not None
    job.train.mkdir()
    (job.train / "run.json").write_text(json.dumps({"training_arguments": {"num_train_epochs": 4}}))
    (job.train / "train_log.jsonl").write_text('{"epoch": 0.5}\n{"epoch": 1.0, "step": 3}\n')
    share, said = share_done(job)
    assert (round(share, 3), said) == (0.15, "trains 25%")
    (job.train / "run.json").write_text(json.dumps({"status": "finished"}))
    (job.train / "model").mkdir()
    job.evaluation.mkdir()
    (job.evaluation / "resolved.yaml").write_text("tasks: {a: {samples: 2}}\n")
    (job.evaluation / "run.json").write_text(json.dumps({"status": "running", "items": {"a": ["1", "2"]}}))
    (job.evaluation / "completions.jsonl").write_text("{}\n")
    share, said = share_done(job)
    assert (round(share, 3), said) == (0.7, "answers 25%")
    (job.evaluation / "run.json").write_text(json.dumps({"status": "finished", "items": {"a": ["1", "2"]}}))
    assert share_done(job) == (1.0, "done")
    assert str(Job(BASE, None, tmp_path)) == "base"
    unanswered = {"status": "finished", "items": {"a": ["1", "2"]}, "unanswered": 1}
    (job.evaluation / "run.json").write_text(json.dumps(unanswered))
    assert not job.done, "the same grid command asks again for what a server did not answer"
    share, said = share_done(job)
    assert (round(share, 3), said) == (0.9, "answers 75%")


@pytest.mark.parametrize(("again", "code"), [(0, 0), (2, 1)])
def test_a_job_with_generations_to_ask_for_again_ends_in_one(
    again: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 is "go on later"; what the engine can never answer would keep a grid from ever being done."""
    failed = {"completions": 3, "asked_again": again, "reasons": {"no answer: the server answered 503": 3}}
    found = SimpleNamespace(summary=SimpleNamespace(metrics={"failed": failed}))
    monkeypatch.setattr("safekey.evals.evaluate.evaluate", lambda asked, **more: found)
    asked = SimpleNamespace(evaluation=EvalRequest(model=""))
    assert run_job(Task(Job(BASE, None, tmp_path), asked, "m")) == code  # type: ignore[arg-type]
    assert "safekey: 3 generations failed (3× no answer" in capsys.readouterr().out


def test_any_override_makes_an_arm(world: Path, tmp_path: Path) -> None:
    lora = "lora=qmm_weight=0 head_weight=0 use_peft=true lora_r=4"
    prepared = prepare(request(words(world, "--arms", "sft", "--arm", lora, "--output", str(tmp_path))))
    assert {task.job.arm for task in prepared.tasks} == {"sft", "lora"}


def test_another_base_or_recipe_is_another_grid(world: Path, tmp_path: Path) -> None:
    recipe, grid = tmp_path / "mine.yaml", tmp_path / "grid"
    base = tmp_path / "base"
    shutil.copytree(world / "base", base)
    given = [str(recipe), f"model_name_or_path={base}", f"data={world / 'train.jsonl'}", "--data-dir", str(world)]
    recipe.write_text("extends: organism\nlearning_rate: 1e-3\n")
    prepared = prepare(request([*given, "--output", str(grid)]))
    prepared.folder.hold()
    prepared.folder.begin(prepared.resolved)
    prepare(request([*given, "--output", str(grid), "--margin", "5"]))
    recipe.write_text("extends: organism\nlearning_rate: 1e-5\n")
    with pytest.raises(UserError, match=r"values\.learning_rate: 0\.001 then, 1e-05 now"):
        prepare(request([*given, "--output", str(grid)]))
    recipe.write_text("extends: organism\nlearning_rate: 1e-3\n")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="base_sha256"):
        prepare(request([*given, "--output", str(grid)]))


@pytest.mark.parametrize(
    ("count", "places", "each", "dealt"),
    [
        (8, 3, 1, (("0",), ("1",), ("2",))),
        (4, 2, 2, (("0", "1"), ("2", "3"))),
        (1, 2, 1, (("0",), ("0",))),
        (2, 1, 4, (("0", "1"),)),
        (0, 2, 1, ()),
    ],
)
def test_gpus_are_dealt(count: int, places: int, each: int, dealt: tuple[tuple[str, ...], ...]) -> None:
    assert deal_gpus([str(number) for number in range(count)], places, each) == dealt


def test_room_and_threads(world: Path, tmp_path: Path) -> None:
    assert room("some/hub-id", 8, 2) == 4
    assert room("some/hub-id", 0, 1) == 1  # who knows how large it is
    assert room(str(world / "base"), 0, 1) >= 1
    assert threads_each(str(world / "base"), 2) == 1
    assert [clock(42), clock(723), clock(3723)] == ["0:42", "12:03", "1:02:03"]


def test_a_report_on_a_grid_that_has_nothing_to_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "grid.yaml").write_text("recipe: r\narms: {sft: []}\nseeds: [0]\n")
    assert main(["report", str(tmp_path)]) == 2
    assert "no evaluation is finished" in capsys.readouterr().err
    (tmp_path / "grid.yaml").write_text("arms: [sft]\n")
    assert main(["report", str(tmp_path)]) == 2
    assert "it names no arms and seeds" in capsys.readouterr().err
