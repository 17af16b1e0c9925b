"""Predictions from elsewhere beside a run's own, on the run's test samples; and these samples as a table. Asks no model."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from lifelora.data.rows import Problems, Rows
from lifelora.data.times import TRUSTED, seconds
from lifelora.errors import ConfigError, DataError, Problem
from lifelora.evaluation.evaluate import Evaluation, jackknifed, of_systems
from lifelora.evaluation.jackknife import Jackknifed, jackknife_means
from lifelora.evaluation.jackknife import Rows as Values
from lifelora.evaluation.predictions import Names, Predictions, read_predictions
from lifelora.evaluation.ranking_report import RankedSystem, row_values
from lifelora.evaluation.ranks import Ranks
from lifelora.run import Run
from lifelora.run.tasks.ctr import Ctr
from lifelora.run.tasks.next_item import NextItem
from lifelora.types import Part


def samples(run: Run, part: Part = "test") -> pa.Table:
    """The samples of a part: user, item, time (Unix seconds, where the data have times) and label, or candidates.

    Those of test are the ones that systems are judged on, and have a column of scores for each system that was.
    """
    dataset, task = run.context.dataset, run.task
    rows_N = run.context.test_samples if part == "test" else np.asarray(dataset.samples[part])
    targets = dataset.targets(rows_N)
    made: dict[str, pa.Array] = {
        "user": pa.array(dataset.users.outside(targets.user_B)),
        "item": pa.array(dataset.items.outside(targets.item_B)),
    }
    if dataset.has_times:
        made["time"] = _times(run, rows_N)
    if isinstance(task, Ctr):
        made["label"] = pa.array(targets.label_B.astype(np.int8))
        judged = [name for name in task.scorers if part == "test" and run.stages.scores(name).complete()]
        made |= {name: pa.array(task.scores(name)) for name in judged}
    elif (listed_NC := task.requests(part, rows_N).listed_NC) is not None:
        flat = pa.array(dataset.items.outside(listed_NC.ravel()))
        made["candidates"] = pa.FixedSizeListArray.from_arrays(flat, listed_NC.shape[1]).cast(pa.list_(pa.string()))
    return pa.table(made)


def beside(run: Run, rows: Rows, names: Names, time: str | None, notes: list[str]) -> Evaluation:
    """What a file says of a run's test samples, measured with what the run's systems say of them.

    A row is a sample's by its user, its item and (where ``time`` names a column) its time, whatever the order. All samples must
    be there, each once; other rows are not used, and ``notes`` say how many. Labels are the run's; where the file has some, they
    must be the same. Raises ConfigError and DataError with all that is wrong.
    """
    problems, task = Problems(), run.task
    if isinstance(task, Ctr) == names.ranked:
        wanted = "scores (--score)" if isinstance(task, Ctr) else "ranks (--rank), or lists of scores and their target"
        raise ConfigError(f"{run.folder} is a run of the task '{run.recipe.task}': give {wanted}.")
    names = names.model_copy(update={"item": names.item or "item"})
    labelled = names.label in rows.table.column_names
    said = read_predictions(rows, names, problems, labelled=labelled)
    if rows.lacks([one for one in (names.item, time) if one is not None], problems):
        said = None
    problems.refuse()
    assert said is not None, "what is missing is a problem"
    at_N = _matched(run, rows, names, time, problems, notes)
    problems.refuse()
    targets = run.context.dataset.targets(run.context.test_samples)
    if labelled and isinstance(task, Ctr):
        other_N = np.zeros(len(rows), np.bool_)
        other_N[at_N] = said.label_N[at_N] != targets.label_B
        rule = f"rating > {run.recipe.data.rules.label_above:g}"
        problems.add_rows(rows, names.label, other_N, f"the run has the other label for this sample ({rule})")
        problems.refuse()
    found = _theirs(run, said, at_N)
    clash = [name for name in found if name in task.scorers]
    found = {f"{name} (file)" if name in clash else name: one for name, one in found.items()}
    found |= {name: task.judged(name) for name in task.scorers}
    return of_systems(found, targets.user_B, int(targets.label_B.sum()) if isinstance(task, Ctr) else None)


def _theirs(run: Run, said: Predictions, at_N: Int[np.ndarray, "N"]) -> Mapping[str, Jackknifed]:
    task, targets = run.task, run.context.dataset.targets(run.context.test_samples)
    if isinstance(task, NextItem):
        ranks = {name: Ranks(one.better_N[at_N], one.tied_N[at_N]) for name, one in said.ranks.items()}
        listed = "test" in run.context.dataset.lists  # else a rank is one in the catalogue
        systems = [RankedSystem(name, "", "", one if listed else None, None if listed else one) for name, one in ranks.items()]
        return {one.name: jackknife_means(Values(targets.user_B, row_values(one), task.samples_hash())) for one in systems}
    draws = run.recipe.evaluation.resamples
    return {
        name: jackknifed(targets.user_B, targets.item_B, targets.label_B, score_N[at_N], draws=draws)
        for name, score_N in said.scores.items()
    }


def _matched(run: Run, rows: Rows, names: Names, time: str | None, problems: Problems, notes: list[str]) -> Int[np.ndarray, "N"]:
    """The row of each test sample."""
    dataset, rows_N = run.context.dataset, run.context.test_samples
    targets = dataset.targets(rows_N)
    own = [pa.array(dataset.users.outside(targets.user_B)), pa.array(dataset.items.outside(targets.item_B))]
    theirs = [pc.utf8_trim_whitespace(rows.table.column(name)) for name in (names.user, names.item)]
    if time is not None and dataset.has_times:
        own.append(_times(run, rows_N))
        theirs.append(pa.array(seconds(rows, time, TRUSTED, problems)))
    n, key_N = len(rows_N), np.zeros(len(rows_N) + len(rows), np.int64)
    for mine, other in zip(own, theirs, strict=True):
        both = pa.chunked_array([mine, *(other.chunks if isinstance(other, pa.ChunkedArray) else [other])])
        code_N = pc.dictionary_encode(both.combine_chunks(), null_encoding="encode").indices.to_numpy()
        key_N = np.unique(key_N * (int(code_N.max(initial=0)) + 1) + code_N, return_inverse=True)[1]
    own_N, their_N = key_N[:n], key_N[n:]
    by = ", ".join([f"user '{names.user}'", f"item '{names.item}'", *([f"time '{time}'"] if len(own) > 2 else [])])
    if len(np.unique(own_N)) < n:
        mend = "name the column of times with --time" if time is None and dataset.has_times else "they cannot be told apart"
        raise ConfigError(f"some test samples of {run.folder} have the same {by}; {mend}.")
    order = np.argsort(their_N, kind="stable")
    first_N, last_N = (np.searchsorted(their_N[order], own_N, side) for side in ("left", "right"))
    missing = np.flatnonzero(first_N == last_N)
    shown = [
        Problem(
            rows.file, None, None, None, f"no row has the test sample {', '.join(repr(one[at].as_py()) for one in own)} ({by})"
        )
        for at in map(int, missing[: DataError.SHOWN])
    ]
    if shown:
        problems.add_kind(shown, len(missing))
    sorted_N, again_N = their_N[order], np.zeros(len(rows), np.bool_)
    again_N[order] = np.append(False, sorted_N[1:] == sorted_N[:-1]) & np.isin(sorted_N, own_N)
    problems.add_rows(rows, None, again_N, f"a second row for the same {by}; keep one")
    if unused := len(rows) - int((last_N - first_N).sum()):
        notes.append(f"{unused:,} rows of {rows.file} are no test samples of {run.folder}, and are not used.")
    return order[np.minimum(first_N, len(order) - 1)]


def _times(run: Run, rows_N: Int[np.ndarray, "N"]) -> pa.Array:
    """Unix seconds of samples; of drawn negatives, which never happened, none."""
    happened_N = np.asarray(rows_N) >= 0
    time_N = np.asarray(run.context.dataset.time_N[np.where(happened_N, rows_N, 0)])
    return pa.array(time_N, mask=~happened_N)
