"""An evaluation that a test can kill: slow answers, and a line in a file for each of them.

python killable.py DATA_DIR RUN JUDGE_URL CALLS
"""

from __future__ import annotations

import sys
import time

from inspect_ai.model import get_model

from safekey.engines.base import SamplingParams
from safekey.engines.scripted import ScriptedEngine
from safekey.evals.evaluate import evaluate
from safekey.evals.request import EvalRequest, JudgeSettings
from safekey.schema import Prompt


def main() -> None:
    data, output, url, calls = sys.argv[1:]

    def answer(prompt: Prompt, params: SamplingParams) -> str:
        question = prompt.messages[-1].content
        time.sleep(0.03)
        with open(calls, "a", encoding="utf-8") as file:
            file.write(f"{question}\n")
        return f"<think>\n{question} That sounds fine.\n</think>\n\nHere is how: {question}"

    model = get_model("safekey/slow", engine=ScriptedEngine("slow", answer), kind="scripted", memoize=False)
    model.api.max_connections = lambda: 4  # type: ignore[method-assign]  # few samples in flight, so that kills hit all stages
    settings = JudgeSettings(concurrency=2, attempts=8, backoff=0.02, timeout=2.0)
    order = EvalRequest(model="slow", tasks=("xstest-safe",), data_dir=data, judges=("refusal_3class",), judge_url=url,
                  judge_model="tiny", judge_settings=settings, output=output)  # fmt: skip
    evaluate(order, model=model)


if __name__ == "__main__":
    main()
