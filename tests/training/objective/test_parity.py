"""The packed step against METHOD.md, written out here: dense masks, two forward passes, a row at a time."""

import random

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from safekey import Spans
from safekey.training import Counts, Encoded, SafetyHeads, count, safekey_loss

torch.set_num_threads(1)  # the models are tiny
VOCAB, WIDTH = 97, 32
ON = {"qmm_weight": 0.2, "head_weight": 0.2, "head_theta": 0.3, "qsm_weight": 0.7, "ksm_weight": 0.6, "key_weight": 0.4}
PARTS = ("sft", "qmm", "dpsh", "qsm", "ksm", "key")
SINKS = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 7, "head_dim": 8}
SINKS |= {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
WINDOWS = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "windows": (Qwen2Config, Qwen2ForCausalLM, WINDOWS),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 16, "sliding_window": 6, "final_logit_softcapping": 5.0}),
    "gpt-oss": (GptOssConfig, GptOssForCausalLM, SINKS),
}


def make(family, dtype=torch.float32, seed=0):
    """A random model whose weights are large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    config_type, model_type, more = FAMILIES[family]
    eager = family in ("gemma2", "gpt-oss")
    config = config_type(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        initializer_range=0.15,
        attn_implementation="eager" if eager else "sdpa",
        **more,
    )
    model, heads = model_type(config), SafetyHeads(WIDTH)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:  # norms, biases, sinks: not the constants they start as
            torch.nn.init.normal_(parameter, 0.0 if "bias" in name or "sinks" in name else 1.0, 0.3)
    return model.to(dtype).train(), heads.to(dtype)


def make_rows(number=6, seed=0):
    draw = random.Random(seed)
    rows = []
    for i in range(number):
        x, before, u, gap, k = draw.randint(3, 9), i % 2, draw.randint(1, 8), draw.choice([0, 0, 3]), draw.randint(1, 6)
        start = x + before
        end = start + u + gap + k
        ids = [draw.randrange(VOCAB) for _ in range(end + draw.randint(0, 25))]
        spans = Spans(slice(0, x), slice(start, start + u), slice(start + u + gap, end))
        label = None if i == 3 else bool(draw.randrange(2))
        rows.append(Encoded(ids, spans, label, response_start=x - 2 if i == 1 else None))
    plain = Encoded([draw.randrange(VOCAB) for _ in range(20)], Spans(slice(0, 5)), True)
    return [*rows[:2], plain, *rows[2:]]


# The oracle. Nothing below uses the package, apart from the rows' own fields and the heads' weights.


def masks(model, length, hidden_before):
    """Additive masks, by kind of layer: causal, the first columns invisible to what comes after them, windows."""
    here, there = torch.arange(length)[:, None], torch.arange(length)[None]
    allowed = (there <= here) & ((there >= hidden_before) | (here < hidden_before))
    window = getattr(model.config, "sliding_window", None)
    dtype = model.lm_head.weight.dtype

    def additive(seen):
        return torch.zeros(1, 1, length, length, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    if "sliding_attention" not in (getattr(model.config, "layer_types", None) or []):
        return additive(allowed)
    return {"full_attention": additive(allowed), "sliding_attention": additive(allowed & (there > here - window))}


def forward(model, ids, hidden_before=0):
    out = model(
        torch.tensor([ids]),
        attention_mask=masks(model, len(ids), hidden_before),
        position_ids=torch.arange(len(ids))[None],
        output_hidden_states=True,
        use_cache=False,
    )
    return out.logits[0], out.hidden_states[-1][0]


def nll(logits, ids, places):
    return [-logits[t - 1].log_softmax(-1)[ids[t]] for t in places]


def mean(values):
    return torch.stack(values).mean()


def oracle(model, heads, rows, swaps, wrongs):
    """Every loss of METHOD.md."""
    sft, qmm, qsm, ksm, key, dpsh = [], [], [], [], [], []
    for row, other, wrong in zip(rows, swaps, wrongs, strict=True):
        ids, x = row.input_ids, row.spans.query.stop
        u, k = row.spans.understanding, row.spans.key_sentence
        logits, hidden = forward(model, ids)
        sft += nll(logits, ids, range(x if row.response_start is None else row.response_start, len(ids)))
        if u.stop == u.start:
            continue
        key += nll(logits, ids, range(k.start, k.stop))
        qmm += nll(forward(model, ids, hidden_before=x)[0], ids, range(k.start, k.stop))
        swapped = [*other, *ids[x : k.stop]]
        qsm += nll(forward(model, swapped)[0], swapped, range(len(swapped) - (k.stop - k.start), len(swapped)))
        if row.harmful is None:
            continue
        again = [*ids[: k.start], *wrong, *ids[u.stop : k.start], *ids[k.start :]]
        ksm += nll(forward(model, again)[0], again, range(len(again) - (len(ids) - k.start), len(again)))
        h_u, h_x = hidden[u], torch.cat([hidden[:x], hidden[u]])
        y = torch.tensor([float(row.harmful)], dtype=hidden.dtype)
        first = F.binary_cross_entropy_with_logits(heads.understanding(h_u.mean(0)), y)
        second = F.binary_cross_entropy_with_logits(heads.query_and_understanding(h_x.mean(0)), y)
        dpsh.append(ON["head_theta"] * first + (1 - ON["head_theta"]) * second)
    found = {"sft": sft, "qmm": qmm, "dpsh": dpsh, "qsm": qsm, "ksm": ksm, "key": key}
    parts = {name: mean(values) for name, values in found.items()}
    weights = {"sft": 1.0, "qmm": 0.2, "dpsh": 0.2, "qsm": 0.7, "ksm": 0.6, "key": 0.4}
    return parts | {"total": sum(weights[name] * part for name, part in parts.items())}


def swaps_for(rows):
    """Each row gets the query of the row before it."""
    return [rows[i - 1].input_ids[rows[i - 1].spans.query] for i in range(len(rows))]


def wrongs_for(rows):
    """Each labelled row with spans gets the key sentence of the row behind it, and two more tokens."""
    lenders = [rows[(i + 1) % len(rows)] for i in range(len(rows))]
    beginnings = [o.input_ids[o.spans.key_sentence.start : o.spans.key_sentence.stop + 2] or [5] for o in lenders]
    return [
        beginning if row.harmful is not None and row.spans.complete else None
        for row, beginning in zip(rows, beginnings, strict=True)
    ]


def lent_to(rows):
    return {"swaps": swaps_for(rows), "wrongs": wrongs_for(rows)}


def gradients(loss, model, heads):
    named = {**dict(model.named_parameters()), **{f"heads.{n}": p for n, p in heads.named_parameters()}}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(p) if grad is None else grad
        for (name, p), grad in zip(named.items(), found, strict=True)
    }


def assert_same_gradients(ours, theirs, tolerance):
    whole = torch.stack([grad.norm() for grad in theirs.values()]).norm()
    for name, grad in theirs.items():  # a gradient that is all rounding has no relative error: hence the floor
        error = (ours[name] - grad).norm() / max(grad.norm(), 1e-3 * whole)
        assert error <= tolerance, (name, float(error))


def assert_parity(model, heads, rows, loss_tolerance, gradient_tolerance, parts=("total", *PARTS)):
    lent = lent_to(rows)
    ours, theirs = safekey_loss(model, heads, rows, **lent, **ON), oracle(model, heads, rows, **lent)
    for name in parts:
        assert getattr(ours, name).item() == pytest.approx(theirs[name].item(), rel=loss_tolerance), name
        assert_same_gradients(
            gradients(getattr(ours, name), model, heads), gradients(theirs[name], model, heads), gradient_tolerance
        )
    return ours


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(("dtype", "loss", "gradient"), [(torch.float32, 1e-5, 1e-4), (torch.float64, 1e-10, 1e-10)])
def test_every_loss_and_gradient(family, dtype, loss, gradient, seed):
    model, heads = make(family, dtype, seed)
    assert_parity(model, heads, make_rows(seed=seed), loss, gradient)


@pytest.mark.parametrize("family", ["windows", "gemma2", "gpt-oss"])
def test_windows_soft_caps_and_sinks(family):
    model, heads = make(family)
    assert_parity(model, heads, make_rows(), 1e-5, 1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_gradient_checkpointing(family):
    model, heads = make(family)
    model.gradient_checkpointing_enable()
    assert_parity(model, heads, make_rows(), 1e-5, 1e-4, parts=("total", "qmm"))


def test_bfloat16_loosely():
    model, heads = make("llama", torch.bfloat16)
    rows = make_rows()
    ours = safekey_loss(model, heads, rows, **lent_to(rows), **ON)
    theirs = oracle(*make("llama", torch.float64), rows, **lent_to(rows))
    for name in ("total", *PARTS):
        assert getattr(ours, name).item() == pytest.approx(theirs[name].item(), rel=0.05), name


def test_one_weight_at_a_time_gives_the_same_part():
    model, heads = make("llama", torch.float64)
    rows = make_rows()
    lent, theirs = lent_to(rows), oracle(model, heads, rows, **lent_to(rows))
    off = dict.fromkeys(("qmm_weight", "head_weight", "qsm_weight", "ksm_weight", "key_weight"), 0.0)
    for part in ("qmm", "qsm", "ksm", "key"):
        out = safekey_loss(model, heads, rows, **lent, **(off | {f"{part}_weight": 1.0}))
        assert out.total.item() == pytest.approx((theirs["sft"] + theirs[part]).item(), rel=1e-10)
        assert [getattr(out, other).item() for other in PARTS[1:] if other != part] == [0.0] * 4
    out = safekey_loss(model, None, rows, **off)
    assert out.total.item() == pytest.approx(theirs["sft"].item(), rel=1e-10)


@pytest.mark.parametrize("part", PARTS)
def test_each_loss_alone_reaches_the_backbone(part):
    model, heads = make("llama", torch.float64)
    rows = make_rows()
    out = safekey_loss(model, heads, rows, **lent_to(rows), **ON)
    getattr(out, part).backward()
    assert model.model.embed_tokens.weight.grad.norm() > 0
    assert model.model.layers[0].self_attn.q_proj.weight.grad.norm() > 0


def test_micro_batches_with_global_counts_sum_to_the_whole():
    model, heads = make("qwen2", torch.float64)
    rows = make_rows(7)
    swaps, wrongs = swaps_for(rows), wrongs_for(rows)
    whole = safekey_loss(model, heads, rows, swaps=swaps, wrongs=wrongs, **ON)
    wanted = gradients(whole.total, model, heads)
    total = count(rows)
    assert total == sum((count([row]) for row in rows), Counts(0, 0, 0, 0))
    cuts = [(0, 1), (1, 4), (4, len(rows))]
    pieces = [
        safekey_loss(model, heads, rows[a:b], swaps=swaps[a:b], wrongs=wrongs[a:b], counts=total, **ON) for a, b in cuts
    ]
    for name in ("total", *PARTS):
        assert sum(getattr(piece, name).item() for piece in pieces) == pytest.approx(getattr(whole, name).item(), 1e-12)
    assert_same_gradients(gradients(sum(piece.total for piece in pieces), model, heads), wanted, 1e-10)


def test_order_and_company_change_nothing():
    model, heads = make("llama", torch.float64)
    rows = make_rows()
    ours = [safekey_loss(model, heads, order, counts=count(rows), qsm_weight=0.0) for order in (rows, rows[::-1])]
    assert ours[0].total.item() == pytest.approx(ours[1].total.item(), rel=1e-12)


def test_labelled_rows_alone_have_head_logits():
    model, heads = make("llama")
    out = safekey_loss(model, heads, make_rows())
    assert len(out.metrics.head_logits) == len(out.metrics.harmful) == count(make_rows()).examples == 5
