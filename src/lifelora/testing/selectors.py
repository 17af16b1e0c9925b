"""The contract of a selector of behaviours, on a data set and vectors of its items. Knows no selector."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.errors import ConfigError
from lifelora.kinds import SELECTORS
from lifelora.retrieval.select import Selector
from lifelora.testing.recipes import comes_back


@final
@dataclass(frozen=True)
class Case:
    """A configuration that shows fewer behaviours than a user has, and a data set, ``world.two_tribes`` for instance."""

    config: Selector.Config
    data: Dataset

    def vectors(self) -> Float[Tensor, "M E"]:
        """Of every item, at random; one of an item without words."""
        vectors_ME = torch.randn(self.data.n_items, 8, generator=torch.Generator().manual_seed(0))
        vectors_ME[1] = 0
        return vectors_ME

    def selector(self) -> Selector:
        """With vectors where it needs them."""
        return self.config.build(self.vectors() if self.config.needs_vectors else None)


def a_recipe_can_name_it(case: Case) -> None:
    """By its kind; and what is dumped comes back. It says in words what it chooses."""
    comes_back(SELECTORS, case.config)
    assert case.config.in_words().strip(), "in_words says nothing"


def nothing_of_the_future_is_chosen_and_nothing_twice(case: Case) -> None:
    """Of every event as a target: rows of the same user's earlier events, in a table as wide for all, what is empty at the left.

    ``select`` itself raises LeakError for a row that is not so.
    """
    rows_BK, mask_BK = case.selector().select(case.data, case.data.targets(np.arange(len(case.data))))
    assert rows_BK.shape == mask_BK.shape, f"rows are {rows_BK.shape}, the mask is {mask_BK.shape}"
    assert len(rows_BK) == len(case.data), f"{len(rows_BK)} rows for {len(case.data)} targets"
    assert mask_BK.any(), "nothing is ever chosen"
    assert (np.diff(mask_BK.astype(int), axis=1) >= 0).all(), "what is empty is not at the left"
    for row_K, chosen_K in zip(rows_BK, mask_BK, strict=True):
        chosen = row_K[chosen_K].tolist()
        assert len(chosen) == len(set(chosen)), f"an event is chosen twice: {chosen}"


def a_batch_is_its_rows(case: Case) -> None:
    """In any order, alone or together; and of nobody nothing."""
    order = np.random.default_rng(0).permutation(len(case.data))[:64]
    selector = case.selector()
    together = selector.select(case.data, case.data.targets(order))
    for place, row in enumerate(order.tolist()):
        rows_1K, mask_1K = selector.select(case.data, case.data.targets(np.array([row])))
        alone, beside = rows_1K[0, mask_1K[0]].tolist(), together[0][place, together[1][place]].tolist()
        assert alone == beside, f"target {row} sees {alone} alone, and {beside} in a batch"
    nobody = selector.select(case.data, case.data.targets(np.zeros(0, np.int64)))
    assert nobody[0].shape == nobody[1].shape == (0, together[0].shape[1]), "the width depends on who is asked about"


def what_comes_later_changes_nothing(case: Case) -> None:
    """On a log that has grown, earlier targets see what they saw; a target of now sees what has come."""
    data, last = case.data, int(np.asarray(case.data.time_N).max())
    items = data.items.outside(np.arange(data.n_items))
    users = data.users.outside(np.arange(2))
    rating = data.rating_levels[-1]
    grown = data.extended(Event(user, items[at], rating, float(last + 1 + at)) for user in users for at in range(9))
    rows = np.flatnonzero(np.asarray(data.user_N) < 2)
    targets = data.targets(rows)
    assert len(rows)
    before, after = case.selector().select(data, targets), case.selector().select(grown, targets)
    assert np.array_equal(before[1], after[1]), "an event of later changes how many are chosen"
    assert (before[0][before[1]] == after[0][after[1]]).all(), "an event of later changes what is chosen"
    case.selector().select(grown, grown.candidates(0, np.arange(3)))


def the_target_matters_where_it_is_needed(case: Case) -> None:
    """``needs_target`` decides where a selector can be used."""
    rows = np.arange(len(case.data))[case.data.log.positions(np.arange(len(case.data))) > 10]
    targets, selector = case.data.targets(rows), case.selector()
    assert len(rows)
    found = []
    for shift in range(4):
        rows_BK, mask_BK = selector.select(case.data, replace(targets, item_B=(targets.item_B + shift) % case.data.n_items))
        found.append([row_K[mask_K].tolist() for row_K, mask_K in zip(rows_BK, mask_BK, strict=True)])
    same = all(chosen == found[0] for chosen in found)
    assert same is not case.config.needs_target, f"needs_target = {case.config.needs_target} is not so"


def vectors_are_asked_for_where_they_are_needed(case: Case) -> None:
    """``build`` without vectors is a ConfigError there, and there alone."""
    try:
        case.config.build(None)
    except ConfigError:
        assert case.config.needs_vectors, "needs_vectors is false, but build asks for vectors"
        return
    assert not case.config.needs_vectors, "needs_vectors is true, but build goes without; ask self.vectors(vectors_ME)"


CHECKS: tuple[Callable[[Case], None], ...] = (
    a_recipe_can_name_it,
    nothing_of_the_future_is_chosen_and_nothing_twice,
    a_batch_is_its_rows,
    what_comes_later_changes_nothing,
    the_target_matters_where_it_is_needed,
    vectors_are_asked_for_where_they_are_needed,
)
