"""MovieLens as GroupLens publishes it: 100K, 1M, 10M, 25M and the latest small set, from a folder, a zip, or their server.

10M has the file names of 1M, but half stars, UTF-8, and no users. The older files were published in ISO-8859-1: copies that
are UTF-8 as a whole are read so, and a note says which it was. The genre of a film is its first one, as in the papers, or
all that it has. Knows the files' layouts; whether a row is sound is for the checks that every source shares.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import field_validator

from lifelora import foreign
from lifelora.cache import cache_folder
from lifelora.data.assemble import assembled
from lifelora.data.delimited import read_delimited
from lifelora.data.encodings import published
from lifelora.data.interactions import Columns
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import Problems, Rows, mask
from lifelora.data.sources.base import Source
from lifelora.data.sources.codes import AGES_1M, GENDERS, GENRES_100K, OCCUPATIONS_1M
from lifelora.data.sources.fetch import Watch, fetch
from lifelora.data.sources.files import Files
from lifelora.data.sources.titles import spoken
from lifelora.errors import ConfigError
from lifelora.types import PathText

PUBLISHER = "https://files.grouplens.org/datasets/movielens"
NAMES = {"100k": "ml-100k", "1m": "ml-1m", "25m": "ml-25m", "latest-small": "ml-latest-small"}
PUBLISHED = {
    "ml-100k.zip": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m.zip": "c4d9eecfca2ab87c1945afe126590906",
    "ml-25m.zip": "6b51fb2759a8657d3bfcbfc42b592ada",
}
"""MD5 as GroupLens publishes it beside each stable set. It makes latest-small anew now and then, so that has none."""
WORDS = Words(item="film", items="films", did="watched", star="star", stars="stars")
LOG = Columns(user="user", item="item", rating="rating", time="time")
USER_FIELDS = ("gender", "age", "occupation", "zip")
LEFT_OUT = ("genre", "zip")
"""What the papers' prompts do not say, or say in a place of their own: the template's lines decide alone."""
GENRE_SEPARATOR = "|"
LISTS = {"genre": GENRE_SEPARATOR}
ESTIMATES = "ratings.estimated_timestamps.csv"


def fetch_set(name: str, to: Path, publisher: str = PUBLISHER, watch: Watch | None = None) -> Path:
    """The zip of a set (100k, 1m, 25m, latest-small) from its publisher, checked against the published MD5."""
    if name not in NAMES:
        raise ConfigError(f"there is no MovieLens set '{name}' to download; choose one of {', '.join(NAMES)}.")
    return fetch(f"{publisher}/{NAMES[name]}.zip", to, watch)


class Movielens(Source):
    """A MovieLens set."""

    form: ClassVar[str] = f"movielens:PATH (folder or zip), movielens:{'|'.join(NAMES)}"
    kind: Literal["movielens"] = "movielens"
    path: PathText
    "A folder or zip with the published files (of 10M, too), or the name of a set: 100k, 1m, 25m, latest-small."
    published: ClassVar[Mapping[str, str]] = PUBLISHED
    titles: Literal["published", "spoken"] = "published"
    "As they are (`Usual Suspects, The (1995)`), or as LLaRA says them (`The Usual Suspects`)."
    genres: Literal["first", "all"] = "first"
    "The first genre of a film alone, as in the papers, or the list of all of them."

    @field_validator("path", mode="wrap")
    @classmethod
    def _names_first(cls, value: Any, placed: Callable[[Any], Any]) -> Any:
        return value if isinstance(value, str) and value in NAMES else placed(value)

    @classmethod
    def at(cls, place: str) -> "Movielens":
        """The set at a place, in the words of the command line; what is neither a path nor a name is answered here."""
        if place in NAMES or foreign.exists(foreign.place(place)):
            return cls(path=place)
        near = difflib.get_close_matches(place.lower().removeprefix("ml-"), NAMES, n=1)
        guess = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"movielens: '{place}' is no folder or zip here{guess} Sets by name: {', '.join(NAMES)}.")

    @property
    def label(self) -> str:
        """What reports call it."""
        return f"MovieLens {self.path}" if self.path in NAMES else f"MovieLens ({Path(self.path).name})"

    def files(self) -> list[Path]:
        """The files of its layout, or the zip; of a set given by name the zip in the cache, fetched or not."""
        place, named = self._place(cache_folder())
        if not named:
            files = Files(place)
            return files.paths(_layout(files).names & files.names)
        if not foreign.exists(place) and place.name not in self.published:
            raise ConfigError(
                f"MovieLens '{self.path}' is made anew now and then, so a run of it needs its file first: fetch it "
                f"with `lifelora data movielens:{self.path} --download`."
            )
        return [place]

    def read(
        self, download: bool = False, cache: Path | None = None, publisher: str = PUBLISHER, watch: Watch | None = None
    ) -> RawTables:
        """The checked tables. A set given by name comes from ``cache``; it is fetched only if ``download``."""
        place, named = self._place(cache or cache_folder())
        if named and not foreign.exists(place):
            if not download:
                raise ConfigError(
                    f"MovieLens '{self.path}' is not on this machine ({place} does not exist); allow the download "
                    f"(--download), or give the path of a folder or zip that has it."
                )
            place = fetch_set(self.path, place.parent, publisher, watch)
        files = Files(place)
        raw = replace(_layout(files).read(files, self.genres == "all"), left_out=LEFT_OUT)
        return raw if self.titles == "published" else _spoken(raw)

    def _place(self, cache: Path) -> tuple[Path, bool]:
        """Where the set is, and whether it is a named one in ``cache``, so that it can be fetched."""
        path = foreign.place(self.path)
        named = self.path in NAMES and not foreign.exists(path)
        return (cache / f"{NAMES[self.path]}.zip" if named else path), named


def _read_100k(files: Files, all_genres: bool) -> RawTables:
    problems, notes = Problems(), list[str]()
    log = _unquoted(files, "u.data", LOG.names, "\t", problems, notes)
    films = _unquoted(files, "u.item", ["item", "title", "released", "video", "url", *GENRES_100K], "|", problems, notes)
    users = _unquoted(files, "u.user", ["user", "age", "gender", "occupation", "zip"], "|", problems, notes)
    if films is not None:
        genre = pa.repeat("", len(films))
        for name in reversed(GENRES_100K):  # the first flag that is set is written last, before the others
            flag = films.table.column(name).combine_chunks()
            wrong_M = ~mask(pc.is_in(flag, value_set=pa.array(["0", "1"])))
            problems.add_rows(films, name, wrong_M, "a genre's flag is 0 or 1")
            told = "" if name == "unknown" else pc.binary_join_element_wise(name, genre, GENRE_SEPARATOR)
            genre = pc.if_else(pc.equal(flag, "1"), told, genre)
        films = films.with_columns(genre=genre)
    if users is not None:
        age = users.table.column("age")
        wrong_U = ~mask(pc.match_substring_regex(age, r"^\d{1,2}$"))
        problems.add_rows(users, "age", wrong_U, "an age has one or two digits")
        decade = pc.replace_substring_regex(pc.replace_substring_regex(age, r"^\d$", "0-9"), r"^(\d)\d$", r"\10-\19")
        users = users.with_columns(age=decade, gender=_words(users, "gender", GENDERS, problems))
    return assembled(
        log,
        _genres(films, all_genres),
        users,
        WORDS,
        problems,
        notes,
        columns=LOG,
        rating_range=(1.0, 5.0),
        item_fields=["genre"],
        lists=LISTS if all_genres else {},
        user_fields=USER_FIELDS,
    )


def _read_1m(files: Files, all_genres: bool) -> RawTables:
    problems, notes, encodings = Problems(), list[str](), list[str]()
    log = _unquoted(files, "ratings.dat", LOG.names, "::", problems, encodings)
    films = _unquoted(files, "movies.dat", ["item", "title", "genre"], "::", problems, encodings)
    users = _unquoted(files, "users.dat", ["user", "gender", "age", "occupation", "zip"], "::", problems, encodings)
    if users is not None:
        users = users.with_columns(
            gender=_words(users, "gender", GENDERS, problems),
            age=_words(users, "age", AGES_1M, problems),
            occupation=_words(users, "occupation", OCCUPATIONS_1M, problems),
        )
    if ESTIMATES in files.names and log is not None and len(log):
        estimated = len(files.read(ESTIMATES).strip().splitlines()) - 1
        notes.append(
            f"{estimated:,} of the {len(log):,} times ({estimated / len(log):.1%}) are estimates (see {ESTIMATES}): "
            "say so beside every figure that depends on times."
        )
    notes += encodings
    return assembled(
        log,
        _genres(films, all_genres),
        users,
        WORDS,
        problems,
        notes,
        columns=LOG,
        rating_range=(0.5 if users is None else 1.0, 5.0),
        item_fields=["genre"],
        lists=LISTS if all_genres else {},
        user_fields=() if users is None else USER_FIELDS,
    )


def _read_csv(files: Files, all_genres: bool) -> RawTables:
    problems, notes = Problems(), list[str]()
    named = {"userId": "user", "movieId": "item", "timestamp": "time", "genres": "genre"}

    def rows(name: str) -> Rows | None:
        found = read_delimited(files.read(name), files.where(name), problems, delimiter=",", notes=notes)
        if found is None:
            return None
        names = [named.get(column, column) for column in found.table.column_names]
        return Rows(found.file, found.table.rename_columns(names), found.line_N)

    log, films = rows("ratings.csv"), rows("movies.csv")
    return assembled(
        log,
        _genres(films, all_genres),
        None,
        WORDS,
        problems,
        notes,
        columns=LOG,
        rating_range=(0.5, 5.0),
        item_fields=["genre"],
        lists=LISTS if all_genres else {},
    )


@dataclass(frozen=True)
class Layout:
    """One way in which sets were published."""

    read: Callable[[Files, bool], RawTables]
    "With all genres of a film, or the first."
    needed: frozenset[str]
    perhaps: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All files that ``read`` looks for."""
        return self.needed | self.perhaps


LAYOUTS = (
    Layout(_read_100k, frozenset({"u.data", "u.item"}), frozenset({"u.user"})),
    Layout(_read_1m, frozenset({"ratings.dat", "movies.dat"}), frozenset({"users.dat", ESTIMATES})),
    Layout(_read_csv, frozenset({"ratings.csv", "movies.csv"})),
)


def _layout(files: Files) -> Layout:
    for layout in LAYOUTS:
        if layout.needed <= files.names:
            return layout
    layouts = "; ".join(", ".join(sorted(layout.needed)) for layout in LAYOUTS)
    raise ConfigError(
        f"'{files.place}' holds no MovieLens set; it needs the files of one layout: {layouts}. "
        f"It has: {', '.join(sorted(files.names)[:20]) or 'no files'}."
    )


def _spoken(raw: RawTables) -> RawTables:
    """The tables with titles without year and with the article in front."""
    titles = pa.array([spoken(title) for title in raw.catalogue.column("title").to_pylist()], pa.string())
    return replace(raw, catalogue=raw.catalogue.set_column(raw.catalogue.column_names.index("title"), "title", titles))


def _unquoted(
    files: Files, name: str, columns: Sequence[str], delimiter: str, problems: Problems, notes: list[str]
) -> Rows | None:
    """A file of the older layouts, which have no header and no quotes; None if it is absent."""
    if name not in files.names:
        return None
    data = files.read(name)
    return read_delimited(
        data,
        files.where(name),
        problems,
        columns=columns,
        delimiter=delimiter,
        quoted=False,
        encoding=published(data, files.where(name), problems, notes),
    )


def _genres(films: Rows | None, of_all: bool) -> Rows | None:
    """The films with their genres, or the first of them."""
    if films is None or "genre" not in films.table.column_names:
        return films
    genre = films.table.column("genre")
    if not of_all:
        genre = pc.replace_substring_regex(genre, r"\|.*$", "")
    return films.with_columns(genre=pc.if_else(pc.equal(genre, "(no genres listed)"), "", genre))


def _words(rows: Rows, column: str, meaning: Mapping[str, str], problems: Problems) -> pa.Array:
    """The meaning of each code; codes without one are problems."""
    codes = rows.table.column(column).combine_chunks()
    found = pc.index_in(codes, value_set=pa.array(list(meaning)))
    problems.add_rows(rows, column, mask(pc.is_null(found)), f"no such code; the codes are {', '.join(meaning)}")
    return pc.fill_null(pa.array(list(meaning.values())).take(found), "")
