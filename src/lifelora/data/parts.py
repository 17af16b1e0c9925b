"""The parts that a log itself names, row by row: train, valid and test of a published split. Knows no file."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from lifelora.data.rows import Problems, Rows, mask
from lifelora.types import PARTS, Part

WORDS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
"""How parts are called, in any letter case."""
OTHER = " (a column of something else is not columns.part: leave that out, or say None)"
HISTORY = -1
"""The code of a row that is a sample of no part, and only history."""


def checked_parts(rows: Rows, column: str, problems: Problems) -> pa.Array:
    """train, valid, test, or empty for each row, as ``RawTables`` has them; another word is a problem."""
    said = pc.utf8_lower(pc.utf8_trim_whitespace(rows.table.column(column).combine_chunks()))
    part = pa.array(np.repeat("", len(said)), pa.string())
    for name, words in WORDS.items():
        part = pc.if_else(pc.is_in(said, value_set=pa.array(words)), name, part)
    allowed = ", ".join(word for words in WORDS.values() for word in words)
    wrong_N = mask(pc.and_(pc.equal(part, ""), pc.not_equal(said, "")))
    problems.add_rows(rows, column, wrong_N, f"no such part; write one of {allowed}, or nothing for what is only history{OTHER}")
    return part


def part_codes(log: pa.Table) -> Int[np.ndarray, "N"]:
    """0, 1, 2 for train, valid, test, and -1 for history, or where the log says nothing."""
    if "part" not in log.column_names:
        return np.full(len(log), HISTORY, np.int8)
    code = pc.fill_null(pc.index_in(log.column("part"), value_set=pa.array(PARTS)), HISTORY)
    return np.asarray(code.to_numpy(), np.int8)


def places(part_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """Places in time for N rows that have none: as they stand, train (and what is only history) before valid before test."""
    time_N = np.empty(len(part_N), np.int64)
    time_N[np.argsort(np.maximum(part_N, 0), kind="stable")] = np.arange(len(part_N))
    return time_N


def told(part_N: Int[np.ndarray, "N"], user_N: Int[np.ndarray, "N"], few_N: Bool[np.ndarray, "N"], min_history: int) -> list[str]:
    """What a reader should know of the parts of N rows, which stand by user and time; ``few`` have too short a history."""
    notes = []
    lost = [f"{count:,} of {part}" for code, part in enumerate(PARTS) if (count := int((few_N & (part_N == code)).sum()))]
    if lost:
        notes.append(
            f"rows of the given parts that are no samples, because their users have fewer than {min_history} earlier behaviours "
            f"(data.rules.min_history): {', '.join(lost)}."
        )
    # The latest part that a user has had until then; the users stand one after another.
    latest_N = np.maximum.accumulate(user_N.astype(np.int64) * (len(PARTS) + 1) + part_N + 1) % (len(PARTS) + 1) - 1
    if younger := int(((part_N > HISTORY) & (part_N < latest_N)).sum()):
        notes.append(
            f"{younger:,} rows of the given parts come after a row of a later part of their user (train, valid, test): what they "
            "are asked after shows it, as it was published."
        )
    return notes
