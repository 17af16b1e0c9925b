"""What is in a data set, in a dozen lines. Knows raw tables only."""

import numpy as np
import pyarrow.compute as pc

from lifelora.data.raw import RawTables
from lifelora.errors import harmless, on_one_line

SHOWN = 20
"""Values of a rating, and names of fields, that are listed."""


def describe(raw: RawTables, name: str) -> str:
    """Counts, lengths of histories, ratings, times, fields, and the source's notes."""
    log = raw.interactions
    lengths = np.sort(pc.value_counts(log.column("user")).field("counts").to_numpy())
    ratings = sorted(pc.value_counts(log.column("rating").combine_chunks()).to_pylist(), key=lambda r: float(r["values"]))
    rest = f", … ({len(ratings):,} different ones)" if len(ratings) > SHOWN else ""
    lines = [
        f"{on_one_line(name)}: {len(log):,} interactions, {len(lengths):,} users, "
        f"{pc.count_distinct(log.column('item')).as_py():,} items with interactions, {len(raw.catalogue):,} in the catalogue",
        f"history    mean {lengths.mean():.1f}, median {np.median(lengths):g}, min {lengths[0]:,}, max {lengths[-1]:,}",
        "ratings    " + ", ".join(f"{r['values']:g}: {r['counts']:,}" for r in ratings[:SHOWN]) + rest,
    ]
    if "time" in log.column_names:
        first, last = (np.datetime64(pc.min_max(log.column("time"))[end].as_py(), "s") for end in ("min", "max"))
        lines.append(f"times      {first} to {last} UTC")
    else:
        lines.append(
            "times      none: the order of the file stands in, or (split 'one-per-user') one that is drawn; a split by "
            "time is refused"
        )
    fields = [n for n in raw.catalogue.column_names if n not in ("item", "title")]
    lines.append(f"items      {_listed(['title', *fields])}")
    lines.append(f"users      {_listed([n for n in raw.profiles.column_names if n != 'user']) or 'no fields'}")
    return harmless("\n".join([*lines, *(f"note       {on_one_line(note)}" for note in raw.notes)]))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(on_one_line, names[:SHOWN])) + more
