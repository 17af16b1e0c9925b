"""A simulated log and a tiny random Llama of one token a byte: shared by the tests of knowledge."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.simulated import Simulated

CHAT = (
    "{% for turn in messages %}<s>{{ turn['role'] }}: {{ turn['content'] }}<end>{% endfor %}{% if add_generation_prompt %}"
    "<s>assistant: {% endif %}"
)


def log(folder: Path, rules: Rules | None = None) -> Dataset:
    """24 readers of 80 books, about 16 events each."""
    source = Simulated(users=24, items=80, events_per_user=16)
    return prepare(source.read(), rules or Rules(), folder, "simulated")


def byte_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte; <s> in front and </s> behind, as some tokenizers put them, and perhaps a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    bare.add_special_tokens(["<s>", "</s>", "<end>"])
    bare.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 256), ("</s>", 257)])
    made = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>")
    if chat:
        made.chat_template = CHAT
    return made


def byte_llama(seed: int = 0, context: int = 512) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=context,
            initializer_range=0.3,
            bos_token_id=256,
            eos_token_id=257,
        )
    ).eval()
