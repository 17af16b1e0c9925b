"""Couplings that mix ready parts by weights on the simplex: iLoRA, RecLoRA, HydraLoRA. Know no layer and no model.

In all of them w = softmax(z / τ) ≥ 0 sums to one, and C(u) is made of w and identities: no part of C(u) is signed.
"""

from typing import Literal, final

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from lifelora.lora.coupling.base import Coupling, LinearGate, MLPGate, NormGate
from lifelora.lora.coupling.residual import ResidualGate
from lifelora.lora.layer import kaiming_uniform
from lifelora.lora.structure import Column, Diagonal, Gated, RankOne, Routed, Structure


@final
class Experts(Coupling):
    """The rank axis cut into K experts, weighed by a router: iLoRA (arXiv 2408.10159), MOELoRA (arXiv 2310.18339).

        w = softmax(router(u) / τ),     C(u) = diag(w) ⊗ I(r/K)

    As a constraint on C: diagonal, equal inside each block of r/K, on the simplex. iLoRA scales by alpha / (r/K) (each
    expert is a LoRA of rank r/K), which with uniform weights is plain LoRA's alpha/r; MOELoRA by alpha/r. The router of
    iLoRA's equation is linear; its released one is a small residual network over the entries of u (``ResidualGate``).

    By token w_l = softmax(W_l x_l / τ), x_l what comes into layer l. Then C depends on no user, as with Hydra, and no user's
    adapter can be exported.
    """

    class Config(Coupling.Config):
        """K experts on the rank axis."""

        kind: Literal["experts"] = "experts"
        alpha: PositiveFloat = 32.0
        experts: PositiveInt = 4
        """K; divides the rank."""
        gate: Literal["instance", "token"] = "instance"
        """Whether w comes from u, or from each token's input to the layer alone, without a user: the ablation of iLoRA's
        Figure 5."""
        router: Literal["linear", "mlp", "residual"] = "linear"
        """W u, as in iLoRA's equation; W2 · ReLU(W1 · LayerNorm(u) + b1) + b2; or the residual network of its code."""
        hidden: PositiveInt = 64
        """Hidden width of the mlp."""
        routers: Literal["one", "per-layer"] = "one"
        """One router for all layers, or one for each; by token each has its own, since the widths of their inputs differ."""
        temperature: PositiveFloat = 1.0
        """τ: higher is more even."""
        scale_by: Literal["expert-rank", "rank"] = "expert-rank"
        """alpha over r/K (iLoRA) or over r (MOELoRA)."""

        @model_validator(mode="after")
        def _whole_experts(self) -> "Experts.Config":
            if self.rank % self.experts:
                raise ValueError(
                    f"rank = {self.rank} cannot be cut into experts = {self.experts} of equal rank; "
                    f"choose a multiple of {self.experts}"
                )
            return self

        @model_validator(mode="after")
        def _linear_by_token(self) -> "Experts.Config":
            if self.gate == "token" and self.router != "linear":
                raise ValueError(
                    f"router = '{self.router}' reads u, but with gate = 'token' the router reads each token's "
                    "input to the layer, and is linear; choose router = 'linear', or gate = 'instance'"
                )
            return self

        @property
        def needs_user(self) -> bool:
            return self.gate == "instance"

        @property
        def scaling(self) -> float:
            return self.alpha / (self.rank // self.experts if self.scale_by == "expert-rank" else self.rank)

        @property
        def even(self) -> float:
            return 1 / self.experts

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Experts":
            return Experts(self, inputs, self.users(user_width) if self.needs_user else None, generator)

    config: Config

    def __init__(self, config: Config, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> None:
        super().__init__(config, user_width)
        self.layers = len(inputs)
        if user_width is None:
            self.routers = _token_routers(config.experts, inputs, generator)
            return
        routers = 1 if config.routers == "one" else self.layers
        self.gate: LinearGate | MLPGate | ResidualGate
        if config.router == "linear":
            self.gate = LinearGate(routers, user_width, config.experts, generator)
        elif config.router == "mlp":
            self.gate = MLPGate(routers, user_width, config.hidden, config.experts, "relu", generator)
        else:
            self.gate = ResidualGate(routers, user_width, config.experts, generator)

    def structure(self, u_BD: Float[Tensor, "B D"]) -> Structure:
        block, temperature = self.config.rank // self.config.experts, self.config.temperature
        if self.config.gate == "token":
            return _routed(self.routers, block, temperature, "diagonal")
        w_SBN = torch.softmax(self.gate(u_BD) / temperature, dim=-1)
        return Diagonal(w_SBN.expand(self.layers, -1, -1), block=block)


@final
class Meta(Coupling):
    """N meta-LoRAs of rank r, mixed for each user: RecLoRA (arXiv 2408.03533). Each layer has its own gate.

        w = softmax(z / τ),   z = W_b · Dropout(ReLU(W_a · LayerNorm(u)))
        merge = "weights":    (Σ_k w_k B_k)(Σ_l w_l A_l) = B · ((w wᵀ) ⊗ I(r)) · A      as released
        merge = "outputs":    Σ_k w_k B_k A_k            = B · (diag(w) ⊗ I(r)) · A      as reviews write it

    with A the A_l one below the other and B the B_k side by side. As a constraint on C (N·r x N·r): only equal indices
    inside the meta-LoRAs meet; with "weights" their weight has rank one, with "outputs" different ones never meet.
    The weights of one user's merged LoRA are never built. By token (``which_in_gate = token`` of the released code)

        z = W · LayerNorm([x ; u]) + b,     x what comes into the layer

    so C differs from token to token of one user.
    """

    class Config(Coupling.Config):
        """N meta-LoRAs of rank r."""

        kind: Literal["meta"] = "meta"
        loras: PositiveInt = 8
        """N, the meta-LoRAs; the authors use 8 and 16."""
        merge: Literal["weights", "outputs"] = "weights"
        """Whether the weights of the meta-LoRAs are averaged, or what they put out."""
        gate: Literal["instance", "token"] = "instance"
        """Whether w comes from u alone, or from each token's input to the layer and u."""
        temperature: PositiveFloat = 5.0
        """τ: higher is more even; the authors use 5 on MovieLens, 1 on GoodReads."""
        hidden: PositiveInt = 60
        """Hidden width of the gates; by token they have no hidden layer."""
        gate_dropout: float = Field(default=0.1, ge=0, lt=1)
        """After their hidden layer, while training."""

        @model_validator(mode="after")
        def _nothing_hidden_by_token(self) -> "Meta.Config":
            for key in ("hidden", "gate_dropout"):
                if self.gate == "token" and getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(
                        f"{key} is about a gate's hidden layer, and with gate = 'token' it has none; remove it, "
                        "or choose gate = 'instance'"
                    )
            return self

        @property
        def rows(self) -> int:
            return self.loras * self.rank

        @property
        def columns(self) -> int:
            return self.loras * self.rank

        @property
        def max_rank(self) -> int:
            return self.rank if self.merge == "weights" else self.loras * self.rank

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Meta":
            return Meta(self, inputs, self.users(user_width), generator)

    config: Config

    def __init__(self, config: Config, inputs: tuple[int, ...], user_width: int, generator: torch.Generator) -> None:
        super().__init__(config, user_width)
        if config.gate == "instance":
            self.gate = MLPGate(
                len(inputs), user_width, config.hidden, config.loras, "relu", generator, dropout=config.gate_dropout
            )
        else:  # each of the width of its layer
            self.gates = nn.ModuleList(NormGate(width + user_width, config.loras, generator) for width in inputs)

    def structure(self, u_BD: Float[Tensor, "B D"]) -> Structure:
        N, rank, temperature, merge = self.config.loras, self.config.rank, self.config.temperature, self.config.merge
        if self.config.gate == "token":
            gates = tuple(self.gates)
            return Gated(u_BD.expand(len(gates), -1, -1), gates, N, rank, temperature, merge)
        w_SBN = torch.softmax(self.gate(u_BD) / temperature, dim=-1)
        return (RankOne if merge == "weights" else Diagonal)(w_SBN, block=rank)


@final
class Hydra(Coupling):
    """One A, several heads B_k: HydraLoRA (arXiv 2404.19245), gated by the user here, by each token as published.

        w = softmax(W u / τ)  or, by token,  softmax(W x / τ),       Σ_k w_k B_k A x = B · (w ⊗ I(r)) · A x

    As a constraint on C (N·r x r): only equal indices meet, and all indices of a head have its weight. By token C depends
    on what comes into the layer and on no user, so no user's adapter can be exported.
    """

    class Config(Coupling.Config):
        """N heads on one A."""

        kind: Literal["hydra"] = "hydra"
        rank: PositiveInt = 4
        alpha: PositiveFloat = 32.0
        heads: PositiveInt = 4
        """N, the copies of B."""
        gate: Literal["instance", "token"] = "instance"
        """Whether w comes from u, or from each token's input to the layer."""
        temperature: PositiveFloat = 1.0
        """τ: higher is more even."""

        @property
        def needs_user(self) -> bool:
            return self.gate == "instance"

        @property
        def columns(self) -> int:
            return self.heads * self.rank

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Hydra":
            return Hydra(self, inputs, self.users(user_width) if self.needs_user else None, generator)

    config: Config

    def __init__(self, config: Config, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> None:
        super().__init__(config, user_width)
        if user_width is not None:
            self.gate = LinearGate(len(inputs), user_width, config.heads, generator)
        else:
            self.routers = _token_routers(config.heads, inputs, generator)

    def structure(self, u_BD: Float[Tensor, "B D"]) -> Structure:
        rank, temperature = self.config.rank, self.config.temperature
        if self.config.gate == "token":
            return _routed(self.routers, rank, temperature, "column")
        return Column(torch.softmax(self.gate(u_BD) / temperature, dim=-1), block=rank)


def _token_routers(weights: int, inputs: tuple[int, ...], generator: torch.Generator) -> nn.ParameterList:
    """W_NI of every layer, each of the width of its layer."""
    return nn.ParameterList(kaiming_uniform(weights, width, generator=generator) for width in inputs)


def _routed(layers: nn.ParameterList, block: int, temperature: float, shape: Literal["column", "diagonal"]) -> Routed:
    routers = tuple(layers)
    return Routed(routers[0].new_empty(len(routers), len(routers[0]), 0), routers, block, temperature, shape)
