"""Tiny random models of many families, in memory and as folders, from transformers' own configurations."""

from pathlib import Path
from typing import Any

import torch
from llm_world import tiny_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

VOCABULARY = len(tiny_tokenizer())
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GPT = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_expand": 2}
BUILT: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": None},
    "gemma": {},
    "stablelm": {},  # keywords do not reach its attention
    "gpt2": GPT,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"n_head": 4, "n_layer": 2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "expansion_ratio": 2},
    "phi": {},  # a bias in the head
    "gptj": GPT | {"rotary_dim": 4},
    "gemma2": {"sliding_window": 8, "final_logit_softcapping": 3.0},
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": MOE | {"num_experts": 4},
    "gemma3_text": {"sliding_window": 8},
    "qwen3_5_text": {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "bamba": SSM | {"attn_layer_indices": [1]},
    "granitemoehybrid": SSM
    | {"layer_types": ["mamba", "attention"], "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 16},
    "rwkv": {"attention_hidden_size": 32, "context_length": 64},
    "xlstm": {"num_heads": 4, "num_blocks": 2},
    "mamba2": {"state_size": 8, "num_heads": 8, "expand": 2, "n_groups": 1},
    "bert": {},
    "roberta": {"is_decoder": True},
}
NAMELESS = ("bloom", "mamba2", "xlstm")
"""Families whose configurations name no longest sequence."""
RIGHT = tuple(family for family in BUILT if family not in ("rwkv", "xlstm", "bert", "roberta"))


def tiny(family: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    logging.set_verbosity_error()
    torch.manual_seed(0)
    sizes = {key: value for key, value in SIZES.items() if family not in NAMELESS or key != "max_position_embeddings"}
    config = AutoConfig.for_model(family, **(sizes | BUILT[family]))
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    head = model.get_output_embeddings()
    if head.bias is not None:
        nn.init.normal_(head.bias)  # so that it counts
    return model


def saved(family: str, folder: Path) -> Path:
    logging.disable_progress_bar()
    tiny(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
