"""What a run found where the task is the next item, measured, and as a table of text. Knows ranks, no model.

Two questions are told apart: which of a few candidates comes next, as the papers ask, and which of the whole catalogue, as a
shop does. The second is much harder, and orders systems otherwise (Krichene and Rendle, KDD 2020). A language model may answer
the first with one title instead of an order, as it does in the papers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from textwrap import wrap

import numpy as np
from jaxtyping import Bool, Float, Int

from lifelora.errors import ConfigError
from lifelora.evaluation.added import Added, added, added_table, answers
from lifelora.evaluation.costs import Cost, cost_table
from lifelora.evaluation.groups import Grouped, added_tables, group_tables, grouped, never_seen
from lifelora.evaluation.jackknife import Jackknifed, Rows, jackknife_means
from lifelora.evaluation.lists import LISTS, K, Lists
from lifelora.evaluation.measured import Curves, Measured, Validated, against, check_names, decided, deciding, verdict
from lifelora.evaluation.ranks import Ranks
from lifelora.evaluation.significance import NONE, Figure, estimate
from lifelora.evaluation.tables import columns_of, duration, in_blocks, sureness, with_span
from lifelora.evaluation.worth import Control, worth_in_words, worth_table, worths

LIST = {"hr@1": "HR@1", "hr@5": "HR@5", "ndcg@5": "NDCG@5", "ndcg@10": "NDCG@10", "mrr": "MRR"}
ANSWERS = {
    "chosen hr@1": "chosen HR@1",
    "written hr@1": "written HR@1",
    "valid ratio": "ValidRatio",
    "exact hr@1": "written exactly HR@1",
    "exact valid ratio": "ValidRatio, exact",
}
"""Of one title as the answer: chosen among the candidates' titles, or written freely and read by two rules."""
CATALOGUE = {
    "catalogue hr@10": "catalogue HR@10",
    "catalogue hr@50": "HR@50",
    "catalogue ndcg@10": "NDCG@10",
    "catalogue mrr": "MRR",
}
IN_CATALOGUE = CATALOGUE | LISTS
NAMES = LIST | ANSWERS | IN_CATALOGUE
"""The figures, in the order of every table; all but those of ``LISTS`` are better when higher, and these are neither."""
IN_GROUPS = ("hr@1", "ndcg@10", "catalogue hr@10", "catalogue ndcg@10")
"""What is measured in each group of samples."""
ALONE = NAMES | {metric: f"catalogue {name.removeprefix('catalogue ')}" for metric, name in CATALOGUE.items()}
"""Names that are clear without their neighbours."""
DIFFERENCES = {metric: ALONE[metric] for metric in ("hr@1", "ndcg@10", "mrr", "catalogue ndcg@10")}
"""What a table of differences tells that has no room for all."""


@dataclass(frozen=True, eq=False)
class RankedSystem:
    """One system: where it put the right items, and what a reader needs to judge it."""

    name: str
    family: str
    reads: str
    ranks: Ranks | None
    "Among the candidates."
    catalogue: Ranks | None = None
    "Among all items that the user had not seen."
    curves: Curves | None = None
    seconds: float | None = None
    answers: Mapping[str, Float[np.ndarray, "N"]] | None = None
    "Metric of ANSWERS -> its value on each row; what was not asked for is missing."
    costs: Mapping[str, Cost] = field(default_factory=dict)
    "Way in which it was used, in words -> what a sample took."
    lists: Lists | None = None
    "The first items of the catalogue."


@dataclass(frozen=True, eq=False)
class RankingReport:
    """Everything that the page tells; all systems were asked about the same samples, in the same order."""

    title: str
    facts: Sequence[tuple[str, str]]
    systems: Sequence[RankedSystem]
    user_N: Int[np.ndarray, "N"]
    rows_hash: str
    "Identifies the samples: users, targets and candidate lists."
    candidates: int
    n_items: int
    reference: str
    history_N: Int[np.ndarray, "N"] | None = None
    "Number of earlier behaviours of each sample's user; None, here and below: figures are not divided by it."
    target_events_N: Int[np.ndarray, "N"] | None = None
    "Number of training events of each sample's right item, and of its user."
    user_events_N: Int[np.ndarray, "N"] | None = None
    notes: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] = ()
    seed: int = 0
    validated: Validated | None = None
    "What says which of several systems is the best of its family."
    pairs: Sequence[tuple[str, str]] = ()
    "(what is made of others, one of these) that are tested against each other."
    controls: Sequence[Control] = ()

    def __post_init__(self) -> None:
        check_names([system.name for system in self.systems], self.reference)
        for system in self.systems:
            answers = system.answers or {}
            if unknown := [metric for metric in answers if metric not in ANSWERS]:
                raise ConfigError(f"{system.name} has answers called {unknown[0]!r}; there are {', '.join(ANSWERS)}.")
            columns = [("ranks", ranks.better_N) for ranks in (system.ranks, system.catalogue) if ranks is not None]
            columns += [] if system.lists is None else [("lists", system.lists.top_NK)]
            for what, row_N in [*columns, *answers.items()]:
                if len(row_N) != len(self.user_N):
                    raise ConfigError(
                        f"{system.name} has {what} for {len(row_N):,} of {len(self.user_N):,} test samples. Score every sample."
                    )


@dataclass(frozen=True, kw_only=True)
class MeasuredRanking(Measured):
    """All figures of a report."""

    candidates: int
    n_items: int
    groups: dict[str, Grouped]
    "By length of history, by training events of the target (popularity) and of the user."
    added: tuple[Added, ...] = ()
    "What is made of others minus each of these."


def measure(report: RankingReport) -> MeasuredRanking:
    """Every figure of the report."""
    values = {s.name: row_values(s) for s in report.systems}
    found = {name: jackknife_means(Rows(report.user_N, of, report.rows_hash)) for name, of in values.items()}
    numbers = {"history": report.history_N, "popularity": report.target_events_N, "user": report.user_events_N}

    def in_group(keep_N: Bool[np.ndarray, "N"]) -> dict[str, Jackknifed]:
        some = {name: {m: of[m][keep_N] for m in IN_GROUPS if m in of} for name, of in values.items()}
        return {name: jackknife_means(Rows(report.user_N[keep_N], of, report.rows_hash)) for name, of in some.items()}

    families = {s.name: s.family for s in report.systems}
    add = partial(added, pairs=report.pairs, families=families, validated=report.validated)
    return MeasuredRanking(
        rows=len(report.user_N),
        users=len(np.unique(report.user_N)),
        rows_hash=report.rows_hash,
        candidates=report.candidates,
        n_items=report.n_items,
        seed=report.seed,
        reference=report.reference,
        systems={s.name: _figures(s, found[s.name]) for s in report.systems},
        seconds={s.name: s.seconds for s in report.systems},
        costs={s.name: dict(s.costs) for s in report.systems},
        against=against(found, report.reference),
        deciding=deciding(found, families, report.validated, _headline(report.candidates)),
        added=add(found),
        groups=grouped(numbers, report.user_N, in_group, report.reference, add=add),
        worth=worths(found, report.controls),
    )


def _figures(system: RankedSystem, found: Jackknifed) -> dict[str, Figure]:
    """All of a system. Coverage is of all users at once, and has no interval: without a user it can only fall."""
    values = {metric: estimate(found, metric) for metric in found.by_run}
    if system.lists is not None:
        rows, users = next(iter(found.counted.values()))
        values[f"coverage@{K}"] = Figure(system.lists.coverage, *NONE, rows, users, float("nan"))
    return {metric: values[metric] for metric in NAMES if metric in values}


def row_values(system: RankedSystem) -> dict[str, Float[np.ndarray, "N"]]:
    """Each metric that the system has, on each row."""
    values = dict(system.answers or {})
    if system.lists is not None:
        values[f"novelty@{K}"] = system.lists.novelty()
    for ranks, names, prefix in ((system.ranks, LIST, ""), (system.catalogue, CATALOGUE, "catalogue ")):
        if ranks is None:
            continue
        for metric in names:
            kind, _, k = metric.removeprefix(prefix).partition("@")
            values[metric] = ranks.reciprocal() if kind == "mrr" else {"hr": ranks.hit, "ndcg": ranks.ndcg}[kind](int(k))
    return {metric: values[metric] for metric in NAMES if metric in values}


def plain_table(measured: MeasuredRanking, width: int = 110) -> str:
    """The systems by the metrics as text."""
    tables = []
    for names in (LIST, ANSWERS, IN_CATALOGUE):
        columns = columns_of({name: some for name, some in measured.systems.items() if some.keys() & names.keys()}, names)
        tables += in_blocks(columns, width) if len(columns) > 1 else []
    if any(seconds is not None for seconds in measured.seconds.values()):
        tables.append("\n".join(f"{name}: {duration(seconds)}" for name, seconds in measured.seconds.items()))
    tables += added_table(measured.added, DIFFERENCES, width)
    tables += added_tables(measured.groups, _headline(measured.candidates), _unit(measured), width)
    tables += group_tables(measured.groups, _headline(measured.candidates), _unit(measured), width)
    tables += [*worth_table(measured.worth, NAMES, width), *cost_table(measured.costs, width)]
    told = ["\n".join(wrap(sentence, width)) for sentence in _decided(measured)]
    return "\n\n".join([*told, *tables, basis(measured)])


def basis(measured: MeasuredRanking) -> str:
    """What all figures stand on, in one line."""
    return (
        f"n = {measured.rows:,} test samples of {measured.users:,} users, {measured.candidates} candidates each, "
        f"catalogue of {measured.n_items:,} items, lists {measured.rows_hash}, "
        f"seed {measured.seed}; {sureness(measured.users)}"
    )


def summary(measured: MeasuredRanking) -> list[str]:
    """The findings in plain words, the most important first."""
    metric, what = _headline(measured.candidates), _unit(measured)
    value = {name: figures[metric].value for name, figures in measured.systems.items() if metric in figures}
    top = max(value, key=lambda name: value[name])
    sentences = [*_decided(measured), f"{top} has the highest {what}: {with_span(measured.systems[top][metric])}."]
    order = sorted(measured.against, key=lambda name: -value.get(name, 0.0))
    sentences += worth_in_words(measured.worth, metric, what)
    return sentences + [verdict(measured, name, metric, what) for name in order if metric in measured.against[name]]


def in_groups(measured: MeasuredRanking) -> dict[str, str]:
    """The metrics that the page tells of each group, with their names: of the lists, or without any of the catalogue."""
    return {m: ALONE[m] for m in IN_GROUPS if m.startswith("catalogue") != bool(measured.candidates)}


def _decided(measured: MeasuredRanking) -> list[str]:
    """Whether a language model pays, and what words add."""
    metric, what = _headline(measured.candidates), _unit(measured)
    return [*decided(measured, what), *answers(measured.added, metric, what, never_seen(measured.groups))]


def _headline(candidates: int) -> str:
    """The metric that sentences tell."""
    return "hr@1" if candidates else "catalogue hr@10"


def _unit(measured: MeasuredRanking) -> str:
    """It, in words."""
    name = NAMES[_headline(measured.candidates)]
    return f"{name} among {measured.candidates}" if measured.candidates else name


def table_of(names: Mapping[str, str], systems: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """The metrics of ``names`` that some system has."""
    return {metric: name for metric, name in names.items() if any(metric in figures for figures in systems.values())}
