"""Users and items that a file tells of: ids one a line, or a table with a column of them. Knows no run and no scorer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float
from torch import Tensor

from lifelora import foreign
from lifelora.data.dataset import Dataset
from lifelora.data.delimited import read_delimited
from lifelora.data.extend import Told
from lifelora.data.header import DELIMITERS
from lifelora.data.parquet import read_parquet
from lifelora.data.rows import Meaning, Problems, Rows, is_list
from lifelora.errors import ConfigError, on_one_line
from lifelora.run.context import Context
from lifelora.vectors.base import TextVectors
from lifelora.vectors.endpoint import EndpointVectors
from lifelora.vectors.texts import item_texts

MAX_BYTES = 1 << 30
"""Of a file of ids."""
LISTED = 5
"""Ids that a note names."""
PATIENCE = 10.0
"""Seconds that an endpoint has for vectors of new items while a service waits."""


def read_table(path: Path, column: str, option: str, others: Mapping[str, Meaning] | None = None) -> tuple[pa.Table, list[str]]:
    """The rows of a file as texts, with a ``column`` of ids, none of which is empty, and ``others`` where it has them; and the
    names of the columns that were not read.

    The file is Parquet, delimited text whose header names the column, or text with one id a line. Raises ConfigError for a
    file that cannot be read or has no id, and DataError for what is wrong in its rows.
    """
    problems, name = Problems(), str(path)
    try:
        if path.suffix == ".parquet":
            rows = read_parquet(path, name, problems, {column: "id", **(others or {})})
        else:
            rows = _of_text(foreign.text(path, MAX_BYTES), name, [column, *(others or {})], problems)
    except foreign.Unreadable as error:
        raise ConfigError(f"{option} {path} cannot be read ({error}); give Parquet, CSV, or text with one id a line.") from error
    problems.refuse()
    if rows is None or rows.lacks([column], problems):
        problems.refuse()
        raise ConfigError(f"{option} {path} names no {column}; give one id a line, or a table with a column '{column}'.")
    columns = {column: rows.ids(column, problems)}
    problems.refuse()
    there = rows.table.column_names
    columns |= {name: rows.table.column(name) for name in others or {} if name in there}
    return pa.table(columns), [name for name in (*there, *rows.unread) if name not in columns]


def distinct(table: pa.Table, column: str) -> pa.Table:
    """The first row of each id."""
    codes = pc.dictionary_encode(table.column(column).combine_chunks()).indices.to_numpy()
    return table.take(np.sort(np.unique(codes, return_index=True)[1]))


def known_items(dataset: Dataset, path: Path, option: str) -> tuple[list[str], list[str]]:
    """The items of a file that the data set has, and what a reader should know of the others."""
    ids = pc.unique(read_table(path, "item", option)[0].column("item"))
    known = dataset.items.known(ids) >= 0
    if not known.any():
        dataset.items.inside(ids)  # which says what they may have meant
    left = ids.filter(pa.array(~known)).to_pylist()
    named = ", ".join(map(on_one_line, left[:LISTED])) + (" …" if len(left) > LISTED else "")
    note = f"{path}: {len(left):,} of {len(ids):,} items are not in the catalogue and were left out: {named}."
    return ids.filter(pa.array(known)).to_pylist(), [note] if left else []


def known_users(context: Context, path: Path) -> tuple[list[str], list[str]]:
    """The users of a file, each once, and what a reader should know of it.

    A user whom the log lacks, and of whom the file has fields of the profiles, becomes one who has a profile and no history.
    """
    dataset = context.dataset
    table, _ = read_table(path, "user", "--users", dict.fromkeys(dataset.user_field_names, "field"))
    users = distinct(table, "user")
    notes = [f"{path}: {len(table) - len(users):,} repeated users were left out."] if len(users) < len(table) else []
    ids = users.column("user").to_pylist()
    fields = [name for name in dataset.user_field_names if name in users.column_names]
    if fields:
        unknown = users.filter(pa.array(dataset.users.known(users.column("user")) < 0)).select(["user", *fields])
        told = [
            row for row in _rows(context, unknown, dataset.profiles) if any(value for key, value in row.items() if key != "user")
        ]
        if told:
            context.extend([], users=told)
    return ids, notes


def add_items(context: Context, path: Path) -> list[str]:
    """Put the new items of a file behind the catalogue, for as long as the run is open; what a reader should know of them.

    Where behaviours are chosen by item vectors, theirs are made as the run's own were.
    """
    dataset = context.dataset
    columns = [name for name in dataset.catalogue.column_names if name != "item"]
    table, unread = read_table(path, "item", "--new-items", dict.fromkeys(columns, "text"))
    notes = [f"{path}: columns that this catalogue does not have were not read: {', '.join(unread)}."] if unread else []
    more = tell_items(context, _rows(context, table, dataset.catalogue))
    return [*notes, *(f"{path}: {note}" for note in more)]


Made = tuple[Float[Tensor, "N E"] | None, list[str]]
"""Item vectors of new items, None where none are needed, and what a reader should know of them."""


def tell_items(context: Context, items: Sequence[Told], made: Made | None = None) -> list[str]:
    """Put new items behind the catalogue, for as long as the run is open, with vectors that are ``made`` as the run's own were;
    what a reader should know of them. Raises DataError, with nothing changed, for what ``Dataset.extended`` does not take.
    """
    vectors_NE, notes = made or vectors_of(context, context.dataset.extended([], items=items))
    context.extend([], items=items, vectors_NE=vectors_NE)
    return notes


def asks_an_endpoint(context: Context) -> bool:
    """Whether vectors of new items come over a network, so that one may have to wait for them."""
    return context.stages.need_vectors and isinstance(context.recipe.vectors, EndpointVectors)


def vectors_of(context: Context, grown: Dataset, quick: bool = False) -> Made:
    """Of the items that ``grown`` has and the open run has not, made as the run's own were.

    ``quick`` is for who can come again: an endpoint is asked once, and waited for ``PATIENCE`` seconds at most.
    """
    if not context.stages.need_vectors:
        return None, []
    vectors, before = context.recipe.vectors, context.settled.n_items
    if not isinstance(vectors, TextVectors):
        return None, [f"vectors of {vectors.in_words()} come from no words, so a new item is like no other."]
    if quick and isinstance(vectors, EndpointVectors):
        vectors = vectors.model_copy(update={"retries": 0, "timeout": min(vectors.timeout, PATIENCE)})
    texts = item_texts(grown.catalogue.slice(before), grown.words.item)
    if not any(text.strip() for text in texts):
        width = context.vectors.vectors_NE.shape[1]
        return torch.zeros(len(texts), width), ["no new item has a word, so each is like no other."]
    tools = context.tools(vectors.needs_backbone)
    if vectors.dimensions is not None and context.vectors.pca is None:  # kept by an earlier version, without it: once more
        prepared = item_texts(grown.catalogue.slice(0, grown.known_items), grown.words.item)
        context.vectors = replace(context.vectors, pca=vectors.of_texts(prepared, tools).pca)
    return vectors.of_texts(texts, tools, pca=context.vectors.pca).vectors_NE, []


def _rows(context: Context, told: pa.Table, known: pa.Table) -> list[dict[str, str | list[str]]]:
    """Rows as ``Dataset.extended`` takes them: a field with several values is a list, as where the data were read."""
    separators = getattr(context.recipe.data.source, "lists", {})
    rows: list[dict[str, str | list[str]]] = told.to_pylist()
    for name in told.column_names:
        if is_list(known.column(name)):
            for row in rows:
                value = row[name]
                row[name] = value.split(separators.get(name, "|")) if isinstance(value, str) else value
    return rows


def _of_text(text: str, name: str, columns: list[str], problems: Problems) -> Rows | None:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=first.count)
    header = [word.strip().strip('"') for word in first.split(delimiter)]
    if columns[0] in header or (delimiter in first and name.endswith((".csv", ".tsv"))):
        return read_delimited(text.encode(), name, problems, wanted=columns)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        return None
    return Rows(name, pa.table({columns[0]: [line for _, line in lines]}), np.array([number for number, _ in lines]))
