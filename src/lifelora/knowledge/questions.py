"""The questions that a language model is asked about items and users, as text. Knows no model and writes no answer.

An item is asked about once. A user changes, so they are asked about again after every ``every`` events: state s of a
user (s = 1, 2, …) is made from that user's own events

    [max(0, s·every - behaviours), s·every)

and from nothing later; a user with fewer than ``every`` events has no state. States are numbered over users in order:
state s of user u is row ``first_U[u] + s - 1``. A target may read the last state that ended before it: ``state_before``. There
are no questions about states that nothing reads; most are such states if each user has one sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import final, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int
from pydantic import Field, field_validator, model_validator

from lifelora.data.dataset import Dataset, Targets
from lifelora.data.fields import as_texts
from lifelora.errors import LeakError
from lifelora.prompts.wording.fields import Texts, check_fields, fill, level_texts, whole_lines
from lifelora.types import Frozen
from lifelora.vectors.texts import item_texts

FILM = ("genre", "makers and cast", "period and country", "characters", "plot", "mood", "reception", "craft")
BOOK = ("subject", "author", "period", "style", "themes", "mood", "audience")
FACTORS = {"film": FILM, "movie": FILM, "book": BOOK, "novel": BOOK}
"""What matters in a domain, by its word for an item."""
OTHER = ("kind", "maker", "use", "style", "quality", "price")
LISTED = "{behaviours}"


class Questions(Frozen):
    """What is asked, in the fields {item}, {items}, {did} and so on; {factors} are listed as ``genre, plot and mood``."""

    factors: tuple[str, ...] | None = Field(default=None, min_length=1)
    "What is asked for; when left out, what matters for films, for books, or for anything else."
    behaviours: int = Field(default=30, ge=1)
    "The events of a user that a question shows, at most."
    every: int = Field(default=30, ge=1)
    "A user is asked about again after so many more events."
    about_item: tuple[str, ...] = Field(
        default=(
            "This is known of one {item}: {facts}",
            "Describe the {item} to somebody who recommends {items}, as far as you know it: {factors}.",
            "Keep to plain sentences, and leave out what you do not know.",
        ),
        min_length=1,
    )
    "Also in {facts} (all that is known), {title} and columns of the catalogue."
    about_user: tuple[str, ...] = Field(
        default=(
            "[[A person, {profile}.]]",
            "They {did} these {items}, oldest first[[, and rated them from {lowest} to {highest} {stars}]]:",
            LISTED,
            "What does this list say of the person's likes and dislikes in {items}? Go through {factors}.",
            "Keep to plain sentences, and leave out what the list does not show.",
        ),
        min_length=1,
    )
    "Also in {profile} (all that is known), columns of the profiles, and the line {behaviours}, where they are listed."
    behaviour: str = "{title}[[ ({level})]]"
    "One event, in columns of the catalogue, {level} and, of ratings, {rating} and {units}: empty where all are the same."
    description_words: int = Field(default=60, ge=1)
    "Longer descriptions are cut to this many words."

    @field_validator("about_item", "about_user", "behaviour")
    @classmethod
    def _whole_lines(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return whole_lines(value)

    @model_validator(mode="after")
    def _asks(self) -> "Questions":
        if not any("{facts}" in line or "{title}" in line for line in self.about_item):
            raise ValueError("about_item must say which item it is about: put {facts} or {title} into one of its lines")
        if self.about_user.count(LISTED) != 1 or sum(LISTED in line for line in self.about_user) != 1:
            raise ValueError(f"about_user must show what the user did: give it one line that is {LISTED} and nothing else")
        if not self.behaviour:
            raise ValueError("behaviour cannot be blank")
        return self

    def words(self, dataset: Dataset) -> dict[str, str]:
        """The domain's words with the factors, and the ends of the scale (empty where all ratings are the same)."""
        factors = self.factors or FACTORS.get(dataset.words.item.lower(), OTHER)
        levels = [level for level in dataset.levels if isinstance(level, float)]
        listed = " and ".join(part for part in (", ".join(factors[:-1]), factors[-1]) if part)
        return {
            **dataset.words.model_dump(),
            "factors": listed,
            "lowest": f"{min(levels):g}" if levels else "",
            "highest": f"{max(levels):g}" if levels else "",
        }

    def check(self, dataset: Dataset) -> None:
        """Raise ConfigError where a line needs a field that the data set lacks; optional words may lack theirs."""
        words, items = set(self.words(dataset)), {"title", *dataset.catalogue.column_names} - {"item"}
        users = set(dataset.profiles.column_names) - {"user"}
        check_fields(
            self,
            {
                "about_item": {*items, *words, "facts"},
                "behaviour": {*items, *words, "rating", "units", "level"},
                "about_user": {*users, *words, "profile", "behaviours"},
            },
        )


def about_items(dataset: Dataset, questions: Questions) -> list[str]:
    """One question an item, in index order; empty for an item of which nothing is known."""
    questions.check(dataset)
    words, catalogue = questions.words(dataset), _short(dataset.catalogue, questions.description_words)
    facts = item_texts(catalogue, dataset.words.item)
    return [
        _joined(questions.about_item, {**_item(row, words), "facts": known}) if known else ""
        for row, known in zip(catalogue.to_pylist(), facts, strict=True)
    ]


def states(dataset: Dataset, every: int) -> tuple[Int[np.ndarray, "U"], Int[np.ndarray, "U"]]:
    """The row of each user's first state, and how many states they have: all that can ever be read, s·every <= events."""
    states_U = np.diff(dataset.log.offsets).astype(np.int64) // every
    return np.cumsum(states_U) - states_U, states_U


def state_before(dataset: Dataset, targets: Targets, every: int) -> Int[np.ndarray, "B"]:
    """The row of the last state made from nothing but what came before each target; -1 where there is none yet."""
    first_U, _ = states(dataset, every)
    number_B = targets.position_B // every
    return np.where(number_B > 0, first_U[targets.user_B] + number_B - 1, -1)


def read_states(dataset: Dataset, every: int) -> Bool[np.ndarray, "N"]:
    """Whether a state is ever read: by the target of a sample, or as its user's last when something is recommended now."""
    first_U, states_U = states(dataset, every)
    read_N = np.zeros(int(states_U.sum()), np.bool_)
    read_N[(first_U + states_U - 1)[states_U > 0]] = True
    for rows in dataset.samples.values():
        state_B = state_before(dataset, dataset.targets(rows), every)
        read_N[state_B[state_B >= 0]] = True
    return read_N


@dataclass(frozen=True)
class Shown:
    """Each state's user and number (1, 2, …) and the events that its question shows: rows ``start <= row < end``."""

    user_N: Int[np.ndarray, "N"]
    number_N: Int[np.ndarray, "N"]
    start_N: Int[np.ndarray, "N"]
    end_N: Int[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.user_N)


def shown(dataset: Dataset, every: int, behaviours: int) -> Shown:
    """What the question of each state shows."""
    first_U, states_U = states(dataset, every)
    user_N = np.repeat(np.arange(dataset.n_users), states_U)
    number_N = np.arange(len(user_N)) - first_U[user_N] + 1
    begin_N = dataset.log.offsets[user_N]
    end_N = begin_N + number_N * every
    return Shown(user_N, number_N, np.maximum(begin_N, end_N - behaviours), end_N)


def check(dataset: Dataset, every: int, shown: Shown) -> None:
    """Raise LeakError if a question shows an event of another user, or one that is not before its state's end."""
    begin_N = dataset.log.offsets[shown.user_N]
    wrong_N = (shown.start_N < begin_N) | (shown.end_N > begin_N + shown.number_N * every)
    wrong_N |= shown.end_N > dataset.log.offsets[shown.user_N + 1]
    if wrong_N.any():
        n = int(np.flatnonzero(wrong_N)[0])
        begin = int(begin_N[n])
        raise LeakError(
            f"the question about user '{dataset.users.outside([int(shown.user_N[n])])[0]}' after "
            f"{int(shown.number_N[n]) * every:,} events would show events {int(shown.start_N[n]) - begin:,} to "
            f"{int(shown.end_N[n]) - begin - 1:,} (counted from 0), some of which are not this user's earlier ones "
            f"({int(wrong_N.sum()):,} of {len(shown):,} states are wrong); nothing was written."
        )


def training_states(dataset: Dataset, every: int) -> Bool[np.ndarray, "N"]:
    """The states made from nothing but events that training may look at: what PCA, for one, may learn from."""
    seen_N = np.zeros(len(dataset), np.bool_)
    seen_N[dataset.training_events()] = True
    # A user's events of training come first, so the last one of a state speaks for all.
    return np.asarray(seen_N[shown(dataset, every, 1).end_N - 1])


@final
class AboutUsers(Sequence[str]):
    """One question a state, in the states' order, empty for a state that nothing reads; put together when it is asked for."""

    def __init__(self, dataset: Dataset, questions: Questions) -> None:
        questions.check(dataset)
        self.dataset, self.questions = dataset, questions
        self.shown = shown(dataset, questions.every, questions.behaviours)
        check(dataset, questions.every, self.shown)
        self._read_N = read_states(dataset, questions.every)
        self._words = questions.words(dataset)
        self._place = questions.about_user.index(LISTED)
        # The same item with the same rating is listed again and again.
        self._line = lru_cache(1 << 16)(self._behaviour)

    def __len__(self) -> int:
        return len(self.shown)

    @overload
    def __getitem__(self, state: int) -> str: ...
    @overload
    def __getitem__(self, state: slice) -> list[str]: ...
    def __getitem__(self, state: int | slice) -> str | list[str]:
        if isinstance(state, slice):
            return [self[one] for one in range(*state.indices(len(self)))]
        if not self._read_N[state]:
            return ""
        rows = slice(int(self.shown.start_N[state]), int(self.shown.end_N[state]))
        pairs = zip(self.dataset.item_N[rows].tolist(), self.dataset.rating_N[rows].tolist(), strict=True)
        user = {**self._profiles[int(self.shown.user_N[state])], **self._words}
        lines = self.questions.about_user
        listed = "\n".join(self._line(item, rating) for item, rating in pairs)
        parts = (_joined(lines[: self._place], user), listed, _joined(lines[self._place + 1 :], user))
        return "\n".join(part for part in parts if part)

    @cached_property
    def _profiles(self) -> list[dict[str, str]]:
        rows = as_texts(self.dataset.profiles.drop_columns("user")).to_pylist() or [{}] * self.dataset.n_users
        return [{**row, "profile": "; ".join(f"{name}: {value}" for name, value in row.items() if value)} for row in rows]

    @cached_property
    def _items(self) -> list[Texts]:
        rows: list[Texts] = _short(self.dataset.catalogue, self.questions.description_words).to_pylist()
        return rows

    def _behaviour(self, item: int, code: int) -> str:
        texts = {**_item(self._items[item], self._words), **level_texts(self._words, self.dataset.levels[code])}
        return fill(self.questions.behaviour, texts)


def _item(row: Texts, words: Texts) -> dict[str, str]:
    # A domain word wins over a column of its name: {item} is "film", never an external id.
    return {**row, **words, "title": row.get("title") or f"unknown {words['item']}"}


def _short(catalogue: pa.Table, words: int) -> pa.Table:
    """The catalogue as texts, with descriptions of at most so many words."""
    catalogue = as_texts(catalogue)
    if "description" not in catalogue.column_names:
        return catalogue
    split = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(catalogue.column("description").combine_chunks()))
    short = pc.binary_join(pc.list_slice(split, 0, words), " ")
    return catalogue.set_column(catalogue.column_names.index("description"), "description", short)


def _joined(lines: Sequence[str], texts: Texts) -> str:
    return "\n".join(line for line in (fill(line, texts) for line in lines) if line)
