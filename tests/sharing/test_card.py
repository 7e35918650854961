"""`safekey card`: the hub's metadata, what is known, what is not, and nothing of this machine."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.saved_runs import simple
from safekey.cli.app import main
from safekey.engines.weights import Source, fingerprint
from safekey.monitor.calibration import Scale, Threshold
from safekey.monitor.card import Card
from safekey.monitor.request import HEADS
from safekey.sharing.facts import front_matter
from safekey.sharing.private import Private
from sharing.trained import evaluate, train


def card(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["card", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def written(capsys: pytest.CaptureFixture[str], run: Path, *words: object) -> str:
    code, _, err = card(capsys, run, *words)
    assert code == 0, err
    return (run / "README.md").read_text()


def base_folder(home: Path, text: str | None = None) -> Path:
    folder = home / "secret-place" / "llama"
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "README.md").write_text(text)
    return folder


def test_what_is_on_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "first", "Qwen/Qwen2.5-0.5B")
    evaluate(tmp_path / "eval-first", run)
    text = written(capsys, run)
    head = front_matter(text)
    assert head == {
        "base_model": "Qwen/Qwen2.5-0.5B", "base_model_relation": "finetune", "library_name": "transformers",
        "pipeline_tag": "text-generation", "datasets": ["UCSC-VLAA/STAR-1"], "tags": ["safekey", "safety"],
    }  # fmt: skip
    metrics = json.loads((tmp_path / "eval-first" / "metrics.json").read_text())["rates"]
    row = next(r for r in metrics if r["metric"] == "asr" and set(r["by"]) == {"benchmark", "part"} and r["headline"])
    rate = f"{100 * row['rate']:.1f} % ({100 * row['low']:.1f} – {100 * row['high']:.1f})"
    assert f"| strongreject | answer | {rate} | 2/120 | 0 | harm\\_1to5 (openai/judge), positive: ≥ 4 |" in text
    assert "| accuracy | math500 | answer | 83.3 % (75.7 – 88.9) | 100/120 |" in text
    identity = json.loads((run / "run.json").read_text())["data"]
    assert identity[str(tmp_path / "rows.jsonl")]["sha256"] in text
    assert "| rows.jsonl | sha256 " in text
    assert "| UCSC-VLAA/STAR-1 | revision 358cd90 |" in text
    assert "1,200 rows read, 1,000 trained on, 500 of these harmful" in text
    assert "SFT + QMM (weight 0.2, last 2 epochs)" in text
    assert "DPSH" not in text
    assert "Licence: not stated" in text
    for missing in (
        "Prefilling attacks",
        "only answers were judged",
        "other training seeds",
        "safety heads as an alarm",
    ):
        assert missing in text.partition("## What was not measured")[2]
    assert "load_heads" in text
    assert "not a monitor" in text
    assert str(tmp_path) not in text
    assert socket.gethostname() not in text


def test_nothing_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(capsys, train(tmp_path / "first", "Qwen/Qwen2.5-0.5B"))
    assert "This model was not evaluated with safekey" in text
    assert "No rate of attack success (ASR)." in text


def test_withheld_and_unjudged_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "first", "Qwen/Qwen2.5-0.5B")
    rows = simple([1.0] * 40, ["full_compliance"] * 40)
    evaluate(tmp_path / "eval", run, [(row, said if i % 8 else []) for i, (row, said) in enumerate(rows)])
    text = written(capsys, run)
    assert "withheld: 5 of 40 not judged" in text
    last = text.partition("## What was not measured")[2]
    assert "No rate of attack success (ASR)." in last
    assert "Withheld, because too many verdicts are missing or nothing was scored: strongreject (answer)" in last


@pytest.mark.parametrize(
    ("theirs", "words", "licence", "said"),
    [
        ("---\nlicense: llama3.1\n---\nx", [], {"license": "llama3.1"}, "the licence in the card of the base"),
        ("---\nlicense: other\nlicense_name: qwen\nlicense_link: LICENSE\n---", [],
         {"license": "other", "license_name": "qwen"}, "`qwen`, the licence in the card"),
        ("no metadata", [], {}, "its card names none"),
        (None, [], {}, "its card does not lie on this machine"),
        (None, ["--license", "mit"], {"license": "mit"}, "as the author of this card says"),
        ("---\nlicense: llama3.1\n---\nx", ["--license", "mit"], {"license": "mit"}, "own card says `llama3.1`"),
        ("---\nlicense: '[x](http://y)'\n---\nx", [], {}, "its card names none"),
        ("---\nlicense: [\n---\nx", [], {}, "its card names none"),
    ],
)  # fmt: skip
def test_the_licence_is_never_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], theirs: str | None, words: list[str],
    licence: dict[str, str], said: str,
) -> None:  # fmt: skip
    run = train(tmp_path / "first", str(base_folder(tmp_path, theirs)))
    text = written(capsys, run, *words)
    assert {key: value for key, value in front_matter(text).items() if key.startswith("license")} == licence
    assert said in text
    assert "secret-place" not in text


def test_the_base_is_named_only_where_it_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "first", str(base_folder(tmp_path)))
    assert "base_model" not in front_matter(written(capsys, run))
    assert front_matter(written(capsys, run, "--base-model", "a/llama"))["base_model"] == "a/llama"
    cached = tmp_path / "models--Qwen--Qwen3-8B" / "snapshots" / ("ab" * 20)
    cached.mkdir(parents=True)
    second = train(tmp_path / "second", str(cached), adapter=True)
    head = front_matter(text := written(capsys, second))
    assert (head["base_model"], head["base_model_relation"], head["library_name"]) == (
        "Qwen/Qwen3-8B",
        "adapter",
        "peft",
    )
    assert "ab" * 20 in text
    assert str(tmp_path) not in text


def test_other_peoples_files_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "first", "Qwen/Qwen2.5-0.5B")
    written(capsys, run)
    written(capsys, run, "--license", "mit")  # our own is replaced
    (run / "README.md").write_text("mine")
    code, _, err = card(capsys, run)
    assert (code, "is not what safekey wrote there" in err) == (2, True)
    assert (run / "README.md").read_text() == "mine"
    assert card(capsys, run, "--output", tmp_path / "card.md")[0] == 0
    for place in (run / "model" / "README.md", run / "config.yaml", run / "run.json"):
        before = place.read_bytes() if place.exists() else None
        assert card(capsys, run, "--output", place)[0] == 2
        assert (place.read_bytes() if place.exists() else None) == before


def test_evaluations_of_other_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = (train(tmp_path / name, "Qwen/Qwen2.5-0.5B") for name in ("first", "other"))
    evaluate(tmp_path / "eval-other", other)
    code, _, err = card(capsys, run, "--eval", tmp_path / "eval-other")
    assert (code, "evaluated another model" in err) == (2, True)
    assert "was not evaluated" in written(capsys, run)  # beside it lies the other's only
    evaluate(tmp_path / "eval-old", run, weights={"weights_sha256": "0" * 64, "chat_template_kwargs": {}})
    code, _, err = card(capsys, run, "--eval", tmp_path / "eval-old")
    assert (code, "the weights have changed since" in err) == (2, True)
    evaluate(tmp_path / "elsewhere" / "served", run, model="http://gpu-7:8000/v1#my-model", weights={})
    text = written(capsys, run, "--eval", tmp_path / "elsewhere" / "served")
    assert "that it is this model is the word of this card's author" in text
    assert "gpu-7" not in text


def test_text_of_others_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "<img src=x onerror=alert(1)>[a](http://b)|`c`"
    run = train(tmp_path / "first", "Qwen/Qwen2.5-0.5B", lora_target_modules=[evil])
    rows = simple([1.0] * 5, judge="exact", model=evil)
    evaluate(tmp_path / "eval", run, rows)
    text = written(capsys, run)
    assert "<img" not in text
    assert "[a](" not in text
    assert yaml.safe_load(text.split("---")[1])


def test_folders_that_are_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "first", "Qwen/Qwen2.5-0.5B")
    evaluate(tmp_path / "eval", run)
    stopped = train(tmp_path / "stopped", "Qwen/Qwen2.5-0.5B")
    record = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    cut = train(tmp_path / "cut", "Qwen/Qwen2.5-0.5B")
    (cut / "model" / "config.json").write_text("{}")
    for folder, said in (
        (tmp_path / "none", "there is no such folder"),
        (tmp_path / "eval", "is an evaluation: give the run folder of the training"),
        (run / "model", "give the run folder, not its model folder"),
        (stopped, "not finished (interrupted)"),
        (cut, "has changed since the training wrote it"),
    ):
        code, _, err = card(capsys, folder)
        assert (code, said in err, len(err.strip().splitlines())) == (2, True, 1), err


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("harm_1to5 (http://gpu-7:8000/v1#guard)", "harm_1to5 (guard)"),
        ("local:/home/anna/guards/g1@abc", "local:g1@abc"),
        ("see /data/x/rows.jsonl, line 3", "see rows.jsonl, line 3"),
        ("~/models/llama and ../b/c", "llama and c"),
        (r"C:\Users\anna\rows.jsonl", "rows.jsonl"),
        ("https://huggingface.co/a/b", "https://huggingface.co/a/b"),
        ("openai/gpt-4.1 says 3/4 and/or 1", "openai/gpt-4.1 says 3/4 and/or 1"),
    ],
)
def test_private_names(text: str, public: str) -> None:
    assert Private().public(text) == public


def fitted(run: Path, **other: Any) -> None:
    """Write what `safekey monitor fit` writes of a run's own heads."""
    own = fingerprint(Source(str(run / "model"), None, str(run / "model")))
    values: dict[str, Any] = {
        "model": str(run), "weights_sha256": own, "heads": "trained", "pooling": "mean",
        "head": "query_and_understanding", "scales": {head: Scale() for head in HEADS},
        "threshold": Threshold(1.25, 0.05, 0.95, 200, 3, 200, 0.0385),
        "calibration": {"harmful": 120, "rows": 320},
        "measured": {"auroc": dict.fromkeys(HEADS, 0.987), "flagged_harmful": 0.625}, **other,
    }  # fmt: skip
    (run / "monitor").mkdir(exist_ok=True)
    (run / "monitor" / "monitor.json").write_text(json.dumps(Card(**values).to_dict()))


def test_a_monitor_that_was_fitted_is_on_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "first", "Qwen/Qwen2.5-0.5B")
    fitted(run)
    text = written(capsys, run)
    assert "not a monitor" not in text
    assert "no threshold was chosen" not in text
    assert "on other rows than those that calibrated it" in text
    assert "at most 5 % of benign rows are flagged, with confidence 95 %" in text
    assert "| calibration rows | 200 benign, 3 of them flagged; 120 harmful, 62.5 % of them flagged |" in text
    assert "flagged = heads(hidden, borders)[0, 1] > 1.25" in text
    assert str(tmp_path) not in text


def test_a_monitor_of_other_weights_or_heads_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, other in enumerate([{"weights_sha256": "0" * 64}, {"heads": "frozen"}]):
        run = train(tmp_path / f"run{number}", "Qwen/Qwen2.5-0.5B")
        fitted(run, **other)
        code, out, said = card(capsys, run)
        assert code == 0
        assert "not on the card" in out + said
        assert "not a monitor" in (run / "README.md").read_text()
