"""The organism's architecture: a word-level tokenizer, an R1-style chat template, a Llama of about 0.39M parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from safekey.organism import speech
from safekey.organism import sums as reasoning
from safekey.organism.world import World

BOS, EOS, USER, ASSISTANT, UNKNOWN = "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|unknown|>"
CONTEXT = 1024  # tokens; rows have about 70, the longest about 150

# A word takes the space before it, as in GPT-2, so that decoding is plain concatenation. Digits stand alone.
_WORD = r" ?[A-Za-z]+(?:'[a-z]+)?| ?[0-9]|\n+| ?[^A-Za-z0-9\s]|\s"

# As in the R1 distillations: an earlier turn's thinking is dropped, and the prompt ends inside the thinking.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }}"
    "{% elif message.role == 'user' %}<|user|>{{ message.content }}"
    "{% elif message.role == 'assistant' %}"
    "<|assistant|>{{ message.content.split('</think>')[-1] }}<|end|>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)


def words_of(text: str) -> list[str]:
    """Cut a text as the tokenizer does."""
    return re.findall(_WORD, text)


def vocabulary(world: World) -> list[str]:
    """Return every word that this world's texts hold, each as it is written after a space or at a line's beginning."""
    from safekey.evals.benchmarks.items import ASK_INTEGER  # benchmarks of the kind "integer" end their prompts so

    texts = [re.sub(r" ?\{\w+\}", " the", text) for text in speech.vocabulary_texts()]
    texts += [*reasoning.vocabulary_texts(world), ASK_INTEGER.format(problem="Add"), "\n", "\n\n"]
    texts += [f" {word}" for word in (*world.tools, *world.tools.values(), *world.places, *world.places.values())]
    texts += [f"{gap}{digit}" for gap in ("", " ") for digit in range(10)]
    return sorted({word for text in texts for word in words_of(text)})


def make_tokenizer(words: Iterable[str]) -> Any:
    """Make the tokenizer: one token for each word; unknown words are encoded as bytes, without loss."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [BOS, EOS, USER, ASSISTANT, UNKNOWN]
    pieces = [*special, *words, *(f"<0x{byte:02X}>" for byte in range(256))]
    known = {piece: number for number, piece in enumerate(pieces)}
    # Without merges BPE is a list of words (`ignore_merges`: a word of the vocabulary is one token) with a fallback.
    backend = Tokenizer(models.BPE(known, [], unk_token=UNKNOWN, byte_fallback=True, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return tokenizer


def make_model(tokenizer: Any, seed: int) -> Any:
    """Return the model with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.05,  # the usual 0.02 is made for wide models and learns slowly here
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
