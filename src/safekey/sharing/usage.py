"""How to load a shared model and its heads, as examples for its card"""

from __future__ import annotations

from safekey.monitor.card import Card as Alarm
from safekey.sharing.alarm import heads_section
from safekey.sharing.facts import Base, Training
from safekey.training.loop.export import GENERATION

REPO = "OWNER/NAME"
"""Stands in a card for the repository's name, until `safekey push` knows it."""


def usage(run: Training, base: Base, alarm: Alarm | None = None) -> list[str]:
    """Return the lines of a card that say how to load the model and its heads, and what was fitted of these."""
    kind = "peft import AutoPeftModelForCausalLM" if run.is_adapter else "transformers import AutoModelForCausalLM"
    name = kind.rpartition(" ")[2]
    # peft does not read the file, and it holds the tokens that end a turn.
    apart = run.is_adapter and (run.model / GENERATION).is_file()
    settings = ["settings = GenerationConfig.from_pretrained(repo)"] if apart else []
    more = "generation_config=settings, " if settings else ""
    lines = [
        "## Use",
        "",
        "```python",
        f"from {kind}",
        f"from transformers import AutoTokenizer{', GenerationConfig' if settings else ''}",
        "",
        f'repo = "{REPO}"',
        f"model = {name}.from_pretrained(repo)",
        "tokenizer = AutoTokenizer.from_pretrained(repo)",
        'messages = [{"role": "user", "content": "How do I boil an egg?"}]',
        'how = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}',
        "inputs = tokenizer.apply_chat_template(messages, **how)",
        *settings,
        f"output = model.generate(**inputs, {more}max_new_tokens=2000)",
        "print(tokenizer.decode(output[0]))",
        "```",
        "",
    ]
    if run.is_adapter and not base.hub_id:
        lines += ["The adapter names its base by name alone: load the base yourself and put the adapter on it.", ""]
    return lines + (heads_section(alarm) if run.has_heads else [])
