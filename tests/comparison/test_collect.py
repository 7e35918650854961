"""Run folders to outcomes: what counts, what is left out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.saved_runs import SAMPLING, arm, completion, simple, verdict, write_run
from safekey.comparison.collect import Collected, collect
from safekey.comparison.types import Outcome
from safekey.errors import UserError
from safekey.evals.benchmarks.contamination import training_of
from safekey.evals.summary.summary import summarize


def of(found: Collected, name: str, metric: str) -> dict[str, Outcome]:
    return {row.item: row for row in found.outcomes if row.arm == name and row.metric == metric}


def two(tmp_path: Path, first: Any, second: Any, **more: Any) -> Collected:
    write_run(tmp_path / "a", first)
    write_run(tmp_path / "b", second)
    return collect({"a": [str(tmp_path / "a")], "b": [str(tmp_path / "b")]}, **more)


def test_headline_rules_and_reasons(tmp_path: Path) -> None:
    rows = simple(
        [5.0, 4.0, 3.0, "cut", None], ["full_refusal", "partial_refusal", "full_compliance"], [1.0, 0.0, "cut"]
    )
    found = two(tmp_path, rows, rows)
    assert [row.value for row in of(found, "a", "asr").values()] == [1.0, 1.0, 0.0, None, None]
    assert [row.unscored for row in of(found, "a", "asr").values()][3:] == ["truncated", "judge error: Timeout"]
    assert [row.value for row in of(found, "a", "orr").values()] == [1.0, 1.0, 0.0]
    assert [row.value for row in of(found, "a", "accuracy").values()] == [1.0, 0.0, 0.0]  # cut off: not solved
    assert {row.cluster.partition("/")[2] for row in of(found, "a", "asr").values()} == {f"q{i}" for i in range(5)}
    assert "reasoning of a: 1 outputs without a whole answer" in found.notes[0]
    assert found.judges["asr"] == "harm_1to5 (openai/judge, prompt p), positive: ≥ 4"
    assert found.judges["orr"].endswith("positive: full + partial")


def test_rates_are_those_of_the_evaluation(tmp_path: Path) -> None:
    """The same folder through `summarize`, which `safekey eval` prints."""
    found = two(tmp_path, arm(30, 12, 80), arm(30, 12, 80))
    from safekey.evals.records.folder import EvalRun

    run = EvalRun(tmp_path / "a")
    lines = [line for line in summarize(run.rows).metrics["rates"] if line["headline"]]
    run.release()
    for metric in ("asr", "orr", "accuracy"):
        values = [row.value for row in of(found, "a", metric).values()]
        rate = next(line["rate"] for line in lines if line["metric"] == metric)
        assert sum(v or 0 for v in values) / len(values) == pytest.approx(rate)


def test_samples_are_averaged_and_attacks_are_prompts_of_their_own(tmp_path: Path) -> None:
    rows = []
    for epoch, value in ((1, 5.0), (2, 1.0), (3, None)):
        row = completion("strongreject", "q", epoch)
        rows.append((row, [verdict(row, value)]))
    for attack, item in (("story", "w"), ("role", "w"), ("prefill-20", "q@prefill-20")):
        row = completion("strongreject", item, attack=attack, behaviour="q", epoch=len(rows))
        rows.append((row, [verdict(row, 1.0)]))
    found = of(two(tmp_path, rows, rows), "a", "asr")
    assert found.keys() == {"q", "w@story", "w@role", "q@prefill-20"}
    assert found["q"].value == 0.5
    assert [row.cluster.partition("/")[2] for row in found.values()] == ["q"] * 4
    assert len({row.cluster for row in found.values()}) == 1


def test_benchmarks_share_a_behaviour_only_with_its_request(tmp_path: Path) -> None:
    said = [
        completion("strongreject", "deed@story", behaviour="deed@story", attack="story", request="Do the deed."),
        completion("prefill", "deed@prefill-5", behaviour="deed", attack="prefill-5", request="Do the deed."),
        completion("strongreject", "row-1", request="One."),
        completion("prefill", "row-1", request="Another."),
    ]
    rows = [(row, [verdict(row, 1.0)]) for row in said]
    clusters = {row.key: row.cluster for row in two(tmp_path, rows, rows).outcomes}
    assert clusters["strongreject", "deed@story"] == clusters["prefill", "deed@prefill-5"]
    assert clusters["strongreject", "row-1"] != clusters["prefill", "row-1"]


def test_superseded_and_stale_rows_do_not_count_and_nothing_is_written(tmp_path: Path) -> None:
    old = completion("strongreject", "q0", text="Old.</think>\n\nOld.")
    new = completion("strongreject", "q0")
    rows = [(old, [verdict(old, 5.0)]), (new, [verdict(new, None), verdict(new, 1.0)])]
    write_run(tmp_path / "a", rows)
    with (tmp_path / "a" / "verdicts.jsonl").open("a") as file:
        file.write('{"half a li')
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()}
    write_run(tmp_path / "b", rows)
    found = collect({"a": [str(tmp_path / "a")], "b": [str(tmp_path / "b")]})
    assert [row.value for row in found.outcomes] == [0.0, 0.0]
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()}


def test_what_not_all_runs_have_is_left_out_and_said(tmp_path: Path) -> None:
    found = two(tmp_path, simple([5.0, 1.0], ["full_refusal"]), simple([1.0]))
    assert [row.key for row in found.outcomes] == [("strongreject", "q0")] * 2
    assert found.notes == (
        "left out, benchmarks that not every run has: xstest-safe",
        "left out, prompts that not every run was asked: strongreject 1",
    )


def test_parts(tmp_path: Path) -> None:
    row = completion("strongreject", "q")
    rows = [
        (
            row,
            [verdict(row, 5.0), verdict(row, None, part="thinking", unscored="empty part: there is nothing to judge")],
        )
    ]
    found = two(tmp_path, rows, rows, part="thinking")
    assert (found.outcomes[0].value, found.outcomes[0].unscored) == (None, "no such part")
    with pytest.raises(UserError, match="no verdicts on the whole, only the answer and the thinking was judged"):
        collect({"a": [str(tmp_path / "a")], "b": [str(tmp_path / "b")]}, part="whole")


def test_judges_must_be_the_same(tmp_path: Path) -> None:
    row = completion("strongreject", "q")
    one, other = verdict(row, 5.0), verdict(row, 1.0, model="openai/other")
    rubric = verdict(row, 0.5, judge="harm_rubric")
    with pytest.raises(UserError, match=r"no harm judge in common .*openai/judge.*openai/other"):
        two(tmp_path, [(row, [one])], [(row, [other])])
    arms = {"a": [str(tmp_path / "a")], "b": [str(tmp_path / "b")]}
    assert " and " in collect(arms, allow_different_settings=True).judges["asr"]
    for name in "cd":
        write_run(tmp_path / name, [(row, [one, rubric])])
    arms = {name: [str(tmp_path / name)] for name in "cd"}
    with pytest.raises(UserError, match=r"several harm judges judged all runs \(harm_1to5 .*, harm_rubric "):
        collect(arms)
    assert [row.value for row in collect(arms, judges=["harm_rubric"]).outcomes] == [1.0, 1.0]
    assert collect(arms, judges=["harm_1to5=openai/judge"]).judges["asr"].startswith("harm_1to5")
    with pytest.raises(UserError, match=r"--judge refusal_keywords: none of these runs was judged by it"):
        collect(arms, judges=["refusal_keywords"])


def test_one_run_without_verdicts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="b: was not judged by any harm judge"):
        two(tmp_path, simple([1.0]), [(completion("strongreject", "q0"), [])])
    write_run(tmp_path / "c", [(completion("strongreject", "q0"), [])])
    with pytest.raises(UserError, match="no verdicts on the answer, nothing was judged"):
        collect({"b": [str(tmp_path / "b")], "c": [str(tmp_path / "c")]})


def test_decoding_must_be_the_same(tmp_path: Path) -> None:
    row = completion("strongreject", "q0", sampling={**SAMPLING, "max_new_tokens": 99, "seed": 5})
    with pytest.raises(UserError, match=r"different settings \(strongreject.max_new_tokens: 60 and 99\).*--allow-diff"):
        two(tmp_path, simple([1.0]), [(row, [verdict(row, 1.0)])])
    arms = {"a": [str(tmp_path / "a")], "b": [str(tmp_path / "b")]}
    assert "max_new_tokens: 60 and 99" in collect(arms, allow_different_settings=True).notes[0]
    write_run(tmp_path / "c", simple([1.0]), weights={"chat_template_kwargs": {"enable_thinking": False}})
    with pytest.raises(UserError, match="chat_template_kwargs"):
        collect({"a": [str(tmp_path / "a")], "c": [str(tmp_path / "c")]})


def test_nothing_in_common(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no benchmark in common: .*a has strongreject; .*b has xstest-safe"):
        two(tmp_path, simple([1.0]), simple([], ["full_refusal"]))
    row = completion("strongreject", "z")
    write_run(tmp_path / "c", [(row, [verdict(row, 1.0)])])
    with pytest.raises(UserError, match="no prompt in common, though all runs have strongreject"):
        collect({"a": [str(tmp_path / "a")], "c": [str(tmp_path / "c")]})
    row = completion("strongreject", "q0", request="Something else?")
    write_run(tmp_path / "d", [(row, [verdict(row, 1.0)])])
    with pytest.raises(UserError, match=r"'q0' is one prompt in .*a and another in .*d"):
        collect({"a": [str(tmp_path / "a")], "d": [str(tmp_path / "d")]})


def test_folders_that_are_no_finished_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", simple([1.0]))
    (tmp_path / "thesis").mkdir()
    for status in ("running", "interrupted", "failed"):
        write_run(tmp_path / status, simple([1.0]), status=status)
    for name, words in (
        ("nowhere", "there is no such folder"),
        ("thesis", "no evaluation's run folder"),
        ("running", r"not finished \(running\): the same `safekey eval` command goes on"),
        ("interrupted", r"not finished \(interrupted\)"),
        ("failed", r"not finished \(failed\)"),
        ("../" + tmp_path.name + "/a", "given twice"),
    ):
        with pytest.raises(UserError, match=words):
            collect({"a": [str(tmp_path / "a")], "b": [str(tmp_path / name)]})
    (tmp_path / "a" / "verdicts.jsonl").write_text("nonsense\n")
    with pytest.raises(UserError, match=r"verdicts.jsonl, line 1: is no row of this file"):
        collect({"a": [str(tmp_path / "a")], "b": [str(tmp_path / "b")]})


def test_seeds_from_training_runs_names_or_not_at_all(tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> str:
        home = tmp_path / "training" / name
        home.mkdir(parents=True)
        (home / "config.yaml").write_text(yaml.safe_dump({"seed": seed}))
        (home / "run.json").write_text(json.dumps({"status": "finished"}))
        return str(home)

    for name, seed in (("x", 7), ("y", 8), ("z", 8)):
        write_run(tmp_path / name, simple([1.0]), model=trained(name, seed))
    for name in ("eval-seed3-safety", "eval-seed4-safety", "sft-3", "sft-4", "p", "q"):
        write_run(tmp_path / name, simple([1.0]))

    def seeds(*names: str) -> Any:
        arms = {"arm": [str(tmp_path / name) for name in names], "one": [str(tmp_path / "z")]}
        return collect(arms).seeds["arm"]

    assert seeds("x", "y") == (7, 8)
    assert seeds("eval-seed3-safety", "eval-seed4-safety") == seeds("sft-3", "sft-4") == (3, 4)
    assert all(isinstance(seed, str) for seed in seeds("p", "q"))
    assert seeds("x") == (None,)
    with pytest.raises(UserError, match="two of its runs evaluate training runs of one seed"):
        collect({"arm": [str(tmp_path / "y"), str(tmp_path / "z")], "one": [str(tmp_path / "x")]})


def test_the_model_that_training_started_from_is_untrained(tmp_path: Path) -> None:
    """The base is known by another arm's training record; a model that only lacks a record is none."""
    home = tmp_path / "training"
    home.mkdir()
    (home / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "model_name_or_path": "org/base"}))
    (home / "run.json").write_text("{}")
    for name, model in (("sft", str(home)), ("base", "org/base"), ("elsewhere", "org/trained-elsewhere")):
        write_run(tmp_path / name, simple([1.0, 5.0]), model=model)

    def untrained(*names: str) -> set[str]:
        found = collect({name: [str(tmp_path / name)] for name in names})
        return {row.arm for row in found.outcomes if row.untrained}

    assert untrained("sft", "base", "elsewhere") == {"base"}
    assert untrained("base", "sft") == {"base"}
    assert untrained("base", "elsewhere") == set()


def grid(home: Path, seeds: dict[str, tuple[int, ...]], names: str = "seed-{}") -> dict[str, list[str]]:
    """Arms as `safekey grid` leaves them: arms/ARM/seed-N/train and …/eval, the model's path absolute."""
    arms: dict[str, list[str]] = {}
    for name, each in seeds.items():
        for seed in each:
            place = home / "arms" / name / names.format(seed)
            (place / "train" / "model").mkdir(parents=True)
            (place / "train" / "config.yaml").write_text(yaml.safe_dump({"seed": seed + 40}))
            (place / "train" / "run.json").write_text(json.dumps({"status": "finished"}))
            model = str((place / "train" / "model").resolve())
            arms.setdefault(name, []).append(str(write_run(place / "eval", simple([1.0, 5.0]), model=model)))
    return arms


@pytest.mark.parametrize(("kept", "seeds"), [(True, (41, 42, 43)), (False, (1, 2, 3))])
def test_a_grid_that_was_moved_keeps_its_seeds(kept: bool, seeds: tuple[int, ...], tmp_path: Path) -> None:
    grid(tmp_path / "old", {"sft": (1, 2, 3), "safekey": (3, 2, 1)})
    (tmp_path / "old").rename(tmp_path / "new")
    if not kept:  # without the weights' folders only the names are left
        for folder in (tmp_path / "new").glob("arms/*/*/train"):
            folder.rename(folder.with_name("gone"))
    runs = {name: sorted(map(str, (tmp_path / "new/arms" / name).glob("*/eval"))) for name in ("sft", "safekey")}
    found = collect(runs)
    assert found.seeds == {"sft": seeds, "safekey": seeds}
    assert not any("matched by seed" in note for note in found.notes)


def test_a_training_run_beside_an_evaluation_is_not_taken_for_another_model_s(tmp_path: Path) -> None:
    (place,) = grid(tmp_path, {"sft": (1,)})["sft"]
    assert training_of(Path(place), "org/base-model") is None
    assert training_of(Path(place), "/gone/arms/sft/seed-1/train/model") == Path(place).with_name("train")
    assert training_of(tmp_path, "/gone/train/model") is None


def test_runs_that_are_not_matched_by_seed_are_noted(tmp_path: Path) -> None:
    arms = grid(tmp_path, {"sft": (1, 2), "a": (1, 2), "b": (2, 3), "one": (7,)})
    (note,) = [note for note in collect(arms).notes if "matched by seed" in note]
    assert "sft and b; a and b (" in note
    assert "sft and a" not in note
    assert "one" not in note.partition(" (")[0].split(": ")[1].split()
    more = grid(tmp_path / "more", {name: (number, number + 10) for number, name in enumerate("abcd")})
    (note,) = [note for note in collect(more).notes if "matched by seed" in note]
    assert "a and b; a and c; a and d; b and c; and 2 more" in note
