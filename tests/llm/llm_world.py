"""A tiny random Llama and a tiny BPE tokenizer, in memory and as a folder: shared by the tests of this folder."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from lifelora.prompts.fill import Prompts

TEXTS = ["Would they like Heat (Crime)? Answer: Yes", "Would they like Alien? Answer: No", "They watched these films:"] * 3


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<s>")


def tiny_llama(vocabulary: int, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


def plain_prompts(tokens_BL: Tensor, mask_BL: Tensor | None = None, soft_BL: Tensor | None = None) -> Prompts:
    """Prompts of bare token ids; none is padded where no mask says so."""
    mask_BL = torch.ones_like(tokens_BL, dtype=torch.bool) if mask_BL is None else mask_BL
    return Prompts(tokens_BL, mask_BL, torch.zeros(len(tokens_BL), dtype=torch.int64), soft_BL)


def saved(folder: Path) -> Path:
    """A folder in Hugging Face's layout, whose generation settings wish for sampling."""
    logging.disable_progress_bar()
    tokenizer = tiny_tokenizer()
    model = tiny_llama(len(tokenizer))
    model.generation_config.update(do_sample=True, temperature=0.3, top_p=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
