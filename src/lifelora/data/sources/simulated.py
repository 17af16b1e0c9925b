"""The embedded default: a simulated library of books and its readers, whose truth is known. It needs no file.

It knows the words that attributes are written with; how users choose and rate is ``world``'s. Genre is a field of the
catalogue; mood and place can be learned from titles and descriptions alone.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from pydantic import Field, model_validator

from lifelora.data.raw import RawTables, Words
from lifelora.data.sources.base import Source
from lifelora.data.sources.oracle import Ablations, ablate
from lifelora.data.sources.world import ATTRIBUTES, Log, World, create, live, sigmoid
from lifelora.errors import ConfigError, DataError, Problem
from lifelora.seeds import generator

# One line for each value of an attribute, its name first. Every word stands for one value only.
GENRES = """
mystery: Clues Riddles Secrets Keys Footprints
romance: Hearts Roses Kisses Vows Lovers
war: Swords Soldiers Banners Cannons Battles
science: Robots Engines Signals Planets Machines
fantasy: Dragons Wizards Crowns Spells Giants
horror: Ghosts Bones Crows Curses Graves
sport: Racers Champions Riders Runners Trophies
cooking: Feasts Spices Loaves Kettles Recipes
"""
MOODS = """
calm: Silent Quiet Gentle Calm Still
funny: Merry Silly Jolly Clumsy Laughing
bleak: Bitter Bleak Grim Hollow Cruel
wild: Wild Burning Roaring Reckless Savage
sad: Weeping Lonely Broken Mournful Faded
clever: Clever Cunning Crafty Sly Subtle
grand: Golden Mighty Noble Royal Splendid
strange: Strange Crooked Upside Dreaming Floating
"""
PLACES = """
sea: Harbor Island Lighthouse Ship Reef
forest: Forest Meadow Grove Orchard Thicket
city: City Street Market Tower Alley
desert: Desert Oasis Dune Canyon Caravan
mountain: Mountain Summit Glacier Cliff Cavern
school: School Library Classroom Academy Museum
village: Village Farm Cottage Mill Barn
court: Palace Throne Castle Temple Court
"""
VOCABULARY = tuple(
    {name: tuple(words.split()) for name, words in (line.split(":") for line in text.strip().splitlines())}
    for text in (GENRES, MOODS, PLACES)
)
"""For each of genre, mood and place: the values' names and their words."""
GENDERS = ("female", "male")
AGES = ("under 20", "20-39", "40-59", "60 and over")


class Simulated(Source):
    """A world with a known truth, drawn anew from its seed whenever it is asked for."""

    form: ClassVar[str] = "simulated"
    later: ClassVar[frozenset[str]] = frozenset({"genre"})
    kind: Literal["simulated"] = "simulated"
    users: int = Field(default=500, ge=2, le=20_000)
    items: int = Field(default=800, ge=60, le=20_000)
    events_per_user: int = Field(default=180, ge=10)
    "About the mean: more for a user who is there for long, and at most a third of the items."
    tastes: float = Field(default=1.3, ge=0)
    "How strong likes and dislikes are, in log-odds; at 0 users differ by their profile and severity only."
    genre: Literal["field", "words"] = "field"
    """Whether the genre is a field of the catalogue, which models of ids read, too; or to be read from titles and descriptions
    alone, as mood and place are: then models of ids know nothing of a book that nobody has rated."""
    seed: int = 0

    @model_validator(mode="after")
    def _enough_to_read(self) -> "Simulated":
        if self.items < 4 * self.events_per_user:
            raise ValueError(
                f"items = {self.items} are too few for events_per_user = {self.events_per_user}, as "
                f"no user reads a book twice; choose items >= {4 * self.events_per_user}, or fewer events"
            )
        return self

    @classmethod
    def at(cls, place: str) -> "Simulated":
        """The default world: it is nowhere, so ``place`` is empty."""
        if place:
            raise ConfigError(
                f"there is no data source 'simulated:{place}'; the simulated world has no place: write "
                "'simulated', and give its size in a recipe (data.source.users and so on)."
            )
        return cls()

    @property
    def label(self) -> str:
        """What reports call it."""
        return "the simulated world"

    def files(self) -> list[Path]:
        """None: it is computed."""
        return []

    @cached_property
    def world(self) -> World:
        """The truth."""
        return create(self.users, self.items, self.tastes, self.seed)

    @cached_property
    def log(self) -> Log:
        """What is seen of it, in (user, time) order."""
        return live(self.world, self.events_per_user, self.seed)

    def read(self, download: bool = False) -> RawTables:
        """The tables, as any other source gives them."""
        user_ids, item_ids = pa.array(_names("u", self.users)), pa.array(_names("b", self.items))
        titles, descriptions = texts(self.world, self.seed)
        gender_U, age_U = self.world.profile_UF.T
        genre = {"genre": _named(tuple(VOCABULARY[0]), self.world.attribute_MA[:, 0])} if self.genre == "field" else {}
        return RawTables(
            interactions=pa.table(
                {
                    "user": user_ids.take(pa.array(self.log.user_N)),
                    "item": item_ids.take(pa.array(self.log.item_N)),
                    "rating": self.log.rating_N.astype(np.float32),
                    "time": self.log.time_N,
                }
            ),
            catalogue=pa.table({"item": item_ids, "title": titles, **genre, "description": descriptions}),
            profiles=pa.table({"user": user_ids, "gender": _named(GENDERS, gender_U), "age": _named(AGES, age_U)}),
            words=Words(item="book", items="books", did="read"),
            notes=("simulated: users, books and ratings are drawn from a known world; none of them is real",),
            left_out=("genre", "description"),  # titles tell mood and place; every published figure is of prompts without more
        )

    def probability(self, users: list[str], items: list[str], times: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """The true probability that rating > 3, for outside ids and Unix seconds.

        The AUC of these against the labels is the best that any model can be expected to reach.
        """
        user_N, item_N = _numbers("user", "u", users, self.users), _numbers("item", "b", items, self.items)
        return sigmoid(self.world.eta(user_N, item_N, np.asarray(times, np.int64)))

    def ablations(self, rows: int = 2000, shown: tuple[int, ...] = (5, 10, 20), whole_past: bool = True) -> Ablations:
        """What the user, words and retrieval are worth, on ``rows`` drawn from the last tenth of the log (``oracle``).

        Ids are known from the first eight tenths, as in a global-time split.
        """
        by_time = np.argsort(self.log.time_N, kind="stable")
        n = len(by_time)
        last = by_time[int(0.9 * n) :]
        seen_N = np.zeros(n, np.bool_)
        seen_N[by_time[: int(0.8 * n)]] = True
        random = generator(self.seed, "simulated", "ablations")
        rows_B = np.sort(random.choice(last, min(rows, len(last)), replace=False))
        return ablate(self.world, self.log, rows_B, seen_N, shown, whole_past)


def texts(world: World, seed: int) -> tuple[list[str], list[str]]:
    """A title and a description for each item; titles carry one word of each attribute, descriptions two others."""
    random = generator(seed, "simulated", "texts")
    words = [list(values.values()) for values in VOCABULARY]
    titles: dict[str, None] = {}
    descriptions = []
    for value_A in world.attribute_MA:
        while True:  # again until the title is new: 5 · 5 · 5 titles for each combination of values
            things, moods, places = ([words[a][value_A[a]][i] for i in random.permutation(5)[:3]] for a in range(len(ATTRIBUTES)))
            title = f"{places[0]} of {moods[0]} {things[0]}"
            if title not in titles:
                break
        titles[title] = None
        descriptions.append(
            f"A {moods[1].lower()} and {moods[2].lower()} tale of {things[1].lower()} and "
            f"{things[2].lower()}, from {places[1].lower()} to {places[2].lower()}."
        )
    return list(titles), descriptions


def _names(letter: str, count: int) -> list[str]:
    return [f"{letter}{i:05d}" for i in range(count)]


def _named(names: tuple[str, ...], code_N: Int[np.ndarray, "N"]) -> pa.Array:
    return pa.array(names).take(pa.array(code_N))


def _numbers(column: str, letter: str, ids: list[str], count: int) -> Int[np.ndarray, "N"]:
    known = {name: i for i, name in enumerate(_names(letter, count))}
    unknown = [name for name in ids if name not in known]
    if unknown:
        what = f"not in this world; ids run from {letter}00000 to {letter}{count - 1:05d}"
        problems = [Problem("simulated", None, column, name, what) for name in unknown[: DataError.SHOWN]]
        raise DataError(problems, len(unknown))
    return np.array([known[name] for name in ids], np.int64)
