"""Items without words, as a control: a number in place of all that is said of one. Knows a catalogue, no prompt and no model.

    Lighthouse of Silly Curses (horror)        item 417

The number is drawn by seed, so it tells neither when an item came nor of what kind it is. Users keep their profiles.
"""

from copy import copy

import pyarrow as pa

from lifelora import seeds
from lifelora.data.dataset import Dataset

UNNAMED = "titles-as-ids"
"""The control's name in a recipe."""
STREAM = "titles as ids"
IN_WORDS = "ids for titles"


def unnamed(dataset: Dataset, seed: int) -> Dataset:
    """The data set as prompts tell it: each item has a number for a title, and nothing else. All else is shared.

    An item that came after the data were prepared goes on where the drawn numbers end, for those of the others must stay.
    """
    known, catalogue = dataset.known_items, dataset.catalogue
    numbers = [*(1 + seeds.generator(seed, STREAM).permutation(known)).tolist(), *range(known + 1, dataset.n_items + 1)]
    told = {"item": catalogue.column("item"), "title": pa.array([f"item {number}" for number in numbers])}
    columns = [told.get(field.name, pa.nulls(len(catalogue), field.type)) for field in catalogue.schema]
    other = copy(dataset)
    other.__dict__.pop("titles", None)
    other.catalogue = pa.table(columns, names=catalogue.column_names)
    return other
