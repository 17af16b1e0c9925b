"""lifelora.recommend: users as whatever holds them, the rows of ``many`` as a frame of that kind."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import lifelora
from lifelora.errors import ConfigError
from lifelora.run import Options, Run
from lifelora.run.recommend import many
from run_world import tiny

USERS = ["u00003", "u00001", "u00003"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tiny().model_copy(update={"systems": {}}), tmp_path_factory.mktemp("rec"), Options(device="cpu", progress=False))
    run.all()
    return run


@pytest.mark.parametrize(
    ("users", "kind"),
    [
        (USERS, pa.Table),
        (np.array(USERS), pa.Table),
        (pa.array(USERS), pa.Table),
        (pa.table({"user": USERS}), pa.Table),
        (pd.Series(USERS), pd.DataFrame),
        (pd.DataFrame({"user": USERS}), pd.DataFrame),
        (pd.DataFrame({"x": [1, 2, 3]}, index=pd.Index(USERS, name="user")), pd.DataFrame),
        (pl.Series(USERS, dtype=pl.Categorical), pl.DataFrame),
        (pl.LazyFrame({"user": USERS}), pl.DataFrame),
    ],
    ids=lambda value: type(value).__module__.split(".")[0] + type(value).__name__,
)
def test_users_of_every_kind(users: Any, kind: type, run: Run):
    found = lifelora.recommend(run, users, k=3, system="din")
    assert isinstance(found, kind)
    expected = many(run, ["u00003", "u00001"], 3, system="din")
    assert pl.DataFrame(found).to_dicts() == expected.to_pylist()
    assert [row["rank"] for row in expected.to_pylist()] == [1, 2, 3, 1, 2, 3]


def test_a_folder_one_user_all_users_and_items_in_stock(run: Run):
    one = lifelora.recommend(run.folder, "u00001", k=2, device="cpu")
    assert one.to_pylist() == many(run, ["u00001"], 2).to_pylist()
    assert len(lifelora.recommend(run, k=1)) == run.context.dataset.n_users
    stock = pd.Series(["b00001", "b00002"])
    only = lifelora.recommend(run, pd.DataFrame({"who": ["u00001"]}), user="who", among=stock, allow_seen=True)
    assert set(only["item"]) == set(stock)


@pytest.mark.parametrize(
    ("users", "said"),
    [
        (pd.DataFrame({"who": ["u00001"]}), "users has no column 'user'; it has: who"),
        (pd.Series(["u00001", None]), "users lack 1 ids; drop these rows"),
        (7, "users is int, which is no column"),
        ([], "there are no users to recommend for"),
    ],
)
def test_what_is_no_user(users: Any, said: str, run: Run):
    with pytest.raises(ConfigError, match=said):
        lifelora.recommend(run, users)
