"""How to load a shared model and its heads, as examples for its card"""

from __future__ import annotations

from safekey.sharing.facts import Base, Training
from safekey.training.loop.export import GENERATION

REPO = "OWNER/NAME"
"""Stands in a card for the repository's name, until `safekey push` knows it."""


def usage(run: Training, base: Base) -> list[str]:
    """Return the lines of a card that say how to load the model and its heads."""
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
    return lines + (_heads() if run.has_heads else [])


def _heads() -> list[str]:
    return [
        "### The safety heads",
        "",
        "Two linear heads, trained beside the model, read its last hidden states: one those of the understanding U, "
        "one those of the query X and U. Alone they are **not a monitor**: nobody chose a threshold or counted false "
        "alarms. `safekey monitor fit` does both, on rows of yours.",
        "",
        "```python",
        "import torch",
        "from huggingface_hub import snapshot_download",
        "from safekey.training import load_heads  # pip install safekey",
        "",
        'heads = load_heads(snapshot_download(repo, allow_patterns="safekey_heads.*"))',
        "hidden = model(ids, output_hidden_states=True).hidden_states[-1][0]  # ids [1, tokens]: prompt and thinking",
        "borders = torch.tensor([[x_start, x_end, u_start, u_end]])  # places of X and U among the tokens",
        "probability = heads(hidden, borders).sigmoid()  # [1, 2]: that the query is harmful, by U and by X and U",
        "```",
        "",
    ]
