"""Tokens are counted as they were read, beside those that each sample's own prompt has."""

import pytest
import torch

from lifelora.llm.cost import Cost
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees


def test_prompts_are_read_with_their_padding():
    """Two prompts of 5 and 3 tokens, beside one another in 2 times 5 cells."""
    mask_BL = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], dtype=torch.bool)
    cost = Cost()
    cost.read(Prompts(torch.ones(2, 5, dtype=torch.int64), mask_BL, torch.zeros(2, dtype=torch.int64)))
    assert (cost.tokens, cost.alone, cost.samples) == (10, 8, 2)


def test_a_trunk_is_read_once_for_its_branches():
    """A trunk of 7 tokens; branches of 2, 3 and 2 that see 4, 7 and 7 of them: 14 read, prompts of 6 + 10 + 9."""
    G = torch.tensor
    trees = PromptTrees(torch.ones(14, dtype=torch.int64), G([7]), G([2, 3, 2]), G([0, 0, 0]), G([4, 7, 7]), G([1, 2, 2]))
    cost = Cost(tokens=1, alone=1, samples=1)
    cost.read(trees)
    assert (cost.tokens, cost.alone, cost.samples) == (15, 26, 4)


def test_what_is_uncounted_takes_no_time(monkeypatch: pytest.MonkeyPatch):
    """From 100 to 110, of which 103 to 107 do not count: 6."""
    times, cost, device = iter([100.0, 103.0, 107.0, 110.0]), Cost(), torch.device("cpu")
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    beside = cost.uncounted(lambda: "done", device)
    with cost.clock(device):
        assert beside() == "done"
    assert cost.seconds == 6.0


def test_what_came_to_it_since():
    before, now = Cost(3, 1.0, 5, 1), Cost(10, 2.5, 15, 4)
    assert now.since(before) == Cost(7, 1.5, 10, 3)
    before.add(now.since(before))
    assert before == now


def test_the_cost_of_rows_is_the_sum_of_their_shares():
    assert Cost.of(Cost(30, 1.5, 90).shares(4)) == Cost(30, 1.5, 90, 4)
