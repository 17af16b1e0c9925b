"""Which samples are for training, validation and test. Knows times and positions, not items or ratings."""

from typing import Annotated, Literal, TypeVar

import numpy as np
from jaxtyping import Int
from pydantic import Field, model_validator

from lifelora import seeds
from lifelora.errors import ConfigError
from lifelora.types import PARTS, Frozen, Part

Shares = TypeVar("Shares", "GlobalTime", "UsersByTime", "NewItems", "NewUsers")


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


class NewItems(Frozen):
    """A global-time split in which a share of the items is new: training sees none of their events.

    They are drawn, or are those that appear last. Their events until the last training sample leave the log (``new``). After
    it they are events, samples and behaviours as all others, in validation and in test.
    """

    kind: Literal["new-items"] = "new-items"
    share: float = Field(default=0.1, gt=0, lt=1)
    "Of the items that have at least ``min_events`` events."
    by: Literal["seed", "first-appearance"] = "seed"
    "Whether new items are drawn, or are those whose first event is the latest."
    seed: int = Field(default=0, ge=0)
    min_events: int = Field(default=1, ge=1)
    "Items with fewer events in the log are never new."
    train: float = Field(default=0.8, gt=0, lt=1)
    "Of the samples of the log without the new items."
    valid: float = Field(default=0.1, gt=0, lt=1)
    "``valid / (1 - train)`` of the samples after training are for validation."

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> "NewItems":
        return _leaves_a_rest(self)


class NewUsers(Frozen):
    """A global-time split of all but a share of the users, who are new: training sees none of their events.

    New users are drawn, or are those who appear last, among the users who have samples. All their samples, from the first on,
    are for validation or for test: ``valid / (1 - train)`` of these users are validation's, the others test's. A new user who
    was drawn may be asked about before training ends, so a model may know what others did later.
    """

    kind: Literal["new-users"] = "new-users"
    share: float = Field(default=0.1, gt=0, lt=1)
    "Of the users who have samples."
    by: Literal["seed", "first-appearance"] = "seed"
    "Whether new users are drawn, or are those whose first event is the latest."
    seed: int = Field(default=0, ge=0)
    train: float = Field(default=0.8, gt=0, lt=1)
    "Of the samples of all other users."
    valid: float = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> "NewUsers":
        return _leaves_a_rest(self)

    def drawn(self, user_U: Int[np.ndarray, "U"], began_U: Int[np.ndarray, "U"]) -> Int[np.ndarray, "_"]:
        """The new ones among users, by the time of their first event: validation's, then test's."""
        count = int(self.share * len(user_U))
        if not count:
            raise ConfigError(
                f"data.rules.split.share = {self.share:g} of the {len(user_U):,} users who have samples is less than one user. "
                "Raise it."
            )
        if self.by == "seed":
            return seeds.generator(self.seed, "split", self.kind).permutation(user_U)[:count]
        return user_U[np.lexsort((user_U, began_U))[-count:]]


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


Split = GlobalTime | LeaveOneOut | OneEach | UsersByTime | Given | NewItems | NewUsers
AnySplit = Annotated[Split, Field(discriminator="kind")]


def split(
    config: Split,
    rows_N: Int[np.ndarray, "N"],
    time_N: Int[np.ndarray, "N"],
    user_N: Int[np.ndarray, "N"],
    began_N: Int[np.ndarray, "N"] | None = None,
    part_N: Int[np.ndarray, "N"] | None = None,
    training: int = 0,
) -> dict[Part, Int[np.ndarray, "_"]]:
    """Divide sample rows, given in (user, time, item) order, into parts, each in global (time, user, item) order.

    With global time and n samples: the first int(train·n) are training, the next int(valid·n) validation, the rest
    test. For MovieLens-1M's 970,009 that is 776,007 / 97,000 / 97,002. With one sample each of n users, int((1 - test)·n)
    are not test, and int(valid·that) of those are validation: for 17,714 that is 14,348 / 1,594 / 1,772.

    ``began_N`` is the time of the first event of each row's user (for users by time), ``part_N`` the part that is given:
    0, 1 or 2, or -1 for a row that is no sample of any. With new items, the first ``training`` are training (``new``).
    """
    by_time = np.argsort(time_N, kind="stable")  # ties keep (user, item) order
    n = len(rows_N)
    last = np.flatnonzero(np.append(user_N[1:] != user_N[:-1], True)) if n else np.zeros(0, dtype=np.int64)
    code_N = np.full(n, -1)

    def cut(rows: Int[np.ndarray, "_"], train: int, valid: int) -> None:
        code_N[rows[:train]], code_N[rows[train : train + valid]], code_N[rows[train + valid :]] = 0, 1, 2

    match config:
        case GlobalTime():
            cut(by_time, int(config.train * n), int(config.valid * n))
        case NewItems():
            cut(by_time, training, int(config.valid / (1 - config.train) * (n - training)))
        case NewUsers():
            assert began_N is not None
            new = config.drawn(user_N[last], began_N[last])
            held_back = int(config.valid / (1 - config.train) * len(new))
            others = by_time[~np.isin(user_N[by_time], new)]
            cut(others, int(config.train * len(others)), int(config.valid * len(others)))
            code_N[np.isin(user_N, new[:held_back])], code_N[np.isin(user_N, new[held_back:])] = 1, 2
        case LeaveOneOut():  # a user's last sample, the one before it, and all earlier ones
            code_N[:] = 2 - np.minimum(last[np.searchsorted(last, np.arange(n))] - np.arange(n), 2)
        case OneEach():
            rest = int((1 - config.test) * len(last))
            held_back = int(config.valid * rest)
            drawn = last[seeds.generator(config.seed, "split", "users").permutation(len(last))]
            code_N[drawn[held_back:rest]], code_N[drawn[:held_back]], code_N[drawn[rest:]] = 0, 1, 2
        case UsersByTime():
            assert began_N is not None
            users = last[np.lexsort((user_N[last], began_N[last]))]
            first, second = int(config.train * len(users)), int(config.train * len(users)) + int(config.valid * len(users))
            code_N[np.isin(user_N, user_N[users[:first]])] = 0
            code_N[users[first:second]], code_N[users[second:]] = 1, 2
        case Given():
            assert part_N is not None
            code_N[:] = part_N
    parts = {part: rows_N[by_time[code_N[by_time] == code]] for code, part in enumerate(PARTS)}
    empty = [part for part, rows in parts.items() if len(rows) == 0]
    if empty and isinstance(config, Given):
        raise ConfigError(
            f"the parts that the data set names leave no samples for {', '.join(empty)}: there are "
            + ", ".join(f"{int((code_N == code).sum()):,} of {part}" for code, part in enumerate(PARTS))
            + " with data.rules.min_history earlier behaviours or more. Every part needs some: call some of train 'valid', "
            "lower data.rules.min_history, or change data.rules.split."
        )
    if empty:
        raise ConfigError(
            f"the split leaves no samples for {', '.join(empty)} ({n:,} samples in all). "
            "Bring a longer log, lower data.rules.min_history, or change data.rules.split."
        )
    return parts
