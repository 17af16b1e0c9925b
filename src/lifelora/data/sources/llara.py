"""The next-item sets of LLaRA and iLoRA (MovieLens, LastFM, Steam) in the authors' layout: sequences, parts and names.

A row is the last ten items of a user, padded at the end, and the item that came next. The files do not say which user it is, so
every row becomes a user of its own with so many events. The authors' tables are pickles, which are never read:
they are taken as JSON lines with the same columns.

    { "seq": [392, 225, …, 4606], "len_seq": 6, "next": 578 }          MovieLens: pairs [item, rating] instead of items
"""

import html
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from lifelora import foreign
from lifelora.data.assemble import assembled
from lifelora.data.delimited import read_delimited
from lifelora.data.encodings import as_utf8, published
from lifelora.data.interactions import Columns
from lifelora.data.jsonlines import read_json_lines
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import MAX_VALUE, Problems, Rows, mask
from lifelora.data.sources.base import Source
from lifelora.data.sources.files import Files
from lifelora.data.sources.titles import spoken
from lifelora.errors import ConfigError, DataError, Problem
from lifelora.types import Part, PathText

WORDS = {
    "movielens": Words(item="film", items="films", did="watched"),
    "lastfm": Words(item="artist", items="artists", did="listened to"),
    "steam": Words(item="game", items="games", did="played"),
}
FILES: dict[Part, str] = {"train": "train_data", "valid": "Val_data", "test": "Test_data"}
NAMES, FILMS = "id2name.txt", "u.item"
MAX_NAME, MAX_FIELDS, LARGEST = 10_000, 1000, 1e9
"""Characters of a name that are looked at, fields of a line of films, and what no item's number and no rating reaches."""
LOG = Columns(user="user", item="item", rating="rating", time="time")
CONVERT = "pandas.read_pickle('NAME.df').to_json('NAME.jsonl', orient='records', lines=True)"


class Llara(Source):
    """A next-item set of LLaRA and iLoRA."""

    form: ClassVar[str] = "llara:PATH"
    kind: Literal["llara"] = "llara"
    path: PathText
    "A folder or zip with train_data, Val_data and Test_data as .jsonl (and perhaps words before that), and the names."
    domain: Literal["movielens", "lastfm", "steam"] | None = None
    "What the items are; left out: told by the folder's name."
    train: str | None = None
    "The file of the training samples, where there are several: the authors' file is not always available whole."

    @classmethod
    def at(cls, place: str) -> "Llara":
        """The set at a place, in the words of the command line."""
        return cls(path=place)

    @property
    def label(self) -> str:
        """What reports call it."""
        return f"LLaRA's {Path(self.path).stem}"

    def files(self) -> list[Path]:
        """The files of the three parts, and the names: of u.item and id2name.txt the first that there is."""
        files, parts = self._found()
        return files.paths([*parts.values(), FILMS if FILMS in files.names else NAMES])

    def _found(self) -> tuple[Files, dict[Part, str]]:
        files = Files(foreign.place(self.path))
        found = {part: _file(files, stem) for part, stem in FILES.items() if part != "train" or self.train is None}
        if self.train is not None:
            found["train"] = self.train if self.train in files.names else None
        if missing := [FILES[part] for part, name in found.items() if name is None]:
            raise _lacks(files, missing)
        return files, {part: name for part, name in found.items() if name is not None}

    def read(self, download: bool = False) -> RawTables:
        """The checked tables; rows of the log say which part they are the target of."""
        (files, found), problems, notes = self._found(), Problems(), list[str]()
        domain: str | None = self.domain or next((name for name in WORDS if name in Path(self.path).stem.lower()), None)
        if domain is None:
            raise ConfigError(
                f"data.source.domain: '{self.path}' does not say what its items are; choose one of {', '.join(WORDS)}."
            )
        items = _films(files, problems, notes) if FILMS in files.names else _names(files, problems)
        if not items:
            problems.refuse()
        logs = [_events(files, name, part, len(items) if items else 0, problems, notes) for part, name in found.items()]
        problems.refuse()
        log = pa.concat_tables([log for log in logs if log is not None]).combine_chunks()
        rows = Rows(files.where("train_data, Val_data, Test_data"), log, np.arange(1, len(log) + 1))
        raw = assembled(rows, items, None, WORDS[domain], problems, notes, columns=LOG, rating_range=None)
        return RawTables(
            raw.interactions.append_column("part", log.column("part")).drop_columns("time"),
            raw.catalogue,
            raw.profiles,
            raw.words,
            raw.notes,
        )


def _file(files: Files, stem: str) -> str | None:
    """``train_data.jsonl``, or the one file that is called so with further words before its end."""
    exact = f"{stem}.jsonl"
    return exact if exact in files.names else files.only(f"{stem} (data.source.train can name one)", (f"{stem}.*.jsonl",))


def _lacks(files: Files, missing: list[str]) -> ConfigError:
    pickled = next((f"{stem}.df" for stem in missing if f"{stem}.df" in files.names), None)
    if pickled:
        return ConfigError(
            f"'{files.place}' has {pickled}, a pickle, which is never read: it may run anything. Where you trust "
            f"it, convert each with {CONVERT}."
        )
    return files.lacks(
        f"set of LLaRA; it needs {', '.join(f'{stem}.jsonl' for stem in FILES.values())} and {NAMES} or {FILMS} "
        f"(missing: {', '.join(missing)})"
    )


def _names(files: Files, problems: Problems) -> Rows:
    if NAMES not in files.names:
        raise files.lacks(f"set of LLaRA; it needs {NAMES} or {FILMS}")
    data = as_utf8(files.read(NAMES), files.where(NAMES), "utf-8", problems)
    lines = enumerate(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode().split("\n"), start=1)
    # By the first separator only: there is a game called "Depths of Fear :: Knossos".
    found = [(number, *line.partition("::")) for number, line in lines if line.strip()]
    if not found:
        problems.add_file(files.where(NAMES), "the file is empty")
    what = "a line is NUMBER::NAME"
    if bare := [Problem(files.where(NAMES), number, None, item[:MAX_VALUE], what) for number, item, sign, _ in found if not sign]:
        problems.add_kind(bare[: DataError.SHOWN], len(bare))
    numbers, ids, _, names = zip(*found, strict=True) if found else ((), (), (), ())
    titles = pa.array([html.unescape(name[:MAX_NAME]) for name in names], pa.string())
    return Rows(files.where(NAMES), pa.table({"item": pa.array(ids, pa.string()), "title": titles}), np.array(numbers, np.int64))


def _films(files: Files, problems: Problems, notes: list[str]) -> Rows | None:
    """The films of ML-100K: numbers from 0, and titles as one says them."""
    data, file = files.read(FILMS), files.where(FILMS)
    width = data.partition(b"\n")[0].count(b"|") + 1
    if width > MAX_FIELDS:
        problems.add(Problem(file, 1, None, None, f"{width:,} fields, where u.item has 24"))
        return None
    columns = ["number", "title", *(f"other {place}" for place in range(width - 2))]
    rows = read_delimited(
        data, file, problems, columns=columns, delimiter="|", quoted=False, encoding=published(data, file, problems, notes)
    )
    if rows is None:
        return None
    digits_M = mask(pc.match_substring_regex(rows.table.column("number"), r"^\d{1,9}$"))
    problems.add_rows(rows, "number", ~digits_M, "a film's number has digits only")
    rows = rows.where(digits_M)
    titles = [spoken(title) for title in rows.text("title", notes).to_pylist()]
    numbers = [str(int(number) - 1) for number in rows.table.column("number").to_pylist()]
    table = pa.table({"item": pa.array(numbers, pa.string()), "title": pa.array(titles, pa.string())})
    return Rows(rows.file, table, rows.line_N)


def _events(files: Files, name: str, part: Part, padding: int, problems: Problems, notes: list[str]) -> pa.Table | None:
    """user, item, rating, time (the place in the row) and part, all texts but the last the row's target."""
    with files.open(name) as stream:
        rows = read_json_lines(stream, files.where(name), problems, {"seq": "$.seq", "next": "$.next"}, notes, files.packed(name))
    if rows is None or rows.lacks(["seq", "next"], problems):
        return None
    what = f"seq (all equally long) and next are items from 0 to {padding - 1:,}, in seq also {padding:,}, which is nothing"
    item_NT, rating_NT, right_N = _numbers(rows, padding)
    problems.add_rows(rows, "seq", ~right_N, what)
    rows = rows.where(right_N)
    real_NT = item_NT != padding
    if alone := int((real_NT.sum(axis=1) == 1).sum()):
        notes.append(f"{name}: {alone:,} of {len(rows):,} rows have no history.")
    row_N, place_N = np.nonzero(real_NT)
    target_N = place_N == item_NT.shape[1] - 1
    return pa.table(
        {
            "user": pa.array([f"{part}-{row + 1}" for row in row_N.tolist()], pa.string()),
            "item": pa.array(item_NT[real_NT].astype(str), pa.string()),
            "rating": pa.array(rating_NT[real_NT].astype(str), pa.string()),
            "time": pa.array(place_N.astype(str), pa.string()),
            "part": pa.array(np.where(target_N, part, ""), pa.string()),
        }
    )


def _numbers(rows: Rows, padding: int) -> tuple[Int[np.ndarray, "n T"], Float[np.ndarray, "n T"], Bool[np.ndarray, "N"]]:
    """Items and ratings (1 where there are none) of each right row's sequence with its target at the end, and which are right:
    those as long as most, of items that there are, the last of which is no padding."""
    parsed = [_row(seq, target) for seq, target in zip(*(rows.table.column(c).to_pylist() for c in ("seq", "next")), strict=True)]
    # Memory is for the right rows alone: one row of a million items must not make all as wide.
    width = max(Counter(len(row) for row in parsed if row).items(), key=itemgetter(1), default=(0, 0))[0]
    right_N = np.array(
        [0 < len(row) == width and all(item <= padding for item, _ in row) and row[-1][0] < padding for row in parsed], np.bool_
    )
    pairs_NT2 = np.array([row for row, right in zip(parsed, right_N, strict=True) if right], np.float64)
    pairs_NT2 = pairs_NT2.reshape(len(pairs_NT2), -1, 2) if len(pairs_NT2) else np.zeros((0, 1, 2))
    return pairs_NT2[..., 0].astype(np.int64), pairs_NT2[..., 1], right_N


def _row(seq: str, target: str) -> list[tuple[int, float]]:
    """Pairs of item and rating; none where the texts are anything else."""
    try:
        listed = foreign.json_value(seq)
        values = [*listed, foreign.json_value(target)] if isinstance(listed, list) else []
    except foreign.Unreadable:
        return []
    pairs = [tuple(value) if isinstance(value, list) else (value, 1) for value in values]
    sound = all(len(pair) == 2 and _is_number(pair[0]) and pair[0] == int(pair[0]) >= 0 and _is_number(pair[1]) for pair in pairs)
    return [(int(item), float(rating)) for item, rating in pairs] if sound else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST  # NaN is below nothing
