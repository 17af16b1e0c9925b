"""The last step of every source that reads files: rows through all checks into ``RawTables``, or one refusal."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lifelora.data import forms
from lifelora.data.catalogue import checked_catalogue, named_by_id
from lifelora.data.faults import PUBLISHED, Faults
from lifelora.data.interactions import Columns, checked_interactions, known_items
from lifelora.data.profiles import checked_profiles, without_fields
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import Problems, Rows
from lifelora.data.times import TRUSTED, Times

NONE: Mapping[str, str] = MappingProxyType({})


def assembled(
    log: Rows | None,
    items: Rows | None,
    users: Rows | None,
    words: Words,
    problems: Problems,
    notes: list[str],
    *,
    columns: Columns,
    rating_range: tuple[float, float] | None,
    item_id: str = "item",
    title: str = "title",
    description: str | None = None,
    item_fields: Sequence[str] = (),
    user_id: str = "user",
    user_fields: Sequence[str] = (),
    lists: Mapping[str, str] = NONE,
    faults: Faults = PUBLISHED,
    times: Times = TRUSTED,
) -> RawTables:
    """Checked tables from rows; DataError lists everything wrong with them, and ``problems`` that were there before.

    ``items`` and ``users`` may be None where a set has none (or where their file could not be read at all, which is
    among the problems then); so may ``log`` in the latter case. Notes say what ``faults`` have dropped.
    """
    interactions = catalogue = profiles = None
    if log is not None and (checked := checked_interactions(log, columns, rating_range, problems, notes, faults, times)):
        log, interactions = checked
    if items is not None:
        catalogue = checked_catalogue(items, item_id, title, description, item_fields, lists, problems, notes, faults)
    if users is not None:
        profiles = checked_profiles(users, user_id, user_fields, lists, problems, notes, faults)
    if log is not None and interactions is not None and catalogue is not None:
        interactions = known_items(log, columns.item, interactions, catalogue, faults, problems, notes)
    problems.refuse()
    assert interactions is not None, "a log that is missing or lacks a column is a problem, and refused above"
    if catalogue is None:
        catalogue = named_by_id(interactions)
        notes.append("there is no catalogue: items are called by their ids, which tell a language model little.")
    if profiles is None:
        profiles = without_fields(interactions)
    else:
        notes += forms.lost(interactions, profiles)
    notes += forms.noted("item", [catalogue, interactions]) + forms.noted("user", [interactions])
    return RawTables(interactions, catalogue, profiles, words, tuple(notes))
