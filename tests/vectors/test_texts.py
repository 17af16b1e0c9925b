"""What is said of an item: all that the catalogue has in words, on one line."""

import pyarrow as pa

from lifelora.vectors.texts import item_texts

CATALOGUE = pa.table(
    {
        "item": ["1", "2", "3", "4"],
        "title": ["Heat", "", "", "Two\nlines "],
        "genre": ["Crime", "Drama", "", ""],
        "description": ["Two men.", "", " ", None],
    }
)


def test_item_texts():
    assert item_texts(CATALOGUE, "film") == ["The film Heat. Genre: Crime. Two men.", "Genre: Drama.", "", "The film Two lines."]


def test_names_of_columns_are_one_line():
    assert item_texts(pa.table({"item": ["1"], "title": ["Heat"], "a\nb": ["c\u2028d"]}), "film") == ["The film Heat. A b: c d."]
