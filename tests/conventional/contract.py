"""What every Recommender promises, and a world in which the right answer is known. Inherit ``RecommenderContract``."""

import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lifelora.conventional import AnyRecommender
from lifelora.conventional.base import Recommender
from lifelora.data.dataset import Dataset, Samples
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.errors import ConfigError
from lifelora.knowledge.experts import KnowledgeExperts, KnowledgeFields, Known
from lifelora.training.checkpoint import Learnt
from lifelora.types import Layer, Part


def two_tribes(folder: Path, n: int = 40, each: int = 24) -> Dataset:
    """Users and items 0 … n-1. Even users like even items only, odd users odd ones; every item is liked equally.

    All users rate at the same pace, in an order of their own, so every part of a split by time has them all.
    """
    rng = np.random.default_rng(3)
    user_N = np.repeat(np.arange(n), each)
    item_N = np.concatenate([rng.permutation(n)[:each] for _ in range(n)])
    raw = RawTables(
        interactions=pa.table({
            "user": [f"u{u:02}" for u in user_N],
            "item": [f"i{i:02}" for i in item_N],
            "rating": pa.array(np.where(user_N % 2 == item_N % 2, 5.0, 1.0), pa.float32()),
            "time": pa.array(np.tile(np.arange(each), n) * n + user_N, pa.int64()),
        }),
        # Fields that say nothing of the tribe; one of their values is the empty one, unknown.
        catalogue=pa.table({
            "item": [f"i{i:02}" for i in range(n)],
            "title": ["t"] * n,
            "genre": [("", "a", "b", "c")[i // 2 % 4] for i in range(n)],
        }),
        profiles=pa.table({
            "user": [f"u{u:02}" for u in range(n)],
            "age": [("", "young", "old")[u // 2 % 3] for u in range(n)],
        }),
        words=Words(),
    )
    return prepare(raw, Rules(min_history=2), folder, "two tribes")


EVERY = 4


def known(data: Dataset) -> Known:
    """Vectors that tell the tribe amid noise; some are of zeros, some users have no state yet, and one never gets any."""
    rng = torch.Generator().manual_seed(4)
    states_U = torch.from_numpy(np.diff(data.log.offsets) // EVERY)
    states_U[-1] = 0
    tribe_N = torch.cat([torch.arange(data.n_items), torch.arange(data.n_users).repeat_interleave(states_U)]) % 2
    known_NK = torch.randn(len(tribe_N), 6, generator=rng)
    known_NK[:, 0] += 4 * tribe_N - 2
    known_NK[::7] = 0
    item_MK, state_NK = known_NK.split_with_sizes([data.n_items, int(states_U.sum())])
    return Known(item_MK, state_NK, states_U.cumsum(0) - states_U, states_U, EVERY)


def extra_fields(data: Dataset, width: int) -> KnowledgeFields:
    """A small adaptor of them."""
    return KnowledgeFields(KnowledgeExperts(shared=1, specific=2, hidden=4), known(data), width, init_std=0.3)


def knows(model: Recommender) -> bool:
    """Whether it has extra fields."""
    return hasattr(model, "inputs") and model.inputs.extra is not None


class RecommenderContract:
    """Set ``config`` (small) and ``golden``; ``personal = False`` for a model that treats everybody alike.

    Every model is held to it twice: as it is and ("knowing") with extra fields, those of a trained adaptor.
    """

    config: AnyRecommender
    golden: float
    "Loss on the test samples after ``fitted(seed=0, steps=20)``; it changes when the model or its start does."
    personal = True
    steps = 200

    @pytest.fixture(scope="class", params=["plain", "knowing"])
    @classmethod
    def model(cls, data: Dataset, request: pytest.FixtureRequest) -> Recommender:
        if request.param == "knowing" and not cls.personal:
            pytest.skip("it reads no fields")
        return cls.fitted(data, seed=0, knowing=request.param == "knowing")

    @classmethod
    def built(cls, data: Dataset, knowing: bool) -> Recommender:
        if not knowing:
            return cls.config.build(data.schema())
        return cls.config.build(data.schema(), extra_fields(data, cls.config.embedding))

    @classmethod
    def fitted(cls, data: Dataset, seed: int, steps: int | None = None, knowing: bool = False) -> Recommender:
        torch.manual_seed(seed)
        model = cls.built(data, knowing)
        if hasattr(model, "fit"):
            model.fit(data)
            return model.eval()
        rng, optimizer = np.random.default_rng(seed), torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(steps or cls.steps):
            batch = cls.batch(model, data, "train", rng.integers(len(data.samples["train"]), size=128))
            optimizer.zero_grad()
            with model.scope(batch):
                model.loss(batch).backward()
            optimizer.step()
        return model.eval()

    @classmethod
    def batch(cls, model: Recommender, data: Dataset, part: Part, chosen: np.ndarray | slice) -> Samples:
        return data.gather(data.targets(np.asarray(data.samples[part][chosen])), model.history_length)

    @torch.no_grad()
    def test_the_tribes_are_learnt(self, model: Recommender, data: Dataset):
        batch = self.batch(model, data, "test", slice(None))
        auc = roc_auc_score(batch.label_B.numpy(), model.score(batch).numpy())
        assert auc > 0.95 if self.personal else 0.3 < auc < 0.7

    @torch.no_grad()
    def test_a_batch_is_its_rows(self, model: Recommender, data: Dataset):
        together = self.batch(model, data, "test", slice(0, 8))
        alone = [self.batch(model, data, "test", slice(i, i + 1)) for i in range(8)]
        torch.testing.assert_close(model.score(together), torch.cat([model.score(one) for one in alone]))
        torch.testing.assert_close(model.represent(together), torch.cat([model.represent(one) for one in alone]))

    @torch.no_grad()
    def test_what_stands_in_padding_does_not_matter(self, model: Recommender, data: Dataset):
        batch = self.batch(model, data, "train", slice(0, 8))
        empty = replace(batch, mask_BH=torch.zeros_like(batch.mask_BH))
        for one in (batch, empty):
            noise = torch.randint(data.n_items, one.history_BH.shape), torch.randint(2, one.rating_BH.shape)
            other = replace(one, history_BH=torch.where(one.mask_BH, one.history_BH, noise[0]),
                            rating_BH=torch.where(one.mask_BH, one.rating_BH, noise[1]))
            assert torch.equal(model.score(one), model.score(other))
            assert torch.equal(model.represent(one), model.represent(other))
            assert model.score(one).isfinite().all()

    @torch.no_grad()
    @pytest.mark.parametrize("extra", [1, 7])
    def test_any_amount_of_left_padding_gives_the_same(self, model: Recommender, data: Dataset, extra: int):
        rows = data.samples["train"][:6]  # all of them have a short past
        targets = data.targets(rows)
        longest = int((rows - data.log.offsets[targets.user_B]).max())
        assert longest < model.history_length or not self.personal
        exact, padded = data.gather(targets, longest), data.gather(targets, longest + extra)
        torch.testing.assert_close(model.score(exact), model.score(padded))
        torch.testing.assert_close(model.represent(exact), model.represent(padded))

    @torch.no_grad()
    def test_the_loss_is_the_mean_negative_log_likelihood(self, model: Recommender, data: Dataset):
        batch = self.batch(model, data, "test", slice(0, 8))
        right = [p if y else 1 - p for p, y in zip(model.score(batch).tolist(), batch.label_B.tolist(), strict=True)]
        assert model.loss(batch).item() == pytest.approx(-sum(math.log(p) for p in right) / 8, rel=1e-4, abs=1e-6)
        torch.testing.assert_close(torch.sigmoid(model.logits(batch)), model.score(batch))

    @torch.no_grad()
    def test_the_representation_is_as_wide_and_as_target_aware_as_it_says(self, model: Recommender, data: Dataset):
        batch = self.batch(model, data, "test", slice(0, 8))
        u_BD = model.represent(batch)
        assert u_BD.shape == (8, model.width)
        assert u_BD.isfinite().all()
        other_BD = model.represent(replace(batch, item_B=(batch.item_B + 1) % data.n_items))
        assert torch.equal(u_BD, other_BD) is not model.target_aware

    @torch.no_grad()
    @pytest.mark.parametrize("layer", get_args(Layer))
    def test_every_layer_is_u_of_each_alone_and_knows_the_target_as_it_says(
        self, model: Recommender, data: Dataset, layer: Layer
    ):
        if not self.personal:
            if layer != "final":
                with pytest.raises(ConfigError, match="popularity has no u"):
                    model.representation(self.batch(model, data, "test", slice(0, 1)), layer)
            return
        batch = self.batch(model, data, "test", slice(0, 8))
        u_BD = model.representation(batch, layer)
        alone = [model.representation(self.batch(model, data, "test", slice(i, i + 1)), layer) for i in range(8)]
        torch.testing.assert_close(u_BD, torch.cat(alone))
        other_BD = model.representation(replace(batch, item_B=(batch.item_B + 1) % data.n_items), layer)
        assert torch.equal(u_BD, other_BD) is not model.sees_target(layer)
        noise = torch.where(batch.mask_BH, batch.history_BH, torch.randint(data.n_items, batch.history_BH.shape))
        assert torch.equal(u_BD, model.representation(replace(batch, history_BH=noise), layer))
        if layer == "final":
            assert torch.equal(u_BD, model.represent(batch))
        if layer == "user":  # written out
            h_BHE = model.inputs.joined(batch.history_BH, batch.rating_BH, batch.mask_BH)
            past = [h_HE[mask_H].mean(dim=0) for h_HE, mask_H in zip(h_BHE, batch.mask_BH, strict=True)]
            first = data.schema().n_items + 1 + data.schema().n_ratings + 1  # users come after items, ratings and their paddings
            ids = [model.inputs.table.weight[first + batch.user_B]] if self.config.user_id else []
            torch.testing.assert_close(u_BD, torch.cat([*ids, torch.stack(past)], dim=1))

    @torch.no_grad()
    def test_every_item_has_a_vector(self, model: Recommender, data: Dataset):
        vectors_ME = model.item_embeddings()
        assert vectors_ME.ndim == 2
        assert len(vectors_ME) == data.n_items
        assert vectors_ME.isfinite().all()

    def test_the_scope_holds_nothing(self, model: Recommender, data: Dataset):
        with model.scope(self.batch(model, data, "test", slice(0, 1))) as held:
            assert held is None

    def test_the_same_seed_gives_the_same_weights_and_another_seed_others(self, data: Dataset):
        first, again, other = (self.fitted(data, seed, steps=3).state_dict() for seed in (1, 1, 2))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[name], again[name]) for name in first)
        if self.personal:
            assert not all(torch.equal(first[name], other[name]) for name in first)

    @torch.no_grad()
    def test_weights_are_all_that_has_to_be_kept(self, model: Recommender, data: Dataset):
        fresh = self.built(data, knows(model)).eval()
        fresh.load_state_dict(model.state_dict())
        batch = self.batch(model, data, "test", slice(0, 8))
        assert torch.equal(fresh.score(batch), model.score(batch))

    def test_what_is_learnt_can_be_kept_in_a_file(self, model: Recommender, data: Dataset, tmp_path: Path):
        if not self.personal:
            return  # it is counted
        learnt, fresh = Learnt(model), self.built(data, knows(model)).eval()
        learnt.write(tmp_path / "model.safetensors", learnt.copy())
        Learnt(fresh).read(tmp_path / "model.safetensors")
        batch = self.batch(model, data, "test", slice(0, 8))
        assert torch.equal(fresh.score(batch), model.score(batch))

    def test_every_parameter_of_the_extra_fields_learns_and_no_vector_is_kept(self, model: Recommender, data: Dataset):
        if not knows(model):
            return
        started = self.fitted(data, seed=0, steps=1, knowing=True)
        started.zero_grad()
        rows = np.flatnonzero(np.arange(len(data)) - data.log.offsets[data.user_N] >= 2)  # not all of them have a state
        started.loss(data.gather(data.targets(rows), started.history_length)).backward()
        extra = dict(started.inputs.extra.named_parameters())
        assert {name.split(".")[0] for name in extra} == {"shared", "user", "item", "nobody_E"}
        assert all(p.grad.any() for p in extra.values())
        kept = {name for name in started.state_dict() if name.startswith("inputs.extra.")}
        assert kept == {f"inputs.extra.{name}" for name in extra}

    def test_extra_fields_make_it_wider_by_two_fields_and_change_nothing_else(self, model: Recommender, data: Dataset):
        if not knows(model):
            return
        plain = self.built(data, knowing=False)
        shape = {name: tuple(p.shape) for name, p in plain.named_parameters()}
        wider = {name: tuple(p.shape) for name, p in model.named_parameters() if not name.startswith("inputs.extra.")}
        new = {"first_of_extra.weight": (1, 2 * self.config.embedding)} if self.config.kind == "deepfm" else {}
        assert wider.keys() == shape.keys() | new.keys()
        assert {name: wider[name] for name in new} == new
        # What differs is what reads all fields at once, by two fields for each time that it reads them.
        changed = [name for name in shape if shape[name] != wider[name]]
        assert changed
        assert all(name.split(".")[0] in {"dnn", "cross", "out"} for name in changed)
        batch = self.batch(model, data, "test", slice(0, 4))
        wide, narrow = (one.represent_fields(batch).shape[1] for one in (model, plain))
        assert wide == narrow + 2 * self.config.embedding

    @torch.no_grad()
    def test_the_targets_id_leads_its_fields_and_extra_fields_stand_last(self, model: Recommender, data: Dataset):
        if not knows(model):
            return
        batch, E = self.batch(model, data, "test", slice(0, 8)), self.config.embedding
        user_BX, item_BY = model.inputs.fields(batch)
        extra_BFE = model.inputs.extra(batch)
        assert torch.equal(user_BX[:, -E:], extra_BFE[:, 0])
        assert torch.equal(item_BY[:, -E:], extra_BFE[:, 1])
        assert torch.equal(item_BY[:, :E], model.item_embeddings()[batch.item_B])
        assert torch.equal(torch.cat([user_BX[:, :-E], item_BY[:, :-E]], dim=1),
                           model.inputs.table(model.inputs.rows(batch)).flatten(1))
        assert torch.equal(model.inputs.extra_of(model.inputs.vectors(batch)), extra_BFE)

    def test_golden(self, data: Dataset):
        model = self.fitted(data, seed=0, steps=20)
        loss = model.loss(self.batch(model, data, "test", slice(None))).item()
        assert loss == pytest.approx(self.golden, abs=1e-4)

    def test_the_configuration_survives_json(self):
        assert type(self.config).model_validate_json(self.config.model_dump_json()) == self.config
