"""Which items may be recommended: all, some by their ids, those with a value of a field. Knows a catalogue, no scorer."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from lifelora import foreign
from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError, on_one_line

LISTED = 12
"""Values of a field that an error lists."""


@dataclass(frozen=True)
class Pool:
    """Items by index, each once, and in words where they come from."""

    items_P: Int[np.ndarray, "P"]
    said: str = ""


def pool(dataset: Dataset, items: Sequence[str] | None = None, where: Sequence[str] = ()) -> Pool:
    """All items, or those that ``items`` names and whose fields are as ``where`` says ("genre=comedy").

    Of one field several values are alternatives; every field that is named has to fit. A field with several values fits by any of
    them; letters are compared without regard to case. Raises ConfigError for a field or value that there is not, and where no
    item is left; DataError for unknown ids.
    """
    wanted: dict[str, list[str]] = {}
    for condition in where:
        field, sign, value = condition.partition("=")
        field, value = field.strip(), value.strip()
        if not sign or not value or not foreign.is_written(value):
            raise ConfigError(f"--where {condition!r} is no condition; write FIELD=VALUE, as in --where genre=comedy.")
        if field not in dataset.item_field_names:
            there = ", ".join(dataset.item_field_names) or "none"
            raise ConfigError(f"--where {condition!r}: items have no field '{on_one_line(field)}'; they have: {there}.")
        wanted.setdefault(field, []).append(value)
    items_P = np.arange(dataset.n_items) if items is None else np.unique(dataset.items.inside(list(items)).astype(np.int64))
    for field, values in wanted.items():
        of_field = Field.of(dataset.catalogue.column(field))
        items_P = items_P[np.logical_or.reduce([of_field.has(value, field) for value in values])[items_P]]
    said = " and ".join(f"{field} {' or '.join(values)}" for field, values in wanted.items())
    if not len(items_P):
        raise ConfigError(f"no item may be recommended: none{' of those that are named' if items else ''} has {said or 'an id'}.")
    return Pool(items_P, f" with {said}" if said else "")


@dataclass(frozen=True)
class Field:
    """The values of one field of the catalogue, one after another, and whose each is."""

    values_V: pa.Array
    item_V: Int[np.ndarray, "V"]
    items: int

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Field":
        """Of a column of texts, or of lists of texts."""
        array, owners = column.combine_chunks(), np.arange(len(column))
        if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            owners = pc.list_parent_indices(array).to_numpy()
            array = pc.list_flatten(array)
        return cls(pc.fill_null(array, ""), owners, len(column))

    def has(self, value: str, field: str) -> Bool[np.ndarray, "M"]:
        """Which items have a value; ConfigError where none has."""
        same_V = pc.equal(pc.utf8_lower(self.values_V), value.lower()).to_numpy(zero_copy_only=False)
        if not same_V.any():
            counts = pc.value_counts(self.values_V.filter(pc.not_equal(self.values_V, "")))
            found = sorted(counts.to_pylist(), key=lambda one: (-one["counts"], one["values"]))
            there = [str(one["values"]) for one in found]
            near = difflib.get_close_matches(value, there[:2000], n=3, cutoff=0.7)
            listed = ", ".join(on_one_line(one) for one in there[:LISTED])
            more = f" and {len(there) - LISTED:,} more" if len(there) > LISTED else ""
            guess = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ConfigError(f"--where {field}={on_one_line(value)}: no item has this value.{guess} There are: {listed}{more}.")
        has_M = np.zeros(self.items, np.bool_)
        has_M[self.item_V[same_V]] = True
        return has_M
