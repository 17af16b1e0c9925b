"""Training on trees, in one process or as a program in two: samples of four users, of whom each has one trunk."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from families_world import VOCABULARY, tiny

from lifelora.llm.personal import PersonalBatch
from lifelora.llm.trees.ready import ready
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.yes_no import Answers
from lifelora.training import TrainingConfig, fit
from lifelora.training.curve import History

USER_N = np.repeat(np.arange(4), 6)
"""Whose each of 24 samples is; the sixth hangs at the end of its user's trunk of 18 tokens."""
D = 6
DRAWN = torch.Generator().manual_seed(3)
TRUNKS_UT = torch.randint(5, VOCABULARY, (4, 18), generator=DRAWN)
BRANCHES_NQ = torch.randint(5, VOCABULARY, (24, 4), generator=DRAWN)
USERS_UD = torch.randn(4, D, generator=DRAWN)
LABELS_N = (torch.rand(24, generator=DRAWN) < 0.5).float()


def gather(rows_B: np.ndarray) -> PersonalBatch:
    """The trees of some samples."""
    user_R, tree_B = np.unique(USER_N[rows_B], return_inverse=True)
    places_B = torch.from_numpy(3 + 3 * (rows_B % 6))
    trees = PromptTrees(
        torch.cat([TRUNKS_UT[user_R].flatten(), BRANCHES_NQ[rows_B].flatten()]),
        torch.full((len(user_R),), 18),
        torch.full((len(rows_B),), 4),
        torch.from_numpy(tree_B),
        places_B,
        torch.zeros(len(rows_B), dtype=torch.int64),
    )
    return PersonalBatch(trees, USERS_UD[user_R], LABELS_N[rows_B])


def train(folder: Path, **config: int) -> History:
    """A personal LM on trees, three epochs of two steps."""
    torch.manual_seed(0)
    model = tiny("llama")
    ready(model)
    adapters = personalise(model, Adaptation(coupling=Full.Config(rank=4), targets=("all-linear",), dropout=0.0), user_width=D)
    lm = YesNoLM(model, adapters, Answers(7, 8))
    validate: Callable[[], dict[str, float]] = lambda: {"auc": 0.5}  # noqa: E731 - of no weight here
    settings = TrainingConfig(batch_size=14, epochs=3, learning_rate=0.01, **config)
    return fit(lm, np.arange(24), gather, validate, settings, folder, 0, together_N=USER_N, device="cpu", progress=False)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
