"""Each pure function of the losses against its formula."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from safekey.training import SafetyHeads
from safekey.training.objective.losses import dual_path_loss, linear_cross_entropy

torch.set_num_threads(1)
TARGETS, WIDTH, VOCAB = 37, 12, 50


def head_of(kind, dtype=torch.float64):
    """The fused way (a plain head), and the ways that must not be fused."""
    torch.manual_seed(3)
    head = nn.Linear(WIDTH, VOCAB, bias=kind == "bias").to(dtype)
    if kind == "hooked":
        head.register_forward_hook(lambda module, args, out: 1.5 * out)
    if kind == "capped":
        return head, lambda states: 3 * torch.tanh(head(states) / 3)
    if kind == "patched":
        head.forward = lambda states: 1.5 * nn.functional.linear(states, head.weight)
    return head, head


def inputs(dtype=torch.float64):
    torch.manual_seed(5)
    hidden = torch.randn(TARGETS, WIDTH, dtype=dtype, requires_grad=True)
    return hidden, torch.randint(VOCAB, (TARGETS,)), torch.rand(TARGETS, dtype=dtype)


def formula(hidden, targets, call):
    """-log softmax(head(h))[target], and whether the target is the likeliest."""
    logits = call(hidden)
    each = -(logits.exp() / logits.exp().sum(-1, keepdim=True)).log()[torch.arange(len(targets)), targets]
    return each, logits.argmax(-1) == targets


@pytest.mark.parametrize("kind", ["plain", "bias", "hooked", "capped", "patched"])
@pytest.mark.parametrize("chunk", [1, 10, 37, 1000, None])
def test_cross_entropy(kind, chunk):
    hidden, targets, weights = inputs()
    head, call = head_of(kind)
    targets[::3] = call(hidden).argmax(-1)[::3]  # so that some are right
    out = linear_cross_entropy(hidden, targets, weights, call, VOCAB, chunk)
    each, right = formula(hidden, targets, call)
    torch.testing.assert_close(out.losses, each)
    torch.testing.assert_close(out.total, (weights * each).sum())
    assert out.hits.equal(right)
    assert right.any()
    others = torch.linspace(-1, 2, TARGETS, dtype=torch.float64)
    for ours, theirs in (
        (out.total, (weights * each).sum()),  # the gradient that was ready
        ((others * out.losses).sum(), (others * each).sum()),  # the recomputed one
        (3 * out.total - out.losses[4], 3 * (weights * each).sum() - each[4]),  # both at once
    ):
        wanted = torch.autograd.grad(theirs, [hidden, *head.parameters()], retain_graph=True)
        for _ in range(2):  # a second backward gives the same again
            found = torch.autograd.grad(ours, [hidden, *head.parameters()], retain_graph=True)
            torch.testing.assert_close(found, wanted)


def test_a_plain_head_is_called_once_per_chunk_and_others_recompute():
    """What `_is_plain` decides is visible in the graph."""
    hidden, targets, weights = inputs()
    for kind, fused in (("plain", True), ("bias", True), ("hooked", False), ("patched", False), ("capped", False)):
        total = linear_cross_entropy(hidden, targets, weights, head_of(kind)[1], VOCAB).total
        assert ("LinearCrossEntropy" in type(total.grad_fn).__name__) == fused, kind


def test_a_frozen_head_and_frozen_states():
    hidden, targets, weights = inputs()
    head = head_of("plain")[0].requires_grad_(False)
    linear_cross_entropy(hidden, targets, weights, head, VOCAB, 10).total.backward()
    wanted = torch.autograd.grad((weights * formula(hidden, targets, head)[0]).sum(), hidden)[0]
    torch.testing.assert_close(hidden.grad, wanted)
    assert head.weight.grad is None
    head.requires_grad_(True)
    linear_cross_entropy(hidden.detach(), targets, weights, head, VOCAB, 10).total.backward()
    assert head.weight.grad.norm() > 0


def test_without_gradients_and_without_targets():
    hidden, targets, weights = inputs()
    head = head_of("plain")[0]
    with torch.no_grad():
        out = linear_cross_entropy(hidden, targets, weights, head, VOCAB, 10)
    torch.testing.assert_close(out.losses, formula(hidden, targets, head)[0].detach())
    none = linear_cross_entropy(hidden[:0], targets[:0], weights[:0], head, VOCAB)
    assert none.total.item() == 0.0
    assert none.losses.shape == none.hits.shape == (0,)
    none.total.backward()  # connected: a wrapper that waits for gradients gets one
    assert hidden.grad.norm() == 0


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision(autocast):
    hidden, targets, weights = inputs(torch.float32 if autocast else torch.bfloat16)
    head = head_of("plain", hidden.dtype)[0]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = linear_cross_entropy(hidden, targets, weights, head, VOCAB, 10)
    out.total.backward()
    assert out.losses.dtype == torch.float32
    assert (hidden.grad.dtype, head.weight.grad.dtype) == (hidden.dtype, hidden.dtype)
    exact, exact_head = hidden.detach().double().requires_grad_(), head_of("plain")[0]
    exact_head.weight.data.copy_(head.weight)
    each = formula(exact, targets, exact_head)[0]
    torch.testing.assert_close(out.losses.double(), each, rtol=0.02, atol=0.02)
    of_hidden, of_weight = torch.autograd.grad((weights.double() * each).sum(), [exact, exact_head.weight])
    assert (hidden.grad - of_hidden).norm() < 0.02 * of_hidden.norm()
    assert (head.weight.grad - of_weight).norm() < 0.02 * of_weight.norm()


def test_dual_path_loss():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)
    p = 1 / (1 + (-logits).exp())
    wanted = torch.stack(
        [
            0.3 * -p[0, 0].log() + 0.7 * -p[0, 1].log(),  # harmful
            0.3 * -(1 - p[1, 0]).log() + 0.7 * -(1 - p[1, 1]).log(),  # benign
        ]
    )
    torch.testing.assert_close(dual_path_loss(logits, torch.tensor([1, 0]), 0.3), wanted)


@pytest.mark.parametrize("pooling", ["mean", "max", "last"])
def test_heads_pool_u_and_x_with_u(pooling):
    heads, hidden = SafetyHeads(WIDTH, pooling).double(), torch.randn(30, WIDTH, dtype=torch.float64)
    pool = torch.tensor([[0, 4, 6, 9], [12, 15, 15, 16]])
    wanted = []
    for x0, x1, u0, u1 in pool.tolist():
        u, both = hidden[u0:u1], torch.cat([hidden[x0:x1], hidden[u0:u1]])
        pooled = {"mean": lambda t: t.mean(0), "max": lambda t: t.max(0).values, "last": lambda t: t[-1]}[pooling]
        wanted.append(torch.cat([heads.understanding(pooled(u)), heads.query_and_understanding(pooled(both))]))
    torch.testing.assert_close(heads(hidden, pool), torch.stack(wanted))


SHAPES = """
from jaxtyping import install_import_hook
with install_import_hook("safekey.training", "beartype.beartype"):
    import torch
    from safekey import Spans
    from safekey.training.objective import losses
    from safekey.training import Encoded, SafetyHeads, safekey_loss
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
spans = Spans(slice(0, 3), slice(3, 5), slice(5, 7))
rows = [Encoded(list(range(start, start + 9)), spans, bool(start % 2)) for start in range(4)]
model = LlamaForCausalLM(config)
safekey_loss(model, SafetyHeads(16), rows, qsm_weight=0.5, key_weight=0.5).total.backward()
try:
    losses.dual_path_loss(torch.zeros(3, 2), torch.zeros(4, dtype=torch.long))
except Exception as error:
    print("refused:", type(error).__name__)
"""


@pytest.mark.slow
def test_shapes_in_annotations_hold():
    pytest.importorskip("beartype")
    done = subprocess.run([sys.executable, "-c", SHAPES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused: TypeCheckError" in done.stdout


def test_fp16_is_left_to_autograd() -> None:
    """Its gradients underflow unless the loss is scaled first: 1/count of a large step is below fp16's smallest."""
    torch.manual_seed(0)
    hidden, head = torch.randn(4, 8, dtype=torch.float16, requires_grad=True), torch.nn.Linear(8, 16).half()
    targets, weights = torch.arange(4), torch.full((4,), 1e-9)
    total = linear_cross_entropy(hidden, targets, weights, head, 16).total
    (total * 1e9).backward()
    assert hidden.grad.abs().min() > 0
