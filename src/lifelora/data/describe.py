"""What is in a data set, in a dozen lines. Knows raw tables only."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.fields import values_of
from lifelora.data.interactions import RATING
from lifelora.data.levels import levels_of, listed
from lifelora.data.parts import part_codes
from lifelora.data.raw import RawTables
from lifelora.data.rows import is_list
from lifelora.errors import harmless, on_one_line
from lifelora.types import PARTS

SHOWN = 20
"""Values of a rating, and names of fields, that are listed."""


def describe(raw: RawTables, name: str) -> str:
    """Counts, lengths of histories, ratings, times, fields, and the source's notes; ConfigError for too many ratings."""
    log = raw.interactions
    lengths = np.sort(pc.value_counts(log.column("user")).field("counts").to_numpy())
    lines = [
        f"{on_one_line(name)}: {len(log):,} interactions, {len(lengths):,} users, "
        f"{pc.count_distinct(log.column('item')).as_py():,} items with interactions, {len(raw.catalogue):,} in the catalogue",
        f"history    mean {lengths.mean():.1f}, median {np.median(lengths):g}, min {lengths[0]:,}, max {lengths[-1]:,}",
        f"ratings    {_ratings(raw)}",
    ]
    if "time" in log.column_names:
        first, last = (np.datetime64(pc.min_max(log.column("time"))[end].as_py(), "s") for end in ("min", "max"))
        lines.append(f"times      {first} to {last} UTC")
    else:
        lines.append(
            "times      none: the order of the file stands in, or (split 'one-per-user') one that is drawn; a split by "
            "time is refused"
        )
    if "part" in log.column_names:
        counted = np.bincount(part_codes(log) + 1, minlength=len(PARTS) + 1)
        history = f", {counted[0]:,} only history" if counted[0] else ""
        told = ", ".join(f"{count:,} of {part}" for part, count in zip(PARTS, counted[1:].tolist(), strict=True))
        lines.append(f"parts      {told}{history}: data.rules.split = {{ kind = 'given' }} takes them")
    lines.append(f"items      {_listed(raw.catalogue, ('item',), ('title', 'description'))}")
    lines.append(f"users      {_listed(raw.profiles, ('user',)) or 'no fields'}")
    return harmless("\n".join([*lines, *(f"note       {on_one_line(note)}" for note in raw.notes)]))


def _ratings(raw: RawTables) -> str:
    log = raw.interactions
    if RATING not in log.column_names:
        return "none: every row is a like; task 'ctr' needs data.rules.negatives"
    levels = levels_of(log)
    counts = dict(zip(*pc.value_counts(log.column(RATING)).flatten(), strict=True))
    counted = {float(value.as_py()): count.as_py() for value, count in counts.items()}
    shown = ", ".join(f"{listed(level, raw.level_names)}: {counted[level]:,}" for level in levels[:SHOWN])
    return shown + (f", … ({len(levels):,} different ones)" if len(levels) > SHOWN else "")


def _listed(table: pa.Table, without: Sequence[str], words: Sequence[str] = ()) -> str:
    """Names of columns, and how many values those have that are not ``words``."""
    names = [name for name in table.column_names if name not in without]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    told = (on_one_line(name) + ("" if name in words else _counted(table.column(name))) for name in names[:SHOWN])
    return ", ".join(told) + more


def _counted(column: pa.ChunkedArray) -> str:
    values, row_V = values_of(column)
    distinct = pc.count_distinct(values).as_py()
    each = f", {len(row_V) / max(1, len(column)):.1f} each" if is_list(column) else ""
    return f" ({distinct:,} value{'s' * (distinct != 1)}{each})"
