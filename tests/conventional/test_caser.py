"""Caser against its formula, filter by filter and place by place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lifelora.conventional.caser import Caser

from .contract import RecommenderContract
from .written import ROWS, Written, relu


class TestCaser(RecommenderContract):
    # Many horizontal filters and one vertical: with places to learn by heart it does not generalise from so few users.
    config = Caser.Config(
        history_length=10, embedding=16, hidden=16, layers=1, heights=2, horizontal=16, vertical=1, init_std=0.3
    )
    golden = 0.6946089

    @torch.no_grad()
    def test_behaviours_beyond_its_length_are_not_read(self, model, data):
        targets = data.targets(data.samples["test"][:6])
        wide, exact = data.gather(targets, 15), data.gather(targets, 10)
        torch.testing.assert_close(model.score(wide), model.score(exact))

    @torch.no_grad()
    def test_a_user_without_a_past_is_the_same_whichever_user_it_is(self, model, data):
        batch = self.batch(model, data, "test", slice(0, 3))
        u_BD = model.represent(replace(batch, mask_BH=torch.zeros_like(batch.mask_BH)))
        assert torch.equal(u_BD, u_BD[:1].expand(3, -1))


class TestCaserWithUserId(RecommenderContract):
    config = Caser.Config(history_length=10, embedding=8, hidden=16, layers=1, heights=1, user_id=True, init_std=0.3)
    golden = 0.6972948


@pytest.mark.parametrize("heights", [1, 3, 8])
def test_it_equals_its_formula(data, heights):
    L, E = 8, 4
    config = Caser.Config(
        history_length=L, embedding=E, hidden=6, layers=2, heights=heights, horizontal=3, vertical=2, user_id=True, min_users=1
    )
    written = Written(config, data)
    for b in range(ROWS):
        past = written.past(b)
        picture = np.array([*[np.zeros(E)] * (L - len(past)), *past])
        seen = []
        for height in range(1, heights + 1):
            for k, filter_EN in enumerate(written.w[f"horizontal.filters.{height - 1}.weight"]):
                bias = written.w["horizontal.bias_K"][(height - 1) * 3 + k]
                seen.append(max(relu((filter_EN.T * picture[i : i + height]).sum() + bias) for i in range(L - height + 1)))
        across = [sum(G_k[j] * picture[j] for j in range(L)) for G_k in written.w["vertical.weight"]]
        across = np.stack(across, axis=1).flatten()  # feature by feature, as the columns of ``join`` have it
        u = relu(written.layer("join", np.concatenate([seen, across])))
        written.check(b, u, written.head(b, u))


def test_filters_must_fit_into_the_history():
    with pytest.raises(ValidationError, match="heights = 5 is more than the history_length = 4 behaviours"):
        Caser.Config(history_length=4)
