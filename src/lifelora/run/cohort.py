"""Whose adapters are exported: users that a file names, all, or those with the most events. Knows a data set, no scorer."""

from collections import Counter
from pathlib import Path

import numpy as np

from lifelora import foreign
from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError

MAX_COHORT = 1 << 30
"Bytes of a file of user ids."
ALL = "all"


def cohort(dataset: Dataset, asked: str) -> list[str]:
    """``all`` users; a number N: the N users with the most events; else the users that a file names.

    Of users with equally many events the first in the data set come first. Raises ConfigError for a number that is not one of
    1 to the number of users, and what ``read_cohort`` raises.
    """
    if asked == ALL:
        return dataset.users.outside(np.arange(dataset.n_users))
    if not asked.isdecimal():
        return read_cohort(Path(asked))
    count = int(asked) if len(asked) < 19 else 0
    if not 1 <= count <= dataset.n_users:
        raise ConfigError(
            f"--cohort {asked[:40]} asks for so many users, those with the most events, and there are {dataset.n_users:,}; give "
            f"1 to {dataset.n_users}, '{ALL}', or a file (./{asked[:40]} if that is one)."
        )
    order_U = np.argsort(-dataset.log.count(np.arange(dataset.n_users)), kind="stable")
    return dataset.users.outside(order_U[:count])


def read_cohort(path: Path) -> list[str]:
    """User ids, one per line; blank lines do not count. Raises ConfigError for a file without any, or with one twice."""
    try:
        users = [line.strip() for line in foreign.text(path, MAX_COHORT).replace("\r", "\n").split("\n") if line.strip()]
    except foreign.Unreadable as error:
        raise ConfigError(f"--cohort {path} cannot be read ({error}); give a text file with one user id per line.") from error
    twice = sorted(user for user, count in Counter(users).items() if count > 1)
    if twice or not users:
        raise ConfigError(f"--cohort {path} {f'names {twice[0]!r} twice' if twice else 'names no user'}; give one id per line.")
    return users
