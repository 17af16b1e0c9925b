"""Vectors from a file: found by id, whatever the order; what is wrong with the file is said with its mend."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lifelora.errors import ConfigError
from lifelora.vectors.base import Tools
from lifelora.vectors.pca import reduced
from lifelora.vectors.precomputed import Precomputed, by_item
from log_world import log_of


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Items i000 to i004."""
    return log_of([[0, 1, 2, 3, 4]], 5, tmp_path_factory.mktemp("shop"))


def written(path: Path, items, vectors, kind=None) -> Precomputed:
    pq.write_table(pa.table({"item": pa.array(items), "vector": pa.array(vectors, kind), "more": [0] * len(items)}), path)
    return Precomputed(path=str(path))


IDS = ["i003", "i001", "i000", "i002", "i004"]
ROWS = [[3.0, 1.0], [1.0, 0.0], [0.5, 0.0], [2.0, 2.0], [4.0, -1.0]]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 2)], ids=str)
def test_vectors_are_found_by_id(shop, tmp_path, kind):
    rows = np.float16(ROWS) if "halffloat" in str(kind) else ROWS
    config = written(tmp_path / "v.parquet", IDS, list(rows), kind)
    made = config.of_items(shop, Tools())
    assert made.vectors_NE.tolist() == [ROWS[2], ROWS[1], ROWS[3], ROWS[0], ROWS[4]]
    assert made.notes == ()
    fewer = config.model_copy(update={"dimensions": 1}).of_items(shop, Tools()).vectors_NE
    torch.testing.assert_close(fewer, reduced(made.vectors_NE, 1))


def test_what_one_side_lacks_is_counted(shop, tmp_path):
    made = written(tmp_path / "v.parquet", ["x", "i003", "y", "i001", "i000"], ROWS).of_items(shop, Tools())
    assert made.vectors_NE.tolist() == [ROWS[4], ROWS[3], [0, 0], ROWS[1], [0, 0]]
    lacking, unknown = made.notes
    assert lacking.startswith("2 of 5 items have no vector in 'v.parquet' (the first of them is 'i002')")
    assert unknown.startswith("2 of 5 vectors in 'v.parquet' are of items that the data do not have")


@pytest.mark.parametrize(
    ("items", "vectors", "message"),
    [
        (["i000", "i001", "i001"], [[1.0], [2.0], [3.0]], "more than one vector for each of 1 items, the first being 'i001'"),
        (["i000", None], [[1.0], [2.0]], "lacks the id in 1 of 2 rows"),
        ([0.5, 1.5], [[1.0], [2.0]], "ids of type double"),
        (["a", "b"], [[1.0], [2.0]], "a vector of none of the 5 items: its ids are like 'a', those of the data like 'i000'"),
        (["i000", "i001", "i002"], [[1.0, 2.0], [2.0, 1.0], [3.0]], "2 numbers in most of them, 1 in that of item 'i002'"),
        (["i000", "i001", "i002"], [[1.0], None, [2.0]], "1 numbers in most of them, 0 in that of item 'i001'"),
        (
            ["i000", "i001"],
            [[1.0, None], [2.0, 1.0]],
            "no finite float32 numbers in 1 vectors, the first being that of item 'i000'",
        ),
        (["i000", "i001"], [[1.0], [1e300]], "no finite float32 numbers in 1 vectors, the first being that of item 'i001'"),
        (["i000", "i001"], [["a"], ["b"]], "where lists of numbers belong"),
        (["i000", "i001"], [1.0, 2.0], "has double in 'vector', where lists of numbers belong"),
        (["i000"], [[]], "has list<.*: null> in 'vector'|no vectors, or empty ones"),
    ],
)
def test_what_is_wrong_is_said(shop, tmp_path, items, vectors, message):
    with pytest.raises(ConfigError, match=message) as raised:
        written(tmp_path / "v.parquet", items, vectors).of_items(shop, Tools())
    assert "What belongs there is a Parquet file" in str(raised.value)


def test_no_file_another_file_and_other_columns(shop, tmp_path):
    with pytest.raises(ConfigError, match="there is no file 'nowhere.parquet'"):
        Precomputed(path="nowhere.parquet").of_items(shop, Tools())
    (tmp_path / "v.csv").write_text("item,vector\n")
    with pytest.raises(ConfigError, match="is no Parquet file"):
        Precomputed(path=str(tmp_path / "v.csv")).of_items(shop, Tools())
    pq.write_table(pa.table({"item": ["a"], "embedding": [[1.0]]}), tmp_path / "v.parquet")
    with pytest.raises(ConfigError, match="has no column 'vector'; its columns are item, embedding"):
        Precomputed(path=str(tmp_path / "v.parquet")).of_items(shop, Tools())


def test_damaged_files_are_refused_by_name(shop, tmp_path):
    """Arrow raises OSError for most damage and UnicodeDecodeError for some."""
    config = written(tmp_path / "v.parquet", shop.items.outside(range(shop.n_items)), [[1.0, 2.0]] * shop.n_items)
    whole, refused = (tmp_path / "v.parquet").read_bytes(), 0
    random = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 3).tolist():
            data[place] = int(random.integers(256))
        (tmp_path / "v.parquet").write_bytes(data)
        try:
            vectors_MD, _ = by_item(config.path, "vectors.path", shop.items)
        except ConfigError as error:
            refused += "vectors.path = " in str(error)
        else:
            assert vectors_MD.isfinite().all()
    assert refused > 50
