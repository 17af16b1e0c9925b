"""The order of rows: alone as ever, or whole blocks of those that belong together."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_world import Deep, Logistic, gather, run, train_N, weights

from lifelora.errors import ConfigError, LifeloraError
from lifelora.seeds import torch_generator
from lifelora.training.order import Order

BLOCKS_N = np.array([3, 3, 3, 3, 3, 8, 8, 8, 8, 8, 1, 1, 1, 1, 1, 1])


def epoch(order: Order, number: int = 0) -> np.ndarray:
    return np.concatenate([order.step(number * order.steps + step) for step in range(order.steps)])


def test_rows_alone_go_by_one_permutation_of_the_seed_and_the_epoch():
    order, expected = Order(np.arange(100, 110), 4, seed=7), torch.randperm(10, generator=torch_generator(7, "order", 2))
    assert epoch(order, 2).tolist() == expected.tolist()
    assert [len(order.step(step)) for step in range(3)] == [4, 4, 2]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 5), st.integers(1, 3))
def test_each_row_comes_once_in_its_block_and_every_share_is_of_one_step(together, size, number, world):
    order = Order(np.arange(len(together)), size, 0, np.array(together))
    got_N = epoch(order, number)
    assert sorted(got_N.tolist()) == list(range(len(together)))
    block_N = np.array(together)[got_N]
    assert np.count_nonzero(np.diff(block_N)) == len(set(together)) - 1  # a block is one stretch
    for block in set(together):
        assert np.all(np.diff(got_N[block_N == block]) > 0)  # in its rows' own order
    places_B = order.step(number * order.steps)
    shares = [order.share(places_B, rank, world) for rank in range(world)]
    assert np.concatenate(shares).tolist() == places_B.tolist()
    assert (
        np.concatenate([np.concatenate(order.parts(share, size)) for share in shares if len(share)]).tolist() == places_B.tolist()
    )


def test_another_epoch_has_another_order_and_any_step_can_be_asked_first():
    one, other = (Order(np.arange(16), 5, 3, BLOCKS_N) for _ in range(2))
    assert len({tuple(epoch(one, number).tolist()) for number in range(8)}) > 2
    assert other.step(9).tolist() == one.step(9).tolist()


def test_micro_batches_are_cut_between_blocks():
    order = Order(np.arange(16), 16, 0, BLOCKS_N)
    # Blocks of 5, 5 and 6 rows: two fit into 10; none fits into 4, where each is cut.
    assert [len(part) for part in order.parts(np.arange(16), 10)] == [10, 6]
    assert [len(part) for part in order.parts(np.arange(16), 11)] == [10, 6]
    assert [len(part) for part in order.parts(np.arange(16), 4)] == [4, 1, 4, 1, 4, 2]


def test_numbers_of_other_rows_are_an_error():
    with pytest.raises(ConfigError, match="of 3 rows what goes together, and there are 4"):
        Order(np.arange(4), 2, 0, np.zeros(3, np.int64))


SETTINGS: dict[str, Any] = {"epochs": 2, "learning_rate": 0.1, "batch_size": 24, "together_N": np.arange(64) // 7}


def test_a_step_learns_from_whole_blocks_and_the_gradient_is_the_mean_over_its_rows(tmp_path):
    seen: list[np.ndarray] = []

    def watched(rows_B: np.ndarray) -> Any:
        seen.append(rows_B)
        return gather(rows_B)

    whole, parts = Logistic(), Logistic()
    run(whole, tmp_path / "whole", gather=watched, **SETTINGS)
    order = Order(train_N, 24, 0, SETTINGS["together_N"])
    assert [rows_B.tolist() for rows_B in seen] == [order.step(step).tolist() for step in range(6)]
    run(parts, tmp_path / "parts", accumulation=3, **SETTINGS)
    for one, other in zip(weights(whole).values(), weights(parts).values(), strict=True):
        torch.testing.assert_close(one, other)


def test_interrupted_it_goes_on_to_the_same_bits_and_with_other_blocks_it_is_another_training(tmp_path):
    calls = 0

    def failing(rows_B: np.ndarray) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return gather(rows_B)

    with pytest.raises(KeyboardInterrupt):
        run(Deep(), tmp_path / "cut", gather=failing, checkpoint_seconds=0.0, **SETTINGS)
    with pytest.raises(LifeloraError, match="another"):
        run(Deep(), tmp_path / "cut", **SETTINGS | {"together_N": np.arange(64) // 8})
    assert run(Deep(), tmp_path / "cut", **SETTINGS) == run(Deep(), tmp_path / "whole", **SETTINGS)
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
