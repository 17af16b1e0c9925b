"""A world whose truth is known: users with drifting tastes, things with attributes, and how the two meet.

It knows numbers only; the words that attributes are written with are ``simulated``'s.

A user u at time t, who meets item i of genre g, mood m and place p, likes it with probability σ(η),

    η = bias_u + quality_i + blend[g, m] + taste_ut[genre, g] + taste_ut[mood, m] + taste_ut[place, p],
    taste_ut[a, v] = shared[a, v] + Σ_f shift_f[value f of u's profile, a, v] + T · s_ut[a, v],   s ∈ {-1, 0, +1}.

s is redrawn, entry by entry with probability ``REDRAW``, at the beginning of each of a user's ``REGIMES``. Ratings
follow an ordered logit whose third cut is 0, so that P(rating > 3) = σ(η) exactly:

    P(rating ≤ k) = σ(cut_k - η),   cut_1 < cut_2 < cut_3 = 0 < cut_4.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from lifelora.seeds import generator

ATTRIBUTES = ("genre", "mood", "place")
VALUES = 8
"""Values of each attribute."""
PROFILE_SIZES = (2, 4)
"""Values of each profile field: gender, age."""
CUTS = np.array([-2.4, -1.1, 0.0, 1.7])
BOUNDS = np.concatenate([[-np.inf], CUTS, [np.inf]])
"""cut_0 … cut_5."""
CARES = 0.6
"""Probability that a taste entry s is not 0; +1 and -1 are equally likely."""
BIAS, QUALITY, BLEND, SHARED, SHIFT = 0.4, 0.5, 0.4, 0.25, 0.2
"""Standard deviations of the normal parts of η."""
REGIMES = 4
REDRAW = 0.15
POPULARITY, LURE = 0.6, 0.2
"""Exposure: a user meets item i with weight exp(POPULARITY · z_i + LURE · η) · freshness(age of i)."""
STOCK = 0.25
"""Share of the items that are there from the beginning; the others come out evenly over the period."""
NEW, FADING = 14.0, 0.06
"""freshness(age) = 1 + NEW · exp(-age / FADING), ages in periods."""
START, PERIOD = 1_609_459_200, 94_608_000
"""The period: three years from the first second of 2021."""
CALENDAR = 100
"""Steps of the period at which freshness changes."""


@dataclass(frozen=True)
class World:
    """Everything that decides a rating. Axes: A attributes, V values, F profile fields, W regimes."""

    attribute_MA: Int[np.ndarray, "M A"]
    quality_M: Float[np.ndarray, "M"]
    release_M: Int[np.ndarray, "M"]
    "Seconds; no user meets an item before."
    blend_VV: Float[np.ndarray, "V V"]
    profile_UF: Int[np.ndarray, "U F"]
    window_U2: Float[np.ndarray, "U 2"]
    "First and last moment of each user, in periods."
    bias_U: Float[np.ndarray, "U"]
    shared_AV: Float[np.ndarray, "A V"]
    "Taste expected of any user."
    mean_UAV: Float[np.ndarray, "U A V"]
    "Taste expected from the profile alone."
    taste_UWAV: Float[np.ndarray, "U W A V"]
    change_UW: Int[np.ndarray, "U W-1"]
    "Seconds at which the second and later regimes begin."
    strength: float
    "T."

    def regime(self, user_N: Int[np.ndarray, "N"], time_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Which regime of their life each user is in."""
        return np.asarray((self.change_UW[user_N] <= time_N[:, None]).sum(1))

    def common(self, item_N: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """The part of η that is the same for all users at all times: quality_i + blend[g, m]."""
        genre_N, mood_N, _ = self.attribute_MA[item_N].T
        return np.asarray(self.quality_M[item_N] + self.blend_VV[genre_N, mood_N])

    def eta(
        self, user_N: Int[np.ndarray, "N"], item_N: Int[np.ndarray, "N"], time_N: Int[np.ndarray, "N"]
    ) -> Float[np.ndarray, "N"]:
        """η of each user, item and time."""
        taste_NAV = self.taste_UWAV[user_N, self.regime(user_N, time_N)]
        return np.asarray(self.bias_U[user_N] + self.common(item_N) + summed(taste_NAV, self.attribute_MA[item_N]))


@dataclass(frozen=True)
class Log:
    """What was seen of the world, in (user, time) order."""

    user_N: Int[np.ndarray, "N"]
    item_N: Int[np.ndarray, "N"]
    rating_N: Int[np.ndarray, "N"]
    time_N: Int[np.ndarray, "N"]


def sigmoid(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """σ(x) = 1 / (1 + e^-x), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def summed(taste_NAV: Float[np.ndarray, "N A V"], attribute_NA: Int[np.ndarray, "N A"]) -> Float[np.ndarray, "N"]:
    """Σ_a taste[a, value of a]."""
    return np.asarray(np.take_along_axis(taste_NAV, attribute_NA[:, :, None], axis=2).sum((1, 2)))


def rating_probability(rating_X: Int[np.ndarray, "..."], eta_X: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """P(rating = r) = σ(cut_r - η) - σ(cut_{r-1} - η), with cut_0 = -∞ and cut_5 = ∞; the two shapes broadcast."""
    return np.asarray(sigmoid(BOUNDS[rating_X] - eta_X) - sigmoid(BOUNDS[rating_X - 1] - eta_X))


def create(users: int, items: int, tastes: float, seed: int) -> World:
    """Draw a world."""
    random = generator(seed, "simulated", "world")
    shape_AV = (len(ATTRIBUTES), VALUES)
    shared_AV = random.normal(0, SHARED, shape_AV)
    profile_UF = np.stack([random.integers(0, size, users) for size in PROFILE_SIZES], axis=1)
    mean_UAV = np.repeat(shared_AV[None], users, axis=0)
    for field, size in enumerate(PROFILE_SIZES):
        mean_UAV += random.normal(0, SHIFT, (size, *shape_AV))[profile_UF[:, field]]
    sign_UWAV = random.choice((-1, 0, 1), (users, REGIMES, *shape_AV), p=(CARES / 2, 1 - CARES, CARES / 2))
    redrawn_UWAV = random.random(sign_UWAV.shape) < REDRAW
    for w in range(1, REGIMES):
        sign_UWAV[:, w] = np.where(redrawn_UWAV[:, w], sign_UWAV[:, w], sign_UWAV[:, w - 1])
    # Most users are there early and some come late; most stay to the end.
    first_U = 0.95 * random.random(users) ** 2
    window_U2 = np.stack([first_U, np.minimum(1.0, first_U + 0.35 + random.random(users))], axis=1)
    moment_UW = first_U[:, None] + np.diff(window_U2) * np.sort(random.random((users, REGIMES - 1)))
    return World(
        attribute_MA=random.integers(0, VALUES, (items, len(ATTRIBUTES))),
        quality_M=random.normal(0, QUALITY, items),
        release_M=seconds(np.maximum(0.0, (random.permutation(items) / items - STOCK) / (1 - STOCK))),
        blend_VV=random.normal(0, BLEND, (VALUES, VALUES)),
        profile_UF=profile_UF,
        window_U2=window_U2,
        bias_U=random.normal(0, BIAS, users),
        shared_AV=shared_AV,
        mean_UAV=mean_UAV,
        taste_UWAV=mean_UAV[:, None] + tastes * sign_UWAV,
        change_UW=seconds(moment_UW),
        strength=tastes,
    )


def seconds(moment: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Unix seconds of moments given in periods."""
    return START + (moment * PERIOD).astype(np.int64)


def live(world: World, events_per_user: int, seed: int) -> Log:
    """Let users meet items and rate them; no user meets an item twice, or before its release.

    All users take their first step together, then their second, …, so that a step is one array operation.
    """
    random = generator(seed, "simulated", "log")
    users, items = len(world.bias_U), len(world.quality_M)
    length_U = np.diff(world.window_U2)[:, 0]
    activity_U = np.exp(random.normal(0, 0.35, users)) * length_U
    steps_U = np.clip(np.rint(events_per_user * activity_U / activity_U.mean()), 6, items // 3).astype(np.int64)
    user_N = np.repeat(np.arange(users), steps_U)
    step_N = np.arange(len(user_N)) - np.repeat(np.cumsum(steps_U) - steps_U, steps_U)
    moment_N = world.window_U2[user_N, 0] + length_U[user_N] * random.random(len(user_N))
    moment_N = moment_N[np.lexsort((moment_N, user_N))]
    time_N = seconds(moment_N) + step_N  # one second more at each step, so that no two events of a user coincide

    taste_UWM = sum(world.taste_UWAV[:, :, a, world.attribute_MA[:, a]] for a in range(len(ATTRIBUTES)))
    eta_UWM = world.bias_U[:, None, None] + world.common(np.arange(items)) + taste_UWM
    weight_UWM = np.exp(POPULARITY * random.normal(size=items) + LURE * eta_UWM).astype(np.float32)
    fresh_CM = _freshness(world.release_M)
    item_N = np.empty(len(user_N), np.int64)
    for step in range(int(steps_U.max())):
        now = np.flatnonzero(step_N == step)
        user, time = user_N[now], time_N[now]
        page = ((time - START) * CALENDAR // PERIOD).clip(0, CALENDAR - 1)
        reach = np.cumsum(weight_UWM[user, world.regime(user, time)] * fresh_CM[page], axis=1)
        # The first item whose cumulative weight exceeds a uniform draw; an item without weight cannot be it.
        draw = random.random(len(now)) * reach[:, -1]
        item_N[now] = (reach <= draw[:, None]).sum(1).clip(max=items - 1)
        weight_UWM[user, :, item_N[now]] = 0
    above_N4 = sigmoid(world.eta(user_N, item_N, time_N)[:, None] - CUTS)  # P(rating > 1 … 4)
    rating_N = 1 + (random.random(len(user_N))[:, None] < above_N4).sum(1)
    return Log(user_N, item_N, rating_N, time_N)


def _freshness(release_M: Int[np.ndarray, "M"]) -> Float[np.ndarray, "C M"]:
    """How much each page of the calendar favours each item; 0 until the page that begins after its release."""
    page_C = seconds(np.arange(CALENDAR) / CALENDAR)
    age_CM = (page_C[:, None] - release_M) / PERIOD
    return np.where(age_CM >= 0, 1 + NEW * np.exp(-age_CM.clip(0) / FADING), 0).astype(np.float32)
