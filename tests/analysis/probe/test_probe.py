"""The probe: its fit against scikit-learn, its folds, its states against a plain forward pass, and what it finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from safekey.analysis.inside import encode_rows, open_inside
from safekey.analysis.probe import probe as probing
from safekey.analysis.probe.folds import fold_for, folds_of, shuffled
from safekey.analysis.probe.logistic import fit
from safekey.analysis.probe.probe import probe
from safekey.analysis.probe.states import SPOTS, Spot, states_of
from safekey.analysis.read import read_rows
from safekey.analysis.rows import Rows
from safekey.cli.app import main
from safekey.stats.auroc import Auroc
from small_inside import write_models, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), (1,))[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", 32)


@pytest.mark.parametrize(("rows", "dimensions"), [(60, 7), (20, 90)])
def test_the_fit_is_scikit_learns(rows: int, dimensions: int) -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(3)
    features = draw.normal(size=(rows, dimensions)) * draw.uniform(0.1, 9, dimensions) + 4
    features[:, 2] = 1.5  # constant
    label = features[:, 0] + draw.normal(size=rows) * 3 > features[:, 0].mean()
    (ours,) = fit(features, [label], strength=5.0)
    scale = np.where(features.std(0) > 1e-9, features.std(0) * np.sqrt(dimensions), 1.0)
    x = (features - features.mean(0)) / scale
    theirs = LogisticRegression(C=5.0, tol=1e-12, max_iter=10_000).fit(x, label)
    assert ours.scores(features) == pytest.approx(theirs.decision_function(x), abs=1e-5)


def test_several_labellings_are_as_each_alone() -> None:
    draw = np.random.default_rng(4)
    features = draw.normal(size=(30, 50))
    labels = [draw.random(30) < 0.5 for _ in range(3)]
    for together, one in zip(fit(features, labels), labels, strict=True):
        assert together.weights == pytest.approx(fit(features, [one])[0].weights)
    with pytest.raises(ValueError, match="both classes"):
        fit(features, [[True] * 30])


def test_folds_keep_behaviours_together_and_classes_even() -> None:
    behaviours = [f"b{n // 2}" for n in range(40)]
    label = [n // 2 % 2 == 0 for n in range(40)]
    folds = folds_of(behaviours, label, seed=1)
    assert sorted(folds) == sorted(set(behaviours))
    assert set(folds.values()) == set(range(5))
    sizes = [sum(folds[name] == fold for name in set(behaviours)) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 1
    assert folds == folds_of(behaviours, label, seed=1) != folds_of(behaviours, label, seed=2)
    mixed = folds_of(["a", "a", "b", "b", "c", "d"], [True, False, True, False, False, False])
    assert mixed["a"] != mixed["b"]
    with pytest.raises(ValueError, match="at least two behaviours"):
        folds_of(["a", "a", "b"], [True, False, False])
    assert fold_for("unknown", folds) == fold_for("unknown", folds) in range(5)
    dealt = shuffled(behaviours, label, 0)
    assert dealt != label
    assert sum(dealt) == sum(label)
    assert all(dealt[n] == dealt[n + 1] for n in range(0, 40, 2))


def test_shuffled_labels_of_behaviours_with_both_classes_mean_nothing() -> None:
    """Pairs, one request harmful and one not, had no control at all: every behaviour was dealt "benign"."""
    behaviours = [f"pair-{at // 2}" for at in range(400)] + [f"alone-{at // 4}" for at in range(400)]
    label = [at % 2 == 0 for at in range(400)] + [at // 4 % 2 == 0 for at in range(400)]
    dealt = np.array(shuffled(behaviours, label, 0))
    assert dealt.sum() == pytest.approx(400, abs=30)
    same = dealt == np.array(label)
    assert same[:400].mean() == pytest.approx(0.5, abs=0.1)
    assert same[400:].mean() == pytest.approx(0.5, abs=0.1)
    only = shuffled(behaviours[:400], label[:400], 1)
    assert all(only[at] != only[at + 1] for at in range(0, 400, 2))  # a pair still has one of each
    assert 70 < sum(only[::2]) < 130
    mixed = ["a"] * 5 + ["b"] * 5  # shares 4/5 and 1/5, dealt by chance
    found = [sum(shuffled(mixed, [True] * 4 + [False] * 5 + [True], seed)[:5]) for seed in range(40)]
    assert set(found) == {1, 4}


def test_states_are_those_of_a_plain_forward_pass(model: Path, data: Path) -> None:
    inside = open_inside(str(model), device="cpu")
    seen, _ = encode_rows(read_rows(str(data), limit=5), inside)
    states = states_of(seen, inside, batch_size=3)
    assert states.shape == (5, 4, len(SPOTS), 96)
    for at, each in enumerate(seen):
        spans, ids = each.encoded.spans, torch.tensor([each.encoded.input_ids])
        with torch.no_grad():
            hidden = inside.model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer in range(4):
            plain = hidden[layer][0]
            u, x = plain[spans.understanding], plain[1 : spans.query.stop]
            wanted = {
                Spot("end of X", "last"): plain[spans.query.stop - 1], Spot("end of X", "mean"): x.mean(0),
                Spot("start of thinking", "last"): plain[spans.query.stop],
                Spot("end of U", "last"): plain[spans.understanding.stop - 1], Spot("end of U", "max"): u.amax(0),
                Spot("end of K", "last"): plain[spans.key_sentence.stop - 1],
            }  # fmt: skip
            for spot, vector in wanted.items():
                assert states[at, layer, SPOTS.index(spot)] == pytest.approx(vector.numpy(), abs=1e-5)


def planted(monkeypatch: pytest.MonkeyPatch, seen_as_harmful: bool) -> None:
    """Replace the states by noise, in which layer 1 knows the class, on attacked rows only as said."""

    def states(seen: list, inside: object, *_: object) -> np.ndarray:
        draw = np.random.default_rng(0)
        made = draw.normal(size=(len(seen), 2, len(SPOTS), 12)).astype(np.float32)
        for at, each in enumerate(seen):
            knows = each.row.attack == "none" or seen_as_harmful
            made[at, 1, :, 3] += 6 * (each.row.kind == "harmful") * knows
        return made

    monkeypatch.setattr(probing, "states_of", states)


def chance(found: list[Auroc | None]) -> bool:
    """Whether ten AUROCs are as of noise: their mean is near a half, and at least eight intervals hold it."""
    known = [each for each in found if each is not None]
    held = sum(each.low < 0.5 < each.high for each in known)
    return len(known) == 10 and held >= 8 and abs(np.mean([each.value for each in known]) - 0.5) < 0.05


@pytest.mark.parametrize("seen_as_harmful", [True, False])
def test_what_is_there_is_found_and_what_is_not_is_not(
    seen_as_harmful: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, seen_as_harmful)
    inside = open_inside(str(model), device="cpu")
    rows = read_rows(str(write_rows(tmp_path / "rows.jsonl", 128)))
    wrapped = [replace(row, attack="story") for row in rows.rows]
    found = probe(inside, Rows(rows.path, (*rows.rows, *wrapped)))
    assert found.counts == {
        "plain harmful": 64, "plain benign": 64, "attacked harmful": 64, "attacked benign": 64,
    }  # fmt: skip
    knows = found.at(1, "end of U", "last")
    assert knows.plain is not None
    assert knows.attacked is not None
    assert knows.plain.value > 0.98
    assert chance([cell.plain for cell in found.cells if cell.layer == 0])
    assert abs(np.mean([value for cell in found.cells for value in cell.shuffled]) - 0.5) < 0.03
    assert (knows.attacked.value > 0.98) == seen_as_harmful
    assert knows.by_attack["story"] == pytest.approx(knows.attacked.value)
    if not seen_as_harmful:
        assert chance([cell.attacked for cell in found.cells if cell.layer == 1])


def test_attacked_requests_of_one_class_are_set_against_plain_ones_of_the_other(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, True)
    rows = read_rows(str(write_rows(tmp_path / "rows.jsonl", 64)))
    hard = Rows("hard", tuple(row for row in rows.rows if row.kind == "harmful"))
    found = probe(open_inside(str(model), device="cpu"), rows, hard).at(1, "end of X", "last")
    assert found.attacked is not None
    assert (found.attacked.positives, found.attacked.negatives) == (32, 32)
    assert found.attacked.value > 0.98


def test_the_command(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hard = write_rows(tmp_path / "hard.jsonl", 16, attack="story")
    words = ["analyze", "probe", str(model), "--data", str(data), "--attacked", str(hard), "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path / "probe"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"]["plain harmful"] == 16
    assert document["rows"]["attacked benign"] == 8
    assert len(document["cells"]) == 4 * len(SPOTS)
    assert document["folds"] == 5
    assert {"probe-plain.svg", "probe-attacked.png"} <= {path.name for path in (tmp_path / "probe").iterdir()}


@pytest.mark.parametrize("case", ["one class", "unlabelled", "two behaviours", "all attacked"])
def test_bad_input_is_one_line(case: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {
        "one class": {"harmful": True}, "unlabelled": {"harmful": None}, "two behaviours": {},
        "all attacked": {"attack": "a"},
    }[case]  # fmt: skip
    path = write_rows(tmp_path / "rows.jsonl", 2 if case == "two behaviours" else 8, **more)
    assert main(["analyze", "probe", str(model), "--data", str(path), "--device", "cpu"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    expected = {
        "one class": "all plain rows are harmful", "unlabelled": "neither harmful nor benign",
        "two behaviours": "at least two of each class", "all attacked": "all rows are attacked",
    }  # fmt: skip
    assert next(line for line in said if line.startswith("safekey: error: ")).count(expected[case]) == 1
    assert len(said) == 1, said
