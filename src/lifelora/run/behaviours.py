"""Events of the log as a reader sees them. Knows a data set, nothing of runs."""

from collections.abc import Sequence

import numpy as np

from lifelora.data.dataset import Dataset
from lifelora.evaluation.report import Behaviour


def behaviours(dataset: Dataset, rows: np.ndarray | Sequence[int]) -> list[Behaviour]:
    """Event rows by title and rating."""
    rows = np.asarray(rows, np.int64)
    words, levels = dataset.words, dataset.rating_levels
    return [
        Behaviour(dataset.titles[item], f"{levels[code]:g} {words.star if levels[code] == 1 else words.stars}")
        for item, code in zip(dataset.item_N[rows].tolist(), dataset.rating_N[rows].tolist(), strict=True)
    ]
