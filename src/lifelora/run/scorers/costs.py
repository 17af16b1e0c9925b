"""What a language model took, as it is kept in a stage's folder. Knows a scorer that counts, no prompt."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lifelora.artefacts import read_json, write_atomically
from lifelora.evaluation.costs import Cost as PerSample
from lifelora.llm.cost import Cost
from lifelora.run.scorers.base import Scorer

COSTS = "costs.json"
"""What holds times, so that it is another one after a kill."""
TRAINING, SCORING = "training", "scoring"
"""Ways in which a language model is used."""
Found = TypeVar("Found")


def counted(scorer: Scorer, work: Callable[[], Found]) -> tuple[Found, Cost]:
    """The work's result, and what the scorer's part of it took."""
    before = scorer.spent()
    result = work()
    return result, scorer.spent().since(before)


def keep_costs(folder: Path, costs: Mapping[str, Cost], samples: int, **beside: Any) -> None:
    """The costs of so many samples by way; ``beside`` is kept with them."""
    told = {way: [cost.tokens, cost.seconds, cost.alone] for way, cost in costs.items()}
    write_atomically(folder / COSTS, json.dumps({**beside, "rows": samples, "costs": told}, indent=1))


def kept_costs(folder: Path) -> dict[str, PerSample]:
    """The same for each sample; nothing where nothing was counted, as in a run of an earlier version."""
    if not (folder / COSTS).exists():
        return {}
    found = read_json(folder / COSTS)
    samples = found["rows"]

    def of_one(tokens: int, seconds: float, alone: int = 0) -> PerSample:
        return PerSample(tokens / samples, seconds / samples, alone / samples if alone else None)

    return {way: of_one(*cost) for way, cost in found["costs"].items()}
