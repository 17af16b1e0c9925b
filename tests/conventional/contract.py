"""What our conventional models do beside the contract of all, with and without extra fields. Inherit ``RecommenderContract``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lifelora.conventional import AnyRecommender
from lifelora.conventional.base import Recommender
from lifelora.data.dataset import Dataset, Samples
from lifelora.knowledge.experts import KnowledgeExperts, KnowledgeFields, Known
from lifelora.testing import models
from lifelora.training.checkpoint import Learnt
from lifelora.types import Part

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
    """Set ``config`` (small) and ``golden``. What every model promises is ``lifelora.testing.models``; here is what ours do.

    Every model is held to it twice: as it is and ("knowing") with extra fields, those of a trained adaptor; one that counts once.
    """

    config: AnyRecommender
    golden: float
    "Loss on the test samples after 20 steps from seed 0; it changes when the model or its start does."

    @pytest.fixture(scope="class", params=["plain", "knowing"])
    @classmethod
    def case(cls, data: Dataset, request: pytest.FixtureRequest) -> models.Case:
        if request.param == "knowing" and cls.config.counts:
            pytest.skip("it reads no fields")
        return cls.made(data, request.param == "knowing")

    @classmethod
    def made(cls, data: Dataset, knowing: bool) -> models.Case:
        return models.Case(cls.config, data, (lambda: extra_fields(data, cls.config.embedding)) if knowing else None)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, case: models.Case) -> Recommender:
        return case.model

    @classmethod
    def batch(cls, model: Recommender, data: Dataset, part: Part, chosen: np.ndarray | slice) -> Samples:
        return data.gather(data.targets(np.asarray(data.samples[part][chosen])), model.history_length)

    @pytest.mark.parametrize("check", dict.fromkeys([*models.CHECKS, *models.COUNTED]), ids=lambda check: check.__name__)
    def test_contract(self, case: models.Case, check: Callable[[models.Case], None]):
        if check not in (models.COUNTED if self.config.counts else models.CHECKS):
            pytest.skip("it is no promise of such a model")
        check(case)

    @torch.no_grad()
    def test_the_layer_of_the_user_is_written_out(self, case: models.Case):
        """The user's id, where that is a field, and the mean of the past."""
        if self.config.counts:
            pytest.skip("it represents nobody")
        model, data, batch = case.model, case.data, case.batch("test", slice(0, 8))
        h_BHE = model.inputs.joined(batch.history_BH, batch.rating_BH, batch.mask_BH)
        past = [h_HE[mask_H].mean(dim=0) for h_HE, mask_H in zip(h_BHE, batch.mask_BH, strict=True)]
        first = data.schema().n_items + 1 + data.schema().n_ratings + 1  # users come after items, ratings and their paddings
        ids = [model.inputs.table.weight[first + batch.user_B]] if self.config.user_id else []
        torch.testing.assert_close(model.representation(batch, "user"), torch.cat([*ids, torch.stack(past)], dim=1))

    def test_what_is_learnt_can_be_kept_in_a_file(self, model: Recommender, data: Dataset, tmp_path: Path):
        if self.config.counts:
            pytest.skip("it is counted, and its state kept as it is")
        learnt, fresh = Learnt(model), self.made(data, knows(model)).build().eval()
        learnt.write(tmp_path / "model.safetensors", learnt.copy())
        Learnt(fresh).read(tmp_path / "model.safetensors")
        batch = self.batch(model, data, "test", slice(0, 8))
        assert torch.equal(fresh.score(batch), model.score(batch))

    def test_every_parameter_of_the_extra_fields_learns_and_no_vector_is_kept(self, model: Recommender, data: Dataset):
        if not knows(model):
            pytest.skip("it has no extra fields")
        started = self.made(data, True).fitted(steps=1)
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
            pytest.skip("it has no extra fields")
        plain = self.made(data, False).build()
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
            pytest.skip("it has no extra fields")
        batch, E = self.batch(model, data, "test", slice(0, 8)), self.config.embedding
        user_BX, item_BY = model.inputs.fields(batch)
        extra_BFE = model.inputs.extra(batch)
        assert torch.equal(user_BX[:, -E:], extra_BFE[:, 0])
        assert torch.equal(item_BY[:, -E:], extra_BFE[:, 1])
        assert torch.equal(item_BY[:, :E], model.item_embeddings()[batch.item_B])
        assert torch.equal(
            torch.cat([user_BX[:, :-E], item_BY[:, :-E]], dim=1), model.inputs.read(model.inputs.table, batch).flatten(1)
        )
        assert torch.equal(model.inputs.extra_of(model.inputs.vectors(batch)), extra_BFE)

    def test_golden(self, data: Dataset):
        model = self.made(data, False).fitted(steps=20)
        loss = model.loss(self.batch(model, data, "test", slice(None))).item()
        assert loss == pytest.approx(self.golden, abs=1e-4)
