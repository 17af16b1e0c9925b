"""The one door between outside ids (strings) and inside indices (int32). Knows neither users nor items."""

import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from lifelora import foreign
from lifelora.data.column import TIMES
from lifelora.errors import ArtefactError, DataError, Problem

Ids: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
NEAR_POOL = 2000
"""Close matches of an unknown id are looked for among at most this many known ones, so that an error stays quick."""
FEW = 1000
"""Up to so many ids are looked up one by one in a dict, which is made once; for more Arrow's own table of all ids is quicker."""


class IdMap:
    """Index i stands for the i-th id: in numeric order if all are made of decimal digits, else in code-point order."""

    def __init__(self, ids: pa.Array, name: str = "ids", first: "IdMap | None" = None) -> None:
        """``ids`` have the next numbers after those of ``first``, if there is one."""
        self._ids, self._first, self.name = ids, first, name
        self._start = 0 if first is None else len(first)

    @classmethod
    def of(cls, ids: Ids, name: str = "ids") -> "IdMap":
        """The map of the distinct ids among ``ids``; repetitions and order do not matter."""
        distinct = pc.unique(_strings(ids, name))
        keys = {"id": distinct}
        order = [("id", "ascending")]
        if len(distinct) and pc.all(pc.match_substring_regex(distinct, "^[0-9]+$")).as_py():
            # Digits of any length compare as numbers by (length, text) once leading zeros are gone.
            digits = pc.utf8_ltrim(distinct, "0")
            keys |= {"length": pc.utf8_length(digits), "digits": digits}
            order = [("length", "ascending"), ("digits", "ascending"), *order]
        return cls(distinct.take(pc.sort_indices(pa.table(keys), sort_keys=order)), name)

    def extended(self, new: "IdMap") -> "IdMap":
        """This map with the ids of another, none of which it has, after its last; of this one only what once came later is
        copied, once in a while (``data.column.grown``).
        """
        first, ids = self, new._ids
        while first._first is not None and len(first._ids) <= TIMES * len(ids):
            first, ids = first._first, pa.concat_arrays([first._ids, ids])
        return IdMap(ids, self.name, first)

    def without(self, outside: str) -> "IdMap":
        """This map without an id that it has: its number stays, and stands for none."""
        place = self._place(outside)
        if self._first is not None and place is not None and place < self._start:
            return IdMap(self._ids, self.name, self._first.without(outside))
        return IdMap(pc.if_else(pc.equal(self._ids, outside), pa.scalar(None, pa.string()), self._ids), self.name, self._first)

    def __len__(self) -> int:
        return self._start + len(self._ids)

    def __contains__(self, outside: object) -> bool:
        return isinstance(outside, str) and self._place(outside) is not None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {one: self._start + place for place, one in enumerate(self._ids.to_pylist()) if one is not None}

    def _place(self, outside: str | None) -> int | None:
        place = self._places.get(outside) if outside is not None else None
        return self._first._place(outside) if place is None and self._first is not None else place

    def inside(self, ids: Ids) -> Int[np.ndarray, "N"]:
        """Indices of ``ids``; DataError names unknown ones and what they may have meant."""
        asked, indices = self._found(ids)
        if indices.null_count:
            unknown = pc.unique(asked.filter(pc.is_null(indices)))
            shown = unknown.slice(0, DataError.SHOWN).to_pylist()
            raise DataError([Problem(self.name, None, None, one, self._advice(one)) for one in shown], len(unknown))
        return np.asarray(indices.to_numpy(zero_copy_only=False), np.int32)

    def known(self, ids: Ids) -> Int[np.ndarray, "N"]:
        """Indices of ``ids``, -1 for an unknown one; DataError for what is no text."""
        return np.asarray(pc.fill_null(self._found(ids)[1], -1).to_numpy(zero_copy_only=False), np.int32)

    def _found(self, ids: Ids) -> tuple[pa.Array, pa.Array]:
        asked = _strings(ids, self.name)
        if len(asked) <= FEW:
            return asked, pa.array(map(self._place, asked.to_pylist()), pa.int32())
        return asked, pc.index_in(asked, value_set=self._all())

    def outside(self, indices: Int[np.ndarray, "N"] | Sequence[int]) -> list[str]:
        """Ids at ``indices``; an index outside 0 .. len - 1 is an IndexError."""
        places = np.asarray(indices, np.int64)
        own = places >= self._start
        if self._first is None or (len(places) and own.all()):
            ids: list[str] = self._ids.take(pa.array(places - self._start)).to_pylist()
            return ids
        if not own.any():
            return self._first.outside(places)
        parts = iter(self._first.outside(places[~own])), iter(self.outside(places[own]))
        return [next(parts[mine]) for mine in own.tolist()]

    def all(self) -> list[str]:
        """Every id, in the order of the numbers; a number that stands for none has none."""
        ids: list[str] = pc.drop_null(self._all()).to_pylist()
        return ids

    def _all(self) -> pa.Array:
        return self._ids if self._first is None else pa.concat_arrays([self._first._all(), self._ids])

    def save(self, path: Path) -> None:
        """Write a Parquet file of one column, in index order."""
        pq.write_table(pa.table({"id": self._all()}), path)

    @classmethod
    def load(cls, path: Path) -> "IdMap":
        """Read what ``save`` wrote; the map's name is the file's."""
        if not path.is_file():
            raise ArtefactError(f"{path} does not exist; run the stage that makes it.")
        return cls(_strings(pq.read_table(path, columns=["id"]).column("id"), path.stem), path.stem)

    def _advice(self, asked: str | None) -> str:
        if asked is None or not len(self):
            return "an id is missing" if asked is None else "unknown id (none is known)"
        ids = pc.drop_null(self._all())
        pool = ids.filter(pc.starts_with(ids, asked[:1], ignore_case=True)).slice(0, NEAR_POOL).to_pylist()
        near = difflib.get_close_matches(asked, pool, n=3) or ids.slice(0, 3).to_pylist()
        return f"unknown id; of the {len(ids):,} known ones the nearest are {', '.join(map(repr, near))}"


def _strings(ids: Ids, name: str) -> pa.Array:
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if isinstance(ids, pa.Array):
        return ids.cast(pa.string())
    try:
        return pa.array(ids, pa.string())
    except UnicodeEncodeError:
        wrong = [one for one in ids if isinstance(one, str) and not foreign.is_written(one)]
        shown = [Problem(name, None, None, repr(one)[1:-1], foreign.HALF) for one in wrong[: DataError.SHOWN]]
        raise DataError(shown, len(wrong)) from None
