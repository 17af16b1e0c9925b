"""Ids that differ in form alone: 8.0 and 8, 007 and 7, A-1 and a-1, A 1 and A1. Knows no file and no column.

They are different ids, since nothing says that they are not; but where two tables write the same thing in two ways, one has to
know.
"""

import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.rows import MAX_VALUE

ALIKE = "write ids alike in all files (a column of whole numbers turns 8 into 8.0 where one is missing; a number drops zeros)"


def bare_forms(ids: pa.Array) -> pa.Array:
    """Ids in lower case, without blanks, and whole numbers without leading zeros and without a fraction of zeros."""
    bare = pc.replace_substring_regex(pc.utf8_lower(ids), r"\pZ+", "")
    return pc.replace_substring_regex(pc.replace_substring_regex(bare, r"^(\d+)\.0+$", r"\1"), r"^0+(\d+)$", r"\1")


def noted(what: str, tables: list[pa.Table]) -> list[str]:
    """A note of how many ids of ``what`` (user, item) differ in form alone, with an example; none where no two do."""
    ids = pc.unique(pa.chunked_array([chunk for table in tables for chunk in table.column(what).chunks], pa.string()))
    bare = bare_forms(ids).dictionary_encode()
    counts = pc.value_counts(bare.indices)
    several = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(several):
        return []
    alike = pc.is_in(bare.indices, value_set=several)
    first = ids.filter(pc.equal(bare.indices, pc.min(several)))
    example = " and ".join(repr(one[:MAX_VALUE]) for one in first.slice(0, 2).to_pylist())
    return [
        f"{pc.sum(alike).as_py():,} ids of {what}s differ from another in form alone (case, blanks, zeros), as {example} do; "
        f"they are {len(several):,} {what}s if these are the same, and are taken for different ones."
    ]


def lost(interactions: pa.Table, profiles: pa.Table) -> list[str]:
    """A note where users of the log have no profile, and have one if ids that differ in form alone are the same."""
    users, there = pc.unique(interactions.column("user")), profiles.column("user").combine_chunks()
    without = users.filter(pc.invert(pc.is_in(users, value_set=there)))
    other = pc.index_in(bare_forms(without), value_set=bare_forms(there))
    found = pc.is_valid(other)
    if not pc.any(found).as_py():
        return []
    pair = [without.filter(found)[0].as_py(), there[other.drop_null()[0].as_py()].as_py()]
    first, second = (repr(one[:MAX_VALUE]) for one in pair)
    return [f"{pc.sum(found).as_py():,} users have no profile, as they are written otherwise there ({first}, {second}): {ALIKE}."]
