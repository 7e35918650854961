"""HumanEval under a publisher's own prompt: system text, question, first words of the reply, stop strings.

    python bench/published_prompt.py http://127.0.0.1:8000/v1#NAME --tokenizer MODEL --data HumanEval.jsonl.gz \\
        --prompt publisher.json --output rows.jsonl

`publisher.json` is yours; it holds what the publisher's evaluation code sends::

    {"system": "…", "question": "Do this: {code}", "prefill": "```python\\n", "stop": ["\\n```"], "strip": true}

`safekey eval` asks every model with our prompt. A published figure belongs to the publisher's, so the two are compared
with this. Greedy decoding; the code runs in our sandbox. Rows are kept: the same command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from safekey.engines import SamplingParams, open_engine
from safekey.evals.answers.program import score_code
from safekey.evals.benchmarks.load import load_benchmark
from safekey.schema import Message, Prompt
from safekey.stats.intervals import wilson_interval

MOST_STOPS = 4  # what servers take; the last ones of the list are sent, all are cut off afterwards


def prompt_of(code: str, asked: dict[str, Any]) -> Prompt:
    """Return the prompt of one problem, as the publisher writes it."""
    code = code.strip() if asked.get("strip") else code
    messages = [Message("system", asked["system"])] if asked.get("system") else []
    messages.append(Message("user", asked["question"].replace("{code}", code)))
    return Prompt(tuple(messages), prefill=asked.get("prefill", ""), prefill_answer=bool(asked.get("prefill")))


def cut(text: str, stops: list[str]) -> str:
    """Cut a text where the first stop string begins; greedy decoding makes this the same as stopping there."""
    return text[: min([place for stop in stops if (place := text.find(stop)) >= 0], default=len(text))]


def main() -> None:
    """Generate what is missing, run the code, print pass@1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder, or URL#NAME of a server")
    parser.add_argument("--tokenizer", help="of the model that a server serves")
    parser.add_argument("--data", required=True, help="HumanEval's file")
    parser.add_argument("--prompt", required=True, help="the publisher's prompt (JSON, see above)")
    parser.add_argument("--output", required=True, help="rows (JSONL)")
    parser.add_argument("--max-tokens", type=int, default=640)
    args = parser.parse_args()
    asked = json.loads(Path(args.prompt).read_text(encoding="utf-8"))
    items = {item.id: item for item in load_benchmark("humaneval", file=args.data)}
    rows = Path(args.output)
    texts: dict[str, dict[str, Any]] = {}
    for line in rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []:
        row = json.loads(line)
        texts[row["item"]] = row
    missing = [name for name in items if name not in texts]
    if missing:
        options: dict[str, Any] = {}
        if args.tokenizer:
            options = {"tokenizer": args.tokenizer, "mode": "tokens", "probe_timeout": 600.0}
        engine = open_engine(args.model, **options)
        params = SamplingParams(max_new_tokens=args.max_tokens, stop=tuple(asked.get("stop", ()))[-MOST_STOPS:])
        prompts = [prompt_of(items[name].metadata["code"], asked) for name in missing]
        with rows.open("a", encoding="utf-8") as out:
            for place, made in engine.generate(prompts, params):
                if made.finish == "error":
                    raise SystemExit(f"{missing[place]}: {made.error}")
                row = {"item": missing[place], "text": made.text, "finish": made.finish, "prefill": made.prefill}
                texts[missing[place]] = row
                out.write(json.dumps(row) + "\n")
                out.flush()
        engine.close()
    passed = {
        name: score_code(
            asked.get("prefill", "") + cut(texts[name]["text"], asked.get("stop", [])),
            item.metadata,
            mode="unsafe-local",
        ).correct
        for name, item in items.items()
    }
    right, n = sum(value is True for value in passed.values()), len(passed)
    low, high = wilson_interval(right, n)
    longest = sum(row["finish"] == "length" for row in texts.values())
    print(f"pass@1 {right} of {n}: {right / n:.1%} [{low:.1%}, {high:.1%}]; cut off by the limit: {longest}")
    print("failed:", " ".join(name for name, value in passed.items() if not value))


if __name__ == "__main__":
    main()
