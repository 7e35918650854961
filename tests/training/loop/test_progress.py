from __future__ import annotations

import logging
import warnings

from safekey.training.loop.callbacks import Lines, Progress, progress_callback, summary_line, tidy_console


def test_a_training_log_in_one_line() -> None:
    logs = {
        "loss": 7.2461, "loss_sft": 5.956, "loss_qmm": 5.946, "loss_dpsh": 0.5066, "key_accuracy_visible": 0.034,
        "key_accuracy_hidden": 0.029, "head_auroc_understanding": 0.72, "head_auroc_query_and_understanding": 0.28,
        "tokens_per_second": 1024.4, "mfu": 0.41, "learning_rate": 1e-5,
    }  # fmt: skip
    assert summary_line(logs, 5, 20) == (
        "step 5/20 · loss 7.246 (sft 5.956, qmm 5.946, dpsh 0.507) · K right 3%, hidden 3% · AUROC 0.72, 0.28 · "
        "1,024 tok/s · MFU 41%"
    )


def test_what_is_off_is_left_out() -> None:
    assert summary_line({"loss": 1.0, "loss_sft": 1.0}, 1, 2) == "step 1/2 · loss 1.000 (sft 1.000)"


def test_held_out_rows_are_named_as_such() -> None:
    logs = {"eval_loss": 0.5, "eval_loss_sft": 0.25, "eval_key_accuracy_visible": 1.0, "epoch": 2}
    assert summary_line(logs, 6, 8) == "eval at step 6 · loss 0.500 (sft 0.250) · K right 100%"


def test_closing_statistics_are_no_line() -> None:
    assert summary_line({"train_loss": 0.1, "train_runtime": 3.0}, 8, 8) == ""
    assert summary_line({}, 0, 8) == ""


def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert progress_callback() is Progress
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    assert progress_callback() is Lines


def test_notices_stand_on_their_own_lines_and_once(capsys) -> None:
    ours, theirs = logging.getLogger("safekey.training"), logging.getLogger("transformers.trainer_utils")
    for main in (True, False):
        with tidy_console(main), warnings.catch_warnings(record=True) as seen:
            ours.warning("stopping after this step")
            theirs.warning("The tokenizer has new PAD/BOS/EOS tokens that differ ...")
        assert not seen
        assert capsys.readouterr().err == ("safekey: stopping after this step\n" if main else "")
    assert ours.propagate
