"""What adapters cost and what they can do, in numbers: parameters, bytes per user, rank. Knows no training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifelora.lora.adapters import Adapters
from lifelora.lora.structure import ByToken


@dataclass(frozen=True)
class Summary:
    """The size of a model's adapters, and the rank of the updates they make."""

    layers: int
    shared: int
    "Entries of all A and B."
    coupling: int
    "Entries of the coupling's parameters."
    learning: int
    "How many of both require a gradient."
    bytes_per_user: int
    "What has to be kept of C(u) to serve one user again; 0 if the coupling needs no user."
    max_rank: int
    "The highest rank that one user's update of a layer can have."
    effective_rank: float | None
    """Mean over users and layers of exp(-Σ p log p), p = σ/Σσ, σ the singular values of B·C(u)·A (Roy and Vetterli,
    EUSIPCO 2007); None if no users were given, or C depends on the token."""
    left_out: Sequence[str] = ()
    "Layers that 'all-linear' left out because they are narrower than the rank."

    def __str__(self) -> str:
        measured = "" if self.effective_rank is None else f", effective rank {self.effective_rank:.2f}"
        kept = f"; {self.bytes_per_user:,} bytes per user" if self.bytes_per_user else ""
        words = sorted({name.rpartition(".")[2] for name in self.left_out})
        narrow = f" ({len(self.left_out)} narrower than the rank left out: {', '.join(words)})" if words else ""
        return (
            f"{self.layers} layers{narrow}; A and B {self.shared:,} parameters, coupling {self.coupling:,}, "
            f"learning {self.learning:,}; update of rank <= {self.max_rank}{measured}{kept}"
        )


@torch.no_grad()
def summarise(adapters: Adapters, u_BD: Float[Tensor, "B D"] | None = None) -> Summary:
    """Count parameters and bytes; with representations of some users, also measure the effective rank of their updates."""
    config = adapters.coupling.config
    factors = [factor for _, layer in adapters.layers for factor in (layer.A_PI, layer.B_OQ)]
    shared = sum(factor.numel() for factor in factors)
    probe = u_BD if u_BD is not None or adapters.user_width is None else torch.zeros(1, adapters.user_width)
    training = adapters.coupling.training
    C = adapters.coupling.eval()(probe)
    adapters.coupling.train(training)
    ranks: list[Tensor] = []
    for index, (_, layer) in enumerate(adapters.layers):
        if (u_BD is None and config.needs_user) or isinstance(C, ByToken):
            break
        # B = U_B R_B and Aᵀ = U_A R_A with orthonormal U: B C A has the singular values of R_B C R_Aᵀ.
        R_B, R_A = (torch.linalg.qr(m.detach().double(), mode="r").R for m in (layer.B_OQ, layer.A_PI.T))
        for row in range(len(u_BD) if u_BD is not None and config.needs_user else 1):  # one, where all are alike
            middle = R_B if C is None else R_B @ C.dense(index, row).double()
            sigma = torch.linalg.svdvals(middle @ R_A.T)
            p = sigma / sigma.sum()
            ranks.append(torch.exp(-(torch.special.xlogy(p, p)).sum()) if sigma.any() else torch.zeros(()).double())
    learning = sum(p.numel() for p in [*factors, *adapters.coupling.parameters()] if p.requires_grad)
    return Summary(
        len(adapters.layers),
        shared,
        adapters.coupling.number_of_parameters,
        learning,
        0 if C is None else C.bytes_per_row,
        config.max_rank,
        torch.stack(ranks).mean().item() if ranks else None,
        adapters.left_out,
    )
