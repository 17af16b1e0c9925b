"""Events of the log as a reader sees them. Knows a data set, nothing of runs."""

from collections.abc import Sequence

import numpy as np

from lifelora.data.dataset import Dataset
from lifelora.data.levels import for_readers
from lifelora.evaluation.report import Behaviour


def behaviours(dataset: Dataset, rows: np.ndarray | Sequence[int]) -> list[Behaviour]:
    """Event rows by title and what was said of them."""
    rows, said = np.asarray(rows, np.int64), for_readers(dataset.level_names, dataset.words)
    return [
        Behaviour(dataset.titles[item], said[code])
        for item, code in zip(dataset.item_N[rows].tolist(), dataset.rating_N[rows].tolist(), strict=True)
    ]
