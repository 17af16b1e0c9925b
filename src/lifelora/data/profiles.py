"""The users' rows, checked: one per user, with whatever fields there are. Knows no file format and no interaction."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.fields import checked_fields
from lifelora.data.rows import Problems, Rows


def checked_profiles(
    rows: Rows, user: str, fields: Sequence[str], lists: Mapping[str, str], problems: Problems, notes: list[str]
) -> pa.Table | None:
    """user and the fields as ``RawTables`` has them; None when a column is missing."""
    if rows.lacks([user, *fields], problems):
        return None
    made = {"user": rows.ids(user, problems, unique=True)}
    return pa.table(made | checked_fields(rows, fields, lists, notes))


def without_fields(interactions: pa.Table) -> pa.Table:
    """Profiles for a log that came without any: the users, and nothing about them."""
    return pa.table({"user": pc.unique(interactions.column("user"))})
