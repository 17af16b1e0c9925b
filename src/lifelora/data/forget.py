"""A data set in which a user is forgotten: no id, no profile, no later event. Knows a data set that is open, and no file.

What was prepared stays in its folder, and in what was trained on it, until the data are prepared anew without the user; but
nothing leads to it any more. The user's number stays and stands for none, so that all others keep theirs. Should the user come
again, it is as a new one.
"""

from copy import copy
from dataclasses import replace

import pyarrow as pa

from lifelora.data.dataset import Dataset


def forgotten(dataset: Dataset, user: str) -> Dataset:
    """The data set without one of its users; DataError for an unknown one."""
    number = int(dataset.users.inside([user])[0])
    other, profiles = copy(dataset), dataset.profiles
    other.users = dataset.users.without(user)
    blank = pa.table({name: pa.nulls(1, profiles.schema.field(name).type) for name in profiles.column_names}, profiles.schema)
    other.profiles = pa.concat_tables([profiles.slice(0, number), blank, profiles.slice(number + 1)])
    if number < dataset.known_users:  # values that nobody else has keep their numbers, by which models know all others
        schema = dataset.schema()
        codes_UF = schema.user_fields_UF.clone()
        codes_UF[number] = 0
        other._schema = replace(schema, user_fields_UF=codes_UF)
    other._open(dataset.log.without(number))
    return other
