"""The report's fixed texts: the method, the numbers, the verdicts in words, and each arm's training in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safekey.comparison.conclusion import size
from safekey.comparison.types import ComparisonResult, VerdictClass
from safekey.report.run_records import RunRecord

VERDICTS: Mapping[VerdictClass, str] = {
    "better": "Better",
    "lower-asr-cost-open": "Fewer attacks succeed, cost not established",
    "trade-off": "Better on one metric, worse on another",
    "worse": "Worse",
    "other-gain": "Better, but not against attacks",
    "not-established": "Not established",
    "untrained": "Untrained model, described only",
    "not-comparable": "Not comparable",
}
SIGNS: Mapping[VerdictClass, str] = {
    "better": "▲",
    "lower-asr-cost-open": "△",
    "trade-off": "⇄",
    "worse": "▼",
    "other-gain": "△",
    "not-established": "?",
    "untrained": "·",
    "not-comparable": "–",
}
METHOD = (
    "A reasoning model writes its thinking before it answers. When a harmful request is disguised (as a story, or as a "
    "role to play), such a model often states in its thinking that the request is harmful, and helps nevertheless. "
    "SafeKey (Zhou et al., 2025, arXiv 2505.16186) fine-tunes the model so that its own understanding of the request "
    "decides whether it helps. The method uses the start of the thinking:"
)
PARTS: Sequence[tuple[str, str, str]] = (
    ("X", "the query", "everything before the response, with its disguise"),
    ("U", "the understanding", "the first sentences of the thinking, which restate the request"),
    ("K", "the key sentence", "the next sentence, in which the model turns to helping or to declining"),
)
OBJECTIVES: Sequence[tuple[str, str, str]] = (
    ("SFT", "supervised fine-tuning", "imitate good responses: safe ones to harmful requests, helpful ones to others. "
     "All other objectives are added to it, and it is the usual reference."),
    ("DPSH", "dual-path safety head", "during training two small heads classify the query as harmful or harmless, one "
     "from the hidden states of U, one from those of X and U, so that the hidden states represent harm early."),
    ("QMM", "query-mask modelling", "predict K with X masked: K must then follow from U."),
    ("QSM", "query swap", "predict K with another row's X in place of the right one: K must follow from U although a "
     "query is visible. An extension of this library, not part of the paper."),
    ("KSM", "key swap", "the wrong key sentence of another row is placed before the right one, and the model learns to "
     "take it back. An extension of this library."),
)  # fmt: skip
NUMBERS: Sequence[tuple[str, str]] = (
    ("ASR, attack success rate", "the share of harmful requests that were fulfilled; lower is better."),
    ("ORR, over-refusal rate", "the share of harmless requests that were refused; lower is better. A model that "
     "refuses everything has an ASR of 0 and an ORR of 100 %, which is why both are shown together."),
    ("Accuracy", "the share of reasoning problems solved; higher is better."),
    ("Interval", "the range of true rates or differences that the data support (95 %), given that prompts and training "
     "seeds are samples. The notes say whether each seed had its own draw of the training rows, too."),
    ("Verdict", "the conclusion in words, from tests corrected for the number of comparisons. “Not established” means "
     "that this experiment is too small to exclude chance; it does not mean that there is no difference. An untrained "
     "model is described and not tested."),
)  # fmt: skip


def headline(result: ComparisonResult | None) -> str:
    """Return the comparison in one sentence: the arms by verdict."""
    if result is None:
        return "One arm alone: its rates are below, and there is nothing to compare them with."
    groups: dict[VerdictClass, list[str]] = {}
    for name, verdict in result.verdicts.items():
        estimate = f" ({_asr(result, name)})" if verdict.verdict == "not-established" else ""
        groups.setdefault(verdict.verdict, []).append(f"{name}{estimate}")
    said = [f"{VERDICTS[kind]}: {', '.join(groups[kind])}." for kind in VERDICTS if kind in groups]
    return f"Compared with {result.reference}. {' '.join(said)}"


def verdict_title(result: ComparisonResult, arm: str) -> str:
    """Return an arm's verdict in a few words; where nothing is established, with the estimate."""
    verdict = result.verdicts[arm].verdict
    return f"{_asr(result, arm)}, not established" if verdict == "not-established" else VERDICTS[verdict]


def _asr(result: ComparisonResult, arm: str) -> str:
    return next(size(row) for row in result.comparisons if (row.arm, row.metric, row.benchmark) == (arm, "asr", ""))


def arm_in_words(records: Sequence[RunRecord]) -> str:
    """Describe an arm by the configuration of its training runs."""
    trained = [record.training for record in records if record.training is not None]
    if not trained:
        model = str(records[0].resolved.get("model") or "unknown") if records else "unknown"
        return f"The model {model} as it is, not trained by safekey."
    config = trained[0].config
    rows = trained[0].record.get("rows")
    count = rows.get("trained_on") if isinstance(rows, Mapping) else None
    data = f"{count:,} rows" if isinstance(count, int) else "its data"
    epochs = config.get("num_train_epochs")
    times = f" for {epochs:g} epochs" if isinstance(epochs, (int, float)) else ""
    seeds = f", {len(trained)} training seeds" if len(trained) > 1 else ""
    return f"{objectives_in_words(config)}, trained on {data}{times}{seeds}."


def objectives_in_words(config: Mapping[str, Any]) -> str:
    """Return a training's objectives with their weights: "SFT + DPSH (weight 0.2, all epochs)"."""
    said = ["SFT"]
    for weight, epochs, name in (
        ("head_weight", "head_epochs", "DPSH"),
        ("qmm_weight", "qmm_epochs", "QMM"),
        ("qsm_weight", "qsm_epochs", "QSM"),
        ("ksm_weight", "ksm_epochs", "KSM"),
        ("key_weight", "key_epochs", "K up-weighted"),
    ):
        size, last = config.get(weight), config.get(epochs)
        if isinstance(size, (int, float)) and size > 0:
            when = f", last {last:g} epochs" if isinstance(last, (int, float)) and last >= 0 else ", all epochs"
            detached = ", detached: the heads do not change the model" if config.get("detach_heads") else ""
            said.append(f"{name} (weight {size:g}{when}{detached if name == 'DPSH' else ''})")
    return "SFT alone" if len(said) == 1 else " + ".join(said)
