"""What a language model knows of items and users, as fields of a conventional model. Knows neither texts nor that model.

Vectors that were made beforehand are as wide as the language model. Experts that train with the conventional model turn each into
one field's vector. They are the hybrid-expert adaptor of KAR (Xi et al., RecSys 2024, arXiv 2306.10933, section 3.3), in which
experts that all sources share stand beside those of one source. The function is that of the released code; the start (see
``Experts``) is ours.
"""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from lifelora.data.dataset import Samples
from lifelora.errors import ConfigError
from lifelora.types import Frozen


class KnowledgeExperts(Frozen):
    """Which knowledge becomes fields, and the experts that turn it into them."""

    user: bool = True
    "Whether what is known of the user is a field."
    item: bool = True
    "Whether what is known of the target is one."
    shared: int = Field(default=2, ge=1)
    "Experts that users and items share."
    specific: int = Field(default=5, ge=1)
    "Experts that each of the two has for itself."
    hidden: int = Field(default=128, ge=1)
    "Width of an expert's hidden layer; KAR's, which learns some ten thousand rows by heart: with few, take 32 (LOG.md)."
    dropout: float = Field(default=0.0, ge=0, lt=1)
    "After both layers of the experts, as in KAR's; rows of a batch with the same vector lose the same."

    @model_validator(mode="after")
    def _something(self) -> "KnowledgeExperts":
        if not (self.user or self.item):
            raise ValueError("user = false and item = false leave no field; set one of them to true")
        return self


@dataclass(frozen=True)
class Known:
    """What is known in vectors: of each item, and of each user after every ``every`` of their events.

    State s of user u is row ``first_U[u] + s - 1`` (s = 1 … ``states_U[u]``) and knows their first s·every events,
    nothing later. A vector of zeros says that nothing was written.
    """

    item_MK: Float[Tensor, "M K"]
    state_NK: Float[Tensor, "N K"]
    first_U: Int[Tensor, "U"]
    states_U: Int[Tensor, "U"]
    every: int


class Experts(nn.Module):
    """E_e(x) = ReLU(W'_e ReLU(W_e x + b_e) + b'_e), dropout after each ReLU; the weights of all experts in one stack."""

    def __init__(self, experts: int, ins: int, hidden: int, outs: int, init_std: float) -> None:
        super().__init__()
        self.into = nn.Linear(ins, experts * hidden)
        # Their fields start about as small as those of the table: larger ones are learnt by heart first (LOG.md).
        self.weight_NHE = nn.Parameter(torch.empty(experts, hidden, outs).normal_(std=init_std))
        self.bias_NE = nn.Parameter(torch.zeros(experts, outs))


class Source(nn.Module):
    """Vectors of one kind: a table of them, experts of their own, a gate W_s, c_s, and what stands for vectors of zeros."""

    def __init__(self, config: KnowledgeExperts, known_NK: Float[Tensor, "N K"], width: int, init_std: float) -> None:
        super().__init__()
        K = known_NK.shape[1]
        self.known_NK: Tensor
        self.written_N: Tensor
        # They were made beforehand and lie in files of their own, so they are not among the weights.
        self.register_buffer("known_NK", known_NK, persistent=False)
        self.register_buffer("written_N", known_NK.any(dim=1), persistent=False)
        self.own = Experts(config.specific, K, config.hidden, width, init_std)
        self.gate = nn.Linear(K, config.shared + config.specific)
        self.nothing_E = nn.Parameter(torch.zeros(width))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, shared: Experts, rows_B: Int[Tensor, "B"]) -> Float[Tensor, "B E"]:
        """a_s(x) = Σ_e softmax(W_s x + c_s)_e · E_e(x) over the shared experts and its own; ``nothing`` for x = 0, and for a row
        that there is not, which came later.
        """
        # Many rows of a batch share an item: each distinct vector once, at two thirds of the time for MovieLens' items.
        distinct_B, place_B = torch.unique(rows_B, return_inverse=True)
        at_B = distinct_B.clamp(max=len(self.known_NK) - 1)
        written_B = self.written_N[at_B] & (at_B == distinct_B)
        x_BK = self.known_NK[at_B].to(self.gate.weight.dtype)
        g_BN = torch.softmax(self.gate(x_BK), dim=1)
        into = [shared.into, self.own.into]
        h_BX = F.relu(F.linear(x_BK, torch.cat([one.weight for one in into]), torch.cat([one.bias for one in into])))
        h_NBH = self.drop(h_BX).unflatten(1, (g_BN.shape[1], -1)).transpose(0, 1)
        weight_NHE = torch.cat([shared.weight_NHE, self.own.weight_NHE])
        bias_NE = torch.cat([shared.bias_NE, self.own.bias_NE])
        e_NBE = self.drop(F.relu(torch.baddbmm(bias_NE[:, None], h_NBH, weight_NHE)))
        a_BE = torch.einsum("bn,nbe->be", g_BN, e_NBE)
        return torch.where(written_B[:, None], a_BE, self.nothing_E).index_select(0, place_B)


@final
class KnowledgeFields(nn.Module):
    """Fields of what is known of the user and of the target: the ``ExtraFields`` of any conventional model.

    A sample with n earlier events reads state s = min(n // every, states) of its user, made of the first s·every of them;
    with s = 0 nobody knows anything yet, and the learned vector ``nobody`` stands in: for a user or an item that came later, too.
    States are not written anew as a log grows, so its users keep their last one. ``init_std`` is that of the model's own
    embeddings, ``width`` their width.
    """

    def __init__(self, config: KnowledgeExperts, known: Known, width: int, init_std: float = 0.01) -> None:
        super().__init__()
        if config.user and not len(known.state_NK):
            raise ConfigError(
                f"there is no state of a user to read: no user has as many as {known.every} events, after "
                "which the first is written. Write earlier, or set user = false."
            )
        self.n_user_fields, self.n_fields = int(config.user), int(config.user) + int(config.item)
        self.every = known.every
        self.shared = Experts(config.shared, known.item_MK.shape[1], config.hidden, width, init_std)
        if config.user:
            self.user = Source(config, known.state_NK, width, init_std)
            self.nobody_E = nn.Parameter(torch.zeros(width))
            self.first_U: Tensor
            self.states_U: Tensor
            # One more, without a state, for users who came later.
            self.register_buffer("first_U", F.pad(known.first_U, (0, 1)), persistent=False)
            self.register_buffer("states_U", F.pad(known.states_U, (0, 1)), persistent=False)
        if config.item:
            self.item = Source(config, known.item_MK, width, init_std)
        self.config = config

    def forward(self, batch: Samples) -> Float[Tensor, "B F E"]:
        """The user's field, if there is one, then the target's."""
        fields = []
        if self.config.user:
            rows_B, known_B = self.states(batch)
            fields.append(torch.where(known_B[:, None], self.user(self.shared, rows_B), self.nobody_E))
        if self.config.item:
            fields.append(self.item(self.shared, batch.item_B))
        return torch.stack(fields, dim=1)

    def states(self, batch: Samples) -> tuple[Int[Tensor, "B"], Bool[Tensor, "B"]]:
        """The row of each user's latest state before the target, and whether there is one; row 0 stands for none."""
        s_B = torch.minimum(batch.position_B // self.every, self.states_U[batch.user_B])
        return torch.where(s_B > 0, self.first_U[batch.user_B] + s_B - 1, 0), s_B > 0
