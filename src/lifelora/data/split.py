"""Which samples are for training, validation and test. Knows times and positions, not items or ratings."""

from typing import Annotated, Literal, TypeVar

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator

from lifelora import seeds
from lifelora.errors import ConfigError
from lifelora.types import PARTS, Frozen, Part

Shares = TypeVar("Shares", "GlobalTime", "UsersByTime")


def _leaves_a_rest(config: Shares) -> Shares:
    if config.train + config.valid >= 1:
        raise ValueError(f"train + valid = {config.train + config.valid:g} leaves nothing for test; keep the sum below 1")
    return config


class GlobalTime(Frozen):
    """One cut through time for all users, as ReLLa splits MovieLens: nothing in training is younger than any test sample."""

    kind: Literal["global-time"] = "global-time"
    train: float = Field(default=0.8, gt=0, lt=1)
    valid: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> "GlobalTime":
        return _leaves_a_rest(self)


class LeaveOneOut(Frozen):
    """Each user's last sample is test, the one before it validation, the rest training.

    The parts of different users overlap in time: a model trained on them has seen other users' future.
    """

    kind: Literal["leave-one-out"] = "leave-one-out"


class OneEach(Frozen):
    """Each user's last event is their one sample, and users are drawn into parts: ReLLa's way with BookCrossing.

    Where the log has no times the events of a user are shuffled first, by ``seed``, so that the order of the file means
    nothing: their 'history' is a set. The authors' parts are train and test, 15,942 and 1,772 of 17,714 users, and they
    chose their model by the test part; here ``valid`` of the users who are not in test are kept for that choice.
    Everything known of a user of one part is unknown to a model that is trained on another.
    """

    kind: Literal["one-per-user"] = "one-per-user"
    test: float = Field(default=0.1, gt=0, lt=1)
    "Share of the users."
    valid: float = Field(default=0.1, gt=0, lt=1)
    "Share of the users that are not in test."
    seed: int = Field(default=42, ge=0)
    "The authors' number; what it draws is not what theirs did."

    def order(self, n: int) -> Int[np.ndarray, "N"]:
        """Places in time for n events that have none."""
        return seeds.generator(self.seed, "split", "order").permutation(n)


class UsersByTime(Frozen):
    """Users in the order of their first event: the first are for training, with all their samples, the next for validation
    and the last for test, with their last sample each. So LLaRA and iLoRA split MovieLens-100K (found by decoding their
    files; with ``keep_from = 3``). Nothing is known of a test user but what is shown of their past.
    """

    kind: Literal["users-by-time"] = "users-by-time"
    train: float = Field(default=0.8, gt=0, lt=1)
    valid: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> "UsersByTime":
        return _leaves_a_rest(self)


class Given(Frozen):
    """The parts that the data set itself names, event by event, as it was published."""

    kind: Literal["given"] = "given"


def training_events(samples_N: Int[np.ndarray, "N"], user_A: Int[np.ndarray, "A"], n_users: int) -> Int[np.ndarray, "_"]:
    """Rows of all events that training may look at: its samples, given by row, and what their users had before them."""
    allowed_A = np.zeros(len(user_A), dtype=np.bool_)
    allowed_A[samples_N] = True
    last_U = np.full(n_users, -1, np.int64)
    np.maximum.at(last_U, user_A[samples_N], samples_N)
    # Early events that are too short-historied to be samples count as seen when a later training sample shows them.
    return np.flatnonzero(allowed_A | (np.arange(len(user_A)) <= last_U[user_A]))


Split = GlobalTime | LeaveOneOut | OneEach | UsersByTime | Given
AnySplit = Annotated[Split, Field(discriminator="kind")]


def split(
    config: Split,
    rows_N: Int[np.ndarray, "N"],
    time_N: Int[np.ndarray, "N"],
    user_N: Int[np.ndarray, "N"],
    began_N: Int[np.ndarray, "N"] | None = None,
    part_N: Int[np.ndarray, "N"] | None = None,
) -> dict[Part, Int[np.ndarray, "_"]]:
    """Divide sample rows, given in (user, time, item) order, into parts, each in global (time, user, item) order.

    With global time and n samples: the first int(train·n) are training, the next int(valid·n) validation, the rest
    test. For MovieLens-1M's 970,009 that is 776,007 / 97,000 / 97,002. With one sample each of n users, int((1 - test)·n)
    are not test, and int(valid·that) of those are validation: for 17,714 that is 14,348 / 1,594 / 1,772.

    ``began_N`` is the time of the first event of each row's user (for users by time), ``part_N`` the part that is given:
    0, 1 or 2, or -1 for a row that is no sample of any.
    """
    by_time = np.argsort(time_N, kind="stable")  # ties keep (user, item) order
    n = len(rows_N)
    last = np.flatnonzero(np.append(user_N[1:] != user_N[:-1], True)) if n else np.zeros(0, dtype=np.int64)
    given_N, part_N = part_N, np.full(n, -1)
    match config:
        case GlobalTime():
            first, second = int(config.train * n), int(config.train * n) + int(config.valid * n)
            part_N[by_time[:first]], part_N[by_time[first:second]], part_N[by_time[second:]] = 0, 1, 2
        case LeaveOneOut():  # a user's last sample, the one before it, and all earlier ones
            part_N = 2 - np.minimum(last[np.searchsorted(last, np.arange(n))] - np.arange(n), 2)
        case OneEach():
            rest = int((1 - config.test) * len(last))
            held_back = int(config.valid * rest)
            drawn = last[seeds.generator(config.seed, "split", "users").permutation(len(last))]
            part_N[drawn[held_back:rest]], part_N[drawn[:held_back]], part_N[drawn[rest:]] = 0, 1, 2
        case UsersByTime():
            assert began_N is not None
            users = last[np.lexsort((user_N[last], began_N[last]))]
            first, second = int(config.train * len(users)), int(config.train * len(users)) + int(config.valid * len(users))
            part_N[np.isin(user_N, user_N[users[:first]])] = 0
            part_N[users[first:second]], part_N[users[second:]] = 1, 2
        case Given():
            assert given_N is not None
            part_N = given_N
    parts = {part: rows_N[by_time[part_N[by_time] == code]] for code, part in enumerate(PARTS)}
    empty = [part for part, rows in parts.items() if len(rows) == 0]
    if empty and isinstance(config, Given):
        raise ConfigError(
            f"the parts that the data set names leave no samples for {', '.join(empty)}: there are "
            + ", ".join(f"{int((part_N == code).sum()):,} of {part}" for code, part in enumerate(PARTS))
            + " with data.rules.min_history earlier behaviours or more. Every part needs some: call some of train 'valid', "
            "lower data.rules.min_history, or change data.rules.split."
        )
    if empty:
        raise ConfigError(
            f"the split leaves no samples for {', '.join(empty)} ({n:,} samples in all). "
            "Bring a longer log, lower data.rules.min_history, or change data.rules.split."
        )
    return parts
