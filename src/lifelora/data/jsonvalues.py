"""Chosen values out of JSON objects, each object a text. Knows no file and no field's meaning."""

import re
from collections.abc import Mapping
from enum import IntEnum

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from lifelora.data.rows import Meaning, Problems, Rows, mask

ESCAPE = re.compile(
    r"\\(?:u(?P<high>[dD][89abAB][0-9a-fA-F]{2})(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    r'|u(?P<alone>[dD][c-fC-F][0-9a-fA-F]{2})|u[0-9a-fA-F]{4}|["\\/bfnrt]|(?P<odd>.?))'
)
"""Any escape of a line: a pair of surrogates, half of one, a code, a letter that JSON knows, or (odd) anything else."""
CONTROL = re.compile(r"[\x00-\x1f]")
LOST = "\\ufffd"


class Kind(IntEnum):
    """What a value was before it became a text."""

    SIMPLE = 0
    ARRAY = 1
    OBJECT = 2
    BOOLEAN = 3


def mended_line(line: str) -> str | None:
    """The line with its odd escapes and control characters mended; None where it has none."""
    odd = False

    def mend(found: re.Match[str]) -> str:
        nonlocal odd
        if (found["high"] and not found["low"]) or found["alone"]:
            odd = True
            return LOST
        if found["odd"] is None:
            return found[0]
        odd = True
        return "\\\\" + found["odd"]

    mended = CONTROL.sub(" ", ESCAPE.sub(mend, line))
    return mended if odd or CONTROL.search(line) else None


def extracted(texts: pa.Array, fields: Mapping[str, str]) -> pa.Table:
    """Each object's fields as texts (null where it has none), and ``good``: whether a text is a JSON object at all.

    A value that is an object or an array is its JSON. A path that holds ``*`` gives a JSON array of all that it leads to.
    """
    plain = [path for path in fields.values() if "*" not in path] or ["$"]
    columns = [
        f"CASE WHEN good THEN to_json(json_extract_string(line, {_sql(path)}))::VARCHAR END"
        if "*" in path
        else f"found[{plain.index(path) + 1}]"
        for path in fields.values()
    ]
    named = "".join(f", {column} AS column{at}" for at, column in enumerate(columns))
    # json_extract_string stops at a line that is no JSON, so only those that are come to it.
    table = _queried(
        f"""SELECT coalesce(good, false) AS good{named} FROM (
              SELECT *, CASE WHEN good THEN json_extract_string(line, [{", ".join(map(_sql, plain))}]) END AS found FROM (
                SELECT line, CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' END AS good FROM block))""",
        texts,
    )
    return table.rename_columns(["good", *fields])


def kinds(texts: pa.Array, fields: Mapping[str, str]) -> dict[str, UInt8[np.ndarray, "N"]]:
    """The ``Kind`` of each value that ``extracted`` found in these objects."""
    known = " ".join(f"WHEN '{kind.name}' THEN {int(kind)}" for kind in Kind)
    one = [
        f"{int(Kind.ARRAY)}" if "*" in path else f"CASE json_type(line, {_sql(path)}) {known} ELSE 0 END"
        for path in fields.values()
    ]
    named = ", ".join(f"({kind})::UTINYINT AS kind{at}" for at, kind in enumerate(one))
    table = _queried(f"SELECT {named} FROM block", texts)
    return dict(zip(fields, (column.to_numpy() for column in table.columns), strict=True))


def keys(text: str) -> list[str]:
    """The keys of an object."""
    return list(_queried("SELECT json_keys(line) AS found FROM block", pa.array([text])).column("found")[0].as_py())


def as_meant(rows: Rows, kind_of: Mapping[str, UInt8[np.ndarray, "N"]], meant: Mapping[str, Meaning], problems: Problems) -> Rows:
    """The rows with lists where a text or a field was an array in any row; what cannot be read so is a problem."""
    made = dict[str, pa.Array]()
    for name in rows.table.column_names:
        kind_N, column = kind_of[name], rows.table.column(name)
        if meant[name] == "number" and (kind_N == Kind.BOOLEAN).any():
            made[name] = pc.if_else(pa.array(kind_N == Kind.BOOLEAN), pc.if_else(pc.equal(column, "true"), "1", "0"), column)
        mend = f"say which value is meant: paths = {{ {name} = '$.{name}.KEY' }}"
        problems.add_rows(rows, name, kind_N == Kind.OBJECT, f"an object; {mend}")
        array_N = kind_N == Kind.ARRAY
        if not array_N.any():
            continue
        if meant[name] not in ("text", "field"):
            problems.add_rows(rows, name, array_N, f"a list; {mend.replace('.KEY', '[0]')}")
            continue
        table = pa.table({"value": column, "many": pa.array(array_N)})
        found = _queried(
            """SELECT many AND value <> '' AS listed,
                      CASE WHEN listed THEN list_filter(from_json(value, '["VARCHAR"]'), lambda one: one IS NOT NULL)
                           WHEN value = '' THEN [] ELSE [value] END AS list,
                      CASE WHEN listed THEN json_type(value, '/0') IN ('ARRAY', 'OBJECT') END AS deep FROM block""",
            table,
        )
        problems.add_rows(rows, name, mask(found.column("deep")), f"a list of objects; {mend.replace('.KEY', '[*].KEY')}")
        made[name] = found.column("list").combine_chunks().cast(pa.list_(pa.string()))
    return rows.with_columns(**made) if made else rows


def _sql(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"


def _queried(query: str, block: pa.Array | pa.Table) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.register("block", block if isinstance(block, pa.Table) else pa.table({"line": block}))
        return connection.sql(query).to_arrow_table()
