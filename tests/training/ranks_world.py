"""Run under torchrun: WAY FOLDER. Each process writes what it saw to FOLDER/RANK.json."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from lifelora.errors import ConfigError, LifeloraError, PeerError
from lifelora.run.work import Work
from lifelora.scoring import in_batches
from lifelora.stage import Stage
from lifelora.training import parallel

LENGTHS = np.random.default_rng(7).integers(1, 30, 41)


class Rooms:
    """A folder of stages, which is all that ``Work`` asks of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def scored() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Numbers that depend on who else is in the slice, to their last digit; and the rows that this process was asked."""
    asked: list[int] = []

    def score(index_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.extend(index_B.tolist())
        return np.exp(index_B / 3) / index_B.sum(), np.stack([index_B, LENGTHS[index_B]], axis=1).astype(np.float32)

    return *in_batches(LENGTHS, score, tokens=64), asked


def share(folder: Path) -> dict[str, Any]:
    """What the processes tell one another, and who makes a stage."""
    rank, seen = parallel.rank(), dict[str, Any]()
    seen["gathered"] = parallel.gathered(0.1 + rank)
    seen["agreed"] = parallel.agreed(f"the word of {rank}")
    sums_N, pairs_N2, seen["rows"] = scored()
    seen["sums"], seen["pairs"] = sums_N.tolist(), pairs_N2.tolist()
    work = Work(Rooms(folder / "run"), progress=False)  # type: ignore[arg-type]
    alone, both = Stage(folder / "run/1-alone", "alone", {}), Stage(folder / "run/2-both", "both", {})
    with work.owned():
        with work.making(alone) as room:
            if room is not None:
                time.sleep(0.5)  # the others wait for it
                (room / "processes").write_text(str(parallel.world()))
                seen["by itself"] = len(set(scored()[2]))  # and nobody else is asked to join in
        seen["alone"] = (alone.require() / "processes").read_text()
        with work.making(both, together=True) as room:
            assert room is not None
            (room / "who").write_text(str(rank))
            seen["room"] = str(room)
            parallel.gathered(None)
        seen["both"] = (both.require() / "who").read_text()
        with work.making(both, together=True) as room:
            seen["again"] = room is None
    return seen


def fail(folder: Path, failing: int, together: bool) -> dict[str, Any]:
    """One process has an error while the other works on, or waits."""
    work = Work(Rooms(folder / "run"), progress=False)  # type: ignore[arg-type]
    try:
        with work.owned(), work.making(Stage(folder / "run/1", "one", {}), together=together) as room:
            if parallel.rank() == failing and room is not None:
                raise ConfigError("no such thing")
            if together:
                parallel.gathered(None)
    except LifeloraError as error:
        return {"error": str(error), "kind": type(error).__name__, "told": isinstance(error, PeerError) and error.told}
    return {"error": None}


def main() -> None:
    way, folder = sys.argv[1], Path(sys.argv[2])
    seen = share(folder) if way == "share" else fail(folder, int(way[-1]), "together" in way)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
