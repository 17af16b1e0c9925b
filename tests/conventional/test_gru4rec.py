"""GRU4Rec against its formula, step by step, and against torch's cell where padding would stand before the past."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lifelora.conventional.gru4rec import GRU4Rec

from .contract import RecommenderContract, extra_fields
from .written import ROWS, Written, sigmoid


class TestGRU4Rec(RecommenderContract):
    config = GRU4Rec.Config(history_length=10, embedding=8, hidden=16, layers=1, init_std=0.3)
    golden = 0.6942383

    @torch.no_grad()
    def test_the_order_of_the_past_matters(self, model, data):
        batch = self.batch(model, data, "test", slice(0, 4))
        turned = replace(batch, history_BH=batch.history_BH.flip(1), rating_BH=batch.rating_BH.flip(1))
        assert batch.mask_BH.all()
        assert not torch.isclose(model.represent(batch), model.represent(turned)).all(dim=1).any()

    @torch.no_grad()
    def test_padding_in_between_is_not_read_either(self, model, data):
        """As where chosen behaviours are fewer than asked for."""
        batch = self.batch(model, data, "test", slice(0, 4))
        mask_BH = torch.ones_like(batch.mask_BH).index_fill(1, torch.tensor([2, 3, 7, 9]), False)
        kept = torch.tensor([0, 1, 4, 5, 6, 8])
        holed, exact = (
            replace(batch, mask_BH=mask_BH),
            replace(batch, history_BH=batch.history_BH[:, kept], rating_BH=batch.rating_BH[:, kept], mask_BH=mask_BH[:, kept]),
        )
        torch.testing.assert_close(model.represent(holed), model.represent(exact))

    def test_padding_gets_no_gradient(self, model, data):
        batch = self.batch(model, data, "train", slice(0, 8))
        assert not batch.mask_BH.all()
        model.zero_grad()
        model.represent(batch).sum().backward()
        rows = model.inputs.table.weight.grad.abs().sum(dim=1)
        assert rows[data.n_items] == 0
        assert rows[batch.history_BH[batch.mask_BH]].all()


class TestTwoLayers(RecommenderContract):
    config = GRU4Rec.Config(
        history_length=10, embedding=8, hidden=16, layers=1, gru_layers=2, user_id=True, embedding_dropout=0.1, init_std=0.3
    )
    golden = 0.6939074


@pytest.mark.parametrize(("layers", "knowing"), [(1, False), (2, False), (1, True)])
def test_it_equals_its_formula(data, layers, knowing):
    config = GRU4Rec.Config(history_length=8, embedding=4, hidden=6, layers=2, gru_layers=layers, user_id=True, min_users=1)
    written = Written(config, data, extra_fields(data, 4) if knowing else None)
    for b in range(ROWS):
        read = written.past(b)
        for layer in range(layers):
            W_r, W_z, W_s = np.split(written.w[f"gru.weight_ih_l{layer}"], 3)
            U_r, U_z, U_s = np.split(written.w[f"gru.weight_hh_l{layer}"], 3)
            b_r, b_z, b_s = np.split(written.w[f"gru.bias_ih_l{layer}"], 3)
            c_r, c_z, c_s = np.split(written.w[f"gru.bias_hh_l{layer}"], 3)
            states = [np.zeros(4)]
            for h in read:
                s = states[-1]
                r, z = sigmoid(W_r @ h + b_r + U_r @ s + c_r), sigmoid(W_z @ h + b_z + U_z @ s + c_z)
                states.append((1 - z) * np.tanh(W_s @ h + b_s + r * (U_s @ s + c_s)) + z * s)
            read = states[1:]
        written.check(b, read[-1], written.head(b, read[-1]))


@torch.no_grad()
def test_a_user_without_a_past_has_the_first_state(data):
    torch.manual_seed(0)
    model = GRU4Rec.Config(embedding=8, hidden=8).build(data.schema()).eval()
    batch = data.gather(data.targets(data.samples["test"][:3]), model.history_length)
    assert not model.represent(replace(batch, mask_BH=torch.zeros_like(batch.mask_BH))).any()
