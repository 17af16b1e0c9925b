"""Amazon reviews as McAuley's group publishes them: the releases of 2018 and of 2023, one category, JSON lines.

Knows the two layouts and tells them apart by the fields of the first line. Every review is an event: a user who reviews
an item twice has two. A review of the same user, item and time again (they exist: one review, shown under several
variants) is left out, and so are second rows of an item. An item's category is the level below the file's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow.compute as pc

from lifelora import foreign
from lifelora.data.assemble import assembled
from lifelora.data.faults import Published
from lifelora.data.interactions import Columns
from lifelora.data.jsonlines import first_line, read_json_lines
from lifelora.data.omit import omit, repeated
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import Problems, Rows, mask
from lifelora.data.sources.base import Source
from lifelora.data.sources.files import Files
from lifelora.errors import ConfigError
from lifelora.types import PathText

WORDS = Words(item="product", items="products", did="bought", star="star", stars="stars")
ENDINGS = ("*.json", "*.jsonl", "*.json.gz", "*.jsonl.gz")
META = tuple(f"meta_{ending}" for ending in ENDINGS)
NO_TITLE = r"^\s*$|getTime"
"""No title, or a piece of the page's script in the place of one, which the release of 2018 is known to have."""
MILLISECONDS = r"^(\d{9,10})\d{3}$"


@dataclass(frozen=True)
class Release:
    """What the fields are called."""

    log: Columns
    item: str
    fields: Mapping[str, str]
    "Fields of the catalogue, and where they are."
    milliseconds: bool


RELEASES = {
    "2018": Release(
        Columns(user="reviewerID", item="asin", rating="overall", time="unixReviewTime"),
        "asin",
        {"brand": "$.brand", "category": "$.category[1]"},
        False,
    ),
    "2023": Release(
        Columns(user="user_id", item="parent_asin", rating="rating", time="timestamp"),
        "parent_asin",
        {"brand": "$.store", "category": "$.categories[1]", "main_category": "$.main_category"},
        True,
    ),
}


class Amazon(Source):
    """The reviews of one category."""

    form: ClassVar[str] = "amazon:PATH"
    kind: Literal["amazon"] = "amazon"
    path: PathText
    "A folder or zip with one file of reviews and perhaps its meta_*, each .json or .jsonl, gzipped or not."

    @classmethod
    def at(cls, place: str) -> "Amazon":
        """The set at a place, in the words of the command line."""
        return cls(path=place)

    @property
    def label(self) -> str:
        """What reports call it."""
        return f"Amazon ({Path(self.path).name})"

    def files(self) -> list[Path]:
        """The file of reviews and, where there is one, that of the items."""
        files, reviews, meta = self._found()
        return files.paths([name for name in (reviews, meta) if name])

    def _found(self) -> tuple[Files, str, str | None]:
        files = Files(foreign.place(self.path))
        reviews, meta = files.only("reviews", ENDINGS, besides=META), files.only("metadata", META)
        if reviews is None:
            raise files.lacks("file of reviews (.json or .jsonl, perhaps .gz)")
        return files, reviews, meta

    def read(self, download: bool = False) -> RawTables:
        """The checked tables."""
        (files, reviews, meta), problems, notes = self._found(), Problems(), list[str]()
        release = _release(files, reviews)
        names = release.log.names
        with files.open(reviews) as stream:
            log = read_json_lines(
                stream, files.where(reviews), problems, {name: f"$.{name}" for name in names}, notes, files.packed(reviews)
            )
        if log is not None and not log.lacks(names, Problems()):
            log = omit(
                log,
                repeated(log, [release.log.user, release.log.item, str(release.log.time)]),
                notes,
                "they repeat a review of the same user, product and time",
            )
            if release.milliseconds:
                seconds = pc.replace_substring_regex(log.table.column("timestamp"), MILLISECONDS, r"\1")
                log = log.with_columns(timestamp=seconds)
        items = _items(files, meta, release, problems, notes) if meta else None
        there = items.table.column_names if items is not None else []
        return assembled(
            log,
            items,
            None,
            WORDS,
            problems,
            notes,
            columns=release.log,
            rating_range=(1.0, 5.0),
            item_id=release.item,
            item_fields=[field for field in release.fields if field in there],
            faults=Published(unknown_items="allow"),
        )


def _release(files: Files, name: str) -> Release:
    problems = Problems()
    with files.open(name) as stream:
        line = first_line(stream, files.where(name), problems, files.packed(name))
    problems.refuse()
    try:
        value = foreign.json_value(line)
    except foreign.Unreadable:
        value = None
    fields = set(value) if isinstance(value, dict) else set[str]()
    for release in RELEASES.values():
        if set(release.log.names) <= fields:
            return release
    layouts = "; ".join(f"{year}: {', '.join(release.log.names)}" for year, release in RELEASES.items())
    has = ", ".join(sorted(fields)[:20]) or f"no JSON object ({line[:80]!r})"
    raise ConfigError(f"{files.where(name)} is no file of reviews of a known release ({layouts}); its first line has: {has}.")


def _items(files: Files, name: str, release: Release, problems: Problems, notes: list[str]) -> Rows | None:
    paths = {release.item: f"$.{release.item}", "title": "$.title", **release.fields}
    with files.open(name) as stream:
        rows = read_json_lines(stream, files.where(name), problems, paths, notes, files.packed(name))
    if rows is None or rows.lacks([release.item, "title"], problems):
        return None
    rows = omit(rows, repeated(rows, [release.item]), notes, "their product has a row already")
    return omit(rows, mask(pc.match_substring_regex(rows.table.column("title"), NO_TITLE)), notes, "they have no title")
