"""Goodreads as the UCSD Book Graph publishes it (Wan and McAuley, 2018): shelves, ratings and books as JSON lines.

Knows the files' layout. A user's event is a book put on a shelf, at ``date_added`` (every row has one; ``read_at`` is
often empty); rows without a rating are left out. A book's author is the first one, where the authors' file is there.

RecLoRA's setting: ``core = 5`` and the split by global time 8:1:1. It calls 4 the threshold of a like without saying on
which side 4 is; as for its MovieLens-1M, where 4 and 5 are likes, take ``label_above = 3``. ``min_history`` is
ReLLa's filter, not RecLoRA's: 1 leaves every event but each user's first a sample.

The largest file of the set (229 million rows) is too much for ids that are held as text; take one genre's.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from lifelora import foreign
from lifelora.data.assemble import assembled
from lifelora.data.faults import Published
from lifelora.data.interactions import Columns
from lifelora.data.jsonlines import read_json_lines
from lifelora.data.omit import omit, repeated
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import Problems, Rows, mask
from lifelora.data.sources.base import Source
from lifelora.data.sources.files import Files
from lifelora.types import PathText

WORDS = Words(item="book", items="books", did="read", star="star", stars="stars")
LOG = Columns(user="user_id", item="book_id", rating="rating", time="date_added")
BOOK = {
    "book_id": "$.book_id",
    "title": "$.title",
    "author": "$.authors[0].author_id",
    "year": "$.publication_year",
    "publisher": "$.publisher",
    "language": "$.language_code",
}
FIELDS = ("author", "year", "publisher", "language")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CTIME = r"^\s*\w{3} (\w{3}) (\d{2}) (\d{2}:\d{2}:\d{2}) ([+-]\d{4}) (\d{4})\s*$"
"""Mon Sep 18 15:04:44 -0700 2017"""


class Goodreads(Source):
    """A set of the UCSD Book Graph, whole or of one genre."""

    form: ClassVar[str] = "goodreads:PATH"
    kind: Literal["goodreads"] = "goodreads"
    path: PathText
    """A folder or zip with one goodreads_interactions*.json(.gz), one goodreads_books*.json(.gz), and perhaps
    goodreads_book_authors.json(.gz)."""

    @classmethod
    def at(cls, place: str) -> "Goodreads":
        """The set at a place, in the words of the command line."""
        return cls(path=place)

    @property
    def label(self) -> str:
        """What reports call it."""
        return f"Goodreads ({Path(self.path).name})"

    def files(self) -> list[Path]:
        """The files of interactions and books and, where there is one, that of the authors."""
        files, *names = self._found()
        return files.paths([name for name in names if name])

    def _found(self) -> tuple[Files, str, str, str | None]:
        files = Files(foreign.place(self.path))
        interactions, books, authors = (
            files.only(what, (f"goodreads_{stem}.json", f"goodreads_{stem}.json.gz"))
            for what, stem in (("interactions", "interactions*"), ("books", "books*"), ("authors", "book_authors*"))
        )
        if interactions is None or books is None:
            raise files.lacks("Goodreads set; it needs goodreads_interactions*.json(.gz) and goodreads_books*.json(.gz)")
        return files, interactions, books, authors

    def read(self, download: bool = False) -> RawTables:
        """The checked tables."""
        (files, interactions, books_file, authors_file), problems, notes = self._found(), Problems(), list[str]()
        log = _lines(files, interactions, problems, notes, {name: f"$.{name}" for name in LOG.names})
        if log is not None and set(LOG.names) <= set(log.table.column_names):
            log = _events(log, notes)
        authors = None
        if authors_file:
            authors = _lines(files, authors_file, problems, notes, {n: f"$.{n}" for n in ("author_id", "name")})
        books = _lines(files, books_file, problems, notes, BOOK)
        fields = [name for name in FIELDS if books is not None and name in books.table.column_names]
        if books is not None and "title" in books.table.column_names:
            empty_M = mask(pc.equal(pc.utf8_trim_whitespace(books.table.column("title")), ""))
            books = omit(books, empty_M, notes, "they have no title")
        if books is not None and "author" in fields:
            if authors is None or authors.lacks(["author_id", "name"], problems):
                fields.remove("author")
                notes.append("there are no names of authors (goodreads_book_authors.json.gz), so books come without them.")
            else:
                books = books.with_columns(author=_looked_up(books.table.column("author"), authors))
        raw = assembled(
            log,
            books,
            None,
            WORDS,
            problems,
            notes,
            columns=LOG,
            rating_range=(1.0, 5.0),
            item_id="book_id",
            item_fields=fields,
            faults=Published(unknown_items="allow"),
        )
        return replace(raw, left_out=tuple(fields))  # RecLoRA's prompts have the titles alone


def _lines(files: Files, name: str, problems: Problems, notes: list[str], fields: dict[str, str]) -> Rows | None:
    with files.open(name) as stream:
        return read_json_lines(stream, files.where(name), problems, fields, notes, files.packed(name))


def _events(log: Rows, notes: list[str]) -> Rows:
    log = omit(log, mask(pc.equal(log.table.column("rating"), "0")), notes, "their rating is 0, which means none was given")
    log = omit(log, repeated(log, ["user_id", "book_id", "date_added"]), notes, "they repeat an event of the same second")
    return log.with_columns(date_added=iso(log.table.column("date_added").combine_chunks()))


def iso(text: pa.Array) -> pa.Array:
    """Times like 'Mon Sep 18 15:04:44 -0700 2017' in ISO 8601; other texts stay as they are, for the checks to refuse."""
    month = pc.replace_substring_regex(text, CTIME, r"\1")
    found = pc.index_in(month, value_set=pa.array(MONTHS))
    number = pa.array([f"-{n:02d}-" for n in range(1, 13)]).take(found)
    made = pc.binary_join_element_wise(
        pc.replace_substring_regex(text, CTIME, r"\5"), number, pc.replace_substring_regex(text, CTIME, r"\2T\3\4"), ""
    )
    return pc.if_else(pc.and_(pc.match_substring_regex(text, CTIME), pc.is_valid(found)), made, text)


def _looked_up(ids: pa.ChunkedArray, authors: Rows) -> pa.Array:
    known = authors.where(~repeated(authors, ["author_id"])).table
    place = pc.index_in(ids.combine_chunks(), value_set=known.column("author_id").combine_chunks())
    return pc.fill_null(known.column("name").combine_chunks().take(place), "")
