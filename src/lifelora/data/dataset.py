"""A prepared log: events by user in time order, memory-mapped, with samples by part. Knows no model and no prompt.

Everything about a user's past is a slice of flat arrays: rows ``offsets[u] .. offsets[u + 1]`` of the event columns,
oldest first. A sample is the row of its target; what may be seen of it are the user's rows before that row.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from lifelora.artefacts import read_json, reserve, write_atomically
from lifelora.data.candidates import Candidates, candidate_lists
from lifelora.data.core import k_core
from lifelora.data.idmap import IdMap
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import AnySplit, Given, GlobalTime, OneEach, UsersByTime, split
from lifelora.errors import ConfigError
from lifelora.types import PARTS, Frozen, Part

MAX_LEVELS = 100
EVENT_COLUMNS = {"user": np.int32, "item": np.int32, "rating": np.int8, "label": np.bool_, "time": np.int64}


class Rules(Frozen):
    """How a log becomes samples."""

    label_above: float = 3.0
    "A rating above this is a like (label 1)."
    min_history: int = Field(default=5, ge=1)
    "Samples have at least this many earlier behaviours."
    core: int = Field(default=1, ge=1)
    """Every user and every item has at least this many events (1: no such filter); RecLoRA takes 5 (its appendix A).
    It is applied once, to the log as a whole: whether an item of the training period stays depends on the test period too."""
    keep_from: float | None = None
    "Events rated below this are left out of the log, as LLaRA does for next items (3); all stay when left out."
    split: AnySplit = GlobalTime()
    candidates: Candidates | None = None
    "For next items: the list that every sample's target has to stand out from; without one there is the whole catalogue."


@dataclass(frozen=True)
class Targets:
    """Items in question: behaviours that may be seen are rows ``offsets[user] <= row < before`` of the same user."""

    user_B: Int[np.ndarray, "B"]
    item_B: Int[np.ndarray, "B"]
    before_B: Int[np.ndarray, "B"]
    label_B: Bool[np.ndarray, "B"]

    def __len__(self) -> int:
        return len(self.user_B)

    def at(self, index: Int[np.ndarray, "_"] | slice) -> "Targets":
        """Some of them."""
        return Targets(self.user_B[index], self.item_B[index], self.before_B[index], self.label_B[index])


@dataclass(frozen=True)
class Samples:
    """A batch for a conventional model; histories are left-padded, the most recent behaviour last."""

    user_B: Int[Tensor, "B"]
    item_B: Int[Tensor, "B"]
    label_B: Float[Tensor, "B"]
    history_BH: Int[Tensor, "B H"]
    "Items; padding is the number of items."
    rating_BH: Int[Tensor, "B H"]
    "Codes of rating levels; padding is the number of levels."
    mask_BH: Bool[Tensor, "B H"]
    position_B: Int[Tensor, "B"]
    "How many earlier events each target's user has."


@dataclass(frozen=True)
class Schema:
    """The sizes and field tables that a conventional model is built from."""

    n_users: int
    n_items: int
    n_ratings: int
    user_fields_UF: Int[Tensor, "U _"]
    user_field_sizes: tuple[int, ...]
    item_fields_MF: Int[Tensor, "M _"]
    item_field_sizes: tuple[int, ...]


class Dataset:
    """A prepared data set, opened from its folder (see ``prepare``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = read_json(folder / "dataset.json")
        self.name: str = facts["name"]
        self.has_times: bool = facts["has_times"]
        self.rating_levels: tuple[float, ...] = tuple(facts["rating_levels"])
        self.words = Words(**facts["words"])
        self.notes: tuple[str, ...] = tuple(facts["notes"])
        self.users, self.items = IdMap.load(folder / "users.parquet"), IdMap.load(folder / "items.parquet")
        self.catalogue, self.profiles = pq.read_table(folder / "catalogue.parquet"), pq.read_table(folder / "profiles.parquet")

        def mapped(name: str) -> np.ndarray:
            array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return array

        self.user_N, self.item_N, self.rating_N, self.label_N, self.time_N = (mapped(f"events/{c}") for c in EVENT_COLUMNS)
        self.offsets = np.asarray(mapped("events/offsets"))
        self.samples: dict[Part, np.ndarray] = {part: mapped(f"samples/{part}") for part in PARTS}
        self.lists: dict[Part, np.ndarray] = {
            part: mapped(f"candidates/{part}") for part in PARTS if (folder / f"candidates/{part}.npy").exists()}
        """Candidates of each sample, [N, C] item indices in the order of ``samples``; empty where none were asked for."""
        self.user_field_names = tuple(n for n in self.profiles.column_names if n != "user")
        self.item_field_names = tuple(n for n in self.catalogue.column_names if n not in ("item", "title", "description"))

    def __len__(self) -> int:
        return len(self.item_N)

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @cached_property
    def titles(self) -> list[str]:
        """Titles by item index."""
        return [str(title) for title in self.catalogue.column("title").to_pylist()]

    def targets(self, rows_B: Int[np.ndarray, "B"]) -> Targets:
        """Logged rows as targets: all that happened before each of them may be seen."""
        return Targets(
            self.user_N[rows_B].astype(np.int64), self.item_N[rows_B].astype(np.int64), np.asarray(rows_B, np.int64),
            np.asarray(self.label_N[rows_B]),
        )

    def candidates(self, user: int, items_B: Int[np.ndarray, "B"]) -> Targets:
        """Items put to a user now, after everything in the log; labels are unknown and set to False."""
        n = len(items_B)
        return Targets(
            np.full(n, user, np.int64), np.asarray(items_B, np.int64), np.full(n, self.offsets[user + 1], np.int64),
            np.zeros(n, np.bool_),
        )

    def history(self, targets: Targets, length: int) -> tuple[Int[np.ndarray, "B H"], Bool[np.ndarray, "B H"]]:
        """The last ``length`` event rows before each target, most recent last, and which of them are real."""
        rows_BH = targets.before_B[:, None] - length + np.arange(length)
        mask_BH = rows_BH >= self.offsets[targets.user_B][:, None]
        return np.where(mask_BH, rows_BH, 0), mask_BH

    def gather(
        self, targets: Targets, length: int,
        chosen: tuple[Int[np.ndarray, "B H"], Bool[np.ndarray, "B H"]] | None = None,
    ) -> Samples:
        """A batch for a conventional model that reads ``length`` behaviours: the last ones, or those that were chosen."""
        rows_BH, mask_BH = self.history(targets, length) if chosen is None else chosen
        return Samples(
            user_B=torch.from_numpy(targets.user_B),
            item_B=torch.from_numpy(targets.item_B),
            label_B=torch.from_numpy(targets.label_B.astype(np.float32)),
            history_BH=torch.from_numpy(np.where(mask_BH, self.item_N[rows_BH], self.n_items).astype(np.int64)),
            rating_BH=torch.from_numpy(np.where(mask_BH, self.rating_N[rows_BH], len(self.rating_levels)).astype(np.int64)),
            mask_BH=torch.from_numpy(mask_BH),
            position_B=torch.from_numpy(targets.before_B - self.offsets[targets.user_B]),
        )

    def schema(self) -> Schema:
        """Sizes and field tables; code 0 of every field means unknown."""
        users, user_sizes = _codes(self.profiles, self.user_field_names)
        items, item_sizes = _codes(self.catalogue, self.item_field_names)
        return Schema(self.n_users, self.n_items, len(self.rating_levels), users, user_sizes, items, item_sizes)

    def training_events(self) -> Int[np.ndarray, "N"]:
        """Every event that training may look at: the training samples and what came before them, in row order.

        With a global-time split that is all events up to the last training sample; with leave-one-out each user's
        events before the validation sample.
        """
        allowed = np.zeros(len(self), dtype=np.bool_)
        allowed[self.samples["train"]] = True
        last = np.full(self.n_users, -1, np.int64)
        np.maximum.at(last, self.user_N[self.samples["train"]], self.samples["train"])
        # Early events that are too short-historied to be samples count as seen when a later training sample shows them.
        return np.flatnonzero(allowed | (np.arange(len(self)) <= last[self.user_N]))


def _codes(table: pa.Table, names: tuple[str, ...]) -> tuple[Int[Tensor, "N F"], tuple[int, ...]]:
    columns, sizes = [], []
    for name in names:
        encoded = pc.dictionary_encode(table.column(name).combine_chunks())
        known = pc.not_equal(pc.fill_null(table.column(name), ""), "").to_numpy(zero_copy_only=False)
        codes = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        columns.append(torch.from_numpy(np.where(known, codes, 0)))
        sizes.append(len(encoded.dictionary) + 1)
    return (torch.stack(columns, dim=1) if columns else torch.zeros(len(table), 0, dtype=torch.int64)), tuple(sizes)


def prepare(raw: RawTables, rules: Rules, folder: Path, name: str) -> Dataset:
    """Sort, number, label and split raw tables into ``folder``; nothing is ever held as Python lists of rows.

    Events are ordered by (user, time, item): events of the same second stand in item order, as in ReLLa's protocol.
    Where the set has no times the order of the file stands in (or, with one sample per user, one that is drawn), and a
    split by time is refused.
    """
    has_times = "time" in raw.interactions.column_names
    if not has_times and isinstance(rules.split, GlobalTime | UsersByTime):
        raise ConfigError(f"this data set has no times, so data.rules.split cannot be '{rules.split.kind}'; choose "
                          "'leave-one-out' or 'one-per-user'.")
    if isinstance(rules.split, Given) and "part" not in raw.interactions.column_names:
        raise ConfigError("data.rules.split = 'given', but this data set says of no row which part it belongs to; choose "
                          "another split.")
    raw = _core(_liked_enough(raw, rules.keep_from), rules.core)
    levels = sorted(float(level) for level in pc.unique(raw.interactions.column("rating")).to_pylist())
    if len(levels) > MAX_LEVELS:
        raise ConfigError(
            f"the ratings have {len(levels):,} distinct values (lifelora allows {MAX_LEVELS}); round them into levels first."
        )
    users = IdMap.of(raw.interactions.column("user"))
    items = IdMap.of(pa.chunked_array([*raw.catalogue.column("item").chunks, *raw.interactions.column("item").chunks]))
    (folder / "events").mkdir(parents=True, exist_ok=True)
    (folder / "samples").mkdir(exist_ok=True)
    users.save(folder / "users.parquet")
    items.save(folder / "items.parquet")
    pq.write_table(_in_order(raw.catalogue, "item", items), folder / "catalogue.parquet")
    pq.write_table(_in_order(raw.profiles, "user", users), folder / "profiles.parquet")

    n = len(raw.interactions)
    events = {
        column: np.lib.format.open_memmap(folder / f"events/{column}.npy", mode="w+", dtype=dtype, shape=(n,))
        for column, dtype in EVENT_COLUMNS.items()
    }
    for column in events:
        reserve(folder / f"events/{column}.npy")
    given_N = np.empty(n, np.int8)
    start = 0
    for batch in _sorted_events(raw, users, items, levels, rules):
        for column, memory in [*events.items(), ("part", given_N)]:
            memory[start : start + len(batch)] = batch.column(column).to_numpy(zero_copy_only=False)
        start += len(batch)
    offsets = np.searchsorted(events["user"], np.arange(len(users) + 1)).astype(np.int64)
    np.save(folder / "events/offsets.npy", offsets)

    position_N = np.arange(n) - offsets[events["user"]]
    rows = np.flatnonzero(position_N >= rules.min_history)
    began_N = events["time"][offsets[events["user"][rows]]]
    for part, chosen in split(
        rules.split, rows, events["time"][rows], events["user"][rows], began_N, given_N[rows].astype(np.int64)
    ).items():
        np.save(folder / f"samples/{part}.npy", chosen.astype(np.int64))
        if rules.candidates is not None:
            (folder / "candidates").mkdir(exist_ok=True)
            lists_NC = candidate_lists(rules.candidates, part, chosen, events["user"], events["item"], len(items))
            np.save(folder / f"candidates/{part}.npy", lists_NC)
    for memory in events.values():
        memory.flush()
    facts = {
        "name": name, "has_times": has_times, "rating_levels": levels, "words": raw.words.model_dump(), "notes": raw.notes
    }
    write_atomically(folder / "dataset.json", json.dumps(facts, indent=1, ensure_ascii=False))
    return Dataset(folder)


def _liked_enough(raw: RawTables, keep_from: float | None) -> RawTables:
    """The log without the events that are rated too low, and a note of how many went."""
    if keep_from is None:
        return raw
    kept = raw.interactions.filter(pc.greater_equal(raw.interactions.column("rating"), keep_from))
    if not len(kept):
        raise ConfigError(f"data.rules.keep_from = {keep_from:g} leaves nothing of {len(raw.interactions):,} interactions.")
    what = f"{len(raw.interactions) - len(kept):,} interactions rated below {keep_from:g} are left out."
    return replace(raw, interactions=kept, notes=(*raw.notes, what))


def _part_codes(log: pa.Table) -> Int[np.ndarray, "N"]:
    """0, 1, 2 for train, valid, test, and -1 where the log says nothing."""
    if "part" not in log.column_names:
        return np.full(len(log), -1, np.int8)
    code = pc.fill_null(pc.index_in(log.column("part"), value_set=pa.array(PARTS)), -1)
    return np.asarray(code.to_numpy(), np.int8)


def _core(raw: RawTables, k: int) -> RawTables:
    """The k-core of the log, with the items that it holds, and a note of what went."""
    if k == 1:
        return raw
    log = raw.interactions
    user_N, item_N = (pc.dictionary_encode(log.column(c).combine_chunks()).indices.to_numpy() for c in ("user", "item"))
    kept = log.filter(pa.array(k_core(user_N, item_N, k)))
    if not len(kept):
        raise ConfigError(f"data.rules.core = {k} leaves nothing of {len(log):,} interactions: no part of the log is so dense "
                          "that every user and every item has as many; lower it.")
    catalogue = raw.catalogue.filter(pc.is_in(raw.catalogue.column("item"), value_set=pc.unique(kept.column("item"))))
    what = f"{k}-core: {len(kept):,} of {len(log):,} interactions are left, in which every user and item has at least {k}."
    return replace(raw, interactions=kept, catalogue=catalogue, notes=(*raw.notes, what))


def _in_order(table: pa.Table, column: str, ids: IdMap) -> pa.Table:
    """The rows of a table of texts in index order; ids without a row get empty texts, never invented ones."""
    wanted = pa.table({column: pa.array(ids.outside(np.arange(len(ids)))), "_order": pa.array(np.arange(len(ids)))})
    joined = wanted.join(table, keys=column, join_type="left outer").sort_by("_order").drop_columns("_order")
    return pa.table({name: pc.fill_null(joined.column(name), "") for name in table.column_names})


def _sorted_events(
    raw: RawTables, users: IdMap, items: IdMap, levels: list[float], rules: Rules
) -> Iterator[pa.RecordBatch]:
    table = raw.interactions
    rating_N = table.column("rating").to_numpy()
    user_N, item_N = users.inside(table.column("user")), items.inside(table.column("item"))
    time_N = np.arange(len(table), dtype=np.int64)
    if "time" in table.column_names:
        time_N = table.column("time").to_numpy()
    elif isinstance(rules.split, OneEach):  # by contents, not by place in the file: the same log gives the same draw
        time_N[np.lexsort((rating_N, item_N, user_N))] = rules.split.order(len(table))
    numbered = pa.table({  # noqa: F841 - DuckDB finds it by name
        "user": user_N,
        "item": item_N,
        "rating": np.searchsorted(np.asarray(levels, rating_N.dtype), rating_N).astype(np.int8),
        "label": rating_N > rules.label_above,
        "time": time_N,
        "part": _part_codes(table),
    })
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        yield from connection.sql("FROM numbered ORDER BY user, time, item").arrow(1 << 18)
