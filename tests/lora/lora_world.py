"""Tiny random language models, users, and adapters that have learnt something: shared by the tests of this folder."""

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from lifelora.lora.adapters import Adaptation, Adapters
from lifelora.lora.coupling import Coupling, Experts, Full, Hydra, Identity, Meta, Static
from lifelora.lora.inject import personalise
from lifelora.lora.layer import PersonalLoRALinear
from lifelora.seeds import torch_generator

D = 6  # width of a representation
VOCABULARY = 50
QV = ("q_proj", "v_proj")
EVERY: list[Coupling.Config] = [
    Identity.Config(rank=4, alpha=8),
    Static.Config(rank=4, alpha=8),
    Experts.Config(rank=4, experts=2, alpha=4),
    Experts.Config(rank=4, experts=4, alpha=4, router="mlp", routers="per-layer"),
    Experts.Config(rank=4, experts=2, alpha=4, router="residual", temperature=5.0),
    Experts.Config(rank=4, experts=2, alpha=4, gate="token"),
    Meta.Config(rank=2, loras=3, alpha=4),
    Meta.Config(rank=2, loras=3, alpha=4, merge="outputs"),
    Meta.Config(rank=2, loras=3, alpha=4, gate="token"),
    Meta.Config(rank=2, loras=3, alpha=4, merge="outputs", gate="token"),
    Hydra.Config(rank=2, heads=3, alpha=4),
    Hydra.Config(rank=2, heads=3, alpha=4, gate="token"),
    Full.Config(rank=4, alpha=8),
    Full.Config(rank=4, alpha=8, start="random"),
]
"""Every coupling, with its settings that change the function."""
PERSONAL = [config for config in EVERY if config.needs_user]
PLAIN_FOR_ONE = [config for config in EVERY if getattr(config, "gate", "") != "token"]
"""Those with which one user's update is one matrix."""


def called(config: Coupling.Config) -> str:
    """A name for pytest."""
    return "-".join([config.kind, *(str(v) for k, v in config if isinstance(v, str) and k != "kind")])


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def tiny_gpt2() -> GPT2LMHeadModel:
    """Its linears are Conv1D; its LM head is an nn.Linear tied to the embedding."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    return GPT2LMHeadModel(config).eval()


def adapt(
    model: nn.Module, targets: tuple[str, ...] = QV, config: Coupling.Config | None = None, *, seed: int = 1, dropout: float = 0.0
) -> Adapters:
    config = Full.Config(rank=4, alpha=8) if config is None else config
    adaptation = Adaptation(coupling=config, targets=targets, dropout=dropout)
    return personalise(model, adaptation, user_width=D, generator=torch_generator(seed, "adapters"))


def learnt(adapters: Adapters, seed: int = 2, std: float = 0.3) -> Adapters:
    """As if trained: B and the coupling's last layer away from zero, so that nothing holds by accident."""
    generator, deep = torch_generator(seed, "learnt"), getattr(adapters.coupling.config, "router", "") == "residual"
    with torch.no_grad():
        for parameter in adapters.parameters():
            if not (deep and parameter.ndim == 3):  # of so many layers even this would put one expert alone
                parameter += torch.empty(parameter.shape).normal_(std=std, generator=generator)
        for _ in range(30 if deep else 0):  # until the statistics that it keeps are of what it sees
            adapters.coupling.train()(some_users(32).to(next(adapters.coupling.parameters()).dtype))
    adapters.coupling.eval()
    return adapters


def tokens(batch: int = 4, length: int = 7) -> Tensor:
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch_generator(3, "tokens"))


def some_users(batch: int = 4) -> Tensor:
    return torch.randn(batch, D, generator=torch_generator(4, "people"))


@torch.no_grad()
def merged_weight(layer: PersonalLoRALinear, C_QP: Tensor | None) -> Tensor:
    """W + s·B·C·A, as O x I, or as I x O where the base (Conv1D) keeps it so; None stands for C = I."""
    B_OP = layer.B_OQ if C_QP is None else layer.B_OQ @ C_QP.to(layer.B_OQ)
    delta_OI = layer.scaling * (B_OP @ layer.A_PI)
    return layer.base.weight + (delta_OI.T if isinstance(layer.base, Conv1D) else delta_OI)
