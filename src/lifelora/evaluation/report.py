"""What a run found where the question is yes or no, measured, and as a table of text. Knows arrays and words, no model.

``measure`` does all the arithmetic once; ``plain_table`` and ``summary`` only show it, and so does the page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from textwrap import wrap

import numpy as np
from jaxtyping import Float, Int, Shaped

from lifelora.errors import ConfigError
from lifelora.evaluation import metrics as M
from lifelora.evaluation.added import Added, added, added_table, answers
from lifelora.evaluation.costs import Cost, cost_table
from lifelora.evaluation.groups import Grouped, Mask, added_tables, group_tables, grouped, never_seen
from lifelora.evaluation.jackknife import DRAWS, METRICS, Scored, jackknife
from lifelora.evaluation.measured import Curves, Measured, Validated, against, check_names, decided, deciding, verdict
from lifelora.evaluation.significance import estimate
from lifelora.evaluation.tables import columns_of, duration, in_blocks, short, sureness, with_span
from lifelora.evaluation.worth import Control, worth_in_words, worth_table, worths

NAMES = {"auc": "AUC", "gauc": "GAUC", "log_loss": "Log loss", "accuracy": "Accuracy", "ece": "ECE"}
TOLD_IN_GROUPS = ("auc", "gauc")
IN_GROUPS = (*TOLD_IN_GROUPS, "log_loss")
"""What is measured in each group of samples."""


@dataclass(frozen=True, eq=False)
class SystemResult:
    """One system: its scores on the test samples, in their order, and what a reader needs to judge them."""

    name: str
    family: str
    "For example 'conventional' or 'language model'."
    reads: str
    "What it has seen of the user, in words."
    score_N: Float[np.ndarray, "N"]
    curves: Curves | None = None
    seconds: float | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict)
    "Way in which it was used, in words -> what a sample took."


@dataclass(frozen=True)
class Behaviour:
    title: str
    rating: str


@dataclass(frozen=True)
class Shown:
    """Behaviours put before a model, oldest first, and how they were chosen, in words."""

    how: str
    behaviours: Sequence[Behaviour]


@dataclass(frozen=True)
class ExampleUser:
    """One test sample as an example: what the systems read of the user, and what they answered."""

    user: str
    facts: Sequence[tuple[str, str]]
    shown: Sequence[Shown]
    target: str
    label: bool
    scores: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that the page tells; the columns of the test samples are aligned with every system's scores."""

    title: str
    facts: Sequence[tuple[str, str]]
    "(what, value) pairs for the head of the page: data set, sizes, hashes, times."
    systems: Sequence[SystemResult]
    user_N: Int[np.ndarray, "N"]
    item_N: Int[np.ndarray, "N"]
    label_N: Shaped[np.ndarray, "N"]
    history_N: Int[np.ndarray, "N"]
    "Number of earlier behaviours of the sample's user."
    reference: str
    "The system that the others are tested against."
    target_events_N: Int[np.ndarray, "N"] | None = None
    "Number of training events of each sample's item, and of its user; None: figures are not divided by it."
    user_events_N: Int[np.ndarray, "N"] | None = None
    truth_N: Float[np.ndarray, "N"] | None = None
    "The probabilities by which the labels were drawn, where a world is simulated."
    positive: str = "liked"
    "What label 1 means, as a word that follows 'the user'."
    best_possible_auc: float | None = None
    example: ExampleUser | None = None
    notes: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] = ()
    "(what it does, command) pairs that make this report again."
    seed: int = 0
    draws: int = DRAWS
    "Of chance, behind the interval of ECE."
    validated: Validated | None = None
    "What says which of several systems is the best of its family."
    pairs: Sequence[tuple[str, str]] = ()
    "(what is made of others, one of these) that are tested against each other."
    controls: Sequence[Control] = ()

    def __post_init__(self) -> None:
        names = [system.name for system in self.systems]
        check_names(names, self.reference)
        if self.example and (unknown := set(self.example.scores) - set(names)):
            raise ConfigError(f"the example has scores of {sorted(unknown)}, which are none of the systems {names}.")
        if len(self.history_N) != len(self.label_N):
            raise ConfigError(f"{len(self.history_N)} lengths of history for {len(self.label_N)} test samples.")


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredAnswers(Measured):
    """All figures of a report."""

    positives: int
    draws: int
    best_possible_auc: float | None
    added: tuple[Added, ...] = ()
    "What is made of others minus each of these."
    ece_as_found: dict[str, float]
    "ECE by its formula, with what chance adds to it."
    groups: dict[str, Grouped]
    "By length of history, by training events of the target (popularity) and of the user."
    reliability: dict[str, M.Reliability]


def measure(report: Report) -> MeasuredAnswers:
    """Every figure of the report; .2 s per system for 100,000 rows of 6,000 users."""
    scored = {s.name: Scored(report.user_N, report.item_N, report.label_N, s.score_N) for s in report.systems}
    found = {name: jackknife(rows, draws=report.draws, seed=report.seed) for name, rows in scored.items()}
    families = {s.name: s.family for s in report.systems}
    add = partial(added, pairs=report.pairs, families=families, validated=report.validated)
    numbers = {"history": report.history_N, "popularity": report.target_events_N, "user": report.user_events_N}
    groups = grouped(
        numbers,
        report.user_N,
        lambda keep_N: {name: jackknife(rows.where(keep_N), IN_GROUPS) for name, rows in scored.items()},
        report.reference,
        lambda keep_N: {} if report.truth_N is None else _ranked(report.user_N, report.label_N, report.truth_N, keep_N),
        add,
    )
    return MeasuredAnswers(
        rows=len(report.label_N),
        users=len(np.unique(report.user_N)),
        positives=int((report.label_N == 1).sum()),
        rows_hash=found[report.reference].rows_hash,
        seed=report.seed,
        draws=report.draws,
        reference=report.reference,
        best_possible_auc=report.best_possible_auc,
        systems={name: {metric: estimate(one, metric) for metric in METRICS} for name, one in found.items()},
        ece_as_found={name: one.by_run["ece"][0] for name, one in found.items()},
        seconds={s.name: s.seconds for s in report.systems},
        costs={s.name: dict(s.costs) for s in report.systems},
        against=against(found, report.reference),
        deciding=deciding(found, families, report.validated, "auc"),
        added=add(found),
        groups=groups,
        worth=worths(found, report.controls),
        reliability={s.name: M.reliability(report.label_N, s.score_N) for s in report.systems},
    )


def _ranked(
    user_N: Int[np.ndarray, "N"], label_N: Shaped[np.ndarray, "N"], score_N: Float[np.ndarray, "N"], keep_N: Mask
) -> dict[str, float]:
    """How well scores rank some of the samples, over all users and within each."""
    user_K, label_K, score_K = user_N[keep_N], label_N[keep_N], score_N[keep_N]
    return {"auc": M.auc(label_K, score_K), "gauc": M.gauc(user_K, label_K, score_K).value}


def plain_table(measured: MeasuredAnswers, width: int = 110) -> str:
    """The systems by the metrics as text, in as many blocks as keep the lines within ``width``."""
    columns = columns_of(measured.systems, NAMES)
    if any(seconds is not None for seconds in measured.seconds.values()):
        columns.append(["Time", *map(duration, measured.seconds.values())])
    if measured.best_possible_auc is not None:
        for column, cell in zip(columns, ["best possible", short(measured.best_possible_auc)], strict=False):
            column.append(cell)
    told = ["\n".join(wrap(sentence, width)) for sentence in _decided(measured)]
    parts = added_table(measured.added, {metric: NAMES[metric] for metric in ("auc", "gauc", "log_loss")}, width)
    parts += added_tables(measured.groups, "auc", NAMES["auc"], width)
    groups = group_tables(measured.groups, "auc", NAMES["auc"], width)
    # Of an item that nobody has rated, AUC over all users mostly tells who rates kindly.
    groups += group_tables({k: of for k, of in measured.groups.items() if k == "popularity"}, "gauc", NAMES["gauc"], width)
    worth = worth_table(measured.worth, NAMES, width)
    tables = [*in_blocks(columns, width), *parts, *groups, *worth, *cost_table(measured.costs, width)]
    return "\n\n".join([*told, *tables, basis(measured)])


def _decided(measured: MeasuredAnswers) -> list[str]:
    """Whether a language model pays, and what words add."""
    return [*decided(measured, NAMES["auc"]), *answers(measured.added, "auc", NAMES["auc"], never_seen(measured.groups))]


def basis(measured: MeasuredAnswers) -> str:
    """What all figures stand on, in one line."""
    share = 100 * measured.positives / measured.rows
    return (
        f"n = {measured.rows:,} test samples of {measured.users:,} users ({share:.1f} % positive), "
        f"samples {measured.rows_hash}, seed {measured.seed}; {sureness(measured.users)}"
    )


def summary(measured: MeasuredAnswers) -> list[str]:
    """The findings in plain words, the most important first."""
    auc = {name: system["auc"].value for name, system in measured.systems.items()}
    order = sorted(measured.against, key=lambda name: -np.nan_to_num(auc[name]))
    sentences = _decided(measured) + worth_in_words(measured.worth, "auc", NAMES["auc"])
    sentences += [verdict(measured, name, "auc", NAMES["auc"]) for name in order]
    top = max(auc, key=lambda name: float(np.nan_to_num(auc[name])))
    if not order:
        sentences.append(f"{top} reaches AUC {with_span(measured.systems[top]['auc'])}.")
    best = measured.best_possible_auc
    if best is not None and best > 0.5 and not math.isnan(auc[top]):
        way = 100 * (auc[top] - 0.5) / (best - 0.5)
        sentences.append(
            f"The true probabilities would rank these samples with AUC {short(best)}, the best possible. {top}, "
            f"the highest here, reaches {short(auc[top])}: {way:.0f} % of the way there from guessing."
        )
    return sentences
