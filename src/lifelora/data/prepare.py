"""Raw tables become a prepared data set: sorted, numbered, labelled, split, written. Knows no source and no model."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int
from pydantic import Field, model_validator

from lifelora.artefacts import reserve, write_atomically
from lifelora.data.candidates import NO_ITEMS, Candidates, candidate_lists
from lifelora.data.core import k_core
from lifelora.data.dataset import Dataset
from lifelora.data.idmap import IdMap
from lifelora.data.interactions import RATING
from lifelora.data.levels import SHOWN, levels_of, listed
from lifelora.data.listed import lists_of
from lifelora.data.log import EVENT_COLUMNS
from lifelora.data.negatives import Negatives, in_words, sampled
from lifelora.data.new import users_note, without_early_events
from lifelora.data.parts import HISTORY, part_codes, places, told
from lifelora.data.raw import RawTables
from lifelora.data.rows import is_list
from lifelora.data.split import AnySplit, Given, GlobalTime, NewItems, NewUsers, OneEach, UsersByTime, split, training_events
from lifelora.data.ties import Ties, draw, tied, told_of
from lifelora.errors import ConfigError


class Rules(Ties):
    """How a log becomes samples."""

    label_above: float = 3.0
    "A rating above this is a like (label 1); in a log without ratings every event is one."
    min_history: int = Field(default=5, ge=0)
    "Samples have at least this many earlier behaviours; with 0 some may have none."
    core: int = Field(default=1, ge=1)
    """Every user and every item has at least this many events (1: no such filter); RecLoRA takes 5 (its appendix A).
    It is applied once, to the log as a whole: whether an item of the training period stays depends on the test period too."""
    keep_from: float | None = None
    "Events rated below this are left out of the log, as LLaRA does for next items (3); all stay when left out."
    split: AnySplit = GlobalTime()
    candidates: Candidates | None = None
    """For next items: the list that every sample's target has to stand out from; without one there is the whole catalogue. A part
    for which the data set has lists of its own keeps these."""
    negatives: Negatives | None = None
    "For ``ctr``: items that are drawn beside each like, and that its user did not choose; without them, what is logged alone."

    @model_validator(mode="after")
    def _of_one_task(self) -> "Rules":
        if self.negatives is not None and self.candidates is not None:
            raise ValueError(
                "negatives are for task = 'ctr' and candidates for 'next-item'; remove data.rules.candidates or negatives"
            )
        return self


def prepare(raw: RawTables, rules: Rules, folder: Path, name: str) -> Dataset:
    """Sort, number, label and split raw tables into ``folder``; nothing is ever held as Python lists of rows.

    Events are ordered by user and time; ``rules.ties`` says how those of one user and time stand. Where the set has no
    times the order of the file stands in (or, with one sample per user, one that is drawn), and a split by time is refused.
    """
    has_times = "time" in raw.interactions.column_names
    if not has_times and isinstance(rules.split, GlobalTime | UsersByTime | NewItems | NewUsers):
        raise ConfigError(
            f"this data set has no times, so data.rules.split cannot be '{rules.split.kind}'; choose "
            "'leave-one-out' or 'one-per-user'."
        )
    if isinstance(rules.split, Given) and "part" not in raw.interactions.column_names:
        raise ConfigError(
            "data.rules.split = 'given', but this data set does not say which part its events belong to; name the column that "
            "does (data.source.columns.part), or choose another split."
        )
    has_ratings = RATING in raw.interactions.column_names
    if not has_ratings:
        raw, rules = _all_liked(raw, rules)
    levels_of(raw.interactions)  # before keep_from speaks of ratings that are none
    came = raw.interactions.select(["user", "item"])
    raw, new = without_early_events(_core(_liked_enough(raw, rules.keep_from), rules.core), rules.split, rules.min_history)
    levels = levels_of(raw.interactions)
    users = IdMap.of(raw.interactions.column("user"))
    items = IdMap.of(pa.chunked_array([*raw.catalogue.column("item").chunks, *raw.interactions.column("item").chunks]))
    (folder / "events").mkdir(parents=True, exist_ok=True)
    (folder / "samples").mkdir(exist_ok=True)
    users.save(folder / "users.parquet")
    items.save(folder / "items.parquet")
    pq.write_table(_in_order(raw.catalogue, "item", items), folder / "catalogue.parquet")
    pq.write_table(_in_order(raw.profiles, "user", users), folder / "profiles.parquet")

    new_items = items.known(new.ids).astype(np.int64)
    new_items = new_items[new_items >= 0]  # one that nothing but its early events named is no item any more
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
    if rules.ties == "drawn":
        late_N = np.maximum(given_N, 0) if isinstance(rules.split, Given) else None
        draw(rules, events | {"part": given_N}, late_N, users, items)
    offsets = np.searchsorted(events["user"], np.arange(len(users) + 1)).astype(np.int64)
    np.save(folder / "events/offsets.npy", offsets)

    position_N = np.arange(n) - offsets[events["user"]]
    rows = np.flatnonzero(position_N >= rules.min_history)
    notes = list(raw.notes)
    if isinstance(rules.split, Given):
        notes += told(given_N, events["user"], position_N < rules.min_history, rules.min_history)
    elif (given_N > HISTORY).any():
        notes.append(
            f"the log names the parts of its rows, which data.rules.split.kind = '{rules.split.kind}' does not look at; "
            "'given' takes them."
        )
    began_N = events["time"][offsets[events["user"][rows]]]
    given = given_N[rows].astype(np.int64)
    parts = split(rules.split, rows, events["time"][rows], events["user"][rows], began_N, given, new.training)
    if isinstance(rules.split, NewItems):
        notes.append(new.note(rules.split, parts, events["item"], np.isin(np.arange(len(items)), new_items)))
        np.save(folder / "new_items.npy", new_items)
    if isinstance(rules.split, NewUsers):
        sampled_U = np.unique(events["user"][rows])
        notes.append(users_note(rules.split, parts, events["user"], sampled_U, events["time"][offsets[sampled_U]]))
    if has_times:
        tied_N = tied(events["user"], events["time"])
        notes += told_of({part: float(tied_N[chosen].mean()) for part, chosen in parts.items()}, rules)
    for part, chosen in parts.items() if rules.negatives is None else ():  # lists are for the other task
        lists_NC = None
        if raw.candidates is not None:
            lists_NC, said = lists_of(raw.candidates, part, users, items, events["user"][chosen], events["item"][chosen])
            notes += said
            if part == "train" and np.isin(lists_NC if lists_NC is not None else [], new_items).any():
                raise ConfigError(
                    "data.rules.split = 'new-items': the data set's own lists of training have new items among their candidates; "
                    "leave out data.source.candidates, or choose another split."
                )
        if lists_NC is None and rules.candidates is not None:
            never, had_2P = new_items if part == "train" else NO_ITEMS, _known(new.left_out, users, items)
            lists_NC = candidate_lists(rules.candidates, part, chosen, events["user"], events["item"], len(items), never, had_2P)
        if lists_NC is not None:
            (folder / "candidates").mkdir(exist_ok=True)
            np.save(folder / f"candidates/{part}.npy", lists_NC)
    if rules.negatives is not None:
        training = training_events(parts["train"], events["user"], len(users))
        columns = events["user"], events["item"], events["label"]
        came = came if raw.seen is None else pa.concat_tables([came, raw.seen])
        known_2P = _known(came, users, items)
        parts, drawn = sampled(rules.negatives, parts, *columns, training, len(items), known_2P, new_items)
        drawn.save(folder / "negatives")
        notes.append(in_words(rules.negatives, drawn, *columns[:2], len(came) - n))
    for part, chosen in parts.items():
        np.save(folder / f"samples/{part}.npy", chosen.astype(np.int64))
    for memory in events.values():
        memory.flush()
    names = [raw.level_names.get(level, "") for level in levels]
    stars = len(levels) > 1 and not any(names)
    words = raw.words if stars else raw.words.model_copy(update={"star": "", "stars": "", "rated": ""})
    facts = {
        "name": name,
        "has_times": has_times,
        "has_ratings": has_ratings,
        "rating_levels": levels,
        "level_names": names,
        "words": words.model_dump(),
        "notes": notes,
        "left_out": raw.left_out,
        "label_above": rules.label_above,
        "keep_from": rules.keep_from,
        "ties": rules.ties,
        "ties_seed": rules.ties_seed,
    }
    write_atomically(folder / "dataset.json", json.dumps(facts, indent=1, ensure_ascii=False))
    return Dataset(folder)


def _all_liked(raw: RawTables, rules: Rules) -> tuple[RawTables, Rules]:
    """A log without ratings as one in which all are the same and all are likes, and rules that leave no event out."""
    log, notes = raw.interactions, raw.notes
    if rules.keep_from is not None:
        notes = (*notes, f"there are no ratings, so data.rules.keep_from = {rules.keep_from:g} leaves nothing out.")
    log = log.append_column(RATING, pa.array(np.ones(len(log), np.float32)))
    return replace(raw, interactions=log, notes=notes), rules.model_copy(update={"label_above": 0.0, "keep_from": None})


def _liked_enough(raw: RawTables, keep_from: float | None) -> RawTables:
    """The log without the events that are rated too low, and a note of how many went."""
    if keep_from is None:
        return raw
    kept = raw.interactions.filter(pc.greater_equal(raw.interactions.column("rating"), keep_from))
    if not len(kept):
        there = ", ".join(listed(level, raw.level_names) for level in levels_of(raw.interactions)[-SHOWN:])
        raise ConfigError(
            f"data.rules.keep_from = {keep_from:g} leaves nothing of {len(raw.interactions):,} interactions, whose ratings are "
            f"{there}. Lower it, or keep all of them: data.rules.keep_from = 'null'."
        )
    what = f"{len(raw.interactions) - len(kept):,} interactions rated below {keep_from:g} are left out."
    return replace(raw, interactions=kept, notes=(*raw.notes, what))


def _core(raw: RawTables, k: int) -> RawTables:
    """The k-core of the log, with the items that it holds, and a note of what went."""
    if k == 1:
        return raw
    log = raw.interactions
    user_N, item_N = (pc.dictionary_encode(log.column(c).combine_chunks()).indices.to_numpy() for c in ("user", "item"))
    kept = log.filter(pa.array(k_core(user_N, item_N, k)))
    if not len(kept):
        raise ConfigError(
            f"data.rules.core = {k} leaves nothing of {len(log):,} interactions: no part of the log is so dense "
            "that every user and every item has as many; lower it."
        )
    catalogue = raw.catalogue.filter(pc.is_in(raw.catalogue.column("item"), value_set=pc.unique(kept.column("item"))))
    what = f"{k}-core: {len(kept):,} of {len(log):,} interactions are left, in which every user and item has at least {k}."
    return replace(raw, interactions=kept, catalogue=catalogue, notes=(*raw.notes, what))


def _known(pairs: pa.Table, users: IdMap, items: IdMap) -> Int[np.ndarray, "2 P"]:
    """Users and items by number, without pairs of which one is not in the prepared log or catalogue."""
    pair_2P = np.stack([users.known(pairs.column("user")), items.known(pairs.column("item"))]).astype(np.int64)
    return np.asarray(pair_2P[:, (pair_2P >= 0).all(axis=0)])


def _in_order(table: pa.Table, column: str, ids: IdMap) -> pa.Table:
    """The rows of a table in index order; ids without a row get empty texts and no values, never invented ones."""
    wanted = pa.array(ids.outside(np.arange(len(ids))), pa.string())
    found = table.take(pc.index_in(wanted, value_set=table.column(column).combine_chunks()))
    made = {
        name: pc.fill_null(values, pa.scalar([] if is_list(values) else "", values.type))
        for name, values in zip(found.column_names, found.columns, strict=True)
    }
    return pa.table(made | {column: wanted})


def _sorted_events(raw: RawTables, users: IdMap, items: IdMap, levels: list[float], rules: Rules) -> Iterator[pa.RecordBatch]:
    """Events by user and time; those of one user and time by their place in the file, or by item and rating."""
    table = raw.interactions
    rating_N = table.column("rating").to_numpy()
    user_N, item_N = users.inside(table.column("user")), items.inside(table.column("item"))
    part_N, time_N = part_codes(table), np.arange(len(table), dtype=np.int64)
    if "time" in table.column_names:
        time_N = table.column("time").to_numpy()
    elif isinstance(rules.split, OneEach):  # by contents, not by place in the file: the same log gives the same draw
        time_N[np.lexsort((rating_N, item_N, user_N))] = rules.split.order(len(table))
    elif isinstance(rules.split, Given):
        time_N = places(part_N)
    columns = {
        "user": user_N,
        "item": item_N,
        "rating": np.searchsorted(np.asarray(levels, rating_N.dtype), rating_N).astype(np.int8),
        "label": rating_N > rules.label_above,
        "time": time_N,
        "part": part_N,
    }
    if rules.ties == "file":
        columns["place"] = np.arange(len(table))
    numbered = pa.table(columns)  # noqa: F841 - DuckDB finds it by name
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        first = "greatest(part, 0), " if isinstance(rules.split, Given) else ""  # no row of test before one of train
        last = "place" if rules.ties == "file" else "item, rating"
        yield from connection.sql(f"FROM numbered ORDER BY user, time, {first}{last}").arrow(1 << 18)
