"""Rows of text as a user's file gave them, the line of each, and what is wrong with them. Knows no file format.

Everything is found before anything is refused: checks add to one ``Problems`` and go on with what is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from lifelora.errors import DataError, Problem

MAX_TEXT = 2000
"""Characters kept of a title, a description or a field."""
MAX_VALUES = 32
"""Values kept of a field that has several."""
MAX_VALUE = 80
"""Characters shown of a bad value."""
MAX_COLUMN = (1 << 31) - 1
"""Bytes of text in one column: Arrow counts them with 32 bits, and all that follows holds a column in one piece."""
MEND_LARGE = "use a part of the set (one genre or category, fewer users)"
Meaning = Literal["id", "number", "word", "text", "field"]
"""What a column holds: an id, a number, one word or time, a text of any length, or a field, which may have several values."""


@dataclass(frozen=True)
class Rows:
    """A table of strings or lists of strings (never null) and, for each row, the line it began on in its file."""

    file: str
    table: pa.Table
    line_N: Int[np.ndarray, "N"]
    unread: tuple[str, ...] = ()
    "Columns that the file has and that nobody asked for."
    files: tuple[str, ...] = ()
    "Where the rows come from several files: these; ``file`` tells of all of them."
    file_N: Int[np.ndarray, "N"] | None = None
    "Which of ``files`` each row is from."

    def __len__(self) -> int:
        return len(self.line_N)

    @classmethod
    def of(cls, file: str, table: pa.Table, line_N: Int[np.ndarray, "N"], problems: "Problems") -> "Rows | None":
        """Rows of a table, or None (with a problem) where one of its columns holds more text than can be worked with."""
        large = [name for name, column in zip(table.column_names, table.columns, strict=True) if column.nbytes > MAX_COLUMN]
        if large:
            problems.add(Problem(file, None, large[0], None, f"more than {MAX_COLUMN:,} bytes in one column; {MEND_LARGE}"))
            return None
        return cls(file, table, line_N)

    def place(self, row: int | np.integer) -> tuple[str, int]:
        """The file and the line of one row."""
        file = self.file if self.file_N is None else self.files[self.file_N[row]]
        return file, int(self.line_N[row])

    def beside_unread(self, there: Sequence[str]) -> "Rows":
        """The same rows, of a file that has these columns."""
        return replace(self, unread=tuple(name for name in there if name not in self.table.column_names))

    def beside(self, row: int | np.integer, other: int | np.integer) -> str:
        """Where a row is, told beside another one: its line, and its file where that is another."""
        (file, line), there = self.place(row), self.place(other)[0]
        return f"line {line}" if file == there else f"{file}:{line}"

    def lacks(self, columns: Sequence[str], problems: "Problems", mends: Mapping[str, str] | None = None) -> bool:
        """Whether a column is missing; each missing one is a problem that lists what there is, and its mend."""
        missing = [column for column in columns if column not in self.table.column_names]
        allowed = ", ".join([*self.table.column_names, *self.unread])
        # A Parquet file and a frame begin with their first row, and have no line of names.
        header = None if not len(self) or self.line_N[0] <= 1 else 1
        for column in missing:
            mend = (mends or {}).get(column, "")
            problems.add(Problem(self.file, header, column, None, f"there is no such column; the file has: {allowed}{mend}"))
        return bool(missing)

    def where(self, kept_N: Bool[np.ndarray, "N"]) -> "Rows":
        """Some of the rows, each with the line that it had."""
        if kept_N.all():
            return self
        file_N = None if self.file_N is None else self.file_N[kept_N]
        return replace(self, table=self.table.filter(pa.array(kept_N)), line_N=self.line_N[kept_N], file_N=file_N)

    def with_columns(self, **columns: pa.Array | pa.ChunkedArray) -> "Rows":
        """The same rows with further columns, or with others in the place of those that have these names."""
        table = pa.table(dict(zip(self.table.column_names, self.table.columns, strict=True)) | columns)
        return replace(self, table=table)

    def ids(self, column: str, problems: "Problems", mend: str = "") -> pa.Array:
        """Outside ids in Unicode's composed form (NFC), without surrounding blanks; empty ones are problems."""
        ids = composed(pc.utf8_trim_whitespace(self.table.column(column).combine_chunks()))
        problems.add_rows(self, column, mask(pc.equal(ids, "")), f"an id is missing{mend}")
        return ids

    def text(self, column: str, notes: list[str]) -> pa.Array:
        """One line of text per row: blanks and control characters become single spaces, and its length is bounded."""
        texts = self.table.column(column).combine_chunks()
        text = one_line(pc.fill_null(pc.binary_join(texts, " "), "") if is_list(texts) else texts)
        long = int(pc.sum(pc.greater(pc.utf8_length(text), MAX_TEXT)).as_py() or 0)
        if not long:
            return text
        notes.append(f"{self.file}: {long:,} values of '{column}' are cut after {MAX_TEXT:,} characters.")
        return pc.utf8_slice_codeunits(text, 0, MAX_TEXT)

    def sets(self, column: str, separator: str | None, notes: list[str]) -> pa.ListArray:
        """The values of each row, each one line of text and none twice: of a list, or of a text between its separators.

        Empty ones are left out; the length of a value is bounded, and so is their number.
        """
        lists = self.table.column(column).combine_chunks()
        if not is_list(lists):
            lists = pc.split_pattern(lists, separator or "")
        row_V = np.asarray(pc.list_parent_indices(lists).to_numpy(), np.int64)
        value_V = one_line(pc.fill_null(pc.list_flatten(lists), ""))
        long = int(pc.sum(pc.greater(pc.utf8_length(value_V), MAX_TEXT)).as_py() or 0)
        value_V = pc.utf8_slice_codeunits(value_V, 0, MAX_TEXT) if long else value_V
        codes = pc.dictionary_encode(value_V)
        first_V = np.zeros(len(row_V), np.bool_)
        first_V[np.unique(row_V * max(1, len(codes.dictionary)) + codes.indices.to_numpy(), return_index=True)[1]] = True
        kept_V = np.flatnonzero(first_V & mask(pc.not_equal(value_V, "")))
        count_N = np.bincount(row_V[kept_V], minlength=len(lists))
        place_V = np.arange(len(kept_V)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
        if many := int((count_N > MAX_VALUES).sum()):
            notes.append(f"{self.file}: {many:,} rows have more than {MAX_VALUES} values of '{column}'; the first are kept.")
        if long:
            notes.append(f"{self.file}: {long:,} values of '{column}' are cut after {MAX_TEXT:,} characters.")
        offsets = np.concatenate([[0], np.cumsum(np.minimum(count_N, MAX_VALUES))]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), value_V.take(pa.array(kept_V[place_V < MAX_VALUES])))


@dataclass
class Problems:
    """Every fault found so far: all are counted, and of each kind as many are kept as a message can show."""

    kinds: list[list[Problem]] = field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """One fault, a kind of its own."""
        self.add_kind([problem], 1)

    def add_file(self, file: str, what: str) -> None:
        """A fault of a file as a whole."""
        self.add(Problem(file, None, None, None, what))

    def add_rows(self, rows: Rows, column: str | None, bad_N: Bool[np.ndarray, "N"], what: str) -> None:
        """The same fault in every row where ``bad_N`` is true."""
        found = np.flatnonzero(bad_N)
        if not len(found):
            return
        values = rows.table.column(column).take(found[: DataError.SHOWN]).to_pylist() if column else [None] * len(found)
        self.add_kind(
            [
                Problem(*rows.place(row), column, None if value is None else str(value)[:MAX_VALUE], what)
                for row, value in zip(found[: DataError.SHOWN], values, strict=False)
            ],
            len(found),
        )

    def add_kind(self, shown: Sequence[Problem], count: int) -> None:
        """``count`` faults of one kind, of which ``shown`` are known in detail."""
        self.kinds.append(list(shown))
        self.count += count

    def add_all(self, others: "Problems") -> None:
        """What was found elsewhere."""
        self.kinds += others.kinds
        self.count += others.count

    def refuse(self) -> None:
        """Raise DataError if anything was found. Kinds take turns, so that a frequent fault hides no rare one."""
        if not self.count:
            return
        turns = [problem for turn in zip_longest(*self.kinds) for problem in turn if problem is not None]
        shown = sorted(turns[: DataError.SHOWN], key=lambda p: (p.file, p.line or 0, p.column or ""))
        raise DataError(shown, self.count)


def is_list(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether a column may hold several values a row."""
    return bool(pa.types.is_list(column.type) or pa.types.is_large_list(column.type))


def one_line(texts: pa.Array) -> pa.Array:
    """Texts in NFC with one space for each row of blanks and control characters, and none at either end."""
    return pc.utf8_trim(pc.replace_substring_regex(composed(texts), r"[\pZ\p{Cc}]+", " "), " ")


def composed(texts: pa.Array) -> pa.Array:
    """Texts in NFC: a letter and its accent are one sign, however they were written."""
    return texts if pc.all(pc.string_is_ascii(texts)).as_py() is not False else pc.utf8_normalize(texts, "NFC")


def mask(condition: pa.Array | pa.ChunkedArray) -> Bool[np.ndarray, "N"]:
    """An Arrow condition as NumPy booleans; null is False."""
    return np.asarray(pc.fill_null(condition, False).to_numpy(zero_copy_only=False), np.bool_)
