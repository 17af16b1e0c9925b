"""The one door between outside ids (strings) and inside indices (int32). Knows neither users nor items."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from lifelora.errors import ArtefactError, DataError, Problem

Ids: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
NEAR_POOL = 2000
"""Close matches of an unknown id are looked for among at most this many known ones, so that an error stays quick."""


class IdMap:
    """Index i stands for the i-th id: in numeric order if all are made of decimal digits, else in code-point order."""

    def __init__(self, ids: pa.Array, name: str = "ids") -> None:
        self._ids = ids
        self.name = name

    @classmethod
    def of(cls, ids: Ids, name: str = "ids") -> "IdMap":
        """The map of the distinct ids among ``ids``; repetitions and order do not matter."""
        distinct = pc.unique(_strings(ids))
        keys = {"id": distinct}
        order = [("id", "ascending")]
        if len(distinct) and pc.all(pc.match_substring_regex(distinct, "^[0-9]+$")).as_py():
            # Digits of any length compare as numbers by (length, text) once leading zeros are gone.
            digits = pc.utf8_ltrim(distinct, "0")
            keys |= {"length": pc.utf8_length(digits), "digits": digits}
            order = [("length", "ascending"), ("digits", "ascending"), *order]
        return cls(distinct.take(pc.sort_indices(pa.table(keys), sort_keys=order)), name)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, outside: object) -> bool:
        return isinstance(outside, str) and bool(pc.index(self._ids, outside).as_py() >= 0)

    def inside(self, ids: Ids) -> Int[np.ndarray, "N"]:
        """Indices of ``ids``; DataError names unknown ones and what they may have meant."""
        asked = _strings(ids)
        indices = pc.index_in(asked, value_set=self._ids)
        if indices.null_count:
            unknown = pc.unique(asked.filter(pc.is_null(indices)))
            shown = unknown.slice(0, DataError.SHOWN).to_pylist()
            raise DataError([Problem(self.name, None, None, one, self._advice(one)) for one in shown], len(unknown))
        return np.asarray(indices.to_numpy(zero_copy_only=False), np.int32)

    def outside(self, indices: Int[np.ndarray, "N"] | Sequence[int]) -> list[str]:
        """Ids at ``indices``; an index outside 0 .. len - 1 is an IndexError."""
        ids: list[str] = self._ids.take(pa.array(np.asarray(indices, np.int64))).to_pylist()
        return ids

    def save(self, path: Path) -> None:
        """Write a Parquet file of one column, in index order."""
        pq.write_table(pa.table({"id": self._ids}), path)

    @classmethod
    def load(cls, path: Path) -> "IdMap":
        """Read what ``save`` wrote; the map's name is the file's."""
        if not path.is_file():
            raise ArtefactError(f"{path} does not exist; run the stage that makes it.")
        return cls(_strings(pq.read_table(path, columns=["id"]).column("id")), path.stem)

    def _advice(self, asked: str | None) -> str:
        if asked is None or not len(self):
            return "an id is missing" if asked is None else "unknown id (none is known)"
        pool = self._ids.filter(pc.starts_with(self._ids, asked[:1], ignore_case=True)).slice(0, NEAR_POOL).to_pylist()
        near = difflib.get_close_matches(asked, pool, n=3) or self.outside(range(min(3, len(self))))
        return f"unknown id; of the {len(self):,} known ones the nearest are {', '.join(map(repr, near))}"


def _strings(ids: Ids) -> pa.Array:
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    return ids.cast(pa.string()) if isinstance(ids, pa.Array) else pa.array(ids, pa.string())
