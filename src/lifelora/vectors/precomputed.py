"""Vectors that were made elsewhere, from a Parquet file. Knows ids and numbers, not what made them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora import foreign
from lifelora.data.dataset import Dataset
from lifelora.data.idmap import IdMap
from lifelora.errors import ConfigError
from lifelora.types import PathText
from lifelora.vectors.base import ItemVectors, Tools, Vectors
from lifelora.vectors.pca import reduced


class Precomputed(ItemVectors):
    """Vectors in a Parquet file with the columns ``item`` (ids as the data have them) and ``vector`` (lists of numbers)."""

    kind: Literal["precomputed"] = "precomputed"
    path: PathText

    def of_items(self, dataset: Dataset, tools: Tools) -> Vectors:
        """As ``by_item``."""
        vectors_MD, notes = by_item(self.path, "vectors.path", dataset.items)
        return Vectors(reduced(vectors_MD, self.dimensions), notes)

    def files(self) -> tuple[str, ...]:
        """The one."""
        return (self.path,)


def by_item(path: str, key: str, items: IdMap) -> tuple[Float[Tensor, "M D"], tuple[str, ...]]:
    """The vectors by item index, zeros for an item that the file lacks, and notes of what one side has and the other not.

    ``key`` of a recipe says ``path``. Raises ConfigError for what ``VectorFile`` refuses, for an item with two vectors, and for
    a file that has none of the items.
    """
    file = VectorFile(path, key, "item")
    counts = pc.value_counts(file.id_N)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise file.wrong(f"has more than one vector for each of {len(twice):,} items, the first being '{twice[0]}'; keep one")
    used_N = file.known_to(items)
    index_M = pc.index_in(pa.array(items.outside(np.arange(len(items)))), value_set=file.id_N)
    known_M = index_M.is_valid().to_numpy(zero_copy_only=False)
    vectors_MD = torch.zeros(len(items), file.vectors_ND.shape[1])
    vectors_MD[torch.from_numpy(known_M)] = torch.from_numpy(file.vectors_ND[index_M.drop_null().to_numpy()])
    notes = []
    if lacking := np.flatnonzero(~known_M).tolist():
        notes.append(
            f"{len(lacking):,} of {len(items):,} items have no vector in '{file.name}' (the first of them is "
            f"'{items.outside(lacking[:1])[0]}'): what they are like is unknown."
        )
    return vectors_MD, (*notes, *file.left_out(used_N))


@final
class VectorFile:
    """A Parquet file of vectors by id, each thing in it checked once.

    It has the columns ``owner`` ("item" or "user": ids as the data have them, as text in ``id_N``) and ``vector`` (in
    ``vectors_ND``), and one of whole numbers (in ``numbers_N`` by name) for each of ``numbers``, which maps a name to what it
    says. ``key`` of a recipe says ``path``.

    Raises ConfigError for a file that is not there or of another form, for an id or a number that is missing, and for vectors
    that are missing, of different lengths, or not finite.
    """

    def __init__(self, path: str, key: str, owner: Literal["item", "user"], numbers: Mapping[str, str] | None = None) -> None:
        self.owner, self._said, self._numbers = owner, f"{key} = '{path}'", dict(numbers or {})
        place = foreign.place(path)
        self.name = place.name
        if not foreign.is_file(place):
            raise ConfigError(f"{key}: there is no file '{path}'; check the path.")
        try:
            table = _table_with(place, (owner, *self._numbers, "vector"))
        except foreign.Unreadable as error:
            raise self.wrong(str(error)) from error
        id_N = table.column(owner).combine_chunks()
        if not (pa.types.is_string(id_N.type) or pa.types.is_large_string(id_N.type) or pa.types.is_integer(id_N.type)):
            raise self.wrong(f"has ids of type {id_N.type} in '{owner}'")
        self.id_N: pa.Array = id_N.cast(pa.string())
        if self.id_N.null_count:
            raise self.wrong(f"lacks the id in {self.id_N.null_count:,} of {len(self.id_N):,} rows")
        self.numbers_N = {name: self._whole(table.column(name).combine_chunks(), name) for name in self._numbers}
        self.vectors_ND = self._matrix(table.column("vector").combine_chunks())

    def wrong(self, what: str) -> ConfigError:
        """The error of a file that is or has ``what``."""
        columns = [f"'{self.owner}' (ids as the data have them)", *(f"'{name}' ({says})" for name, says in self._numbers.items())]
        return ConfigError(
            f"{self._said} {what}. What belongs there is a Parquet file with the columns {', '.join(columns)} and "
            "'vector' (lists of as many numbers each)."
        )

    def known_to(self, ids: IdMap) -> Bool[np.ndarray, "N"]:
        """Which vectors are of ids that the data have; ConfigError where none is."""
        outside = ids.outside(np.arange(len(ids)))
        known_N: np.ndarray = pc.is_in(self.id_N, value_set=pa.array(outside)).to_numpy(zero_copy_only=False)
        if not known_N.any():
            raise self.wrong(
                f"has a vector of none of the {len(ids):,} {self.owner}s: its ids are like '{self.id_N[0]}', those "
                f"of the data like '{outside[0]}'"
            )
        return known_N

    def left_out(self, used_N: Bool[np.ndarray, "N"]) -> tuple[str, ...]:
        """A note of the vectors that are not used, if there are any."""
        unused = int((~used_N).sum())
        return (
            (f"{unused:,} of {len(used_N):,} vectors in '{self.name}' are of {self.owner}s that the data do not have: left out.",)
            if unused
            else ()
        )

    def _whole(self, number_N: pa.Array, name: str) -> Int[np.ndarray, "N"]:
        if not pa.types.is_integer(number_N.type):
            raise self.wrong(f"has {number_N.type} in '{name}', where whole numbers belong")
        if number_N.null_count or (len(number_N) and pc.min(number_N).as_py() < 0):
            raise self.wrong(f"has rows whose number in '{name}' is missing or below 0")
        whole_N: np.ndarray = number_N.to_numpy().astype(np.int64)
        return whole_N

    def _matrix(self, vector_N: pa.Array) -> Float[np.ndarray, "N D"]:
        kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        of_numbers = any(kind(vector_N.type) for kind in kinds) and (
            pa.types.is_floating(vector_N.type.value_type) or pa.types.is_integer(vector_N.type.value_type)
        )
        if not of_numbers:
            raise self.wrong(f"has {vector_N.type} in 'vector', where lists of numbers belong")
        length_N = pc.fill_null(pc.list_value_length(vector_N), 0).to_numpy(zero_copy_only=False)
        width = int(np.bincount(length_N).argmax()) if len(length_N) else 0  # what most of them have
        if not width:
            raise self.wrong("has no vectors, or empty ones")
        if (length_N != width).any():
            place = int(np.flatnonzero(length_N != width)[0])
            raise self.wrong(
                f"has vectors of different lengths: {width:,} numbers in most of them, {length_N[place]:,} in that "
                f"of {self.owner} '{self.id_N[place]}'"
            )
        # Of null values NaN remains.
        flat = vector_N.flatten().cast(pa.float32(), safe=False)
        vectors_ND: np.ndarray = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
        finite_N = np.isfinite(vectors_ND).all(axis=1)
        if not finite_N.all():
            raise self.wrong(
                f"has values that are no finite float32 numbers in {int((~finite_N).sum()):,} vectors, the first "
                f"being that of {self.owner} '{self.id_N[int(finite_N.argmin())]}'"
            )
        return vectors_ND


def _table_with(path: Path, columns: Sequence[str]) -> pa.Table:
    """These columns of a Parquet file, each one named once; ``foreign.Unreadable`` says what the file is or lacks."""
    try:
        names = foreign.parquet_columns(path)
        table = foreign.parquet(path, columns) if all(names.count(name) == 1 for name in columns) else None
    except foreign.Unreadable as error:
        raise foreign.Unreadable(f"is no Parquet file ({error})") from error
    if table is None:
        wrong = next(name for name in columns if names.count(name) != 1)
        how = "more than one" if wrong in names else "no"
        raise foreign.Unreadable(f"has {how} column '{wrong}'; its columns are {', '.join(names[:20]) or 'none'}")
    return table
