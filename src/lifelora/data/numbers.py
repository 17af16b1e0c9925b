"""Numbers that stand as text, and what DuckDB makes of each row. Knows no column's meaning."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float


def numbers(text: pa.Array | pa.ChunkedArray) -> Float[np.ndarray, "N"]:
    """Values of decimal texts; NaN where a text is not one."""
    text = pc.utf8_trim_whitespace(text)
    try:
        return np.array(text.cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid:  # some text is no number: find out which
        return evaluated("TRY_CAST(text AS DOUBLE)", pa.table({"text": text}))


def evaluated(expression: str, table: pa.Table, *parameters: str) -> Float[np.ndarray, "N"]:
    """A DuckDB expression over each row, with a ``?`` for each parameter, as float64; NaN where it is null."""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.register("rows", table)
        query = f"SELECT coalesce(({expression})::DOUBLE, 'nan'::DOUBLE) AS value FROM rows"
        answer = connection.execute(query, list(parameters))
        return np.array(answer.fetchnumpy()["value"], np.float64)
