"""BookCrossing as Ziegler and others published it (2005): ratings of books from 0 to 10, and no times.

Knows the three files' layout and their known faults; whether any other row is sound is for the checks that every source
shares. The files of its publisher have every book and every user; copies with the columns of a file called
``.partial.csv`` (UTF-8, a further column ``source``) have some of them.

ReLLa's setting: ``label_above = 4``, ``min_history = 5``, ``split = { kind = "one-per-user" }``, and the defaults here. What
the defaults are was found by counting: ReLLa keeps 17,714 users with more than 5 ratings and drops 74,392. Of the
105,283 users of the ratings 19,717 have more than 5, and of the 77,805 with an explicit rating 12,019: so the zeros stay
in. 17,714 and 74,392 are 92,106, not 105,283: so ratings of books that ``BX-Books.csv`` lacks are out.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora import foreign
from lifelora.data.assemble import assembled
from lifelora.data.delimited import read_delimited
from lifelora.data.encodings import published
from lifelora.data.faults import Published
from lifelora.data.interactions import Columns
from lifelora.data.omit import omit, repeated
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import Problems, Rows, mask
from lifelora.data.sources.base import Source
from lifelora.data.sources.files import Files
from lifelora.types import PathText

RATINGS, BOOKS, USERS = "BX-Book-Ratings.csv", "BX-Books.csv", "BX-Users.csv"
WORDS = Words(item="book", items="books", did="read", star="point", stars="points")
LOG = Columns(user="User-ID", item="ISBN", rating="Book-Rating")
FIELDS = ("author", "year", "publisher")
YEARS = (1800, 2005)
"""First and last year that a book can be of: the set was collected in 2004, and some books were announced."""
FAULT = {"User-ID": "11676", "ISBN": "0432534220", "Book-Rating": "11"}
"""A row of the copy in the R package recommenderlabBX: two spellings of one ISBN, their ratings added up."""
SWALLOWED = re.compile(rb'^.*\\";[^"].*$', re.MULTILINE)
"""A line where the sign after a title's last quote may be the separator, so that the title swallowed its author."""


class Bookcrossing(Source):
    """The BookCrossing set."""

    form: ClassVar[str] = "bookcrossing:PATH"
    kind: Literal["bookcrossing"] = "bookcrossing"
    path: PathText
    "A folder or zip with BX-Book-Ratings.csv, BX-Books.csv and BX-Users.csv, or partial copies of the last two."
    ratings: Literal["all", "explicit"] = "all"
    "Whether the zeros stay in: they say that a user has a book and not how they like it, and count as dislikes."
    unlisted: Literal["drop", "keep"] | None = None
    """Ratings of books that the catalogue lacks. Left out: dropped where the catalogue is the published one, and kept,
    without a title, where it is partial."""
    drop_known_faults: bool = True
    "Whether the one row that is known to be wrong (a rating of 11) is left out, and noted; else it is refused."

    @classmethod
    def at(cls, place: str) -> "Bookcrossing":
        """The set at a place, in the words of the command line."""
        return cls(path=place)

    @property
    def label(self) -> str:
        """What reports call it."""
        return f"BookCrossing ({Path(self.path).name})"

    def files(self) -> list[Path]:
        """The ratings, the books and, where there are any, the users: of the last two the whole file or the partial one."""
        files, books, users = self._found()
        return files.paths([RATINGS, books, *([users] if users else [])])

    def _found(self) -> tuple[Files, str, str | None]:
        files = Files(foreign.place(self.path))
        books, users = _whole_or_partial(files, BOOKS), _whole_or_partial(files, USERS)
        if RATINGS not in files.names or books is None:
            raise files.lacks(f"BookCrossing set; it needs {RATINGS} and {BOOKS} (or {_partial(BOOKS)}), perhaps {USERS}")
        return files, books, users

    def read(self, download: bool = False) -> RawTables:
        """The checked tables."""
        (files, books_file, users_file), problems, notes = self._found(), Problems(), list[str]()
        log, books = _rows(files, RATINGS, problems, notes), _books(files, books_file, problems, notes)
        users = _users(files, users_file, problems, notes) if users_file else None
        unlisted = self.unlisted or ("drop" if books_file == BOOKS else "keep")
        if log is not None and set(LOG.names) <= set(log.table.column_names):
            log = self._kept(log, books if unlisted == "drop" else None, notes)
            notes.append("there are no times: a user's books have no known order, so a 'history' here is only a set.")
            if users is not None and users_file != USERS and "User-ID" in users.table.column_names:
                raters = pc.unique(log.table.column("User-ID"))
                unknown = int((~mask(pc.is_in(raters, value_set=users.table.column("User-ID").combine_chunks()))).sum())
                notes.append(f"{users_file} is partial: country and age of {unknown:,} of {len(raters):,} users are unknown.")
        raw = assembled(
            log,
            books,
            users,
            WORDS,
            problems,
            notes,
            columns=LOG,
            item_id="isbn",
            user_id="User-ID",
            rating_range=(0.0, 10.0),
            item_fields=FIELDS,
            user_fields=("country", "age"),
            faults=Published(unknown_items="allow"),
        )
        return replace(raw, left_out=FIELDS)  # ReLLa's prompts have the titles alone

    def _kept(self, log: Rows, listed: Rows | None, notes: list[str]) -> Rows:
        # A book's number comes with and without blanks around it.
        log = log.with_columns(**{name: pc.utf8_trim_whitespace(log.table.column(name)) for name in LOG.names})
        if self.drop_known_faults:
            fault_N = np.logical_and.reduce([mask(pc.equal(log.table.column(name), value)) for name, value in FAULT.items()])
            log = omit(log, fault_N, notes, f"known to be wrong (user {FAULT['User-ID']}, ISBN {FAULT['ISBN']}, rating 11)")
        if self.ratings == "explicit":
            zero_N = mask(pc.equal(log.table.column("Book-Rating"), "0"))
            log = omit(log, zero_N, notes, "their rating is 0, which means none was given")
        odd_N = ~mask(pc.match_substring_regex(log.table.column("ISBN"), r"^[A-Za-z0-9]*$"))
        log = omit(log, odd_N, notes, "their ISBN has signs that are neither letters nor digits")
        if listed is not None:
            known_N = mask(pc.is_in(log.table.column("ISBN"), value_set=listed.table.column("isbn").combine_chunks()))
            log = omit(log, ~known_N, notes, "the catalogue lacks their book")
        return omit(log, repeated(log, LOG.names), notes, "they repeat a rating")


def _partial(name: str) -> str:
    return name.replace(".csv", ".partial.csv")


def _whole_or_partial(files: Files, name: str) -> str | None:
    return next((n for n in (name, _partial(name)) if n in files.names), None)


def _rows(files: Files, name: str, problems: Problems, notes: list[str]) -> Rows | None:
    data = files.read(name)
    if name == BOOKS:
        data = _mended(data, notes)
    # The published files hold pieces of UTF-8 among ISO-8859-1.
    encoding = "utf-8" if ".partial." in name else published(data, files.where(name), problems, notes, mixed=True)
    return read_delimited(data, files.where(name), problems, delimiter=";", encoding=encoding, escape="\\")


def _mended(data: bytes, notes: list[str]) -> bytes:
    r"""The books' file with the separator put back where ``…\";Author"`` leaves a row one field short."""
    due = data.partition(b"\n")[0].count(b'";"')
    mended = 0

    def mend(line: re.Match[bytes]) -> bytes:
        nonlocal mended
        if line[0].count(b'";"') != due - 1:  # a quote and a semicolon inside a title
            return line[0]
        mended += 1
        return line[0].replace(b'\\";', b'";"', 1)

    data = SWALLOWED.sub(mend, data)
    if mended:
        notes.append(f"{BOOKS}: the author stood at the end of the title in {mended:,} rows; put back.")
    return data


def _books(files: Files, name: str, problems: Problems, notes: list[str]) -> Rows | None:
    rows = _rows(files, name, problems, notes)
    columns = {
        "isbn": "ISBN",
        "title": "Book-Title",
        "author": "Book-Author",
        "year": "Year-Of-Publication",
        "publisher": "Publisher",
    }
    if rows is None or rows.lacks(list(columns.values()), problems):
        return None
    texts = (pc.utf8_trim_whitespace(rows.table.column(old).combine_chunks()) for old in columns.values())
    rows = rows.with_columns(**{new: pc.replace_substring(text, "&amp;", "&") for new, text in zip(columns, texts, strict=True)})
    rows = omit(rows, repeated(rows, ["isbn"]), notes, "their book has a row already")
    rows = omit(rows, mask(pc.equal(rows.table.column("title"), "")), notes, "they have no title")
    year = rows.table.column("year").combine_chunks()
    digits_M = mask(pc.match_substring_regex(year, r"^\d*$"))
    if not digits_M.all():
        shifted = int((~digits_M).sum())
        notes.append(
            f"{name}: {shifted:,} rows have no number as their year, so their fields are shifted: author, year and "
            "publisher are unknown."
        )
    number_M = pc.if_else(pc.match_substring_regex(year, r"^\d{4}$"), year, "0").cast(pa.int32())
    sound_M = mask(pc.and_(pc.greater_equal(number_M, YEARS[0]), pc.less_equal(number_M, YEARS[1])))
    return rows.with_columns(
        year=pc.if_else(pa.array(sound_M), year, ""),
        **{field: pc.if_else(pa.array(digits_M), rows.table.column(field), "") for field in ("author", "publisher")},
    )


def _users(files: Files, name: str, problems: Problems, notes: list[str]) -> Rows | None:
    """The users' rows with country (the last part of the place) and age (decades; from 100 on unknown)."""
    rows = _rows(files, name, problems, notes)
    if rows is None or rows.lacks(["Location", "Age"], problems):
        return None
    last = pc.replace_substring_regex(rows.table.column("Location").combine_chunks(), r"(?s)^.*,", "")
    country = pc.utf8_lower(pc.utf8_trim_whitespace(pc.replace_substring_regex(last, r'["\\().]', "")))
    age = pc.utf8_trim_whitespace(rows.table.column("Age").combine_chunks())
    decade = pc.replace_substring_regex(pc.replace_substring_regex(age, r"^\d$", "0-9"), r"^(\d)\d$", r"\10-\19")
    return rows.with_columns(
        country=pc.if_else(pc.equal(country, "n/a"), "", country),
        age=pc.if_else(pc.match_substring_regex(age, r"^\d{1,2}$"), decade, ""),
    )
