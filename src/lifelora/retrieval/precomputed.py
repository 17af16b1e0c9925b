"""Item vectors that were made elsewhere, from a Parquet file. Knows ids and numbers, not what made them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from lifelora import foreign
from lifelora.data.idmap import IdMap
from lifelora.errors import ConfigError
from lifelora.types import Frozen

COLUMNS = ("item", "vector")


class Precomputed(Frozen):
    """Vectors in a Parquet file with the columns ``item`` (ids as the data have them) and ``vector`` (lists of numbers)."""

    kind: Literal["precomputed"] = "precomputed"
    path: str
    dimensions: int | None = Field(default=None, ge=1)
    "Kept by PCA, which takes the centre away; the vectors as they are when left out."


def read_vectors(config: Precomputed, items: IdMap) -> tuple[Float[Tensor, "M D"], tuple[str, ...]]:
    """The vectors by item index, zeros for an item that the file lacks, and notes of what one side has and the other not.

    Raises ConfigError for a file that is not there or of another form, for an item with two vectors, and for vectors
    that are missing, of different lengths, or not finite.
    """
    path = foreign.place(config.path)
    if not foreign.is_file(path):
        raise ConfigError(f"vectors.path: there is no file '{config.path}'; check the path.")
    try:
        table = table_with(path, COLUMNS)
    except foreign.Unreadable as error:
        raise _wrong(config, str(error)) from error
    item_N = table.column("item").combine_chunks()
    if not (pa.types.is_string(item_N.type) or pa.types.is_large_string(item_N.type) or pa.types.is_integer(item_N.type)):
        raise _wrong(config, f"has ids of type {item_N.type} in 'item'")
    item_N = item_N.cast(pa.string())
    if item_N.null_count:
        raise _wrong(config, f"lacks the id in {item_N.null_count:,} of {len(item_N):,} rows")
    counts = pc.value_counts(item_N)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise _wrong(config, f"has more than one vector for each of {len(twice):,} items, the first being '{twice[0]}'; keep one")
    vectors_ND = _matrix(config, table.column("vector").combine_chunks(), item_N)
    index_M = pc.index_in(pa.array(items.outside(np.arange(len(items)))), value_set=item_N)
    known_M = index_M.is_valid().to_numpy(zero_copy_only=False)
    if not known_M.any():
        raise _wrong(config, f"has a vector of none of the {len(items):,} items: its ids are like '{item_N[0]}', those of the "
                             f"data like '{items.outside([0])[0]}'")
    vectors_MD = torch.zeros(len(items), vectors_ND.shape[1])
    vectors_MD[torch.from_numpy(known_M)] = torch.from_numpy(vectors_ND[index_M.drop_null().to_numpy()])
    notes = []
    if lacking := np.flatnonzero(~known_M).tolist():
        notes.append(f"{len(lacking):,} of {len(items):,} items have no vector in '{path.name}' (the first of them is "
                     f"'{items.outside(lacking[:1])[0]}'): what they are like is unknown.")
    if unknown := len(item_N) - int(known_M.sum()):
        notes.append(f"{unknown:,} of {len(item_N):,} vectors in '{path.name}' are of items that the data do not have: left out.")
    return vectors_MD, tuple(notes)


def table_with(path: Path, columns: Sequence[str]) -> pa.Table:
    """These columns of a Parquet file, each one named once; ``foreign.Unreadable`` says what the file is or lacks."""
    try:
        names = foreign.parquet_columns(path)
        table = foreign.parquet(path, columns) if all(names.count(name) == 1 for name in columns) else None
    except foreign.Unreadable as error:
        raise foreign.Unreadable(f"is no Parquet file ({error})") from error
    if table is None:
        wrong = next(name for name in columns if names.count(name) != 1)
        how = "more than one" if wrong in names else "no"
        raise foreign.Unreadable(f"has {how} column '{wrong}'; it has {', '.join(names[:20]) or 'none'}")
    return table


def _matrix(config: Precomputed, vector_N: pa.Array, item_N: pa.Array) -> Float[np.ndarray, "N D"]:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    of_numbers = any(kind(vector_N.type) for kind in kinds) and (
        pa.types.is_floating(vector_N.type.value_type) or pa.types.is_integer(vector_N.type.value_type))
    if not of_numbers:
        raise _wrong(config, f"has {vector_N.type} in 'vector', where lists of numbers belong")
    length_N = pc.fill_null(pc.list_value_length(vector_N), 0).to_numpy(zero_copy_only=False)
    width = int(np.bincount(length_N).argmax()) if len(length_N) else 0  # what most of them have
    if not width:
        raise _wrong(config, "has no vectors, or empty ones")
    if (length_N != width).any():
        place = int(np.flatnonzero(length_N != width)[0])
        raise _wrong(config, f"has vectors of different lengths: {width:,} numbers in most of them, {length_N[place]:,} in that "
                             f"of item '{item_N[place]}'")
    # Of null values NaN remains.
    flat = vector_N.flatten().cast(pa.float32(), safe=False)
    vectors_ND: np.ndarray = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
    finite_N = np.isfinite(vectors_ND).all(axis=1)
    if not finite_N.all():
        raise _wrong(config, f"has values that are no finite float32 numbers in {int((~finite_N).sum()):,} vectors, the first "
                             f"being that of item '{item_N[int(finite_N.argmin())]}'")
    return vectors_ND


def _wrong(config: Precomputed, what: str) -> ConfigError:
    return ConfigError(f"vectors.path = '{config.path}' {what}. What belongs there is a Parquet file with a column 'item' (ids "
                       "as the data have them) and a column 'vector' (lists of as many numbers each).")
