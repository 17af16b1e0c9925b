"""DIN against its formula, written out sample by sample and behaviour by behaviour."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lifelora.conventional.din import DIN

from .contract import RecommenderContract, knows


class TestDIN(RecommenderContract):
    config = DIN.Config(history_length=10, embedding=8, hidden=16, layers=2, attention_hidden=8, user_id=True, init_std=0.3)
    golden = 0.6954505

    @torch.no_grad()
    def test_it_equals_its_formula(self, data):
        torch.manual_seed(5)
        config = DIN.Config(
            history_length=6, embedding=4, hidden=8, layers=2, attention_hidden=5, attention_layers=2, user_id=True, init_std=1.0
        )
        model, schema = config.build(data.schema()).double().eval(), data.schema()
        batch = self.batch(model, data, "train", slice(0, 6))
        assert batch.mask_BH.any()
        assert not batch.mask_BH.all()

        w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        table = w["inputs.table.weight"]
        M, R, U = schema.n_items, schema.n_ratings, schema.n_users
        rating_at, user_at = M + 1, M + 1 + R + 1
        age_at = user_at + U
        genre_at = age_at + schema.user_field_sizes[0]

        def layer(name: str, x: np.ndarray) -> np.ndarray:
            return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

        def relu(x: np.ndarray) -> np.ndarray:
            return np.maximum(x, 0)

        for b in range(6):
            user, item = int(batch.user_B[b]), int(batch.item_B[b])
            t = table[item]
            pooled = np.zeros(4)
            for j in np.flatnonzero(batch.mask_BH[b].numpy()):
                past, rating = int(batch.history_BH[b, j]), int(batch.rating_BH[b, j])
                h = relu(layer("inputs.join", np.concatenate([table[past], table[rating_at + rating]])))
                asked = relu(layer("ask", np.concatenate([t, h, t - h, t * h])))
                asked = relu(layer("attention.0.0", asked))
                pooled += layer("attention.1", asked) * h
            fields = [
                table[user_at + user],
                table[age_at + int(schema.user_fields_UF[user, 0])],
                t,
                table[genre_at + int(schema.item_fields_MF[item, 0])],
            ]
            u = relu(layer("dnn.3", relu(layer("dnn.0", np.concatenate([*fields, pooled])))))
            np.testing.assert_allclose(model.represent(batch)[b].numpy(), u, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(model.logits(batch)[b].numpy(), layer("out", u)[0], rtol=1e-9)

    @torch.no_grad()
    @pytest.mark.parametrize("layers", [1, 2])
    def test_dropout_of_the_attention_comes_after_each_of_its_hidden_layers(self, data, layers):
        """Layers of one unit that is 1 whatever is asked: a_j is 1, and while training 0 or 2 per layer, so 0 or 2^layers."""
        config = DIN.Config(
            history_length=1,
            embedding=4,
            attention_hidden=1,
            attention_layers=layers,
            attention_dropout=0.5,
            dropout=0.0,
            init_std=1.0,
        )
        torch.manual_seed(0)
        model = config.build(data.schema())
        for name, parameter in model.named_parameters():
            if name.startswith(("ask", "attention")):
                parameter.fill_(float(name in ("ask.bias", "attention.0.0.weight", "attention.1.weight")))
        batch = self.batch(model, data, "train", slice(0, 64))
        h_BE = model.inputs.joined(batch.history_BH, batch.rating_BH, batch.mask_BH)[:, 0]
        torch.testing.assert_close(model.eval().represent_fields(batch)[:, -4:], h_BE)
        pooled_BE = model.train().represent_fields(batch)[:, -4:]
        kept_B = pooled_BE.any(dim=1)
        torch.testing.assert_close(pooled_BE, torch.where(kept_B[:, None], 2**layers * h_BE, 0.0))
        # 64 of probability 1/2 or 1/4, five standard deviations.
        assert abs(kept_B.float().mean().item() - 0.5**layers) < 5 * (0.5**layers * (1 - 0.5**layers) / 64) ** 0.5

    @torch.no_grad()
    def test_without_a_past_nothing_is_pooled(self, model, data):
        batch = self.batch(model, data, "test", slice(0, 4))
        nothing = replace(batch, mask_BH=torch.zeros_like(batch.mask_BH))
        narrow = data.gather(data.targets(data.samples["test"][:4]), 0)
        assert narrow.mask_BH.shape == (4, 0)
        assert torch.equal(model.logits(nothing), model.logits(narrow))

    @torch.no_grad()
    def test_the_order_of_the_past_does_not_matter(self, model, data):
        batch = self.batch(model, data, "test", slice(0, 4))
        names = ("history_BH", "rating_BH", "mask_BH")
        turned = replace(batch, **{name: getattr(batch, name).flip(1) for name in names})
        torch.testing.assert_close(model.logits(batch), model.logits(turned))


class TestDINWithoutUserId(RecommenderContract):
    config = DIN.Config(
        history_length=10, embedding=8, hidden=16, layers=1, attention_hidden=8, embedding_dropout=0.1, init_std=0.3
    )
    golden = 0.6942715

    @torch.no_grad()
    def test_users_with_the_same_past_and_profile_are_the_same_unless_more_is_known(self, model, data):
        batch = self.batch(model, data, "test", slice(0, 1))
        twin = replace(batch, user_B=(batch.user_B + 6) % 36)  # age has 3 values in turn, for 2 users each
        assert torch.equal(model.logits(batch), model.logits(twin)) is not knows(model)
