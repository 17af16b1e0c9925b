"""The contract of a conventional model. Knows no model: it builds, trains and asks whatever a configuration describes."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final, get_args

import numpy as np
import torch
import torch.nn.functional as F

from lifelora.conventional.base import Counted, ExtraFields, Ranker, Ranks, Recommender
from lifelora.data.dataset import Dataset, Samples
from lifelora.errors import ConfigError
from lifelora.evaluation.metrics import auc
from lifelora.kinds import MODELS
from lifelora.testing.recipes import comes_back
from lifelora.types import Layer, Part


@final
@dataclass
class Case:
    """A configuration (a small one) in a world, ``world.two_tribes`` for instance, and its trained model."""

    config: Recommender.Config
    data: Dataset
    extra: Callable[[], ExtraFields] | None = None
    "Makes extra fields for a model that takes them."
    steps: int = 200
    "Of training, 128 samples each."

    @cached_property
    def model(self) -> Recommender:
        """Trained, or counted."""
        return self.fitted()

    def build(self) -> Recommender:
        """Untrained, by torch's own generator."""
        return self.config.build(self.data.schema(), None if self.extra is None else self.extra())

    @torch.enable_grad()
    def fitted(self, seed: int = 0, steps: int | None = None) -> Recommender:
        """Trained from a start of its own."""
        torch.manual_seed(seed)
        model = self.build()
        if self.config.counts:
            assert isinstance(model, Counted), "counts = True, but there is no fit(dataset)"
            model.fit(self.data)
            return model.eval()
        rng, optimizer = np.random.default_rng(seed), torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(self.steps if steps is None else steps):
            batch = self.batch("train", rng.integers(len(self.data.samples["train"]), size=128), model)
            optimizer.zero_grad()
            with model.scope(batch):
                model.loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return model.eval()

    def batch(self, part: Part, chosen: np.ndarray | slice, model: Recommender | None = None) -> Samples:
        """Some samples of a part, as the model reads them."""
        model = model or self.model
        return self.data.gather(self.data.targets(np.asarray(self.data.samples[part][chosen])), model.history_length)


def a_recipe_can_name_it(case: Case) -> None:
    """By its kind; and what is dumped comes back."""
    comes_back(MODELS, case.config)


@torch.no_grad()
def what_can_be_learnt_is_learnt(case: Case) -> None:
    """AUC above 0.95 where the label is known from user and item; a model that only counts may know no user."""
    batch = case.batch("test", slice(None))
    found = auc(batch.label_B.numpy(), case.model.score(batch).double().numpy())
    assert found > (0.3 if case.config.counts else 0.95), f"AUC {found:.3f} after {case.steps} steps in a world of two tribes"


@torch.no_grad()
def a_batch_is_its_rows(case: Case) -> None:
    """Nobody's score or u depends on who else is asked about."""
    together = case.batch("test", slice(0, 8))
    alone = [case.batch("test", slice(i, i + 1)) for i in range(8)]
    assert len(together.label_B) == 8
    for name, ask in (("score", case.model.score), ("represent", case.model.represent)):
        _close(ask(together), torch.cat([ask(one) for one in alone]), f"{name} of a batch is not that of its rows")


@torch.no_grad()
def the_loss_is_the_mean_negative_log_likelihood(case: Case) -> None:
    """-mean(y log p + (1 - y) log(1 - p)) of p = score, a probability."""
    batch = case.batch("test", slice(0, 16))
    logit_B, p_B, y_B = case.model.logits(batch), case.model.score(batch), batch.label_B.double()
    assert p_B.shape == (16,), f"score has shape {tuple(p_B.shape)} for 16 samples"
    assert ((p_B >= 0) & (p_B <= 1)).all(), "score is no probability"
    assert 0 < y_B.mean() < 1
    expected = -(y_B * F.logsigmoid(logit_B.double()) + (1 - y_B) * F.logsigmoid(-logit_B.double())).mean().item()
    assert abs(case.model.loss(batch).item() - expected) < 1e-4 * max(1.0, expected), "loss is another one"


@torch.no_grad()
def u_is_as_wide_and_as_target_aware_as_it_says(case: Case) -> None:
    """``width`` and ``target_aware`` are what others build on."""
    batch, model = case.batch("test", slice(0, 8)), case.model
    u_BD = model.represent(batch)
    assert u_BD.shape == (8, model.width), f"u has shape {tuple(u_BD.shape)}, and width = {model.width}"
    assert u_BD.isfinite().all(), "u is not finite"
    other_BD = model.represent(replace(batch, item_B=(batch.item_B + 1) % case.data.n_items))
    assert torch.equal(u_BD, other_BD) is not model.target_aware, f"target_aware = {model.target_aware} is not so"


@torch.no_grad()
def every_item_has_a_vector(case: Case) -> None:
    """As wide as u where the model can be asked what comes next."""
    vectors_ME = case.model.item_embeddings()
    assert vectors_ME.ndim == 2, "item_embeddings is no table"
    assert len(vectors_ME) == case.data.n_items, f"{len(vectors_ME)} vectors for {case.data.n_items} items"
    assert vectors_ME.isfinite().all(), "an item's vector is not finite"
    if case.config.next_item:
        assert not case.model.target_aware, "next_item = True, but u knows the target"
        assert vectors_ME.shape[1] == case.model.width, "next_item = True, but u and item vectors differ in width"


@torch.no_grad()
def weights_are_all_that_has_to_be_kept(case: Case) -> None:
    """Its state, loaded into a fresh model, gives the same scores, to the last bit."""
    fresh, batch = case.build().eval(), case.batch("test", slice(0, 8))
    state = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    assert not torch.equal(fresh.score(batch), case.model.score(batch)), "training changes no score"
    fresh.load_state_dict(state)
    assert torch.equal(fresh.score(batch), case.model.score(batch)), "the weights alone do not give the scores back"


@torch.no_grad()
def what_stands_in_padding_does_not_matter(case: Case) -> None:
    """Neither items nor ratings; nor does a past that is padding alone make anything infinite."""
    batch, n_items, n_ratings = case.batch("train", slice(0, 32)), case.data.n_items, len(case.data.rating_levels)
    assert not batch.mask_BH.all(), "history_length is so short that nothing was padded; give the case a longer one"
    rng = torch.Generator().manual_seed(0)
    for one in (batch, replace(batch, mask_BH=torch.zeros_like(batch.mask_BH))):
        items, ratings = (torch.randint(high, one.mask_BH.shape, generator=rng) for high in (n_items, n_ratings))
        other = replace(
            one,
            history_BH=torch.where(one.mask_BH, one.history_BH, items),
            rating_BH=torch.where(one.mask_BH, one.rating_BH, ratings),
        )
        assert not torch.equal(one.history_BH, other.history_BH)
        for ask in (case.model.score, *(_layer(case.model, layer) for layer in get_args(Layer))):
            assert ask(one).isfinite().all(), "not finite"
            assert torch.equal(ask(one), ask(other)), "what stands in padding is read"


@torch.no_grad()
def any_amount_of_left_padding_gives_the_same(case: Case) -> None:
    """The first samples, of a short past, gathered as long as they are and longer."""
    targets = case.data.targets(case.data.samples["train"][:6])
    longest = int(targets.position_B.max())
    assert 0 < longest < case.model.history_length, f"history_length is no longer than {longest}; give the case a longer one"
    exact = case.data.gather(targets, longest)
    for extra in (1, 7):
        padded = case.data.gather(targets, longest + extra)
        for ask in (case.model.score, case.model.represent):
            _close(ask(exact), ask(padded), f"{extra} more cells of padding change it")


@torch.no_grad()
def every_layer_is_u_of_each_alone_and_knows_the_target_as_it_says(case: Case) -> None:
    """The layers that a recipe can take u from: "final", "fields" and "user", of which only "user" never knows the target."""
    batch, model = case.batch("test", slice(0, 8)), case.model
    for layer in get_args(Layer):
        ask = _layer(model, layer)
        u_BD = ask(batch)
        assert u_BD.ndim == 2, f"layer '{layer}' is no table"
        alone = [ask(case.batch("test", slice(i, i + 1))) for i in range(8)]
        _close(u_BD, torch.cat(alone), f"layer '{layer}' of a batch is not that of its rows")
        other_BD = ask(replace(batch, item_B=(batch.item_B + 1) % case.data.n_items))
        assert torch.equal(u_BD, other_BD) is not model.sees_target(layer), f"layer '{layer}' knows the target otherwise"
    assert torch.equal(model.representation(batch, "final"), model.represent(batch))


def the_same_seed_gives_the_same_weights_and_another_seed_others(case: Case) -> None:
    """All chance comes from torch's generator."""
    first, again, other = (case.fitted(seed, steps=3).state_dict() for seed in (1, 1, 2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first), "one seed gives two models"
    assert not all(torch.equal(first[name], other[name]) for name in first), "two seeds give one model"


def every_parameter_learns(case: Case) -> None:
    """Of all events as one batch, those without a past among them, after a step: what starts at zero may hold others back."""
    model = case.fitted(steps=1)
    model.zero_grad()
    model.loss(case.data.gather(case.data.targets(np.arange(len(case.data))), model.history_length)).backward()  # type: ignore[no-untyped-call]
    named = dict(model.named_parameters())
    assert named, "there is nothing to train; say counts = True"
    still = [name for name, parameter in named.items() if parameter.grad is None or not parameter.grad.any()]
    assert not still, f"no gradient reaches {', '.join(still)}"


def a_counted_model_represents_nobody(case: Case) -> None:
    """It has no layers below its last one, and says so by a ConfigError."""
    batch = case.batch("test", slice(0, 1))
    for layer in ("fields", "user"):
        try:
            case.model.representation(batch, layer)
        except ConfigError:
            continue
        raise AssertionError(f"counts = True, but layer '{layer}' is there")


@torch.no_grad()
def a_counted_model_ranks_a_catalogue_if_it_says_so(case: Case) -> None:
    """By numbers that depend on nobody else and not on padding; its probabilities add up to 1 in the same order."""
    assert case.config.next_item is isinstance(case.build(), Ranks), "next_item = True and ranker() go together"
    if not case.config.next_item:
        return
    ranker, fresh, batch = _ranker(case, case.data), _ranker(case, None), case.batch("test", slice(0, 8))
    score_BM, p_BM = ranker.scores(batch), ranker.probabilities(batch)
    assert score_BM.shape == (8, case.data.n_items), f"scores are of shape {tuple(score_BM.shape)}"
    assert score_BM.isfinite().all(), "a score is not finite"
    alone = [ranker.scores(case.batch("test", slice(i, i + 1))) for i in range(8)]
    _close(score_BM, torch.cat(alone), "the scores of a batch are not those of its rows")
    hidden = replace(batch, history_BH=torch.where(batch.mask_BH, batch.history_BH, 0))
    assert torch.equal(ranker.scores(hidden), score_BM), "what stands in padding is read"
    _close(p_BM.sum(dim=1), torch.ones(8), "probabilities do not add up to 1")
    order_BM = score_BM.argsort(dim=1, stable=True)
    assert (p_BM.gather(1, order_BM).diff(dim=1) >= 0).all(), "probabilities have another order than scores"
    fresh.load_state_dict({name: tensor.clone() for name, tensor in ranker.state_dict().items()})
    assert torch.equal(fresh.scores(batch), score_BM), "the weights alone do not give the scores back"


def a_counted_model_learns_nothing_from_test(case: Case) -> None:
    """Other test events change nothing; and the same seed counts the same, to the last bit."""
    other, test = copy(case.data), np.asarray(case.data.samples["test"])
    test = test[test >= 0]  # rows of the log: a negative has none
    other.item_N, other.label_N = np.array(other.item_N), np.array(other.label_N)
    other.item_N[test], other.label_N[test] = other.item_N[test][::-1], ~other.label_N[test]
    asked = [_fitted] + ([_ranker] if case.config.next_item else [])
    for ask in asked:
        state, again, altered = (ask(case, data).state_dict() for data in (case.data, case.data, other))
        assert all(torch.equal(state[name], again[name]) for name in state), "one seed gives two models"
        assert all(torch.equal(state[name], altered[name]) for name in state), "test events change what it learns"


def _fitted(case: Case, data: Dataset) -> Recommender:
    return replace(case, data=data).fitted(seed=1)


def _ranker(case: Case, data: Dataset | None) -> Ranker:
    """What ranks, fitted to some data, or as it is built."""
    torch.manual_seed(1)
    model = case.build()
    assert isinstance(model, Ranks)
    ranker = model.ranker()
    if data is not None:
        assert isinstance(ranker, Counted), "a ranker of what counts has fit(dataset), too"
        ranker.fit(data)
    return ranker.eval()


def _layer(model: Recommender, layer: Layer) -> Callable[[Samples], torch.Tensor]:
    return lambda batch: model.representation(batch, layer)


def _close(found: torch.Tensor, expected: torch.Tensor, said: str) -> None:
    torch.testing.assert_close(found, expected, msg=lambda why: f"{said}: {why}")


CHECKS: tuple[Callable[[Case], None], ...] = (
    a_recipe_can_name_it,
    what_can_be_learnt_is_learnt,
    a_batch_is_its_rows,
    the_loss_is_the_mean_negative_log_likelihood,
    u_is_as_wide_and_as_target_aware_as_it_says,
    every_item_has_a_vector,
    weights_are_all_that_has_to_be_kept,
    what_stands_in_padding_does_not_matter,
    any_amount_of_left_padding_gives_the_same,
    every_layer_is_u_of_each_alone_and_knows_the_target_as_it_says,
    the_same_seed_gives_the_same_weights_and_another_seed_others,
    every_parameter_learns,
)
"""Of a model that is trained."""
COUNTED: tuple[Callable[[Case], None], ...] = (
    *(check for check in CHECKS[:7] if check is not every_item_has_a_vector),
    a_counted_model_represents_nobody,
    a_counted_model_ranks_a_catalogue_if_it_says_so,
    a_counted_model_learns_nothing_from_test,
)
"""Of one that counts."""
