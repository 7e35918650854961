"""Per-document attention against a dense softmax, and what happens around the step: METHOD.md's silent traps."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

import safekey.training.objective.attention as attention
from safekey import Spans
from safekey.errors import UserError
from safekey.training import Encoded, SafetyHeads, safekey_loss
from safekey.training.objective.self_test import refuse_unsupported, self_test

torch.set_num_threads(1)
VOCAB = 61
SIZE = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZE |= {"vocab_size": VOCAB, "num_hidden_layers": 2, "pad_token_id": 0, "initializer_range": 0.15}


def llama(**more):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZE, **more))


def gpt_oss():
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    more = {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 4, "head_dim": 8}
    model = GptOssForCausalLM(GptOssConfig(**SIZE, **more, rope_parameters=rope, attn_implementation="eager"))
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.sinks)
    return model


def make_rows(number=4):
    generator = torch.Generator().manual_seed(1)
    spans = Spans(slice(0, 5), slice(5, 9), slice(9, 13))
    ids = torch.randint(VOCAB, (number, 20), generator=generator).tolist()
    return [Encoded(row[: 15 + i], spans, bool(i % 2)) for i, row in enumerate(ids)]


# The function.


def dense(query, key, value, lengths, scale, window=None, cap=None, sinks=None):
    """Softmax over all scores at once, with everything that must not be seen at minus infinity."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) * scale
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    document = torch.repeat_interleave(torch.tensor(lengths))
    at = torch.arange(len(document))
    seen = (document[:, None] == document[None]) & (at[None] <= at[:, None])
    seen = seen if window is None else seen & (at[None] > at[:, None] - window)
    weights = scores.masked_fill(~seen, -torch.inf).exp()
    extra = 0 if sinks is None else sinks.exp()[None, :, None, None]
    return (weights / (weights.sum(-1, keepdim=True) + extra) @ value).transpose(1, 2)


@pytest.mark.parametrize("lengths", [(7,), (1, 1, 9, 4), (3, 30, 5)])
@pytest.mark.parametrize(
    "more", [{}, {"sliding_window": 4}, {"softcap": 2.0}, {"s_aux": torch.tensor([0.3, -1.0, 2.0, 0.0])}]
)
def test_documents(lengths, more, monkeypatch):
    monkeypatch.setattr(attention, "_QUERY_BLOCK", 8)  # several blocks a document
    torch.manual_seed(0)
    total = sum(lengths)
    states = [torch.randn(1, heads, total, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]
    more = {name: value.double() if isinstance(value, torch.Tensor) else value for name, value in more.items()}
    ours, weights = attention.attend_documents(
        torch.nn.Module(), *states, None, document_lengths=lengths, scaling=0.4, **more
    )
    theirs = dense(*states, lengths, 0.4, more.get("sliding_window"), more.get("softcap"), more.get("s_aux"))
    assert weights is None
    torch.testing.assert_close(ours, theirs)
    slope = torch.randn_like(theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, states, slope), torch.autograd.grad(theirs, states, slope))


def test_default_scale_and_dropout():
    states = [torch.randn(1, 2, 6, 16) for _ in range(3)]
    call = {"attention_mask": None, "document_lengths": (2, 4)}
    out = attention.attend_documents(torch.nn.Module(), *states, **call)[0]
    torch.testing.assert_close(out, dense(*states, (2, 4), 0.25))
    for more in ({}, {"softcap": 5.0}):
        dropped = attention.attend_documents(torch.nn.Module(), *states, **call, dropout=0.999999, **more)[0]
        assert dropped.norm() < out.norm() / 2


def test_a_mask_or_wrong_lengths_inside_the_step_are_an_error():
    states = [torch.randn(1, 2, 6, 16) for _ in range(3)]
    for mask, lengths in ((torch.ones(1, 1, 6, 6), (6,)), (None, (2, 3))):
        with pytest.raises(RuntimeError, match="safekey_loss"):
            attention.attend_documents(torch.nn.Module(), *states, mask, document_lengths=lengths)


# Around the step.


@pytest.mark.parametrize("make", [llama, gpt_oss])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_padded_calls_after_a_step_are_the_models_own(make, checkpointing):
    model = make().train()
    ids, mask = torch.randint(VOCAB, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    mask[1, :4] = 0  # left padding, which a mask alone can express
    before = model(input_ids=ids, attention_mask=mask).logits
    own = model.config._attn_implementation
    if checkpointing:
        model.gradient_checkpointing_enable()
    safekey_loss(model, SafetyHeads(32), make_rows()).total.backward()
    after = model(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(after[mask.bool()], before[mask.bool()])
    if not checkpointing:
        assert model.config._attn_implementation == own


@pytest.mark.parametrize("checkpointing", [False, True])
def test_generate_after_a_step(checkpointing):
    model = llama().train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    asked = {"input_ids": torch.tensor([[5, 9, 11]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    before = model.eval().generate(**asked, max_new_tokens=8, do_sample=False)
    safekey_loss(model.train(), SafetyHeads(32), make_rows()).total.backward()
    assert model.eval().generate(**asked, max_new_tokens=8, do_sample=False).equal(before)


def test_attention_is_given_back_after_an_error():
    model = llama()
    own, forward = model.config._attn_implementation, model.forward
    model.model.layers[1].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(ValueError("boom")))
    with pytest.raises(ValueError, match="boom"):
        safekey_loss(model, SafetyHeads(32), make_rows())
    assert model.config._attn_implementation == own
    assert model.forward == forward


def test_self_test_passes_and_leaves_no_trace():
    model = llama().train()
    own = model.config._attn_implementation
    assert self_test(model, make_rows()) < 1e-4
    assert model.training
    assert model.config._attn_implementation == own
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not attention.recomputes(model)


def lora(model, dropout):
    found = LoraConfig(r=4, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, found).train()


@pytest.mark.parametrize("own_dropout", [0.0, 0.3])
def test_the_self_test_drops_nothing_and_recomputes_its_layers(own_dropout, monkeypatch):
    """A layer that drops attention itself can be kept from it in evaluation mode only; then nothing is recomputed."""
    model = lora(llama(attention_dropout=own_dropout), 0.5)
    modes = [module.training for module in model.modules()]
    calls = []
    model.base_model.model.model.layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    assert self_test(model, make_rows()) < 1e-4
    documents = 4 * 3  # of three rows, each alone; and all in one packed pass
    assert len(calls) == (1 + documents) * (1 if own_dropout else 2)
    assert [module.training for module in model.modules()] == modes
    assert not attention.recomputes(model)


def test_self_test_of_a_model_that_knows_its_rows_by_heart():
    model, rows = llama(), make_rows()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        safekey_loss(model, None, rows, head_weight=0.0).total.backward()
        optimizer.step()
    with torch.no_grad():
        model.lm_head.weight *= 2  # surer still
        assert safekey_loss(model, None, rows, head_weight=0.0).total < 1e-4
    assert self_test(model, rows) < 1e-4


def merged(module, query, key, value, mask, *, document_lengths=None, scaling=None, **_):
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    return out.transpose(1, 2), None


def acausal(module, query, key, value, mask, *, document_lengths=None, scaling=None, **_):
    parts = zip(*(torch.split(t, list(document_lengths), 2) for t in (query, key, value)), strict=True)
    out = [F.scaled_dot_product_attention(*part, scale=scaling, enable_gqa=True).transpose(1, 2) for part in parts]
    return torch.cat(out, 1), None


@pytest.mark.parametrize("broken", [merged, acausal])
def test_self_test_catches_a_broken_attention(broken, monkeypatch):
    monkeypatch.setattr(attention, "attend_documents", broken)
    with pytest.raises(UserError, match="self-test failed"):
        self_test(llama(), make_rows())


def test_self_test_catches_forgotten_sinks_and_windows(monkeypatch):
    whole = attention.attend_documents

    def forgetful(*args, s_aux=None, sliding_window=None, **kwargs):
        return whole(*args, **kwargs)

    monkeypatch.setattr(attention, "attend_documents", forgetful)
    with pytest.raises(UserError, match="self-test failed"):
        self_test(gpt_oss(), make_rows())


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_length_dependent_positions_are_refused(kind):
    rope = {"rope_type": kind, "rope_theta": 10_000.0, "factor": 2.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 64}
    with pytest.raises(UserError, match="longest position"):
        refuse_unsupported(llama(rope_parameters=rope))


def test_linear_attention_is_refused():
    more = {"num_experts": 2, "num_experts_per_tok": 1, "linear_num_value_heads": 2, "linear_num_key_heads": 2}
    more |= {"moe_intermediate_size": 8, "shared_expert_intermediate_size": 8, "head_dim": 8}
    layers = ["linear_attention", "full_attention"]
    model = Qwen3NextForCausalLM(Qwen3NextConfig(**SIZE, **more, layer_types=layers))
    with pytest.raises(UserError, match=r"linear_attention.*state across packed documents"):
        refuse_unsupported(model)


@pytest.mark.parametrize("make", [llama, gpt_oss])
def test_ordinary_models_are_not_refused(make):
    refuse_unsupported(make())
