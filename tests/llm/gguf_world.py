"""Tiny random models written as .gguf files by the package gguf's own writer, as llama.cpp's converter writes them."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
from llm_world import tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

F32 = GGMLQuantizationType.F32
MODELS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def tiny(architecture: str = "llama", seed: int = 0, tied: bool = False) -> torch.nn.Module:
    """Two layers of four heads, of which two share keys and values; a context of 512 tokens."""
    config_class, model_class = MODELS[architecture]
    torch.manual_seed(seed)
    config = config_class(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128 if architecture == "qwen3" else 8,  # transformers takes every Qwen3 to have 128
        max_position_embeddings=512,
        initializer_range=0.2,
        rope_theta=5_000.0,
        tie_word_embeddings=tied,
    )
    model = model_class(config)
    with torch.no_grad():  # biases and norms that do something
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.add_(0.3 * torch.randn(weight.shape))
            assert weight.ndim < 3, name
    return model.eval()


def as_kept(model: torch.nn.Module, kind: GGMLQuantizationType) -> torch.nn.Module:
    """The model with its matrices rounded as the file rounds them."""
    rounded = deepcopy(model)
    with torch.no_grad():
        for weight in rounded.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.from_numpy(np.array(dequantize(quantize(weight.numpy(), kind), kind))))
    return rounded


def write_gguf(
    path: Path,
    model: torch.nn.Module,
    *,
    kind: GGMLQuantizationType = F32,
    reorder: bool = True,
    says: str | None = None,
    without: str | None = None,
    more: dict[str, np.ndarray] | None = None,
    scaling: str | None = None,
    silent: str | None = None,
) -> Path:
    """``reorder`` are the rows of q and k, as llama.cpp's converter does it for Llama (LlamaModel.permute):

    of each head, row h·n + i·n/2 + j, the i-th half's j-th, goes to h·n + 2j + i.
    """
    config, tokenizer = model.config, tiny_tokenizer()
    architecture = config.model_type
    writer = GGUFWriter(path, says or architecture)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    width = getattr(config, "head_dim", 8)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(5_000.0)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(config.vocab_size)
    if scaling is not None:
        writer.add_string(f"{architecture}.rope.scaling.type", scaling)
    whole = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(whole["vocab"], key=whole["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<s>" else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in whole["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    for name, weight in model.state_dict().items():
        if name == without or (name == "lm_head.weight" and config.tie_word_embeddings):
            continue
        stem, _, end = name.rpartition(".")
        place, _, part = stem.removeprefix("model.layers.").partition(".")
        known = NAMES[stem] if stem in NAMES else f"blk.{place}.{NAMES[part]}"
        values = weight.numpy()
        if reorder and architecture == "llama" and known.endswith(("attn_q", "attn_k")):
            values = values.reshape(-1, 2, 4, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        used = kind if values.ndim == 2 else F32
        writer.add_tensor(f"{known}.{end}", quantize(np.ascontiguousarray(values), used), raw_dtype=used)
    for name, values in (more or {}).items():
        writer.add_tensor(name, values)
    for values in writer.kv_data:
        values.pop(f"{architecture}.{silent}", None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
