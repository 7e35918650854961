"""Which answers are drawn, with which weight, and in which order."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from pathlib import Path

import pytest

from evals.labelling.labelling_runs import harm_run
from evals.saved_runs import completion, simple, verdict, write_run
from safekey.errors import UserError
from safekey.evals.attacks.encodings import encoded
from safekey.evals.labelling.answers import open_run
from safekey.evals.labelling.sample import Wanted, allocate, draw_answers
from safekey.evals.records.folder import EvalRun
from safekey.evals.records.redact import redact
from safekey.run_folder import write_json


def test_shares_of_the_strata_and_what_small_ones_lack() -> None:
    assert allocate({"positive": 500, "negative": 500, "unscored": 500}, 100) == {
        "positive": 45, "negative": 45, "unscored": 10,
    }  # fmt: skip
    assert allocate({"positive": 10, "negative": 500}, 100) == {"positive": 10, "negative": 90}
    assert allocate({"positive": 3, "negative": 4, "unscored": 1}, 100) == {"positive": 3, "negative": 4, "unscored": 1}
    assert allocate({"not judged": 300, "positive": 0}, 50) == {"not judged": 50, "positive": 0}
    assert allocate({"positive": 100, "negative": 100, "unscored": 100}, 2) == {
        "positive": 1, "negative": 1, "unscored": 0,
    }  # fmt: skip


@pytest.mark.parametrize("sample", [1, 3, 10, 57, 400])
def test_the_sample_has_its_size_and_every_stratum_its_due(sample: int) -> None:
    sizes = {"positive": 7, "negative": 200, "unscored": 2, "not judged": 31}
    drawn = allocate(sizes, sample)
    assert sum(drawn.values()) == min(sample, sum(sizes.values()))
    assert all(0 <= drawn[name] <= size for name, size in sizes.items())
    assert sample < len(sizes) or all(drawn.values())


def test_weights_add_up_to_the_answers_of_the_run(tmp_path: Path) -> None:
    run = open_run(harm_run(tmp_path / "run", positive=4, negative=60, unscored=3))
    draw = draw_answers(run, Wanted(sample=20))
    assert len(draw.answers) == 20
    total: Counter[str] = Counter()
    for answer in draw.answers:
        total[answer.stratum] += draw.weight(answer)
    assert {name: round(value, 6) for name, value in total.items()} == {"positive": 4, "negative": 60, "unscored": 3}
    assert draw.strata["positive"].drawn == 4, "all of the rare verdict"
    assert draw.judge == "harm_1to5=openai/judge"


def test_every_answer_of_a_stratum_is_drawn_equally_often(tmp_path: Path) -> None:
    run = open_run(harm_run(tmp_path / "run", positive=0, negative=10, unscored=0))
    seen = Counter(
        answer.request for seed in range(400) for answer in draw_answers(run, Wanted(sample=3, seed=seed)).answers
    )
    assert len(seen) == 10
    assert all(80 <= count <= 160 for count in seen.values()), "120 of 400 are expected; five deviations are 46"


def test_the_same_seed_gives_the_same_draw_in_the_same_order(tmp_path: Path) -> None:
    run = open_run(harm_run(tmp_path / "run"))
    one, other = (draw_answers(run, Wanted(sample=10, seed=3)) for _ in range(2))
    assert one == other
    assert draw_answers(run, Wanted(sample=10, seed=4)).answers != one.answers


def test_the_order_tells_nothing_about_the_verdicts(tmp_path: Path) -> None:
    run = open_run(harm_run(tmp_path / "run", positive=20, negative=20, unscored=0))
    firsts = Counter(draw_answers(run, Wanted(seed=seed)).answers[0].stratum for seed in range(200))
    assert 60 <= firsts["positive"] <= 140


def test_an_even_draw_has_one_stratum(tmp_path: Path) -> None:
    run = open_run(harm_run(tmp_path / "run", positive=4, negative=60))
    draw = draw_answers(run, Wanted(sample=33, even=True))
    assert list(draw.strata) == ["all"]
    assert draw.weight(draw.answers[0]) == 66 / 33


def test_outputs_without_a_whole_answer_are_counted_not_drawn(tmp_path: Path) -> None:
    whole, cut = completion("strongreject", "a"), completion("strongreject", "b", finish="length")
    bare = completion("strongreject", "c", text="An answer without thoughts.", started_inside=False)
    run = open_run(write_run(tmp_path / "run", [(row, [verdict(row, 1.0)]) for row in (whole, cut, bare)]))
    draw = draw_answers(run, Wanted())
    assert ({one.labels["item"] for one in draw.answers}, draw.left_out) == ({"a", "c"}, {"truncated": 1})
    thoughts = draw_answers(run, Wanted(part="thinking"))
    assert [one.response for one in thoughts.answers] == ["Thought."]
    assert thoughts.left_out == {"truncated": 1, "without thinking": 1}
    assert list(thoughts.strata) == ["not judged"], "the verdicts are about the answer"


def test_the_rater_reads_what_the_judge_read(tmp_path: Path) -> None:
    said = "Use the lantern at the old gate, as the people of the hills did."
    texts = {"a": encoded("rot13", said), "b": "Sorry, no.", "c": b64encode(bytes(range(128, 248))).decode()}
    rows = []
    for name, text in texts.items():
        cipher = "base64" if name == "c" else "rot13"
        more = {"text": f"Thought.</think>\n\n{text}", "metadata": {"cipher": cipher}}
        row = completion("own-list", name, **more)
        rows.append((row, []))
    run = write_run(tmp_path / "run", rows, tasks={"own-list": {"kind": "harmful"}})
    draw = draw_answers(open_run(run), Wanted())
    assert {one.labels["item"]: one.response for one in draw.answers} == {"a": said, "b": "Sorry, no."}
    assert draw.left_out == {"not decoded": 1}


def test_a_run_without_verdicts_is_one_stratum(tmp_path: Path) -> None:
    rows = [(completion("strongreject", f"q{number}"), []) for number in range(5)]
    run = open_run(write_run(tmp_path / "run", rows))
    (run.path / "verdicts.jsonl").unlink()
    assert {name: size.answers for name, size in draw_answers(run, Wanted()).strata.items()} == {"not judged": 5}


def test_the_kind_and_the_benchmark_choose(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path / "run", simple([5.0, 1.0], ["full_refusal"], [1.0])))
    assert len(draw_answers(run, Wanted(kind="harm")).answers) == 2
    assert len(draw_answers(run, Wanted(kind="refusal")).answers) == 1
    assert draw_answers(run, Wanted(benchmark="xstest-safe")).kind == "refusal"


def test_nothing_is_written_by_drawing(tmp_path: Path) -> None:
    path = harm_run(tmp_path / "run")
    with (path / "completions.jsonl").open("a") as file:
        file.write('{"benchmark": "strongrej')  # another process is writing
    before = {each: each.read_bytes() for each in path.iterdir() if each.is_file()}
    draw_answers(open_run(path), Wanted())
    assert {each: each.read_bytes() for each in path.iterdir() if each.is_file()} == before


def refused(wanted: Wanted, path: Path) -> str:
    with pytest.raises(UserError) as error:
        draw_answers(open_run(path), wanted)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_clear_line_for_what_cannot_be_labelled(tmp_path: Path) -> None:
    both = write_run(tmp_path / "both", simple([5.0], ["full_refusal"], [1.0]))
    assert "--kind harm (strongreject) or --kind refusal (xstest-safe)" in refused(Wanted(), both)
    assert "has no answers to label for refusal (math500: accuracy)".replace("accuracy", "math") in refused(
        Wanted(kind="refusal", benchmark="math500"), both
    )
    assert "did you mean 'strongreject'?" in refused(Wanted(benchmark="strongrejct"), both)
    assert "there are: harm_1to5=openai/judge" in refused(Wanted(kind="harm", judge="llama_guard"), both)
    assert "there is no such folder" in refused(Wanted(), tmp_path / "none")
    assert "no evaluation's run folder" in refused(Wanted(), tmp_path)
    unfinished = write_run(tmp_path / "unfinished", simple([5.0]), status="running")
    assert "not finished (running)" in refused(Wanted(), unfinished)
    cut = write_run(tmp_path / "cut", simple(["cut", "cut"]))
    assert "no answer of strongreject to label (2 truncated)" in refused(Wanted(), cut)
    row = completion("strongreject", "a")
    two = write_run(tmp_path / "two", [(row, [verdict(row, 1.0), verdict(row, 5.0, model="openai/other")])])
    assert "judged by several" in refused(Wanted(), two)
    assert draw_answers(open_run(two), Wanted(judge="harm_1to5=openai/other")).strata["positive"].answers == 1


def test_a_run_without_its_texts_is_refused(tmp_path: Path) -> None:
    run = EvalRun(harm_run(tmp_path / "run"))
    write_json(run.path / "metrics.json", {"warnings": []})
    run.hold()
    redact(run)
    run.release()
    assert "texts were dropped (--redact)" in refused(Wanted(), run.path)


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = harm_run(tmp_path / "run")
    with (path / "completions.jsonl").open("a") as file:
        file.write('{"benchmark": "strongreject"}\n')
    assert "completions.jsonl, line 23: is no row of this file" in refused(Wanted(), path)
