"""The table of benchmarks: source, choice of rows and scoring of each.

One row, in short::

    Benchmark("xstest-safe", "over-refusal", "refusal", size=250, hub="Paul/XSTest", keep="benign", files=("xstest*",))

`load.py` loads them. A hub revision is a confirmed commit; None: the user must name one, so that no run follows a
moving branch unnoticed. docs/benchmarks.md shows the table in words.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from safekey.errors import UserError
from safekey.evals.benchmarks.evidence import agreement_rows, reproduced_row

Suite = Literal["safety", "over-refusal", "reasoning"]
Scoring = Literal["harm", "refusal", "math", "integer", "choice", "code"]
Kind = Literal["request", "prefill", "conversation", "math", "choice", "code"]
Pick = Literal["all", "every-5th", "seeded", "wildchat", "harmbench", "sorry-bench", "coconot"]


class HubSource(NamedTuple):
    """A hub data set: its id, the pinned commit (None: the user must name one), configuration and split."""

    id: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One row of the table.

    Attributes:
        name: as users type it.
        suite: "safety", "over-refusal" or "reasoning".
        scoring: "harm" and "refusal" need a judge; "math" (math-verify), "integer" (exact), "choice" (exact letter) and
            "code" (tests in a sandbox) do not.
        kind: how a row becomes a prompt.
        size: how many prompts the published selection holds; None: it depends on the file.
        files: patterns of file names in a data folder, the most specific first; lower case.
        folders: names of folders in which a file with a general name (test, data, …) is its; see `columns.plain`.
        title: its published name.
        licence: as its publisher states it, or "unknown".
        hub: the hub data set, or None.
        keep: keep only rows with this label; None: labels do not matter.
        pick: which of these rows are chosen, see `selection.py`.
        rule: the choice in words.
        draw: how many rows are drawn by seed, for "seeded".
        seed: the published seed.
        gated: whether the hub asks for an agreement first.
        parts: where it is published as several files without column names, the pattern of their names (`parts.py`).
        own: the kind of a benchmark of the user's own (`own.py`); "" for a row of this table.
    """

    name: str
    suite: Suite
    scoring: Scoring
    kind: Kind
    size: int | None
    files: tuple[str, ...]
    title: str
    licence: str = "unknown"
    hub: HubSource | None = None
    keep: Literal["harmful", "benign"] | None = None
    pick: Pick = "all"
    rule: str = "every row"
    draw: int | None = None
    seed: int = 0
    gated: bool = False
    folders: tuple[str, ...] = ()
    parts: str = ""
    own: str = ""

    @property
    def needs(self) -> str:
        """Return in words what it needs besides a model."""
        means = {"harm": "a harm judge", "refusal": "a refusal judge", "code": "docker, or --unsafe-local-exec"}
        extra = ["an engine that prefills token for token"] if self.kind == "prefill" else []
        extra += ["a licence agreement at the hub"] if self.gated else []
        return "; ".join([means.get(self.scoring, "nothing else"), *extra])


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "strongreject", "safety", "harm", "request", 313,
        ("strongreject_dataset.*", "strongreject.*", "strong_reject*", "strong-reject*", "strongreject*"),
        "StrongREJECT", "MIT", HubSource("walledai/StrongREJECT", None, None, "train"), gated=True,
        folders=("strongreject",),
    ),
    Benchmark(
        "jailbreakbench", "safety", "harm", "request", 100,
        ("harmful-behaviors.*", "jbb*harmful*", "jailbreakbench*harmful*", "jailbreakbench.*", "jbb*",
         "jailbreakbench*"),
        "JailbreakBench, harmful behaviours", "MIT",
        HubSource("JailbreakBench/JBB-Behaviors", None, "behaviors", "harmful"),
        keep="harmful", rule="the harmful behaviours",
        folders=("jailbreakbench", "jbb", "jbbbehaviors", "jbbbehaviours"),
    ),
    Benchmark(
        "wildjailbreak", "safety", "harm", "request", 250,
        ("wildjailbreak*eval*", "*wildjailbreak*/eval*", "wildjailbreak.*", "wild_jailbreak*", "wildjailbreak*"),
        "WildJailbreak, adversarial harmful (evaluation split)", "ODC-BY-1.0",
        HubSource("allenai/wildjailbreak", None, "eval", "train"),
        keep="harmful", pick="seeded", draw=250, seed=42, gated=True,
        rule="rows of data_type adversarial_harmful; 250 drawn as `datasets` does: shuffle(seed=42).select(range(250))",
        folders=("wildjailbreak",),
    ),
    Benchmark(
        "wildchat-toxic", "safety", "harm", "request", None,
        ("wildchat.*", "wildchat*toxic*", "wildchat*"),
        "WildChat, toxic first turns", "ODC-BY-1.0", HubSource("allenai/WildChat-1M-Full", None, None, "train"),
        pick="wildchat", gated=True,
        rule="toxic, English, one turn, last turn flagged; the 100 highest scores of each moderation category",
        folders=("wildchat", "wildchattoxic", "wildchat1mfull"),
    ),
    Benchmark(
        "harmbench", "safety", "harm", "request", 300,
        ("harmbench_behaviors_text_all.*", "harmbench*all*", "harmbench.*", "harmbench*", "*harmbench*/*standard*"),
        "HarmBench, text behaviours", "MIT", HubSource("walledai/HarmBench", None, "standard", "train"),
        pick="harmbench", gated=True,
        rule="standard and contextual behaviours; HarmBench scores the copyright ones by hashes, not by a harm judge",
        folders=("harmbench",),
    ),
    Benchmark(
        "air-bench", "safety", "harm", "request", 1139,
        ("air-bench*", "air_bench*", "airbench*"),
        "AIR-Bench 2024", "unknown",
        # The commit is the one that Stanford's HELM pins in its own scenario.
        HubSource("stanford-crfm/air-bench-2024", "976d9fbb0f52bce704dcbef5bd7a2652e65f2a21", "default", "test"),
        pick="every-5th", rule="rows 1, 6, 11, …",
        folders=("airbench", "airbench2024"),
    ),
    Benchmark(
        "star1", "safety", "harm", "request", 200,
        ("star1.*", "star-1.*", "star_1.*", "star1*", "star-1*"),
        "STAR-1 (training data by design)", "unknown",
        HubSource("UCSC-VLAA/STAR-1", "358cd9088e71c8564e6c05ca58822cc3bdb66811", None, "train"),
        pick="every-5th", rule="rows 1, 6, 11, …: harmful requests that models of this kind were trained on",
        folders=("star1",),
    ),
    Benchmark(
        "sorry-bench", "safety", "harm", "request", 440,
        ("sorry-bench.*", "sorry_bench.*", "sorrybench.*", "*sorry*bench*/question.*", "sorry*bench*"),
        "SORRY-Bench, base prompts", "sorry-bench (its own)",
        HubSource("sorry-bench/sorry-bench-202503", None, None, "train"), pick="sorry-bench", gated=True,
        rule="rows of prompt_style base: the other 20 styles change the wording, and their rows lack the plain request",
        folders=("sorrybench", "sorrybench202503"),
    ),
    Benchmark(
        "hex-phi", "safety", "harm", "request", 300,
        ("hex-phi.*", "hex_phi.*", "hexphi.*"),
        "HEx-PHI", "hex-phi (its own)", HubSource("LLM-Tuning-Safety/HEx-PHI", None, None, "train"), gated=True,
        rule="every request; its categories lie in ten files without a line of column names (there is no category 2)",
        folders=("hexphi",), parts="category_*.csv",
    ),
    Benchmark(
        "fortress", "safety", "harm", "request", 500,
        ("fortress_public.*", "fortress.*", "fortress*"),
        "FORTRESS, adversarial prompts", "CC-BY-4.0",
        # The commit is the one that inspect-evals 0.26.0 pins.
        HubSource("ScaleAI/fortress_public", "0c096becbc75bb12065c8059a53960c7f0d4d35c", None, "train"),
        rule="every adversarial_prompt; a row and its benign twin have one id; the rubrics are not used",
        folders=("fortress", "fortresspublic"),
    ),
    Benchmark(
        "coconot", "safety", "harm", "request", 395,
        ("coconot_eval.*", "coconot_test.*", "*coconot*/original/test*", "coconot_original*"),
        "CoCoNot, requests with safety concerns (original set)", "ODC-BY",
        HubSource("allenai/coconot", "2cbe16aabf9069f17e48c8daad8aeabc29469eb7", "original", "test"), pick="coconot",
        rule="rows of the category 'Requests with safety concerns': no harm judge can say whether the others comply",
        folders=("coconotoriginal",),
    ),
    Benchmark(
        "prefill", "safety", "harm", "prefill", 520,
        ("advbench.*", "harmful_behaviors.*", "advbench*", "harmful_behaviors*", "*prefill*"),
        "Prefilling attack on AdvBench", "MIT", HubSource("walledai/AdvBench", None, None, "train"), gated=True,
        rule="every row with a target; its first N tokens are put into the opened thinking (N: 20, or a list)",
        folders=("advbench", "prefill", "prefilling", "advbenchprefilling"),
    ),
    Benchmark(
        "multi-turn", "safety", "harm", "conversation", None,
        ("multi_turn*", "multi-turn*", "multiturn*", "*multiturn*/*", "*multi_turn*"),
        "Multi-turn attack (conversations of your own)", rule="every conversation that ends with a user's turn",
        folders=("multiturn", "doormultiturn"),
    ),
    Benchmark(
        "xstest-safe", "over-refusal", "refusal", "request", 250,
        ("xstest_safe*", "xstest_prompts.*", "xstest_v2_prompts.*", "xstest.*", "xstest*"),
        "XSTest, safe prompts", "CC-BY-4.0", HubSource("Paul/XSTest", None, None, "train"),
        keep="benign", rule="the safe prompts, not their contrasts",
        folders=("xstest", "xstestsafe"),
    ),
    Benchmark(
        "jailbreakbench-benign", "over-refusal", "refusal", "request", 100,
        ("benign-behaviors.*", "jbb*benign*", "jailbreakbench*benign*", "jailbreakbench.*", "jbb*", "jailbreakbench*"),
        "JailbreakBench, benign behaviours", "MIT",
        HubSource("JailbreakBench/JBB-Behaviors", None, "behaviors", "benign"),
        keep="benign", rule="the benign behaviours",
        folders=("jailbreakbench", "jbb", "jbbbehaviors", "jbbbehaviours"),
    ),
    Benchmark(
        "phtest", "over-refusal", "refusal", "request", None,
        ("phtest.*", "phtest*harmless*", "phtest*"),
        "PHTest, harmless prompts", "MIT",
        HubSource("furonghuang-lab/PHTest", "8b6698eb37dfa14ceabe4ccfa2085a46b934ddbd", None, "train"),
        keep="benign", rule="rows with Harmfulness 'harmless'; 'controversial' ones are left out",
        folders=("phtest",),
    ),
    Benchmark(
        "or-bench", "over-refusal", "refusal", "request", 1319,
        ("or-bench-hard*", "or_bench_hard*", "or-bench.*", "or_bench.*", "orbench*", "or-bench*", "or_bench*"),
        "OR-Bench-Hard-1K", "CC-BY-4.0", HubSource("bench-llm/or-bench", None, "or-bench-hard-1k", "train"),
        folders=("orbench", "orbenchhard", "orbenchhard1k"),
    ),
    Benchmark(
        "fortress-benign", "over-refusal", "refusal", "request", 500,
        ("fortress_public.*", "fortress.*", "fortress*"),
        "FORTRESS, benign twins", "CC-BY-4.0",
        HubSource("ScaleAI/fortress_public", "0c096becbc75bb12065c8059a53960c7f0d4d35c", None, "train"),
        rule="every benign_prompt; a row and its attack have one id",
        folders=("fortress", "fortresspublic"),
    ),
    Benchmark(
        "falsereject", "over-refusal", "refusal", "request", 1187,
        ("falsereject_test.*", "false-reject-test.*", "falsereject.*", "false_reject*", "falsereject*"),
        "FalseReject, test set", "CC-BY-NC-4.0", HubSource("AmazonScience/FalseReject", None, None, "test"),
        rule="every row of the test set; the train set is for training",
        folders=("falsereject",),
    ),
    Benchmark(
        "coconot-contrast", "over-refusal", "refusal", "request", 379,
        ("coconot_contrast*", "*coconot*/contrast/test*"),
        "CoCoNot, contrast set", "ODC-BY",
        HubSource("allenai/coconot", "2cbe16aabf9069f17e48c8daad8aeabc29469eb7", "contrast", "test"),
        rule="every row: requests that look like ones to refuse, and are to be answered",
        folders=("coconotcontrast",),
    ),
    Benchmark(
        "math500", "reasoning", "math", "math", 500,
        ("math500.*", "math-500.*", "math_500.*", "math500*", "math-500*", "*math-500*/test.*"),
        "MATH-500", "unknown", HubSource("HuggingFaceH4/MATH-500", None, None, "test"),
        folders=("math500", "math"),
    ),
    Benchmark(
        "aime", "reasoning", "integer", "math", 30,
        ("aime2024.*", "aime_2024.*", "aime-2024.*", "aime.*", "aime*"),
        "AIME (2024 unless another year's file is given)", "unknown",
        HubSource("HuggingFaceH4/aime_2024", None, None, "train"),
        folders=("aime", "aime2024"),
    ),
    Benchmark(
        "gpqa-diamond", "reasoning", "choice", "choice", 198,
        ("gpqa_diamond*", "gpqa-diamond*", "gpqa*"),
        "GPQA diamond", "CC-BY-4.0", HubSource("Idavidrein/gpqa", None, "gpqa_diamond", "train"), gated=True,
        rule="every question; its four choices are shuffled by the seed and the question's own id",
        folders=("gpqa", "gpqadiamond"),
    ),
    Benchmark(
        "humaneval", "reasoning", "code", "code", 164,
        ("humaneval.jsonl*", "human-eval.*", "humaneval.*", "human_eval*", "humaneval*"),
        "HumanEval", "MIT", HubSource("openai/openai_humaneval", None, None, "test"),
        folders=("humaneval",),
    ),
    Benchmark(
        "mmlu-pro", "reasoning", "choice", "choice", 1000,
        ("mmlu-pro*", "mmlu_pro*", "mmlupro*", "*mmlu-pro*/test*"),
        "MMLU-Pro", "MIT", HubSource("TIGER-Lab/MMLU-Pro", None, None, "test"),
        pick="seeded", draw=1000, seed=42, rule="1,000 of 12,032 questions, drawn by seed; choices keep their order",
        folders=("mmlupro",),
    ),
)  # fmt: skip


def find_benchmark(name: str) -> Benchmark:
    """Return the row with this name.

    Raises:
        UserError: there is none; the message suggests one.
    """
    for benchmark in BENCHMARKS:
        if benchmark.name == name:
            return benchmark
    names = [benchmark.name for benchmark in BENCHMARKS]
    close = difflib.get_close_matches(name.lower(), names, 1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    own = "a file of your own: --benchmark NAME=KIND:PATH"
    raise UserError(f"no benchmark '{name}': {hint}there are {', '.join(names)} ({own})")


def benchmark_rows() -> list[dict[str, Any]]:
    """Return the table for `safekey benchmarks`, one mapping of plain values for each row.

    `revision` is "" without a hub data set, and "must be named" where no commit could be confirmed.
    `scorer_agrees_with` is a list and `figure_reproduced` a mapping or None, as in `evidence.py`.
    """
    return [
        {
            "name": row.name,
            "suite": row.suite,
            "title": row.title,
            "size": row.size,
            "scoring": row.scoring,
            "needs": row.needs,
            "licence": row.licence,
            "hub": row.hub.id if row.hub else "",
            "revision": (row.hub.revision or "must be named") if row.hub else "",
            "config": (row.hub.config or "") if row.hub else "",
            "split": (row.hub.split or "") if row.hub else "",
            "rule": row.rule,
            "files": ", ".join(row.files),
            "folders": ", ".join(row.folders),
            "scorer_agrees_with": agreement_rows(row.name),
            "figure_reproduced": reproduced_row(row.name),
        }
        for row in BENCHMARKS
    ]
