"""What each kind of signal is worth in a simulated world: predictions by one who knows the world but not all of it.

Every oracle knows how the world works (all its distributions and, of items, the quality). What is taken away in turn:
the user, the item's attributes, and all of the user's past but K behaviours. Scores only; it computes no metric.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from lifelora.data.sources.world import BIAS, BOUNDS, CARES, REDRAW, VALUES, Log, World, rating_probability, sigmoid, summed

NEWTON_STEPS = 6
CHUNK, EVIDENCE_CHUNK = 64, 2048
COMBINATION_CA = np.stack(np.unravel_index(np.arange(VALUES**3), (VALUES,) * 3), axis=1)
"""All combinations of genre, mood and place, the place running fastest."""


@dataclass(frozen=True)
class Ablations:
    """Scores (probabilities of a like) on the same rows, by name of the oracle."""

    rows_B: Int[np.ndarray, "B"]
    user_B: Int[np.ndarray, "B"]
    item_B: Int[np.ndarray, "B"]
    label_B: Bool[np.ndarray, "B"]
    rated_B: Bool[np.ndarray, "B"]
    "Whether the item has a training rating."
    scores: dict[str, Float[np.ndarray, "B"]]


def ablate(
    world: World,
    log: Log,
    rows_B: Int[np.ndarray, "B"],
    seen_N: Bool[np.ndarray, "N"],
    shown: tuple[int, ...],
    whole_past: bool,
) -> Ablations:
    """Scores of all oracles on ``rows_B``; ``seen_N`` marks the training samples, from which ids are known."""
    user_B, item_B, time_B = log.user_N[rows_B], log.item_N[rows_B], log.time_N[rows_B]
    attribute_BA = world.attribute_MA[item_B]
    common_B, evidence_MC = world.common(item_B), evidence(world, log, seen_N)
    scores = {
        "truth": sigmoid(world.eta(user_B, item_B, time_B)),
        "no user": sigmoid(common_B + summed(np.repeat(world.shared_AV[None], len(rows_B), 0), attribute_BA)),
        "profile only": sigmoid(common_B + summed(world.mean_UAV[user_B], attribute_BA)),
        "no words": without_words(world, log, rows_B, evidence_MC, genre_known=True),
        "no words, no genre": without_words(world, log, rows_B, evidence_MC, genre_known=False),
    }
    for k in shown:
        scores[f"recent {k}"] = from_behaviours(world, log, rows_B, "recent", k)
        scores[f"similar {k}"] = from_behaviours(world, log, rows_B, "similar", k)
    if whole_past:
        scores["whole past"] = from_behaviours(world, log, rows_B, "recent", len(log.user_N))
    return Ablations(rows_B, user_B, item_B, log.rating_N[rows_B] > 3, np.isin(item_B, log.item_N[seen_N]), scores)


def evidence(world: World, log: Log, seen_N: Bool[np.ndarray, "N"]) -> Float[np.ndarray, "M C"]:
    """Σ_n log P(rating_n | η_n(c)) over the seen ratings of each item, for every combination c of attribute values."""
    evidence_MC = np.zeros((len(world.quality_M), len(COMBINATION_CA)))
    rows_N = np.flatnonzero(seen_N)
    for start in range(0, len(rows_N), EVIDENCE_CHUNK):
        part = rows_N[start : start + EVIDENCE_CHUNK]
        probability_NC = rating_probability(log.rating_N[part, None], _eta_if(world, log, part))
        np.add.at(evidence_MC, log.item_N[part], np.log(probability_NC))
    return evidence_MC


def without_words(
    world: World, log: Log, rows_B: Int[np.ndarray, "B"], evidence_MC: Float[np.ndarray, "M C"], genre_known: bool
) -> Float[np.ndarray, "B"]:
    """The user is known, attributes only as far as the training ratings of the item (and its genre) give them away.

    P(c | ratings of i) ∝ Π_n P(rating_n | η_n(c)) over all combinations c of attribute values, uniform before;
    P(like) = Σ_c P(c | ratings of i) σ(η(c)). An item without training ratings keeps the uniform distribution.
    """
    item_B = log.item_N[rows_B]
    evidence_BC = evidence_MC[item_B]
    if genre_known:
        evidence_BC = np.where(COMBINATION_CA[:, 0] == world.attribute_MA[item_B, :1], evidence_BC, -np.inf)
    posterior_BC = np.exp(evidence_BC - evidence_BC.max(1, keepdims=True))
    return np.asarray((sigmoid(_eta_if(world, log, rows_B)) * posterior_BC).sum(1) / posterior_BC.sum(1))


def _eta_if(world: World, log: Log, rows_N: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N C"]:
    """η of each event, were its item of combination c."""
    user_N = log.user_N[rows_N]
    taste_NAV = world.taste_UWAV[user_N, world.regime(user_N, log.time_N[rows_N])]
    eta_NGMP = (
        (world.bias_U[user_N] + world.quality_M[log.item_N[rows_N]])[:, None, None, None]
        + world.blend_VV[:, :, None]
        + taste_NAV[:, 0, :, None, None]
        + taste_NAV[:, 1, None, :, None]
        + taste_NAV[:, 2, None, None, :]
    )
    return np.asarray(eta_NGMP.reshape(len(rows_N), -1))


def from_behaviours(
    world: World, log: Log, rows_B: Int[np.ndarray, "B"], which: Literal["recent", "similar"], k: int
) -> Float[np.ndarray, "B"]:
    """Attributes are known, the user only from the profile and K rated behaviours: a Gaussian process, by Laplace.

    T²·CARES is the variance of a taste entry and (1 - REDRAW)^|w - w'| the probability that it lived from regime w to w':

        cov(η, η') = BIAS² + T² · CARES · (1 - REDRAW)^|w - w'| · number of shared attribute values,

    around the η of the profile. That s is -1, 0 or 1 and not normal is ignored: an oracle a little below the best.
    """
    chosen_BK, mask_BK = behaviours(world, log, rows_B, which, k)
    probability_B = np.empty(len(rows_B))
    for start in range(0, len(rows_B), CHUNK):
        part = slice(start, start + CHUNK)
        keep = np.flatnonzero(mask_BK[part].any(0))
        rows_bk = np.concatenate([rows_B[part, None], chosen_BK[part][:, keep]], axis=1)  # the target in front
        probability_B[part] = _laplace(world, log, rows_bk, mask_BK[part][:, keep])
    return probability_B


def behaviours(
    world: World, log: Log, rows_B: Int[np.ndarray, "B"], which: Literal["recent", "similar"], k: int
) -> tuple[Int[np.ndarray, "B K"], Bool[np.ndarray, "B K"]]:
    """The K most recent behaviours before each row, or the K that share most attributes with it (ties: recency)."""
    first_U = np.searchsorted(log.user_N, np.arange(len(world.bias_U)))
    past_B = rows_B - first_U[log.user_N[rows_B]]
    width = min(k, int(past_B.max()))
    chosen_BK, mask_BK = np.zeros((len(rows_B), width), np.int64), np.arange(width)[::-1] < past_B[:, None]
    for b, row in enumerate(rows_B):
        past = np.arange(row - past_B[b], row)
        if which == "similar":
            shared = (world.attribute_MA[log.item_N[past]] == world.attribute_MA[log.item_N[row]]).sum(1)
            past = past[np.argsort(shared, kind="stable")]
        kept = past[-width:]
        chosen_BK[b, width - len(kept) :] = kept
    return chosen_BK, mask_BK


def _laplace(world: World, log: Log, rows_BJ: Int[np.ndarray, "B J"], mask_BK: Bool[np.ndarray, "B K"]) -> Float[np.ndarray, "B"]:
    """P(like) of the first of each row's J = 1 + K events from the ratings of the other K.

    Newton on the log posterior of f = η of the K events (Rasmussen & Williams, Algorithm 3.1), with the ordered logit's

        d log P / df = F_hi + F_lo - 1,   W = -d² log P / df² = F_hi (1 - F_hi) + F_lo (1 - F_lo),

    F_hi = σ(cut_r - f), F_lo = σ(cut_{r-1} - f); then σ averaged over the target's normal by σ(m / √(1 + π v / 8)).
    """
    user_B = log.user_N[rows_BJ[:, 0]]
    item_BJ, time_BJ = log.item_N[rows_BJ], log.time_N[rows_BJ]
    attribute_BJA = world.attribute_MA[item_BJ]
    regime_BJ = (world.change_UW[user_B][:, None] <= time_BJ[:, :, None]).sum(2)
    flat_user = np.repeat(user_B, rows_BJ.shape[1])
    expected = summed(world.mean_UAV[flat_user], world.attribute_MA[item_BJ.ravel()])
    mean_BJ = (world.common(item_BJ.ravel()) + expected).reshape(rows_BJ.shape)
    shared_BJJ = (attribute_BJA[:, :, None] == attribute_BJA[:, None]).sum(3)
    apart_BJJ = np.abs(regime_BJ[:, :, None] - regime_BJ[:, None])
    cov_BJJ = BIAS**2 + world.strength**2 * CARES * (1 - REDRAW) ** apart_BJJ * shared_BJJ
    K_BKK, k_BK, v_B = cov_BJJ[:, 1:, 1:], cov_BJJ[:, 0, 1:], cov_BJJ[:, 0, 0]
    rating_BK = log.rating_N[rows_BJ[:, 1:]]
    high_BK, low_BK, m_BK = BOUNDS[rating_BK], BOUNDS[rating_BK - 1], mean_BJ[:, 1:]

    def derivatives(f_BK: Float[np.ndarray, "B K"]) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B K"]]:
        F_hi, F_lo = sigmoid(high_BK - f_BK), sigmoid(low_BK - f_BK)
        return (F_hi + F_lo - 1) * mask_BK, (F_hi * (1 - F_hi) + F_lo * (1 - F_lo)) * mask_BK

    def solved(W_BK: Float[np.ndarray, "B K"], right_BKX: Float[np.ndarray, "B K X"]) -> Float[np.ndarray, "B K X"]:
        """(K + W⁻¹)⁻¹ right, as W½ (I + W½ K W½)⁻¹ W½ right, which allows W = 0."""
        root = np.sqrt(W_BK)[:, :, None]
        inner = np.eye(W_BK.shape[1]) + root * K_BKK * root.transpose(0, 2, 1)
        return np.asarray(root * np.linalg.solve(inner, root * right_BKX))

    f_BK = m_BK
    for _ in range(NEWTON_STEPS):
        gradient_BK, W_BK = derivatives(f_BK)
        b_BK1 = (W_BK * (f_BK - m_BK) + gradient_BK)[:, :, None]
        f_BK = m_BK + (K_BKK @ (b_BK1 - solved(W_BK, K_BKK @ b_BK1)))[:, :, 0]
    gradient_BK, W_BK = derivatives(f_BK)
    mean_B = mean_BJ[:, 0] + (k_BK * gradient_BK).sum(1)
    variance_B = v_B - (k_BK * solved(W_BK, k_BK[:, :, None])[:, :, 0]).sum(1)
    return sigmoid(mean_B / np.sqrt(1 + np.pi * variance_B / 8))
