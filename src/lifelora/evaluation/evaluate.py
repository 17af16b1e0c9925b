"""Figures of predictions, with intervals and paired tests, as objects that are text, JSON or a frame. Knows no model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from lifelora.data.rows import Problems
from lifelora.data.typed import called_by_row
from lifelora.errors import ConfigError, DataError
from lifelora.evaluation import ranking_report, report
from lifelora.evaluation.jackknife import DRAWS, Jackknifed, Rows, Scored, jackknife, jackknife_means
from lifelora.evaluation.measured import plain
from lifelora.evaluation.predictions import Names, Predictions, read_predictions, rows_of
from lifelora.evaluation.significance import Difference, Figure, estimate, paired_test
from lifelora.evaluation.tables import columns_of, in_blocks, p_value, sureness, with_span
from lifelora.frames import AnyFrame, Frame, like

ORDER_ONLY = ("auc", "gauc")
"""Figures of scores that are no probabilities."""
WIDTH = 110


@dataclass(frozen=True, eq=False)
class Differences:
    """Each of some systems minus another one, by every metric that both have, on the same samples."""

    minus: str
    systems: Mapping[str, Mapping[str, Difference]]
    given: AnyFrame = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; a figure that does not exist is null."""
        systems = {name: {metric: asdict(d) for metric, d in found.items()} for name, found in self.systems.items()}
        values: dict[str, Any] = plain({"minus": self.minus, "systems": systems})
        return values

    def as_frame(self) -> AnyFrame:
        """A row for each system and metric, as a frame of the kind that was given."""
        return like(self.given, _long(self.systems, {"minus": self.minus}, ("value", "low", "high", "p", "n", "users")))

    def __str__(self) -> str:
        lines = [f"minus {self.minus}, paired over users:"]
        width = max(len(name) for name in self.systems)
        names = report.NAMES | ranking_report.ALONE
        label = max(len(names[metric]) for found in self.systems.values() for metric in found)
        for name, found in self.systems.items():
            lines += [f"  {name:<{width}}  {names[m]:<{label}}  {with_span(d)}  {p_value(d.p)}" for m, d in found.items()]
        rows, users = (
            max(counts) for counts in zip(*((d.n, d.users) for f in self.systems.values() for d in f.values()), strict=True)
        )
        basis = f"n = {rows:,} samples of {users:,} users; {sureness(users, tested=True)}"
        return "\n".join([*lines, f"{basis}; p is not corrected for several comparisons."])


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of some systems on the same samples, with 95 % intervals over users."""

    systems: Mapping[str, Mapping[str, Figure]]
    rows: int
    users: int
    positives: int | None
    "Samples with label 1; None where samples are lists."
    rows_hash: str
    found: Mapping[str, Jackknifed]
    given: AnyFrame = None

    def minus(self, name: str) -> Differences:
        """Each other system minus the one of this name; ConfigError where there is none, or no other."""
        if name not in self.systems:
            raise ConfigError(f"there is no system '{name}' to subtract; there are {', '.join(self.systems)}.")
        if len(self.systems) < 2:
            raise ConfigError(f"'{name}' is the only system; name the columns of two or more to compare them.")
        tests = {other: paired_test(one, self.found[name]) for other, one in self.found.items() if other != name}
        return Differences(name, tests, self.given)

    def as_json(self) -> dict[str, Any]:
        """Plain values; a figure that does not exist is null."""
        systems = {name: {metric: asdict(figure) for metric, figure in found.items()} for name, found in self.systems.items()}
        facts = {"rows": self.rows, "users": self.users, "positives": self.positives, "rows_hash": self.rows_hash}
        values: dict[str, Any] = plain({**facts, "systems": systems})
        return values

    def as_frame(self) -> AnyFrame:
        """A row for each system and metric, as a frame of the kind that was given."""
        return like(self.given, _long(self.systems, {}, ("value", "low", "high", "n", "users")))

    def __str__(self) -> str:
        blocks = []
        for names in (report.NAMES, ranking_report.LIST, ranking_report.ANSWERS, ranking_report.CATALOGUE):
            columns = columns_of(self.systems, names)
            blocks += in_blocks(columns, WIDTH) if len(columns) > 1 else []
        share = "" if self.positives is None else f" ({100 * self.positives / self.rows:.1f} % positive)"
        basis = f"n = {self.rows:,} samples of {self.users:,} users{share}, samples {self.rows_hash}; {sureness(self.users)}"
        order = [name for name, found in self.systems.items() if found.keys() == set(ORDER_ONLY)]
        notes = (
            [f"{', '.join(order)}: scores outside 0 to 1 are no probabilities, so only their order is judged."] if order else []
        )
        return "\n\n".join([*blocks, "\n".join([basis, *notes])])


def evaluate(
    frame: AnyFrame,
    *,
    score: str | Sequence[str] = (),
    label: str = "label",
    user: str = "user",
    item: str | None = None,
    rank: str | Sequence[str] = (),
    target: str | None = None,
) -> Evaluation:
    """AUC, GAUC, log loss, accuracy and ECE of one or several columns of scores, each with its interval over users.

    ``label`` is 0 or 1 (or bool). Scores in [0, 1] are probabilities of 1; of others the order alone is judged (AUC and GAUC).
    With ``rank`` (where the right item stood, from 1), or with lists of scores and ``target`` (which of them is the right item's,
    from 0), figures are HR, NDCG and MRR. ``frame`` is of pandas, polars or pyarrow.

    Raises ConfigError for what is no frame, and DataError, with all that is wrong, for samples that lack a user, a label or a
    score.
    """
    names = _names(score, label, user, item, rank, target)
    return measure(_predictions(frame, names), frame)


def compare(
    frame: AnyFrame,
    a: str,
    b: str,
    *,
    label: str = "label",
    user: str = "user",
    item: str | None = None,
    ranks: bool = False,
    target: str | None = None,
) -> Differences:
    """Column ``a`` minus column ``b`` by every metric, with 95 % intervals and p, paired on the same samples.

    The columns hold scores or, with ``ranks``, ranks. All else, and the errors, are as for ``evaluate``.
    """
    columns = [a, b]
    score, rank = ([], columns) if ranks else (columns, [])
    return evaluate(frame, score=score, label=label, user=user, item=item, rank=rank, target=target).minus(b)


def measure(predictions: Predictions, given: AnyFrame = None, *, draws: int = DRAWS) -> Evaluation:
    """Every figure of predictions; ``draws`` are those of chance behind the interval of ECE."""
    user_N, item_N, label_N = predictions.user_N, predictions.item_N, predictions.label_N
    rows_hash = Scored(user_N, item_N, label_N, np.zeros(len(user_N))).rows_hash()
    found = {name: jackknifed(user_N, item_N, label_N, score_N, draws=draws) for name, score_N in predictions.scores.items()}
    for name, ranks in predictions.ranks.items():
        values = ranking_report.row_values(ranking_report.RankedSystem(name, "", "", ranks))
        found[name] = jackknife_means(Rows(user_N, values, rows_hash))
    return of_systems(found, user_N, None if predictions.ranks else int(label_N.sum()), given)


def jackknifed(
    user_N: Int[np.ndarray, "N"],
    item_N: Int[np.ndarray, "N"],
    label_N: Bool[np.ndarray, "N"],
    score_N: Float[np.ndarray, "N"],
    *,
    draws: int = DRAWS,
) -> Jackknifed:
    """All figures of scores that are probabilities, and of others those that ask for their order alone."""
    if ((score_N >= 0) & (score_N <= 1)).all():
        return jackknife(Scored(user_N, item_N, label_N, score_N), draws=draws)
    ordered_N = np.unique(score_N, return_inverse=True)[1] / len(score_N)  # the same order, ties and all, inside [0, 1]
    return jackknife(Scored(user_N, item_N, label_N, ordered_N), ORDER_ONLY)


def of_systems(
    found: Mapping[str, Jackknifed], user_N: Int[np.ndarray, "N"], positives: int | None, given: AnyFrame = None
) -> Evaluation:
    """The figures of systems that were judged on the same samples."""
    systems = {name: {metric: estimate(one, metric) for metric in one.by_run} for name, one in found.items()}
    rows_hash = next(iter(found.values())).rows_hash
    return Evaluation(systems, len(user_N), len(np.unique(user_N)), positives, rows_hash, found, given)


def _predictions(given: AnyFrame, names: Names) -> Predictions:
    frame, problems = Frame(given, "frame"), Problems()
    wanted = [names.user, names.item, names.label, names.target, *names.scores, *names.ranks]
    columns = {name: frame.column(name) for name in wanted if name in frame.names}
    try:
        predictions = read_predictions(rows_of(columns, frame.names, "frame", 0), names, problems)
        problems.refuse()
    except DataError as error:
        raise called_by_row(error) from None
    assert predictions is not None, "what is missing is a problem"
    return predictions


def _names(
    score: str | Sequence[str], label: str, user: str, item: str | None, rank: str | Sequence[str], target: str | None
) -> Names:
    scores, ranks = ((one,) if isinstance(one, str) else tuple(one) for one in (score, rank))
    return Names(user=user, item=item, label=label, scores=scores, ranks=ranks, target=target)


def _long(systems: Mapping[str, Mapping[str, Figure]], more: Mapping[str, str], values: Sequence[str]) -> pa.Table:
    rows = [
        {"system": name, **more, "metric": metric, **{value: getattr(figure, value) for value in values}}
        for name, found in systems.items()
        for metric, figure in found.items()
    ]
    return pa.Table.from_pylist(rows)
