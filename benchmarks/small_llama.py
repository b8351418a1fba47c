"""Randomly initialised Llamas with a tokenizer of whole words, for benchmarks."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_SIZES = {
    "0.9M": {"vocab_size": 512, "hidden_size": 128, "num_hidden_layers": 4, "heads": 4},
    "10M": {"vocab_size": 4096, "hidden_size": 320, "num_hidden_layers": 8, "heads": 5},
}


def make(size: str, directory: Path) -> str:
    """Save the model of `size` with its tokenizer; how it is described.

    The tokenizer's end of a sequence lies beyond the model's vocabulary: it is never sampled, and
    every completion has all its tokens, without anything that would slow sampling down.
    """
    shape = _SIZES[size]
    words = shape["vocab_size"]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words,
            hidden_size=shape["hidden_size"],
            intermediate_size=int(shape["hidden_size"] * 2.75),
            num_hidden_layers=shape["num_hidden_layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["heads"],
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=words,
            pad_token_id=0,
        )
    )
    vocabulary = {f"w{i}": i for i in range(words)} | {"<end>": words}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model.save_pretrained(directory)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<end>",  # noqa: S106
        pad_token="w0",  # noqa: S106
        unk_token="w0",  # noqa: S106
    ).save_pretrained(directory)
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"Llama, {count / 1e6:.2f} M parameters"
