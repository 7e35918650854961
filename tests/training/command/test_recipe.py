"""Recipes: inheritance, overrides, types, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from safekey.data import DataSource
from safekey.errors import UserError
from safekey.run_folder import without_secrets
from safekey.schema import Example, Message
from safekey.training.command import memory, recipe
from safekey.training.command.folder import RunFolder
from safekey.training.command.models import weight_dtype
from safekey.training.command.recipe import build_settings, load_recipe, packaged_recipes
from safekey.training.command.rows import data_sources, hold_out
from safekey.training.command.yaml_values import convert, parse_scalar, read_yaml


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_builds_its_configs(name: str) -> None:
    loaded = load_recipe(name, ["data=rows.jsonl"])
    if name == "base":
        loaded = load_recipe(name, ["data=rows.jsonl", "model_name_or_path=some/model"])
    settings = build_settings(loaded)
    assert settings.training.qmm_weight == settings.training.head_weight == 0.2
    assert settings.training.seed == 2002


@pytest.mark.parametrize("name", ["r1-distill-qwen-7b", "r1-distill-llama-8b", "r1-distill-qwen-14b"])
def test_the_papers_hyperparameters(name: str) -> None:
    settings = build_settings(load_recipe(name, ["data=x"]), processes=8)
    training = settings.training
    assert (training.adam_beta1, training.adam_beta2) == (0.9, 0.95)
    assert (training.learning_rate, training.weight_decay) == (1e-5, 1e-4)
    assert str(training.lr_scheduler_type.value) == "cosine"
    assert (training.head_theta, training.head_pooling, training.detach_heads) == (0.5, "mean", False)
    assert (training.gradient_checkpointing, training.max_grad_norm) == (True, 1.0)
    assert training.get_warmup_steps(1000) == 50
    assert training.num_train_epochs == 5
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (2, 8)  # × 8 GPUs = 128
    assert (training.max_length, training.seed) == (8192, 2002)
    ours = {"qsm": 0.0, "ksm": 0.0, "key": 0.0}  # what the paper does not have
    assert training.weights(59, 75, 15) == {"qmm": 0.2, "dpsh": 0.2, **ours}
    assert training.weights(44, 75, 15)["qmm"] == 0.0  # the last step of epoch 3
    assert training.weights(45, 75, 15)["qmm"] == 0.2
    assert not settings.model.use_peft


def test_qwen3_follows_the_later_port() -> None:
    training = build_settings(load_recipe("qwen3-8b", ["data=x"])).training
    assert (training.num_train_epochs, training.qmm_epochs, training.head_epochs) == (10, 4, 4)
    assert training.chat_template_kwargs == {"enable_thinking": True}


def test_precision_of_the_weights() -> None:
    full = build_settings(load_recipe("r1-distill-llama-8b", ["data=x"]), elsewhere=True)
    lora = build_settings(load_recipe("r1-distill-llama-8b-lora", ["data=x"]), elsewhere=True)
    asked = build_settings(load_recipe("r1-distill-llama-8b", ["data=x", "dtype=bfloat16"]))
    cpu = build_settings(load_recipe("r1-distill-llama-8b", ["data=x", "use_cpu=true"]))
    names = [str(weight_dtype(s, launch)) for s, launch in ((full, "ddp"), (full, "fsdp2"), (lora, "none"))]
    assert names == ["torch.float32", "torch.bfloat16", "torch.bfloat16"]
    assert str(weight_dtype(asked, "none")) == "torch.bfloat16"
    assert str(weight_dtype(cpu, "none")) == "torch.float32"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-5", 1e-5), ("1.5", 1.5), ("3", 3), ("010", 10), ("no", "no"), ("null", None), ("true", True)),
        *(("2025-01-01", "2025-01-01"), ("1:30", "1:30"), ("[a, 1e-3]", ["a", 1e-3]), (": :", ": :"), ("", None)),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


def test_overrides_reach_into_the_data_list(tmp_path: Path) -> None:
    path = write(tmp_path, "extends: base\nmodel_name_or_path: m\ndata: [a.jsonl, {path: b.jsonl, label: benign}]\n")
    loaded = load_recipe(path, ["data.0.weight=0.5", "data.1.columns.prompt=q", "learning_rate=2e-5", "run_name=2024"])
    assert data_sources(loaded.values["data"], "data") == [
        DataSource("a.jsonl", weight=0.5),
        DataSource("b.jsonl", label="benign", columns={"prompt": "q"}),
    ]
    assert loaded.values["learning_rate"] == 2e-5
    assert loaded.values["run_name"] == "2024"
    appended = load_recipe(path, ["data.2=c.jsonl"]).values["data"]
    assert appended[2] == "c.jsonl"
    single = load_recipe("base", ["data=x.jsonl", "data.0.weight=2"]).values["data"]
    assert single == [{"path": "x.jsonl", "weight": 2}]


def test_paths_mean_the_recipes_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "rows.jsonl").write_text("")
    path = write(tmp_path / "deep", "extends: base\nmodel_name_or_path: m\ndata: rows.jsonl\n")
    monkeypatch.chdir(tmp_path)
    assert load_recipe(path).values["data"] == str(tmp_path / "deep" / "rows.jsonl")
    assert load_recipe(path, ["data=owner/name"]).values["data"] == "owner/name"


def test_a_removed_key_is_ignored_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("qmm_positions: jitter\nseed: 3\n")
    (tmp_path / "new.yaml").write_text("extends: old.yaml\n")
    recipe = load_recipe(str(tmp_path / "new.yaml"), ["qmm_positions=keep"])
    assert recipe.values == {"seed": 3}
    assert [note.split(":")[0] for note in recipe.notes] == [str(tmp_path / "old.yaml"), "command line"]
    assert all("'qmm_positions' was removed" in note for note in recipe.notes)


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("lerning_rate: 1", [], ["mine.yaml", "'lerning_rate'", "'learning_rate'"]),
        ("learning_rate: abc", [], ["mine.yaml", "'learning_rate'", "a number", "'abc'"]),
        ("use_peft: 1", [], ["'use_peft'", "true or false"]),
        ("num_train_epochs: true", [], ["'num_train_epochs'", "a number"]),
        ("lora_r: 1.5", [], ["'lora_r'", "a whole number"]),
        ("lr_scheduler_type: cosin", [], ["'lr_scheduler_type'", "cosine"]),
        ("head_pooling: left", [], ["'head_pooling'", "mean, max, last"]),
        ("packing: true", [], ["'packing'", "always packed"]),
        ("hub_token: hf_x", [], ["'hub_token'", "HF_TOKEN"]),
        ("seed: 1\nseed: 2", [], ["'seed' is given twice"]),
        ("- a\n- b", [], ["expected lines of 'key: value'"]),
        ("a: [", [], ["not valid YAML"]),
        ("extends: nowhere", [], ["no recipe 'nowhere'", "r1-distill-qwen-7b"]),
        ("extends: mine.yaml", [], ["circle"]),
        ("seed: 1", ["sed=2"], ["command line", "'sed'", "'seed'"]),
        ("seed: 1", ["seed"], ["expected key=value"]),
        ("data: [a]", ["data.3.weight=1"], ["'3' is no index into a list of 1"]),
        ("data: [{path: a, wieght: 2}]", [], ["entry 0", "'wieght'", "'weight'"]),
        ("data: [{weight: 2}]", [], ["entry 0", "'path'"]),
        ("data: [{path: a, weight: heavy}]", [], ["entry 0", "'weight'", "a number"]),
        ("eval_fraction: 1.5", ["data=x"], ["'eval_fraction'", "[0, 1)"]),
        ("seed: 1", [], ["no data", "data=FILE"]),
        ("model_name_or_path: null", ["data=x"], ["no model", "model_name_or_path"]),
        ("qmm_weight: -1", ["data=x"], ["qmm_weight"]),
        ("batch_size: 7", ["data=x"], ["'batch_size'", "multiple of 2"]),
        ("gradient_accumulation_steps: 3", ["data=x"], ["one of the two"]),
    ],
)
def test_a_mistake_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, overrides: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = {line.partition(":")[0] for line in text.splitlines()}
    if not text.startswith(("-", "a:")) and "extends" not in keys:
        text = "extends: base\n" + ("" if "model_name_or_path" in keys else "model_name_or_path: m\n") + text
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        build_settings(load_recipe(path, overrides))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_convert_keeps_what_fits_exactly() -> None:
    assert convert("3", int | str, "k") == "3"
    assert convert(3, int | str, "k") == 3
    assert convert(3, str | None, "k") == "3"
    assert convert(4.0, int, "k") == 4
    assert convert("all-linear", list[str] | None, "k") == ["all-linear"]
    assert convert("a", str | list[str], "k") == "a"
    assert convert(None, float | None, "k") is None


def rows(count: int, label: bool | None, prefix: str = "p") -> list[Example]:
    return [Example((Message("user", f"{prefix}{i}"),), "<think>\na\n</think>\n\nb", label) for i in range(count)]


def test_hold_out_is_deterministic_stratified_and_leaks_nothing() -> None:
    data = rows(40, True) + rows(20, False, "q")
    train, held = hold_out(data * 2, 0.1, seed=1)
    assert (sum(e.harmful is True for e in held), sum(e.harmful is False for e in held)) == (4, 2)
    assert not {e.prompt for e in held} & {e.prompt for e in train}
    assert len(train) == 2 * 54
    assert hold_out(list(reversed(data)), 0.1, seed=1)[1] == list(reversed(hold_out(data, 0.1, seed=1)[1]))
    assert hold_out(data, 0.1, seed=2)[1] != held
    assert hold_out(rows(1, True), 0.5, seed=1) == (rows(1, True), [])


def test_memory_by_hand() -> None:
    # Llama-8B: 8.03e9 parameters, of which 2 · 128256 · 4096 embedding and head, 218,112,000 a layer.
    shape = memory.Shape(8_030_261_248, 8_030_261_248, 218_112_000, 0, 32, 4096, 128256, 14336, 4096, 1024)
    common = {"tokens": 4096, "targets": 4000, "compute_bytes": 2, "checkpointing": True}
    full = memory.estimate(shape, launch="none", processes=1, weight_bytes=4, **common)
    assert full.weights == full.gradients == 4 * 8_030_261_248
    assert full.optimizer == 8 * 8_030_261_248
    layer = 2 * 10 * 4096 + 2 * 3 * (4096 + 1024) + 2 * (4096 + 1024) + 4 * 2 * 14336  # bytes per token
    assert full.activations == 4096 * (32 * 2 * 4096 + layer)
    assert full.logits == 1046 * 128256 * 12  # 2^27 // 128256 targets at a time
    shards = memory.estimate(shape, launch="fsdp2", processes=8, weight_bytes=2, **common)
    assert shards.weights == shards.gradients == 8_030_261_248 * 4 // 8
    assert shards.optimizer == 8_030_261_248
    assert 20 < shards.total / memory.GIB < 30
    zero = memory.estimate(shape, launch="zero3", processes=8, weight_bytes=2, **common)
    assert zero.host == 8_030_261_248 * 18 // 8
    assert zero.total < shards.total
    without = memory.estimate(shape, launch="none", processes=1, weight_bytes=4, **{**common, "checkpointing": False})
    assert without.activations == 4096 * 32 * layer


def test_activation_estimate_against_what_autograd_keeps() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from safekey.schema import Spans
    from safekey.training import Encoded, safekey_loss

    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=896,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    spans = Spans(slice(0, 100), slice(100, 150), slice(150, 180))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = safekey_loss(model, None, [Encoded(list(range(400)), spans, True)] * 2, head_weight=0.0)
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    estimate = memory.activation_bytes(memory.model_shape(config), out.metrics.tokens, 4, checkpointing=False)
    assert 0.8 < estimate / measured < 1.25


def test_shape_of_lora_and_quantised_models() -> None:
    from peft import LoraConfig
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
    )
    lora = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    shape = memory.model_shape(config, lora, bits=4)
    assert shape.trainable == 2 * (64 * 4 + 4 * 64)
    assert shape.quantized == 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert shape.parameters == shape.quantized + 2 * 100 * 64 + 5 * 64


def test_secrets_are_never_written() -> None:
    tree = {"hub_token": "a", "model_init_kwargs": {"token": "b", "x": 1}, "eos_token": "c", "key_weight": 0.1}
    assert without_secrets(tree) == {"model_init_kwargs": {"x": 1}, "eos_token": "c", "key_weight": 0.1}


def test_the_run_folder_refuses_another_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 1, "report_to": "none"}, {"processes": 1, "data": {"a": {"sha256": "x"}}}, [])
    folder.check({"seed": 1, "report_to": "wandb"}, {"a": {"sha256": "x"}}, 1)
    for config, data, processes, words in (
        ({"seed": 2}, {}, 1, "seed: 1 then, 2 now"),
        ({"seed": 1}, {"a": {"sha256": "y"}}, 1, "changed since the run"),
        ({"seed": 1}, {}, 2, "begun with 1 processes"),
    ):
        with pytest.raises(UserError, match=words):
            folder.check(config, data, processes)
    (folder.path / "theirs.txt").write_text("keep me")
    (folder.path / "checkpoint-3").mkdir()
    (folder.path / "train_log.jsonl").write_text("{}")
    folder.clear()
    assert [entry.name for entry in folder.path.iterdir()] == ["theirs.txt"]


def test_a_removed_key_does_not_make_it_another_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 1, "qmm_positions": "keep"}, {"processes": 1}, [])
    folder.check({"seed": 1}, {}, 1)


def test_checkpoints_without_a_config_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(UserError, match=r"no config\.yaml"):
        RunFolder(tmp_path).check({}, {}, 1)


def test_a_saved_config_is_a_recipe_again(tmp_path: Path) -> None:
    from safekey.training.command.folder import resolved_config

    loaded = load_recipe("qwen3-8b", ["data=x.jsonl", "learning_rate=3e-5"])
    settings = build_settings(loaded)
    saved = resolved_config(loaded, settings)
    assert json.loads(json.dumps(saved)) == saved
    again = load_recipe(write(tmp_path, yaml.safe_dump(saved)))
    assert resolved_config(again, build_settings(again)) == saved


def test_not_read_keys_exist_in_trl() -> None:
    assert recipe.NOT_READ.keys() <= recipe.known_keys().keys()
    assert read_yaml(recipe.find_recipe("base", Path("/nowhere")))["seed"] == 2002
