"""DuckDB over tables of Arrow: one database in a process, since to open one takes longer than most questions. Knows no column."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import duckdb
import pyarrow as pa


@contextmanager
def asked(**tables: pa.Table) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own that knows these tables by their names."""
    with _database(os.getpid()).cursor() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        yield connection


@cache
def _database(_: int) -> duckdb.DuckDBPyConnection:
    """By process: the threads of a database do not live on in a forked one."""
    database = duckdb.connect()
    database.execute("SET threads = 2")
    return database
