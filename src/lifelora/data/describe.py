"""What is in a data set, in a dozen lines for a person. Knows raw tables only."""

import numpy as np
import pyarrow.compute as pc

from lifelora.data.raw import RawTables


def describe(raw: RawTables, name: str) -> str:
    """Counts, lengths of histories, ratings, times, fields, and the source's notes."""
    log = raw.interactions
    lengths = np.sort(pc.value_counts(log.column("user")).field("counts").to_numpy())
    ratings = pc.value_counts(log.column("rating").combine_chunks()).to_pylist()
    lines = [
        f"{name}: {len(log):,} interactions, {len(lengths):,} users, "
        f"{pc.count_distinct(log.column('item')).as_py():,} items with interactions, {len(raw.catalogue):,} in the catalogue",
        f"history    mean {lengths.mean():.1f}, median {np.median(lengths):g}, min {lengths[0]:,}, max {lengths[-1]:,}",
        "ratings    " + ", ".join(f"{r['values']:g}: {r['counts']:,}" for r in sorted(ratings, key=lambda r: r["values"])),
    ]
    if "time" in log.column_names:
        first, last = (np.datetime64(pc.min_max(log.column("time"))[end].as_py(), "s") for end in ("min", "max"))
        lines.append(f"times      {first} to {last} UTC")
    else:
        lines.append("times      none: the order of the file stands in, or (split 'one-per-user') one that is drawn; a split by "
                     "time is refused")
    fields = [n for n in raw.catalogue.column_names if n not in ("item", "title")]
    lines.append(f"items      title{''.join(f', {field}' for field in fields)}")
    lines.append(f"users      {', '.join(n for n in raw.profiles.column_names if n != 'user') or 'no fields'}")
    return "\n".join([*lines, *(f"note       {note}" for note in raw.notes)])
