"""The contract of a maker of vectors, on a data set. Knows no maker."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import torch

from lifelora.data.dataset import Dataset
from lifelora.kinds import VECTORS
from lifelora.testing.recipes import comes_back
from lifelora.vectors.base import ItemVectors, TextVectors, Tools


@final
@dataclass(frozen=True)
class Case:
    """A configuration, a data set, and what the maker may use."""

    config: ItemVectors
    data: Dataset
    tools: Tools = field(default_factory=Tools)


def a_recipe_can_name_it(case: Case) -> None:
    """By its kind; and what is dumped comes back."""
    comes_back(VECTORS, case.config)


def every_item_has_a_vector(case: Case) -> None:
    """In index order, finite, not all zeros, and no longer than ``dimensions``."""
    vectors_ME = case.config.of_items(case.data, case.tools).vectors_NE
    assert vectors_ME.ndim == 2, "it is no table"
    assert len(vectors_ME) == case.data.n_items, f"{len(vectors_ME)} vectors for {case.data.n_items} items"
    assert vectors_ME.dtype == torch.float32, f"vectors are {vectors_ME.dtype}"
    assert vectors_ME.isfinite().all(), "a vector is not finite"
    assert vectors_ME.any(), "all vectors are zero"
    assert case.config.dimensions is None or vectors_ME.shape[1] <= case.config.dimensions, "vectors are longer than dimensions"


def making_them_again_gives_the_same(case: Case) -> None:
    """To the last bit."""
    first, again = (case.config.of_items(case.data, case.tools).vectors_NE for _ in range(2))
    assert torch.equal(first, again), "vectors differ from one making to the next"


def a_text_has_its_own_vector(case: Case) -> None:
    """Of a maker that reads texts: the order does not matter, equal texts are equal, and an empty one has zeros."""
    if not isinstance(case.config, TextVectors):
        assert case.config.files() is not None
        return
    maker = case.config.model_copy(update={"dimensions": None})
    texts = ["a calm tale of the sea", "riddles of the city", "", "a calm tale of the sea", "banners"]
    found_ND = maker.of_texts(texts, case.tools).vectors_NE
    turned_ND = maker.of_texts(texts[::-1], case.tools).vectors_NE.flip(0)
    torch.testing.assert_close(found_ND, turned_ND, rtol=1e-4, atol=1e-5, msg=lambda why: f"the order of texts matters: {why}")
    assert torch.equal(found_ND[0], found_ND[3]), "equal texts have different vectors"
    assert not found_ND[2].any(), "an empty text has a vector"
    assert not torch.equal(found_ND[0], found_ND[1]), "different texts have one vector"


CHECKS: tuple[Callable[[Case], None], ...] = (
    a_recipe_can_name_it,
    every_item_has_a_vector,
    making_them_again_gives_the_same,
    a_text_has_its_own_vector,
)
