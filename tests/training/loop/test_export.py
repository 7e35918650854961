"""What a run leaves behind loads with plain transformers, without a warning, and holds no trace of ours."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from peft import LoraConfig, PeftModel
from runs import VOCABULARY, config, rows, trainer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from safekey.errors import UserError
from safekey.training import SafeKeyTrainer, detach, load_heads, safekey_loss
from safekey.training.encoding import encode
from toys import CHATML, example, llama, tokenizer


@pytest.fixture
def strict_logs(caplog):
    """Catch what transformers says: its loggers do not pass records on by themselves."""
    import transformers

    transformers.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        yield caplog
    transformers.logging.disable_propagation()


@pytest.mark.parametrize("tied", [False, True])
def test_the_export_is_a_plain_model(tmp_path, tied, strict_logs, recwarn) -> None:
    made = trainer(tmp_path / "run", model=llama(VOCABULARY, tie_word_embeddings=tied), max_steps=2, head_epochs=-1)
    made.train()
    made.save_model(tmp_path / "out")
    strict_logs.clear()
    recwarn.clear()
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    assert not strict_logs.records
    assert not [w for w in recwarn if "deprecat" not in str(w.message)]
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "safekey" in name]  # noqa: SIM118 - not a dict
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "safekey" not in json.dumps(config)
    assert not list((tmp_path / "out").glob("*.bin"))  # nothing pickled
    assert config["use_cache"] is True
    assert config["architectures"] == ["LlamaForCausalLM"]
    template = (tmp_path / "out" / "chat_template.jinja").read_bytes()
    assert template == tokenizer().chat_template.encode()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == tokenizer().chat_template
    detach(made.model)
    made.model.eval()
    ids = torch.tensor([rows(1)[0].input_ids])
    torch.testing.assert_close(loaded(ids).logits, made.model(ids).logits, atol=0, rtol=0)


@pytest.mark.parametrize("lora", [False, True])
def test_plain_generate_stops_where_the_template_stops(tmp_path, lora) -> None:
    """The tokenizer's EOS is <|begin_of_text|>'s neighbour; the template ends a turn with <|im_end|>."""
    tok = tokenizer.__wrapped__("llama3", "bytes", CHATML)
    tok.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    end = tok.convert_tokens_to_ids("<|im_end|>")
    model = llama(len(tok))
    model.generation_config = GenerationConfig(eos_token_id=[tok.eos_token_id, 5], temperature=0.6, top_p=0.9)
    peft = LoraConfig(r=2, target_modules="all-linear") if lora else None
    data = [encode(example(question=f"What is {n}?"), tok) for n in range(8)]
    made = SafeKeyTrainer(model, config(tmp_path / "run", max_steps=1, save_strategy="steps", save_steps=1),
                          data, processing_class=tok, peft_config=peft)  # fmt: skip
    made.train()
    made.export_model(str(tmp_path / "out"))
    for folder in (tmp_path / "out", tmp_path / "run" / "checkpoint-1"):
        settings = GenerationConfig.from_pretrained(folder)
        assert settings.eos_token_id == sorted([tok.eos_token_id, 5, end])
        assert (settings.temperature, settings.top_p) == (0.6, 0.9), "the publisher's own settings stay"
    if lora:
        return
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.no_grad():  # whatever comes in, this model says <|im_end|>
        for parameter in loaded.parameters():
            parameter.zero_()
        loaded.get_input_embeddings().weight[:, 0] = 1.0
        loaded.model.norm.weight.fill_(1.0)
        loaded.lm_head.weight[end, 0] = 1.0
    made_ids = loaded.generate(torch.tensor([data[0].input_ids[:9]]), max_new_tokens=6, do_sample=False)
    assert made_ids[0, 9:].tolist() == [end], "plain generate ran on behind the end of the turn"


def test_the_heads_lie_beside_it(tmp_path) -> None:
    made = trainer(tmp_path / "run", max_steps=2, head_epochs=-1, head_pooling="max", head_theta=0.25)
    made.train()
    made.save_model(tmp_path / "out")
    heads = load_heads(tmp_path / "out")
    assert heads.pooling == "max"
    for name, value in made.heads.state_dict().items():
        assert torch.equal(value, heads.state_dict()[name])
    card = json.loads((tmp_path / "out" / "safekey_heads.json").read_text())
    assert card["theta"] == 0.25
    assert card["hidden_size"] == 32
    assert card["labels"] == {"1": "harmful query", "0": "benign query"}
    batch = rows(4)
    theirs = safekey_loss(made.model.eval(), None, batch).dpsh
    detach(made.model)
    ours = safekey_loss(AutoModelForCausalLM.from_pretrained(tmp_path / "out"), heads, batch).dpsh
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="no safety heads"):
        load_heads(tmp_path)


def test_lora_saves_its_adapter_and_the_heads(tmp_path) -> None:
    base = llama(VOCABULARY)
    base.save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=4, target_modules="all-linear")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    made = trainer(tmp_path / "run", model=model, peft_config=lora, max_steps=3, head_epochs=-1)
    assert not [name for name, _ in made.model.named_parameters() if "safekey_heads" in name and "lora" in name]
    assert all(parameter.requires_grad for parameter in made.heads.parameters())
    made.train()
    made.save_model(tmp_path / "out")
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert names
    assert all("lora_" in name for name in names)
    assert load_heads(tmp_path / "out").hidden_size == 32
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "out")
    ids = torch.tensor([rows(1)[0].input_ids])
    detach(made.model)
    made.model.eval()
    torch.testing.assert_close(loaded.eval()(ids).logits, made.model(ids).logits, atol=1e-6, rtol=0)


def test_a_model_given_by_its_path(tmp_path) -> None:
    llama(VOCABULARY).save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    made = SafeKeyTrainer(str(tmp_path / "base"), config(tmp_path / "run", max_steps=1, self_test=True), rows(8))
    made.train()
    made.save_model()
    assert json.loads((tmp_path / "run" / "safekey_heads.json").read_text())["base_model"] == str(tmp_path / "base")


def test_a_mixture_of_experts_keeps_its_config(tmp_path) -> None:
    """TRL sets the router's options on the config; the export has the model's own."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "router_aux_loss_coef": 0.01}
    settings = Qwen3MoeConfig(vocab_size=VOCABULARY, num_key_value_heads=2, head_dim=8, **sizes, **experts)
    Qwen3MoeForCausalLM(settings).save_pretrained(tmp_path / "base")
    before = json.loads((tmp_path / "base" / "config.json").read_text())
    for given in (str(tmp_path / "base"), AutoModelForCausalLM.from_pretrained(tmp_path / "base")):
        made = SafeKeyTrainer(given, config(tmp_path / "run", max_steps=1), rows(8), processing_class=tokenizer())
        made.train()
        made.save_model(tmp_path / "out")
        after = json.loads((tmp_path / "out" / "config.json").read_text())
        tokens = {"bos_token_id", "eos_token_id", "pad_token_id"}  # transformers takes them from the tokenizer
        assert {k: v for k, v in after.items() if k not in tokens} == {
            k: v for k, v in before.items() if k not in tokens
        }
        assert "mfu" not in made.state.log_history[0]


def test_the_best_model_comes_with_its_heads(tmp_path) -> None:
    made = trainer(
        tmp_path,
        eval_dataset=rows(4, 9),
        head_epochs=-1,
        learning_rate=0.3,  # too much: the first checkpoint is the best
        save_strategy="steps",
        save_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
    )
    made.train()
    best = made.state.best_model_checkpoint
    assert best != str(tmp_path / f"checkpoint-{made.state.global_step}")
    for name, value in made.heads.state_dict().items():
        assert torch.equal(value, load_heads(best).state_dict()[name])
