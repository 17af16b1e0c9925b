"""A data set as everything above reads it: a log, who and what is in it, samples by part. Knows no model and no prompt.

A sample is the row of its target, or a negative's number below zero; what may be seen of it are its user's earlier events.
``prepare`` makes a data set; ``extended`` gives one in which more has happened since.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.artefacts import read_json
from lifelora.data.column import Values, longer
from lifelora.data.extend import Event, Told, checked_events, numbered, with_new
from lifelora.data.fields import coded
from lifelora.data.idmap import IdMap
from lifelora.data.levels import for_templates
from lifelora.data.log import Log
from lifelora.data.negatives import Drawn
from lifelora.data.raw import Words
from lifelora.data.split import training_events
from lifelora.data.ties import Ties
from lifelora.errors import ArtefactError
from lifelora.frames import AnyFrame
from lifelora.types import PARTS, Part


@dataclass(frozen=True)
class Targets:
    """Items in question, and how many of their users' events may be seen: the first ``position`` of each history."""

    user_B: Int[np.ndarray, "B"]
    item_B: Int[np.ndarray, "B"]
    position_B: Int[np.ndarray, "B"]
    "A logged target's own position; for a question of now, the number of all events of the user."
    label_B: Bool[np.ndarray, "B"]

    def __len__(self) -> int:
        return len(self.user_B)

    def at(self, index: Int[np.ndarray, "_"] | slice) -> "Targets":
        """Some of them."""
        return Targets(self.user_B[index], self.item_B[index], self.position_B[index], self.label_B[index])


@dataclass(frozen=True)
class Samples:
    """A batch for a conventional model; histories are left-padded, the most recent behaviour last.

    Such a model has a vector for each user and item of the prepared data. One that came later is read as unknown: U stands
    for the user, M for the target, and a behaviour with such an item is a cell that the mask leaves out.
    """

    user_B: Int[Tensor, "B"]
    item_B: Int[Tensor, "B"]
    label_B: Float[Tensor, "B"]
    history_BH: Int[Tensor, "_ H"]
    "Items; padding is the number of items. One row may stand for all (``Recommender.one_past``)."
    rating_BH: Int[Tensor, "_ H"]
    "Codes of rating levels; padding is the number of levels."
    mask_BH: Bool[Tensor, "_ H"]
    position_B: Int[Tensor, "B"]
    "How many earlier events each target's user has."


@dataclass(frozen=True)
class Schema:
    """The sizes and field tables that a conventional model is built from."""

    n_users: int
    n_items: int
    n_ratings: int
    user_fields_UF: Int[Tensor, "U _"]
    "Codes of the values of fields; 0 is unknown. A field has as many columns as it has values at most, one in most cases."
    user_field_sizes: tuple[int, ...]
    "One more than the highest code of each field."
    user_field_widths: tuple[int, ...]
    "How many columns each field has."
    item_fields_MF: Int[Tensor, "M _"]
    item_field_sizes: tuple[int, ...]
    item_field_widths: tuple[int, ...]


class Dataset:
    """A prepared data set, opened from its folder (see ``prepare``), or one extended since."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder = Path(folder)
        facts = read_json(folder / "dataset.json")
        self.name, self.has_times = str(facts["name"]), bool(facts["has_times"])
        self.has_ratings: bool = facts.get("has_ratings", True)
        "Without them all events have the one level that there is, and are likes."
        self.rating_levels: tuple[float, ...] = tuple(facts["rating_levels"])
        names = facts.get("level_names", [""] * len(self.rating_levels))
        self.level_names: dict[float, str] = dict(zip(self.rating_levels, names, strict=True))
        self.words = Words(**facts["words"])
        self.notes: tuple[str, ...] = tuple(facts["notes"])
        self.left_out: tuple[str, ...] = tuple(facts.get("left_out", ()))
        "Fields that ``{others}`` in a prompt leaves out."
        self._label_above: float | None = facts.get("label_above")
        self._keep_from: float | None = facts.get("keep_from")
        self._ties = Ties.kept(facts)
        self.users, self.items = IdMap.load(folder / "users.parquet"), IdMap.load(folder / "items.parquet")
        self.catalogue, self.profiles = pq.read_table(folder / "catalogue.parquet"), pq.read_table(folder / "profiles.parquet")
        self._open(Log.open(folder / "events"))

        def mapped(name: str) -> np.ndarray:
            array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return array

        self.samples: dict[Part, np.ndarray] = {part: mapped(f"samples/{part}") for part in PARTS}
        self.negatives = Drawn.open(folder / "negatives")
        "Items that were drawn beside likes, as samples below zero; none where none were asked for."
        self.lists: dict[Part, np.ndarray] = {
            part: mapped(f"candidates/{part}") for part in PARTS if (folder / f"candidates/{part}.npy").exists()
        }
        """Candidates of each sample, [N, C] item indices in the order of ``samples``; empty where none were asked for."""
        new = folder / "new_items.npy"
        self.new_items: Int[np.ndarray, "_"] = np.load(new, allow_pickle=False) if new.exists() else np.zeros(0, np.int64)
        "Items of which training sees nothing, not even as negatives, by the split ``new-items``; empty with another."
        self.known_users, self.known_items = len(self.users), len(self.items)
        "Users and items of the prepared data, which come first: those that a trained model has vectors of."
        self.user_field_names = tuple(n for n in self.profiles.column_names if n != "user")
        self.item_field_names = tuple(n for n in self.catalogue.column_names if n not in ("item", "title", "description"))
        self._codes: dict[str, tuple[Int[np.ndarray, "M V"], list[str]]] = {}
        self._schema: Schema | None = None

    @classmethod
    def from_frames(
        cls,
        interactions: AnyFrame,
        items: AnyFrame | None = None,
        users: AnyFrame | None = None,
        *,
        folder: str | Path,
        rules: Any = None,
        name: str = "frames",
        **layout: Any,
    ) -> "Dataset":
        """Frames of pandas, polars or pyarrow, checked and prepared into ``folder``, as a file of ``tables:`` would be.

        ``rules`` are ``data.rules``: ``Rules`` or a dict of their keys. ``layout`` are the keys of a TOML file of ``tables:``,
        such as ``columns={"user": "customer"}``. What is not said is found by our own names: user, item, rating, time; item,
        title, description, and all other columns as fields. Nothing is changed in the frames.

        Raises ConfigError for a key or a frame that is none, and DataError, which lists all that is wrong with the rows.
        """
        from lifelora.data.frames import Frames

        return Frames.of(interactions, items, users, layout).prepared(Path(folder), rules, name)

    def _open(self, log: Log) -> None:
        self.log = log
        self.user_N, self.item_N, self.rating_N, self.label_N, self.time_N = log.columns.values()

    def __len__(self) -> int:
        return len(self.log)

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

    @property
    def levels(self) -> tuple[float | str, ...]:
        """What templates read of each rating level."""
        return for_templates(self.level_names)

    def targets(self, samples_B: Int[np.ndarray, "B"]) -> Targets:
        """Samples, or any rows of the log, as targets: all that happened before each of them may be seen.

        A number below zero is a negative: an item that the user of a like did not choose, in the like's place (``negatives``).
        """
        samples_B = np.asarray(samples_B, np.int64)
        rows_B = self.negatives.rows(samples_B)
        return Targets(
            self.user_N[rows_B].astype(np.int64),
            self.negatives.items(samples_B, self.item_N[rows_B].astype(np.int64)),
            self.log.positions(rows_B),
            np.asarray(self.label_N[rows_B]) & (samples_B >= 0),
        )

    def candidates(self, user: int | Int[np.ndarray, "B"], item_B: Int[np.ndarray, "B"]) -> Targets:
        """Items put to one user, or one to each of B, after everything in the log; labels are unknown and set to False."""
        user_B = np.full(len(item_B), user, np.int64)
        return Targets(user_B, np.asarray(item_B, np.int64), self.log.count(user_B), np.zeros(len(user_B), np.bool_))

    def history(self, targets: Targets, length: int) -> tuple[Int[np.ndarray, "B H"], Bool[np.ndarray, "B H"]]:
        """The last ``length`` event rows before each target, most recent last, and which of them are real."""
        position_BH = targets.position_B[:, None] - length + np.arange(length)
        mask_BH = position_BH >= 0
        return np.where(mask_BH, self.log.rows(targets.user_B[:, None], position_BH), 0), mask_BH

    def gather(
        self,
        targets: Targets,
        length: int,
        chosen: tuple[Int[np.ndarray, "B H"], Bool[np.ndarray, "B H"]] | None = None,
    ) -> Samples:
        """A batch for a conventional model that reads ``length`` behaviours: the last ones, or those that were chosen."""
        rows_BH, mask_BH = self.history(targets, length) if chosen is None else chosen
        user_B, item_B, item_BH = targets.user_B, targets.item_B, self.item_N[rows_BH]
        if self.n_users > self.known_users or self.n_items > self.known_items:
            user_B, item_B = np.minimum(user_B, self.known_users), np.minimum(item_B, self.known_items)
            mask_BH = mask_BH & (item_BH < self.known_items)
        return Samples(
            user_B=torch.from_numpy(user_B),
            item_B=torch.from_numpy(item_B),
            label_B=torch.from_numpy(targets.label_B.astype(np.float32)),
            history_BH=torch.from_numpy(np.where(mask_BH, item_BH, self.known_items).astype(np.int64)),
            rating_BH=torch.from_numpy(np.where(mask_BH, self.rating_N[rows_BH], len(self.rating_levels)).astype(np.int64)),
            mask_BH=torch.from_numpy(mask_BH),
            position_B=torch.from_numpy(targets.position_B),
        )

    def schema(self) -> Schema:
        """Sizes and field tables of the prepared data; code 0 of every field means unknown."""
        if self._schema is not None:
            return self._schema
        users, items = self.profiles.slice(0, self.known_users), self.catalogue.slice(0, self.known_items)
        sizes = self.known_users, self.known_items, len(self.rating_levels)
        return Schema(*sizes, *_codes(users, self.user_field_names), *_codes(items, self.item_field_names))

    def item_codes(self, field: str) -> Values:
        """The numbers of the values that each item has of a field of the catalogue, [M, V]; 0 means unknown, and fills up."""
        column = self.catalogue.column(field)
        if field not in self._codes:
            self._codes[field] = coded(column.slice(0, self.known_items))
        codes_MV, values = self._codes[field]
        if self.n_items == self.known_items:
            return codes_MV
        later_mV, theirs = coded(column.slice(self.known_items))
        numbers = {value: code for code, value in enumerate(values, start=1)}
        number_C = np.array([0, *(numbers.setdefault(value, 1 + len(numbers)) for value in theirs)], np.int64)
        width = max(codes_MV.shape[1], later_mV.shape[1])
        codes_MV, later_mV = (np.pad(c, ((0, 0), (0, width - c.shape[1]))) for c in (codes_MV, number_C[later_mV]))
        return longer(codes_MV, later_mV)

    def training_events(self) -> Int[np.ndarray, "N"]:
        """Every event that training may look at: the training samples and what came before them, in row order.

        With a global-time split that is all events up to the last training sample; with leave-one-out each user's
        events before the validation sample.
        """
        train = np.asarray(self.samples["train"])
        return training_events(train[train >= 0], np.asarray(self.user_N[: self.log.n_prepared]), self.known_users)

    def extended(
        self, events: Iterable[Event], items: Iterable[Told] = (), users: Iterable[Told] = (), anew: Iterable[str] = ()
    ) -> "Dataset":
        """This data set with what happened since, to ask about it: samples, lists and fields of models stay the prepared ones.

        Events go on after the last one of their user, by time and then by ``data.rules.ties`` (``file``: as they are given); one
        in the second of its user's last comes after that. Without times they go on as given. ``data.rules.keep_from`` holds, too.
        New users and items get the next numbers, in the order that ``prepare`` has; ``items`` and ``users`` tell of them: "item"
        (or "user"), perhaps texts and fields of this data set.

        Of users who are told ``anew`` all that came since ``prepare`` goes first: that costs what all of it costs, and else an
        event costs the same however many came before (``column.grown``).

        Raises DataError with all that is wrong: a bad id, rating or time, what is there already, texts of something known.
        """
        if self._label_above is None:
            raise ArtefactError(
                f"{self.folder} is of an earlier version and does not say what a like is; prepare it anew before it is extended."
            )
        table = checked_events(events, self.rating_levels, self.has_times, self._keep_from, self.has_ratings)
        other, log = copy(self), self.log.without(self.users.inside(again)) if (again := list(anew)) else self.log
        other.items, other.catalogue = with_new("item", self.items, self.catalogue, items, table.column("item"))
        if other.catalogue is not self.catalogue:
            other.__dict__.pop("titles", None)
        other.users, other.profiles = with_new("user", self.users, self.profiles, users, table.column("user"))
        later = numbered(table, log, other.users, other.items, self.rating_levels, self._label_above, self._ties)
        other._open(log.extended(later))
        return other


def _codes(table: pa.Table, names: tuple[str, ...]) -> tuple[Int[Tensor, "N _"], tuple[int, ...], tuple[int, ...]]:
    """The codes of fields side by side, and their sizes and widths as ``Schema`` has them."""
    codes, values = zip(*(coded(table.column(name)) for name in names), strict=True) if names else ((), ())
    sizes = tuple(1 + len(values_of_one) for values_of_one in values)
    codes_NF = np.concatenate([np.zeros((len(table), 0), np.int64), *codes], axis=1)
    return torch.from_numpy(codes_NF), sizes, tuple(codes_NV.shape[1] for codes_NV in codes)
