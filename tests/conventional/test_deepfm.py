"""DeepFM against its formula, the pairs of fields taken one by one."""

from itertools import combinations

import numpy as np
import pytest
import torch

from lifelora.conventional.deepfm import DeepFM, interactions

from .contract import RecommenderContract, extra_fields
from .written import ROWS, Written


class TestDeepFM(RecommenderContract):
    config = DeepFM.Config(history_length=10, embedding=8, hidden=16, layers=2, init_std=0.3)
    golden = 0.6913581


class TestDeepFMWithUserId(RecommenderContract):
    config = DeepFM.Config(history_length=10, embedding=8, hidden=16, layers=1, user_id=True, embedding_dropout=0.1)
    golden = 0.7089697


@pytest.mark.parametrize("knowing", [False, True])
def test_it_equals_its_formula(data, knowing):
    config = DeepFM.Config(history_length=8, embedding=4, hidden=6, layers=2, user_id=True, min_users=1)
    written = Written(config, data, extra_fields(data, 4) if knowing else None)
    for b in range(ROWS):
        x = written.fields_and_past(b)
        u = written.mlp("dnn", np.concatenate(x))
        first = sum(written.w["first.weight"][place, 0] for place in written.places(b))
        first += written.layer("first_of_past", x[-1])[0]
        if knowing:  # of the user, of the target
            first += written.layer("first_of_extra", np.concatenate([x[2], x[5]]))[0]
        second = sum(f @ g for f, g in combinations(x, 2))
        written.check(b, u, first + second + written.layer("out", u)[0])


def test_interactions_can_be_done_by_eye():
    x_FE = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    pairs = (1 * 3 + 2 * 4) + (1 * 5 + 2 * 6) + (3 * 5 + 4 * 6)
    assert interactions(x_FE[None]).item() == pytest.approx(pairs)
