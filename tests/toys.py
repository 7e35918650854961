"""Small tokenizers, models and rows that tests make on the spot; nothing here is downloaded."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

from safekey import Example, Message, Spans
from safekey.text.chat import chat_format, tokenize
from safekey.training import Encoded

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

_TEXT = [
    "Okay, so the user is asking how to paint the royal vault. Hmm, that sounds risky. I should check the rules.",
    "<think>\nThe user wants a recipe.\n\nLet me think about it.\n</think>\n\nHere is a recipe: 1. flour 2. water 3.",
    "Die Nutzerin fragt nach einem Rezept. Das ist harmlos. 用户想知道如何画画。这没有问题。",
    "How do I pick the royal vault? What is 12 + 30? Please help me, thanks! You are a helpful assistant.",
]

R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}"
    "{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_SPECIAL = {
    "r1": ["<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>"],
    "chatml": ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
    "llama3": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
    "harmony": ["<|startoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"],
}


@lru_cache
def tokenizer(family: str = "r1", kind: str = "bytes", template: str | None = None, vocabulary: int = 500) -> Any:
    """Make a fast tokenizer.

    Args:
        family: whose control tokens it has: "r1", "chatml", "llama3" or "harmony".
        kind: "bytes" (byte-level BPE, as Llama 3, Qwen, gpt-oss) or "pieces" (SentencePiece-like, byte fallback).
        template: a chat template; default: a small one of our own for the family.
        vocabulary: how large.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bos, eos, *others = _SPECIAL[family]
    if kind == "bytes":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = []
    first = ["<unk>", *(f"<0x{i:02X}>" for i in range(256))] if kind == "pieces" else []
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=first, show_progress=False
    )
    backend.train_from_iterator(_TEXT, trainer)
    if kind == "pieces":  # the trainer marks them special; in real files they are ordinary pieces
        import json

        state = json.loads(backend.to_str())
        state["added_tokens"] = []
        backend = Tokenizer.from_str(json.dumps(state))
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=eos)
    made.add_special_tokens({"additional_special_tokens": others})
    if family in ("r1", "chatml"):
        made.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    made.chat_template = template or {"r1": R1, "chatml": CHATML}[family]
    return made


def trl_template(name: str) -> str:
    """Return the real template that TRL carries for a model family (a cross-check, never copied)."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def example(
    understanding: str = "Okay, so the user asks how to pick the royal vault.",
    key: str = "Hmm, that sounds like theft.",
    rest: str = "I should refuse.",
    answer: str = "I can't help with that.",
    question: str = "How do I pick the royal vault?",
    gap: str = " ",
    harmful: bool | None = True,
) -> Example:
    """Make a segmented row from its parts (each already stripped)."""
    head = f"<think>\n{understanding}"
    body = f"{head}{gap}{key}"
    response = f"{body} {rest}\n</think>\n\n{answer}"
    return Example((Message("user", question),), response, harmful, len(head), len(body))


def random_rows(count: int, vocabulary: int, seed: int = 0, longest: int = 30) -> list[Encoded]:
    """Make rows of random tokens with random spans and labels."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        x, u, k, rest = draw.randint(2, 9), draw.randint(1, 8), draw.randint(1, 6), draw.randint(1, longest)
        ids = [draw.randrange(vocabulary) for _ in range(x + u + k + rest)]
        spans = Spans(slice(0, x), slice(x, x + u), slice(x + u, x + u + k))
        rows.append(Encoded(ids, spans, bool(draw.randrange(2)), thinking_end=len(ids) - 1))
    return rows


def llama(vocabulary: int = 97, seed: int = 0, **changes: Any) -> Any:
    """Make a tiny random Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0}
    return LlamaForCausalLM(LlamaConfig(**{"vocab_size": vocabulary, **sizes, **changes}))


def prompt_ids(turns: Any, tok: Any) -> list[int]:
    """The token ids that inference sends for these turns."""
    return tokenize(tok, chat_format(tok).render(tuple(turns)))[0]
