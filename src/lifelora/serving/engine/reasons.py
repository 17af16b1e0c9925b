"""Why: the behaviours that were shown, which of them is most like an item, what C(u) is made of. Knows scorers; asks no LM."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lifelora.lora.structure import Blocks, Dense
from lifelora.retrieval.similar import MostSimilar
from lifelora.run.run import Run
from lifelora.run.scorers.base import Requests, Scorer
from lifelora.run.scorers.blend import BlendScorer
from lifelora.run.scorers.language import LanguageScorer
from lifelora.serving.engine.answer import Weights


class Reasons:
    """Of one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        recipe = run.recipe
        chosen = [system.behaviours for system in recipe.systems.values()]
        self._alike = next((one for one in chosen if isinstance(one, MostSimilar.Config)), MostSimilar.Config())

    def nearest(self, items_C: Int[np.ndarray, "C"], rows_K: Int[np.ndarray, "K"]) -> list[int | None]:
        """Of event rows that were shown, the place of the one whose item is most like each item, of equal ones the latest.

        None without any, in a run without item vectors, and for an item without words.
        """
        if not len(rows_K) or not self.run.context.stages.need_vectors:
            return [None] * len(items_C)
        selector = self.run.context.selector(self._alike)
        assert isinstance(selector, MostSimilar)
        alike = selector.similarity
        target_CE = alike.rows(alike.numbers(items_C))
        seen_KE = alike.rows(alike.numbers(np.asarray(self.run.context.dataset.item_N[rows_K], np.int64)))
        likeness_CK = alike.between(target_CE, seen_KE)
        place_C = len(rows_K) - 1 - likeness_CK[:, ::-1].argmax(axis=1)
        said_C = np.asarray(target_CE.any(axis=1)) & bool(seen_KE.any())
        return [place if said else None for place, said in zip(place_C.tolist(), said_C.tolist(), strict=True)]

    def weights(self, scorer: Scorer, requests: Requests, row: int) -> Weights | None:
        """What C(u) of one request is made of; a blend's weights are the same for all. None where there is nothing to tell."""
        if isinstance(scorer, BlendScorer):
            return Weights("blend", tuple(one.name for one in scorer.members), scorer.weights.weights)
        if not isinstance(scorer, LanguageScorer) or not scorer.system.coupling.needs_user:
            return None
        with torch.inference_mode():
            C = scorer.couplings(scorer.asked(requests), np.array([row]))
            kind = scorer.system.coupling.kind
            if isinstance(C, Blocks):
                values = of_parts(C, "expert" if kind == "experts" else "LoRA")
            elif isinstance(C, Dense):
                values = of_layers(C, [name for name, _ in scorer.lm.adapters.layers])
            else:
                return None
        return Weights(kind, tuple(values), tuple(values.values()))


def of_parts(C: Blocks, part: str) -> dict[str, float]:
    """Of the first user: the weights of the parts, as the mean over layers."""
    mean_N: Tensor = C.tensor[:, 0].mean(dim=0)
    return {f"{part} {number}": value for number, value in enumerate(mean_N.tolist(), start=1)}


def of_layers(C: Dense, names: Sequence[str]) -> dict[str, float]:
    """Of the first user: the size of C(u) - I (Frobenius norm), as the mean over what is adapted in each layer of the LM.

    ``names`` are those of the S adapted modules; the first number in one is its layer's.
    """
    added_SQP = C.tensor[:, 0] - torch.eye(C.tensor.shape[-1], dtype=C.tensor.dtype, device=C.tensor.device)
    sizes = defaultdict[str, list[float]](list)
    for name, size in zip(names, added_SQP.flatten(1).norm(dim=1).tolist(), strict=True):
        number = next((int(part) for part in name.split(".") if part.isdecimal()), None)
        sizes[name if number is None else f"layer {number + 1}"].append(size)
    return {name: sum(of_one) / len(of_one) for name, of_one in sizes.items()}


def same(rows: Sequence[Int[np.ndarray, "_"]]) -> bool:
    """Whether all requests were shown the same behaviours."""
    return all(np.array_equal(rows[0], one) for one in rows[1:])
