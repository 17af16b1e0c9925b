"""Knowledge to vectors: by a maker that reads the texts, or from files of one's own. Knows neither writers nor experts."""

from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import BeforeValidator
from torch import Tensor

from lifelora.data.dataset import Dataset
from lifelora.kinds import KNOWLEDGE
from lifelora.knowledge.questions import shown
from lifelora.vectors.base import ItemVectors, Tools, Vectors
from lifelora.vectors.encode import HiddenStates
from lifelora.vectors.pca import reduced
from lifelora.vectors.precomputed import VectorFile, by_item

EVENTS = {"events": "how many of the user's first events a vector was made of"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "hidden-states": {"max_tokens": 1024, "batch_size": 16, "dimensions": None},
    "sentence-encoder": {"dimensions": None},
}
"""Where they are others than of item vectors: what a language model writes is longer than what a catalogue says, and experts
make vectors as short as they need them."""


class OwnKnowledge(ItemVectors):
    """Vectors that were made elsewhere, in Parquet files, with ids as the data have them."""

    kind: Literal["precomputed"] = "precomputed"
    items: str
    "With the columns ``item`` and ``vector``."
    users: str
    """With the columns ``user``, ``events`` (of how many of the user's first events the vector was made) and ``vector``. A
    state takes the latest vector of no more events than its own."""

    def of_items(self, dataset: Dataset, tools: Tools) -> Vectors:
        """Zeros where the file has none."""
        vectors_ME, notes = by_item(self.items, "vectors.items", dataset.items)
        return Vectors(reduced(vectors_ME, self.dimensions), notes)

    def of_states(self, dataset: Dataset, every: int, learnt_from_N: Bool[Tensor, "N"] | None = None) -> Vectors:
        """The latest vector of each user's made of no more events than the state; zeros where there is none.

        PCA learns from the states ``learnt_from_N`` alone. Raises ConfigError for what ``VectorFile`` refuses, for a file that
        has none of the users, and for two vectors of one user after as many events.
        """
        file = VectorFile(self.users, "vectors.users", "user", EVENTS)
        known_R = file.known_to(dataset.users)
        row_R = np.flatnonzero(known_R)
        user_R = dataset.users.inside(file.id_N.take(row_R)).astype(np.int64)
        events_R = file.numbers_N["events"][row_R]
        order_R = np.lexsort((events_R, user_R))
        user_R, events_R, row_R = user_R[order_R], events_R[order_R], row_R[order_R]
        twice_R = (np.diff(user_R) == 0) & (np.diff(events_R) == 0)
        if twice_R.any():
            at = int(np.flatnonzero(twice_R)[0])
            raise file.wrong(
                f"has more than one vector of user '{dataset.users.outside([int(user_R[at])])[0]}' after "
                f"{events_R[at]:,} events; keep one"
            )
        asked = shown(dataset, every, 1)
        # Both sides on one axis, users one after another: events beyond all of the longest log's are never reached.
        stride = len(dataset) + 2
        key_R = user_R * stride + np.minimum(events_R, stride - 1)
        place_N = np.searchsorted(key_R, asked.user_N * stride + asked.number_N * every, side="right") - 1
        found_N = (place_N >= 0) & (user_R[place_N] == asked.user_N)
        vectors_NE = torch.zeros(len(asked), file.vectors_ND.shape[1])
        vectors_NE[torch.from_numpy(found_N)] = torch.from_numpy(file.vectors_ND[row_R[place_N[found_N]]])
        notes = []
        if lacking := int((~found_N).sum()):
            notes.append(f"{lacking:,} of {len(asked):,} states of users have no vector in '{file.name}'.")
        return Vectors(reduced(vectors_NE, self.dimensions, learnt_from_N), (*notes, *file.left_out(known_R)))

    def files(self) -> tuple[str, ...]:
        """Both."""
        return self.items, self.users


def _with_defaults(value: Any) -> Any:
    kind = value.get("kind", "hidden-states") if isinstance(value, dict) else None
    return {**DEFAULTS.get(kind, {}), **value} if isinstance(kind, str) else value


AnyKnowledge = Annotated[ItemVectors, KNOWLEDGE.unless_said("hidden-states"), BeforeValidator(_with_defaults)]
BY_LM = HiddenStates(**DEFAULTS["hidden-states"])
"""The run's language model reads the texts."""
