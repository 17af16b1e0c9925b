"""The catalogue's rows, checked: one per item, each with a title. Knows no file format and no interaction."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.faults import Faults
from lifelora.data.fields import checked_fields
from lifelora.data.omit import omit
from lifelora.data.repetitions import ids_once
from lifelora.data.rows import Problems, Rows, mask, one_line


def checked_catalogue(
    rows: Rows,
    item: str,
    title: str,
    description: str | None,
    fields: Sequence[str],
    lists: Mapping[str, str],
    problems: Problems,
    notes: list[str],
    faults: Faults,
) -> pa.Table | None:
    """item, title, the fields and perhaps description as ``RawTables`` has them; None when a column is missing."""
    if rows.lacks([item, title, *([description] if description else []), *fields], problems):
        return None
    rows = faults.dropped(rows, {item: "without_item"}, notes)
    rows, ids = ids_once(rows, item, rows.ids(item, problems, faults.mend("without_item", "drop")), faults, problems, notes)
    titles = rows.text(title, notes)
    empty = pc.equal(titles, "")
    match faults.without_title:
        case "refuse":
            problems.add_rows(rows, title, mask(empty), f"an item needs a title{faults.mend('without_title', 'id', 'drop')}")
        case "id":
            titles = pc.if_else(empty, one_line(ids), titles)
            if count := pc.sum(empty).as_py():
                named = f'{count:,} items have no title and are called by their ids (without_title = "id").'
                notes.append(f"{Path(rows.file).name}: {named}")
        case "drop":
            rows = omit(rows, mask(empty), notes, 'they have no title (without_title = "drop")')
            ids, titles = ids.filter(pc.invert(empty)), titles.filter(pc.invert(empty))
    made = {"item": ids, "title": titles}
    if description:
        made["description"] = rows.text(description, notes)
    return pa.table(made | checked_fields(rows, fields, lists, notes))


def named_by_id(interactions: pa.Table) -> pa.Table:
    """A catalogue for a log that came without one: every item is called by its id."""
    items = pc.unique(interactions.column("item"))
    return pa.table({"item": items, "title": one_line(items)})
