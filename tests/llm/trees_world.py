"""Small trees with everything that can go wrong, and the prompts that they stand for."""

from dataclasses import replace

import torch
from torch import Tensor

from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees


def trees(vocabulary: int = 60) -> PromptTrees:
    """Two trunks of 10 and 7 tokens; branches that see all of theirs, a part, and (nearly) nothing, in mixed order."""
    generator = torch.Generator().manual_seed(1)
    trunk_R, branch_G = torch.tensor([10, 7]), torch.tensor([4, 6, 3, 5, 4])
    tokens_L = torch.randint(5, vocabulary, (int(trunk_R.sum() + branch_G.sum()),), generator=generator)
    tree_G, place_G = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([10, 3, 6, 7, 1])
    return PromptTrees(tokens_L, trunk_R, branch_G, tree_G, place_G, torch.zeros(5, dtype=torch.int64))


def prompt(made: PromptTrees, branch: int) -> Tensor:
    """The tokens of a branch's prompt."""
    trunk = int(made.trunk_R[: made.tree_G[branch]].sum())
    start = int(made.starts[branch])
    return torch.cat(
        [made.tokens_L[trunk : trunk + int(made.place_G[branch])], made.tokens_L[start : start + int(made.branch_G[branch])]]
    )


def prompts(made: PromptTrees) -> Prompts:
    """Of all branches, padded at the left."""
    rows = [prompt(made, branch) for branch in range(len(made))]
    L = max(map(len, rows))
    tokens_BL = torch.stack([torch.cat([torch.zeros(L - len(row), dtype=torch.int64), row]) for row in rows])
    mask_BL = torch.arange(L) >= L - torch.tensor([len(row) for row in rows])[:, None]
    return Prompts(tokens_BL, mask_BL, made.shown_G, question_B=made.branch_G)


def titles(vocabulary: int = 60) -> PromptTrees:
    """Two trunks of 10 and 7 tokens, the last 4 and 5 of which ask; titles of 1 to 4 tokens behind them, in mixed order."""
    generator = torch.Generator().manual_seed(2)
    trunk_R, branch_G = torch.tensor([10, 7]), torch.tensor([1, 4, 3, 2, 3])
    tokens_L = torch.randint(5, vocabulary, (int(trunk_R.sum() + branch_G.sum()),), generator=generator)
    tree_G = torch.tensor([0, 1, 0, 1, 0])
    return PromptTrees(
        tokens_L,
        trunk_R,
        branch_G,
        tree_G,
        trunk_R[tree_G],
        torch.ones(5, dtype=torch.int64),
        None,
        branch_G,
        torch.tensor([4, 5]),
    )


def answered(made: PromptTrees) -> Prompts:
    """Of all branches, with their answers."""
    assert made.answer_G is not None
    plain, A = prompts(made), int(made.answer_G.max())
    asked_G = made.branch_G if made.asked_R is None else made.asked_R[made.tree_G] + made.branch_G
    return replace(plain, answer_BA=torch.arange(A) >= A - made.answer_G[:, None], question_B=asked_G)
