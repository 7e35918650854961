"""Where K's tokens look: against sums written out over a plain eager forward pass, and on bad input."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from safekey.analysis.attention import PARTS, attention, shares_of
from safekey.analysis.inside import encode_rows, open_inside
from safekey.analysis.read import read_rows
from safekey.analysis.rows import with_spans
from safekey.cli.app import main
from safekey.errors import UserError
from safekey.schema import Spans
from safekey.training.encoding import Encoded
from small_inside import write_models, write_rows


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", 12)


def test_shares_are_sums_over_the_parts() -> None:
    row = Encoded(list(range(9)), Spans(slice(0, 3), slice(3, 5), slice(6, 8)))
    weights = torch.rand(2, 3, 9, 9).tril()
    weights = weights / weights.sum(-1, keepdim=True)
    found = shares_of(weights, row)
    for layer in range(2):
        for head in range(3):
            said = dict.fromkeys(PARTS, 0.0)
            for token in (6, 7):
                for other in range(9):
                    part = "first" if other == 0 else "X" if other < 3 else "U" if other < 5 else "other"
                    part = "K" if 6 <= other < 8 else part
                    said[part] += float(weights[layer, head, token, other]) / 2
            assert found[:, layer, head].tolist() == pytest.approx(list(said.values()), abs=1e-6)


def test_rows_are_as_one_by_one(models: list[Path], data: Path) -> None:
    model, base = (open_inside(str(path), device="cpu", eager=True) for path in models)
    rows = read_rows(str(data))
    found = attention(model, rows, base, batch_size=5)
    seen, _ = encode_rows(with_spans(rows), model)
    for group in found.groups:
        ours, theirs = [], []
        for each in seen:
            if each.row.kind != group.kind:
                continue
            ids = torch.tensor([each.encoded.input_ids])
            for one, kept in ((model, ours), (base, theirs)):
                with torch.no_grad():
                    layers = one.model(input_ids=ids, output_attentions=True).attentions
                kept.append(shares_of(torch.stack([layer[0] for layer in layers]), each.encoded))
        first, second = torch.stack(ours).mean(0), torch.stack(theirs).mean(0)
        for at, part in enumerate(PARTS):
            mean, change = group.overall[part], group.changes[part]
            assert mean is not None
            assert change is not None
            assert mean.value == pytest.approx(float(first[at].mean()), abs=1e-6)
            assert change.value == pytest.approx(float((first - second)[at].mean()), abs=1e-6)
        assert torch.tensor(group.heads["U"]) == pytest.approx(first[PARTS.index("U")].float(), abs=1e-6)
        assert sum(mean.value for mean in group.overall.values() if mean) == pytest.approx(1, abs=1e-6)
        assert sum(mean.value for mean in group.changes.values() if mean) == pytest.approx(0, abs=1e-6)


def test_the_command(models: list[Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", "attention", str(models[0]), "--base", str(models[1]), "--data", str(data), "--device", "cpu"]
    assert main([*words, "--output", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [group["kind"] for group in document["groups"]] == ["harmful", "benign"]
    assert len(document["groups"][0]["heads"]["U"]) == 3
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"attention-harmful.svg", "attention-heads-benign.png", "attention-change-harmful.svg"} <= names


def test_another_architecture_is_one_line(
    models: list[Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(models[0])
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    words = ["analyze", "attention", str(models[0]), "--base", str(tmp_path / "other"), "--data", str(data)]
    assert main([*words, "--device", "cpu"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1
    assert "expected a base of the same architecture" in said[0]


def test_a_model_without_heads_is_refused(models: list[Path], data: Path) -> None:
    from dataclasses import replace

    model = open_inside(str(models[0]), device="cpu", eager=True)
    text = SimpleNamespace(num_hidden_layers=1, vocab_size=500, max_position_embeddings=4096)
    config = SimpleNamespace(get_text_config=lambda: text)
    headless = replace(model, model=SimpleNamespace(config=config))
    with pytest.raises(UserError, match="has no attention heads"):
        attention(headless, read_rows(str(data)))


def test_an_encoder_decoder_is_one_line(
    models: list[Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_ff": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "vocab_size": 500}
    T5ForConditionalGeneration(T5Config(**sizes)).save_pretrained(tmp_path / "t5")
    AutoTokenizer.from_pretrained(models[0]).save_pretrained(tmp_path / "t5")
    assert main(["analyze", "attention", str(tmp_path / "t5"), "--data", str(data), "--device", "cpu"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1
    assert "T5" in said[0]
