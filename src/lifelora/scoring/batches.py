"""One loop for all scoring: rows ordered by length, sliced under a budget of tokens, scored, put back. Knows no model.

Rows may be prompts, or branches of trees.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Int

from lifelora.errors import ConfigError
from lifelora.progress import Progress
from lifelora.training import parallel

Scores = TypeVar("Scores")


def in_batches(
    length_N: Int[np.ndarray, "N"],
    score: Callable[[Int[np.ndarray, "B"]], Scores],
    *,
    tokens: int,
    order: Int[np.ndarray, "N"] | None = None,
    said: str | None = None,
    progress: bool = True,
) -> Scores:
    """What ``score`` says of every row, in the order of ``length_N``, the tokens of each row's prompt (or an estimate).

    ``score`` gets the numbers of some rows, each row once, and gives an array with a line for each, or a tuple or dict of these
    in turn; gradients are its own business. Slices go by ``order``, or by rising length, where rows of one length keep their
    order: the longest of a slice times its rows is at most ``tokens``, but one row there always is. A sum over rows, such as
    the tokens that went through a model, is returned as each row's share of it.

    Several processes score every slice once, each its share, and all get all: the same numbers as of one process, to the last
    digit. They all have to call this. ``said`` names the work while it is shown how far it is.
    """
    order_N = np.argsort(length_N, kind="stable") if order is None else np.asarray(order)
    slices = sliced(np.asarray(length_N)[order_N], _agreed(tokens))
    return _scored([order_N[some] for some in slices], len(length_N), score, said, progress)


def in_trees(
    trunk_R: Int[np.ndarray, "R"],
    branch_N: Int[np.ndarray, "N"],
    tree_N: Int[np.ndarray, "N"],
    score: Callable[[Int[np.ndarray, "B"]], Scores],
    *,
    tokens: int,
    said: str | None = None,
    progress: bool = True,
) -> Scores:
    """As ``in_batches``, of rows that share trunks: the tokens of each trunk and of each row's branch, and its tree.

    The rows of a tree stay together, in their order. A tree of more than ``tokens`` tokens is asked in several parts, each with
    the whole trunk; parts of like length are asked together.
    """
    tokens = _agreed(tokens)
    order_N = np.argsort(tree_N, kind="stable")
    starts, lengths, before = list[int](), list[int](), -1
    for place, (tree, branch) in enumerate(zip(tree_N[order_N].tolist(), branch_N[order_N].tolist(), strict=True)):
        if tree != before or lengths[-1] + branch > tokens:
            starts.append(place)
            lengths.append(int(trunk_R[tree]))
        lengths[-1] += branch
        before = tree
    parts, length_P = np.split(order_N, starts[1:]), np.array(lengths, np.int64)
    order_P = np.argsort(length_P, kind="stable").tolist()
    slices = sliced(length_P[order_P], tokens)
    return _scored([np.concatenate([parts[p] for p in order_P[some]]) for some in slices], len(tree_N), score, said, progress)


def _agreed(tokens: int) -> int:
    # Each process may have another budget, by its own free memory; all take the smallest, or slices would differ.
    return min(parallel.gathered(tokens))


def _scored(
    slices: Sequence[Int[np.ndarray, "_"]],
    count: int,
    score: Callable[[Int[np.ndarray, "B"]], Scores],
    said: str | None,
    progress: bool,
) -> Scores:
    if count == 0:
        raise ConfigError(f"{said or 'scoring'}: there are no samples to score.")
    world, rank = parallel.world(), parallel.rank()
    scored: list[tuple[np.ndarray, Scores]] = []
    with Progress(said or "", count, enabled=bool(said) and progress and rank == 0) as ticker:
        for start in range(0, len(slices), world):
            together = slices[start : start + world]
            if rank < len(together):
                scored.append((together[rank], score(together[rank])))
            ticker.advance(sum(map(len, together)))
    every = [part for parts in parallel.gathered(scored) for part in parts]
    return cast(Scores, _put_back(every, count))


def sliced(length_N: Int[np.ndarray, "N"], tokens: int) -> Iterator[slice]:
    """Stretches, one after another, whose longest length times their rows is at most ``tokens``; or of one row."""
    start, longest = 0, 0
    for row, length in enumerate(length_N.tolist()):
        longest = max(longest, length)
        if row > start and longest * (row + 1 - start) > tokens:
            yield slice(start, row)
            start, longest = row, length
    if start < len(length_N):
        yield slice(start, len(length_N))


def _put_back(parts: list[tuple[np.ndarray, Any]], count: int) -> Any:
    first = parts[0][1]
    if isinstance(first, dict):
        return {key: _put_back([(index_B, values[key]) for index_B, values in parts], count) for key in first}
    if isinstance(first, tuple):
        return tuple(_put_back([(index_B, values[place]) for index_B, values in parts], count) for place in range(len(first)))
    whole = np.empty((count, *first.shape[1:]), first.dtype)
    for index_B, values in parts:
        if values.shape[:1] != index_B.shape:
            raise ValueError(f"score gave an array of shape {values.shape} for {len(index_B)} rows; its first axis is the rows")
        whole[index_B] = values
    return whole
