"""The catalogue's rows, checked: one per item, each with a title. Knows no file format and no interaction."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.fields import checked_fields
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
) -> pa.Table | None:
    """item, title, the fields and perhaps description as ``RawTables`` has them; None when a column is missing."""
    if rows.lacks([item, title, *([description] if description else []), *fields], problems):
        return None
    made = {"item": rows.ids(item, problems, unique=True), "title": rows.text(title, notes)}
    problems.add_rows(rows, title, mask(pc.equal(made["title"], "")), "an item needs a title")
    if description:
        made["description"] = rows.text(description, notes)
    return pa.table(made | checked_fields(rows, fields, lists, notes))


def named_by_id(interactions: pa.Table) -> pa.Table:
    """A catalogue for a log that came without one: every item is called by its id."""
    items = pc.unique(interactions.column("item"))
    return pa.table({"item": items, "title": one_line(items)})
