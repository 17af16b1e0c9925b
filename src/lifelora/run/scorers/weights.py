"""Weights of several scores by maximum likelihood: logistic regression and conditional logit. Knows arrays, no scorer.

    P(c) = exp(z_c) / Σ_c' exp(z_c'),   z_c = Σ_j w_j s_jc                      (conditional logit: McFadden, 1974)
    w    = argmin  Σ_n -log P(target of n)  +  RIDGE / 2 · Σ_j (σ_j w_j)²

A yes is one of two alternatives: z = b + Σ_j w_j s_j against 0, so P(yes) = 1 / (1 + exp(-z)), which is logistic regression.
σ_j is the spread of a member's scores (of lists: around each list's mean). The ridge says far less than one sample does: it
keeps weights finite where scores tell all answers apart, and gives equal members equal weights. b has none. The sum is strictly
convex, so Newton's method finds its one minimum, and the same scores give the same weights.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

RIDGE = 0.01
STEPS, HALVINGS = 100, 40
CLOSE = 1e-14
"""Newton's method ends where another step would lower the sum by less than this share of it."""


@dataclass(frozen=True)
class Fitted:
    """Weights, one for each member in turn, and what they stand on."""

    bias: float
    weights: tuple[float, ...]
    spread: tuple[float, ...]
    "σ of each member's scores; with 0 they are the same for all, and the weight is 0."
    samples: int


def logistic(score_NJ: Float[np.ndarray, "N J"], label_N: Bool[np.ndarray, "N"]) -> Fitted:
    """b and w of P(yes) = σ(b + Σ_j w_j s_j); both answers have to be there."""
    spread_J = score_NJ.std(axis=0)
    middle_J, used_J = score_NJ.mean(axis=0), spread_J > 0
    # Scores around their mean change b alone, and make it easy to find.
    x_NJ = (score_NJ - middle_J)[:, used_J] / spread_J[used_J]
    yes_NP = np.column_stack([np.ones(len(x_NJ)), x_NJ])
    alternatives_N2P = np.stack([np.zeros_like(yes_NP), yes_NP], axis=1)
    found_P = _minimum(alternatives_N2P, label_N.astype(np.int64), np.append(0.0, np.full(x_NJ.shape[1], RIDGE)))
    weight_J = np.zeros(len(spread_J))
    weight_J[used_J] = found_P[1:] / spread_J[used_J]
    return Fitted(float(found_P[0] - weight_J @ middle_J), tuple(weight_J.tolist()), tuple(spread_J.tolist()), len(label_N))


def conditional(score_NCJ: Float[np.ndarray, "N C J"], target_N: Int[np.ndarray, "N"]) -> Fitted:
    """w of P(c) = softmax over a list's candidates of Σ_j w_j s_jc; there is no b, which would be the same for all of them."""
    centred_NCJ = score_NCJ - score_NCJ.mean(axis=1, keepdims=True)
    spread_J = np.sqrt((centred_NCJ**2).mean(axis=(0, 1)))
    used_J = spread_J > 0
    x_NCJ = centred_NCJ[..., used_J] / spread_J[used_J]
    weight_J = np.zeros(len(spread_J))
    weight_J[used_J] = _minimum(x_NCJ, target_N, np.full(x_NCJ.shape[2], RIDGE)) / spread_J[used_J]
    return Fitted(0.0, tuple(weight_J.tolist()), tuple(spread_J.tolist()), len(target_N))


def _minimum(
    x_NCP: Float[np.ndarray, "N C P"], target_N: Int[np.ndarray, "N"], ridge_P: Float[np.ndarray, "P"]
) -> Float[np.ndarray, "P"]:
    """v that minimises Σ -log softmax(x · v) of the targets + ½ Σ ridge v²; a step that goes too far is halved."""
    own_NP = x_NCP[np.arange(len(target_N)), target_N]

    def loss(v_P: Float[np.ndarray, "P"]) -> float:
        return float((logsumexp(x_NCP @ v_P, axis=1) - own_NP @ v_P).sum() + ridge_P @ v_P**2 / 2)

    v_P = np.zeros(x_NCP.shape[2])
    now = loss(v_P)
    for _ in range(STEPS):
        z_NC = x_NCP @ v_P
        p_NC = np.exp(z_NC - logsumexp(z_NC, axis=1, keepdims=True))
        mean_NP = np.einsum("nc,ncp->np", p_NC, x_NCP)
        gradient_P = (mean_NP - own_NP).sum(axis=0) + ridge_P * v_P
        hessian_PP = np.einsum("nc,ncp,ncq->pq", p_NC, x_NCP, x_NCP) - mean_NP.T @ mean_NP + np.diag(ridge_P)
        step_P = np.linalg.solve(hessian_PP, gradient_P)
        if gradient_P @ step_P <= CLOSE * max(now, 1.0):
            return v_P - step_P
        for halving in range(HALVINGS):
            shorter_P = v_P - step_P / 2**halving
            if loss(shorter_P) < now:
                break
        else:
            return v_P  # rounding alone is left
        v_P, now = shorter_P, loss(shorter_P)
    return v_P
