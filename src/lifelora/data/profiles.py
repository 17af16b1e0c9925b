"""The users' rows, checked: one per user, with whatever fields there are. Knows no file format and no interaction."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.faults import Faults
from lifelora.data.fields import checked_fields
from lifelora.data.repetitions import ids_once
from lifelora.data.rows import Problems, Rows


def checked_profiles(
    rows: Rows, user: str, fields: Sequence[str], lists: Mapping[str, str], problems: Problems, notes: list[str], faults: Faults
) -> pa.Table | None:
    """user and the fields as ``RawTables`` has them; None when a column is missing."""
    if rows.lacks([user, *fields], problems):
        return None
    rows = faults.dropped(rows, {user: "without_user"}, notes)
    rows, ids = ids_once(rows, user, rows.ids(user, problems, faults.mend("without_user", "drop")), faults, problems, notes)
    return pa.table({"user": ids} | checked_fields(rows, fields, lists, notes))


def without_fields(interactions: pa.Table) -> pa.Table:
    """Profiles for a log that came without any: the users, and nothing about them."""
    return pa.table({"user": pc.unique(interactions.column("user"))})
