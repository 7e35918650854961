"""The trainer's parts: the deal of rows, the config, metrics, evaluation, the log."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import config, rows, trainer
from torch.utils.data import DataLoader

from safekey import Spans
from safekey.errors import UserError
from safekey.stats.auroc import area
from safekey.training import Encoded, SafeKeyCollator, SafeKeyConfig, SafeKeyTrainer, detach, safekey_loss
from safekey.training.command.dry_run import longest_pass
from safekey.training.loop.batches import BatchPlan, MicroBatch, deal
from safekey.training.loop.metrics import padded_tokens
from safekey.training.objective.pack import pack
from safekey.training.objective.swaps import wrong_beginnings
from toys import example, llama, tokenizer

OFF = dict.fromkeys(("qmm", "dpsh", "qsm", "ksm", "key"), 0.0)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 4),
    st.none() | st.integers(1, 120),
)
def test_a_deal_gives_every_row_once_and_as_many_passes_to_every_rank(costs, ranks, least, cap) -> None:
    hands = deal(costs, ranks, least, cap)
    assert len(hands) == ranks
    assert {len(hand) for hand in hands} == {max(len(hand) for hand in hands)}
    passes = [one for hand in hands for one in hand]
    assert sorted(row for one in passes for row in one) == list(range(len(costs)))
    if cap is not None:
        assert all(sum(costs[i] for i in one) <= cap or len(one) <= 1 for one in passes)
    assert hands == deal(costs, ranks, least, cap)


def test_a_deal_is_even() -> None:
    draw = random.Random(0)
    costs = [draw.randint(200, 4000) for _ in range(128)]
    loads = [sum(costs[i] for one in hand for i in one) for hand in deal(costs, 8, 4, None)]
    assert max(loads) / min(loads) < 1.02


@pytest.mark.parametrize(("world", "micro", "accumulation"), [(1, 8, 1), (1, 1, 8), (2, 2, 2), (4, 2, 1)])
def test_an_epoch_is_every_row_once_whatever_the_split(tmp_path, world, micro, accumulation) -> None:
    data = rows(21)
    args = config(tmp_path, per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation, seed=1)
    plans = [BatchPlan(data, args, world=world, rank=rank) for rank in range(world)]
    assert plans[0].steps_per_epoch == 3
    for epoch in range(2):
        seen = []
        for step in range(3 * epoch, 3 * epoch + 3):
            number = 1 if step % 3 == 2 and accumulation == 8 else accumulation
            works = [plan.work(step, number, OFF) for plan in plans]
            pieces = [piece for work in works for passes in work.passes for piece in passes]
            seen += [id(row) for piece in pieces if not piece.idle for row in piece.rows]
        assert sorted(seen) == sorted(map(id, data))
    assert plans[0].order(0) != plans[0].order(1)


def test_a_wrong_beginning_is_a_key_sentence_of_the_other_label_and_what_follows_it() -> None:
    data = [*rows(12), replace(rows(1)[0], harmful=None), Encoded([1, 2, 3, 4], Spans(slice(0, 2)), True)]
    found = wrong_beginnings(data, seed=5, rest=4)
    assert found == wrong_beginnings(data, seed=5, rest=4) != wrong_beginnings(data, seed=6, rest=4)
    lengths = set()
    for row, wrong in zip(data, found, strict=True):
        if row.harmful is None or not row.spans.complete:
            assert wrong is None
            continue
        fits = [
            len(wrong) - (k.stop - k.start)
            for other in data
            if other.harmful is not row.harmful and (k := other.spans.key_sentence)
            if other.input_ids[k.start : k.start + len(wrong)] == wrong and k.start + len(wrong) < len(other.input_ids)
        ]
        assert fits
        assert all(0 <= more <= 4 for more in fits)
        lengths |= set(fits)
    assert len(lengths) > 2
    assert all(len(wrong) <= 6 for wrong in wrong_beginnings(data, 5, rest=0) if wrong)  # K alone, of 6 tokens at most
    assert wrong_beginnings([row for row in data if row.harmful], 5, rest=4) == [None] * sum(
        bool(row.harmful) for row in data
    )


def test_the_forecast_and_the_cap_count_every_document(tmp_path) -> None:
    """The longest pass foreseen is the longest pass made, with every objective on."""
    on = {f"{name}_weight": 0.1 for name in ("qmm", "qsm", "ksm")} | {
        f"{name}_epochs": -1 for name in ("qmm", "qsm", "ksm")
    }
    made = trainer(tmp_path, **on, head_weight=0.0, per_device_train_batch_size=4, max_tokens_per_micro_batch=200)
    seen = []
    whole = made.training_step

    def look(model, inputs, count=None):
        seen.extend(pack_of(piece) for piece in inputs["passes"])
        return whole(model, inputs, count)

    def pack_of(piece):
        packed = pack(piece.rows, qmm=True, swaps=piece.swaps, wrongs=piece.wrongs)
        return packed.input_ids.shape[1], len(packed.targets)

    made.training_step = look
    made.train()
    assert longest_pass(made.plan, made.args, 1, made.state.max_steps) == tuple(map(max, zip(*seen, strict=True)))
    assert len(seen) > made.state.max_steps  # the cap has split steps
    assert max(seen)[0] <= 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qmm_weight": -0.1}, "qmm_weight is -0.1, expected a number ≥ 0"),
        ({"head_weight": float("nan")}, "head_weight is nan"),
        ({"head_theta": 1.5}, r"head_theta is 1.5, expected a number in \[0, 1\]"),
        ({"qmm_epochs": -2}, "qmm_epochs is -2"),
        ({"ksm_weight": "much"}, "ksm_weight is 'much', expected a number ≥ 0"),
        ({"ksm_rest": -1}, "ksm_rest is -1, expected a number of tokens ≥ 0"),
        ({"head_pooling": "sum"}, "one of .*mean"),
        ({"max_length": None}, "max_length"),
        ({"max_tokens_per_micro_batch": 0}, "max_tokens_per_micro_batch is 0"),
        ({"head_learning_rate": 0.0}, "head_learning_rate"),
        ({"packing": True}, "packing=True does not work with SafeKey: SafeKey packs"),
        ({"neftune_noise_alpha": 5.0}, "neftune"),
        ({"train_sampling_strategy": "group_by_length"}, "dealt evenly"),
    ],
)
def test_a_wrong_value_is_one_clear_error(changes, words) -> None:
    with pytest.raises(UserError, match=words):
        SafeKeyConfig(**changes)


@pytest.mark.filterwarnings("error::FutureWarning")
def test_the_config_warns_of_nothing_that_only_trl_can_mend() -> None:
    SafeKeyConfig(use_cpu=True, gradient_checkpointing=True)


def test_the_config_works_on_a_cpu() -> None:
    made = SafeKeyConfig(use_cpu=True)
    assert (made.bf16, made.max_length, made.remove_unused_columns) == (False, 8192, False)


def test_every_field_is_described() -> None:
    ours = set(SafeKeyConfig.__dataclass_fields__) - set(SafeKeyConfig.__mro__[1].__dataclass_fields__)
    assert {name for name in ours if not SafeKeyConfig.__dataclass_fields__[name].metadata.get("help")} == set()


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(pairs) -> None:
    positive = [score for score, label in pairs if label]
    negative = [score for score, label in pairs if not label]
    found = area([score for score, _ in pairs], [label for _, label in pairs])
    if not positive or not negative:
        assert found is None
        return
    ordered = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    assert found == pytest.approx(ordered / (len(positive) * len(negative)))


def test_padded_tokens() -> None:
    assert padded_tokens([[3, 5], [2], []]) == 2 * 5 + 2


def test_the_collator_in_a_loop_of_ones_own() -> None:
    data = rows(5)
    batches = list(DataLoader(data, batch_size=2, collate_fn=SafeKeyCollator()))
    assert [len(batch["rows"]) for batch in batches] == [2, 2, 1]
    assert batches[0]["rows"][0] is data[0]
    with pytest.raises(UserError, match="got a dict, expected Encoded"):
        SafeKeyCollator()([{}])


def test_evaluation_weighs_tokens_not_batches(tmp_path) -> None:
    held_out = [*rows(5, 9), Encoded([1, 2, 3, 4], Spans(slice(0, 2)))]  # the last one takes part in SFT only
    made = trainer(tmp_path, eval_dataset=held_out, qsm_weight=0.5, ksm_weight=0.3, per_device_eval_batch_size=2)
    made.model.train()
    found = made.evaluate()
    with torch.no_grad():
        whole = safekey_loss(made.model, None, held_out, key_weight=1.0, qmm_weight=1.0)
    for name in ("sft", "qmm", "dpsh", "key"):
        assert found[f"eval_loss_{name}"] == pytest.approx(float(getattr(whole, name)), abs=1e-6)
    expected = found["eval_loss_sft"] + 0.2 * found["eval_loss_qmm"] + 0.2 * found["eval_loss_dpsh"]
    expected += 0.5 * found["eval_loss_qsm"] + 0.3 * found["eval_loss_ksm"]
    assert found["eval_loss"] == pytest.approx(expected)
    with torch.no_grad():  # drawn among all held-out rows, not inside a pass
        lent = MicroBatch.of(held_out, made.args.seed, made.weights, made.args.ksm_rest)
        whole_ksm = safekey_loss(made.model, None, held_out, ksm_weight=1.0, wrongs=lent.wrongs).ksm
    assert found["eval_loss_ksm"] == pytest.approx(float(whole_ksm), abs=1e-6)
    right, total = whole.metrics.key_hits["qmm"]
    assert found["eval_key_accuracy_hidden"] == pytest.approx(int(right) / total)
    assert found["eval_rows"] == 6
    assert made.model.training
    assert all(parameter.grad is None for parameter in made.model.parameters())
    named = made.evaluate({"a": held_out[:2], "b": held_out[2:]})
    assert {"eval_a_loss", "eval_b_loss"} <= set(named)


def test_the_log_has_every_loss_apart_and_what_is_off_is_absent(tmp_path) -> None:
    made = trainer(tmp_path, qmm_epochs=1, head_epochs=1, logging_steps=2, eval_dataset=rows(3), eval_strategy="epoch")
    made.train()
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "learning_rate" in line]
    assert [line["step"] for line in trained] == [1, 2, 4, 6]
    always = {"loss", "loss_sft", "key_accuracy_visible", "tokens_per_second", "packing_efficiency", "peak_memory_gib"}
    assert all(always | {"step_seconds", "grad_norm", "epoch"} <= set(line) for line in trained)
    assert "loss_qmm" not in trained[1]
    assert {"loss_qmm", "loss_dpsh", "key_accuracy_hidden", "head_auroc_understanding"} <= set(trained[3])
    assert not [line for line in lines if {"loss_qsm", "loss_ksm", "loss_key"} & set(line)]
    total = trained[3]["loss_sft"] + 0.2 * trained[3]["loss_qmm"] + 0.2 * trained[3]["loss_dpsh"]
    assert trained[3]["loss"] == pytest.approx(total, abs=1e-5)
    assert all(0 < line["packing_efficiency"] <= 1 for line in trained)
    assert [line["step"] for line in lines if "eval_loss" in line] == [3, 6]


def test_examples_are_encoded_and_what_cannot_be_is_reported(tmp_path, caplog) -> None:
    examples = [example(harmful=True), example(harmful=False), example(question="long " * 300), example()]
    cut = replace(example(), understanding_end=None, key_sentence_end=None)
    made = SafeKeyTrainer(
        llama(len(tokenizer())),
        config(tmp_path, max_length=300, self_test=True, max_steps=1),
        [*examples, cut],
        processing_class=tokenizer(),
    )
    assert made.data_counts == {"rows": 4, "sft_only": 1, "harmful": 2, "benign": 1, "left_out": 1}
    assert len(made.problems) == 1
    assert "max_length is 300" in str(made.problems[0])
    assert "1 of 5 rows are left out" in caplog.text
    made.train()
    with pytest.raises(UserError, match="no rows to train on"):
        trainer(tmp_path, [example(question="long " * 300)], max_length=50)


def test_the_model_is_as_it_was_when_the_heads_are_taken_off(tmp_path) -> None:
    model = llama()
    names = list(model.state_dict())
    made = trainer(
        tmp_path, [Encoded([i % 90 for i in row.input_ids], row.spans, row.harmful) for row in rows(8)], model=model
    )
    assert detach(made.model) is made.heads
    assert list(model.state_dict()) == names


def test_context_parallelism_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(SafeKeyTrainer, "get_cp_size", lambda self: 2)
    with pytest.raises(UserError, match="context parallelism"):
        trainer(tmp_path)


def test_training_in_bf16_on_a_cpu(tmp_path) -> None:
    """Mixed precision reaches the packed step through accelerate's wrapper, heads stay in fp32."""
    made = trainer(tmp_path, bf16=True, head_epochs=-1)
    exact = trainer(tmp_path / "fp32", head_epochs=-1)
    made.train()
    exact.train()
    assert all(parameter.dtype == torch.float32 for parameter in made.heads.parameters())
    ours, theirs = made.state.log_history[0]["loss"], exact.state.log_history[0]["loss"]
    assert ours == pytest.approx(theirs, rel=5e-3)
    assert ours != theirs
