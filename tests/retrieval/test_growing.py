"""Growing histories against their definition, event by event."""

import numpy as np
import pytest

from lifelora.data.dataset import Dataset
from lifelora.retrieval.growing import Growing, as_of_starts, blocks, starts
from log_world import log_of

COUNTS = (1, 3, 7, 30, 61, 12)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rng = np.random.default_rng(1)
    made: Dataset = log_of([rng.choice(90, size=count) for count in COUNTS], 90, tmp_path_factory.mktemp("log"))
    return made


@pytest.mark.parametrize(("k", "block"), [(1, 1), (1, 4), (3, 2), (5, 16), (100, 7)])
def test_what_is_shown_is_what_the_definition_says(log: Dataset, k: int, block: int) -> None:
    rows = np.random.default_rng(2).permutation(len(log))  # every event as a target, in no order
    chosen, mask = Growing(k, block).select(log, log.targets(rows))
    for place, row in enumerate(rows):
        first_of_user = int(log.log.offsets[log.user_N[row]])
        position = int(row) - first_of_user
        start = position // block * block
        assert chosen[place, mask[place]].tolist() == list(range(first_of_user + max(0, start - k), int(row)))
        assert np.all(np.diff(mask[place].astype(int)) >= 0), "at the right end"


def test_it_depends_on_the_sample_alone_and_one_of_a_block_is_a_beginning_of_the_next(log: Dataset) -> None:
    selector, targets = Growing(3, 4), log.targets(np.arange(len(log)))
    chosen, mask = selector.select(log, targets)
    block_N, shown = blocks(targets, 4), [rows[real].tolist() for rows, real in zip(chosen, mask, strict=True)]
    for row in range(len(log)):
        alone, real = selector.select(log, log.targets(np.array([row])))
        assert alone[0, real[0]].tolist() == shown[row]
        if row + 1 < len(log) and block_N[row] == block_N[row + 1]:
            assert shown[row + 1] == [*shown[row], row]


def test_blocks_are_four_events_of_a_user_in_a_row(log: Dataset) -> None:
    targets = log.targets(np.arange(len(log)))
    expected = [(user, place // 4) for user, count in enumerate(COUNTS) for place in range(count)]
    number = {pair: number for number, pair in enumerate(dict.fromkeys(expected))}
    assert blocks(targets, 4).tolist() == [number[pair] for pair in expected]
    assert starts(targets, 4).tolist() == [4 * block for _, block in expected]
    early = as_of_starts(targets, 4)
    assert early.position_B.tolist() == [4 * block for _, block in expected]
    assert early.item_B.tolist() == targets.item_B.tolist()
