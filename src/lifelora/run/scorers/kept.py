"""Scores that stages keep: of the test samples, and of validation samples where a blend weighs them. Asks no model."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from lifelora.errors import ArtefactError
from lifelora.run.context import Context

SCORES = "score.npy"
"""One number for each sample (``ctr``), or for each of its candidates."""
SHORT, SHORT_SCORES = "shortlist.npy", "shortlist_score.npy"
"""The items of each test sample's shortlist, -1 for one that is left out, and their scores, a constant of each list aside."""


def keep_scores(folder: Path, score_NC: Float[np.ndarray, "N C"]) -> None:
    """Into a stage's folder."""
    np.save(folder / SCORES, score_NC[:, 0] if score_NC.shape[1] == 1 else score_NC)


def of_test(context: Context, name: str) -> Float[np.ndarray, "N C"]:
    """What a scorer said of the test samples, as its stage of scores keeps it."""
    folder = context.stages.scores(name).require()
    if not (folder / SCORES).exists():
        raise ArtefactError(
            f"{folder} has no {SCORES}: it is of an earlier version, which kept ranks alone, and a blend needs the scores. "
            f"Move it away; `lifelora run {context.stages.folder}` makes it again."
        )
    return _read(folder)


def keep_shortlists(folder: Path, item_NS: Int[np.ndarray, "N S"], score_NS: Float[np.ndarray, "N S"]) -> None:
    """Into a stage's folder."""
    np.save(folder / SHORT, item_NS.astype(np.int32))
    np.save(folder / SHORT_SCORES, score_NS)


def shortlists_of_test(context: Context, name: str) -> tuple[Int[np.ndarray, "N S"], Float[np.ndarray, "N S"]] | None:
    """What a scorer ranked of the catalogue for the test samples; None where it ranked no shortlist."""
    folder = context.stages.scores(name).require()
    if not (folder / SHORT).exists():
        return None
    items, scores = (np.load(folder / file, allow_pickle=False) for file in (SHORT, SHORT_SCORES))
    return items.astype(np.int64), scores


def of_validation(context: Context, name: str, rows_N: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N C"] | None:
    """What a blend's member said of validation samples; None where it is not kept of all of them."""
    stages = context.stages
    if name not in stages.members or not stages.validation(name).complete():
        return None
    of_kept = np.isin(context.validation_samples(stages.validation_count(name)), rows_N)
    return _read(stages.validation(name).folder)[of_kept] if int(of_kept.sum()) == len(rows_N) else None


def _read(folder: Path) -> Float[np.ndarray, "N C"]:
    kept: np.ndarray = np.load(folder / SCORES, allow_pickle=False)
    return kept.reshape(len(kept), -1).astype(np.float64)
