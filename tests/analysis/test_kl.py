"""KL between two models: against the formula written out, and on bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from safekey.analysis.inside import encode_rows, open_inside
from safekey.analysis.kl import ALL, FIRST, kl, parts_of, token_kl
from safekey.analysis.read import read_rows
from safekey.analysis.rows import with_spans
from safekey.cli.app import main
from small_inside import write_models, write_rows


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl")


def test_token_kl_is_the_formula() -> None:
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 11, generator=draw, dtype=torch.float64) * 3 for _ in range(2))
    for row, value in enumerate(token_kl(first, second).tolist()):
        p = [float(x) for x in first[row].exp() / first[row].exp().sum()]
        q = [float(x) for x in second[row].exp() / second[row].exp().sum()]
        import math

        assert value == pytest.approx(sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)), abs=1e-9)


def test_a_token_that_a_model_excludes_counts_nothing() -> None:
    first = torch.tensor([[0.0, 0.0, -torch.inf]])
    assert token_kl(first, torch.zeros(1, 3)).item() == pytest.approx(torch.log(torch.tensor(1.5)).item(), abs=1e-6)
    assert token_kl(torch.zeros(1, 3), first).item() == float("inf")


def test_rows_are_as_one_by_one_and_parts_are_where_they_are(models: list[Path], data: Path) -> None:
    first, second = (open_inside(str(model), device="cpu") for model in models)
    rows = read_rows(str(data))
    found = kl(first, second, rows, batch_size=5)
    assert {group.kind: group.rows for group in found.groups} == {"harmful": 8, "benign": 8}
    seen, _ = encode_rows(with_spans(rows), first)
    for each, row in zip(seen, found.rows, strict=True):
        ids = torch.tensor([each.encoded.input_ids])
        with torch.no_grad():
            a, b = (model.model(input_ids=ids).logits[0].double() for model in (first, second))
        values = {}
        for name, span in parts_of(each.encoded).items():
            said = [
                float((a[t - 1].softmax(-1) * (a[t - 1].log_softmax(-1) - b[t - 1].log_softmax(-1))).sum())
                for t in range(span.start, span.stop)
            ]
            values[name] = sum(said) / len(said)
            assert row.tokens[name] == len(said)
            if name == "K":
                assert row.means[FIRST] == pytest.approx(said[0], abs=1e-6)
                assert [row.around[offset] for offset in range(min(4, len(said)))] == pytest.approx(said[:4], abs=1e-6)
        assert {name: row.means[name] for name in values} == pytest.approx(values, abs=1e-6)
        text = first.tokenizer.decode(each.encoded.input_ids[parts_of(each.encoded)["K"]])
        assert text.strip() == each.row.example.key_sentence
        begin, count = each.encoded.spans.query.stop, len(each.encoded.input_ids)
        inside = [t for span in parts_of(each.encoded).values() for t in range(span.start, span.stop)]
        assert len(inside) == len(set(inside))
        assert row.tokens[ALL] == count - begin
        between = [each.encoded.input_ids[t] for t in range(begin, count) if t not in inside]
        assert not first.tokenizer.decode(between).strip()


def test_a_model_does_not_differ_from_itself(models: list[Path], data: Path) -> None:
    model = open_inside(str(models[0]), device="cpu")
    found = kl(model, model, read_rows(str(data)))
    assert all(value == pytest.approx(0, abs=1e-9) for row in found.rows for value in row.means.values())


def test_the_command_writes_and_goes_on_refusing(
    models: list[Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kl"
    words = ["analyze", "kl", str(models[0]), str(models[1]), "--data", str(data), "--device", "cpu"]
    assert main([*words, "--output", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "result.json").read_text())
    group = document["groups"][0]
    assert group["kind"] == "harmful"
    k, u = group["parts"]["K"]["value"], group["parts"]["U"]["value"]
    assert group["contrasts"]["K − U"]["value"] == pytest.approx(k - u)
    assert group["parts"]["K"]["low"] < k < group["parts"]["K"]["high"]
    names = {path.name for path in out.iterdir()}
    assert {"tables.md", "kl-parts.svg", "kl-around-key.png"} <= names
    assert "| K |" in (out / "tables.md").read_text()
    assert main([*words, "--output", str(out)]) == 0  # its own files are replaced
    (out / "tables.md").write_text("mine")
    assert main([*words, "--output", str(out)]) == 2
    assert (out / "tables.md").read_text() == "mine"


def other_tokenizer(models: list[Path], tmp_path: Path) -> Path:
    from small_model import save_small_model

    save_small_model(tmp_path / "other", ["quite different words altogether zebra quagga"] * 3, 1)
    return tmp_path / "other"


@pytest.mark.parametrize(
    "case", ["other tokenizer", "empty", "no rows", "no spans", "no file", "url", "group", "folder"]
)
def test_bad_input_is_one_line(
    case: str, models: list[Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, rows, more = str(models[0]), str(models[1]), data, []
    if case == "other tokenizer":
        second = str(other_tokenizer(models, tmp_path))
    elif case in ("empty", "no rows"):
        rows = tmp_path / "rows.jsonl"
        rows.write_text("" if case == "empty" else '{"a": 1}\n')
    elif case == "no spans":
        rows = tmp_path / "rows.jsonl"
        rows.write_text(
            json.dumps({"question": "How?", "response": "<think>\n\n</think>\n\nSo.", "harmful": True}) + "\n"
        )
    elif case == "no file":
        rows = tmp_path / "nowhere.jsonl"
    elif case == "url":
        first = "http://127.0.0.1:9/v1"
    elif case == "group":
        more = ["--group", "deed"]
    elif case == "folder":
        rows = tmp_path / "empty-folder"
        rows.mkdir()
    assert main(["analyze", "kl", first, second, "--data", str(rows), "--device", "cpu", *more]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(said) == 1, said
    assert said[0].startswith("safekey: error: ")
    expected = {
        "other tokenizer": "tokenizer", "empty": "is empty", "no rows": "none of its 1 rows",
        "no file": "no such file", "url": "a server shows nothing",
        "group": "no column 'deed'", "folder": "empty-folder", "no spans": "no U or no K",
    }  # fmt: skip
    assert expected[case] in said[0]
