"""A data set in which a user is forgotten is, for all others, the one that it was."""

from pathlib import Path

import pyarrow as pa
import torch

from lifelora.data.extend import Event
from lifelora.data.forget import forgotten
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut


def test_a_model_of_the_prepared_data_reads_others_as_before(tmp_path: Path):
    """The fields' values and their numbers stay, even where nobody else has a value; of the user nothing is known."""
    events = pa.table(
        {
            "user": [user for user in "abc" for _ in range(5)],
            "item": [str(n) for n in range(5)] * 3,
            "rating": pa.array([1.0, 5.0, 2.0, 4.0, 3.0] * 3, pa.float32()),
            "time": list(range(100, 105)) * 3,
        }
    )
    catalogue = pa.table({"item": [str(n) for n in range(5)], "title": [f"t{n}" for n in range(5)]})
    profiles = pa.table({"user": ["a", "b", "c"], "age": ["old", "aged", "young"], "city": ["x", "x", "y"]})
    dataset = prepare(RawTables(events, catalogue, profiles, Words()), Rules(min_history=1, split=LeaveOneOut()), tmp_path, "x")
    before = dataset.schema()
    assert len(set(before.user_fields_UF[:, 0].tolist())) == 3
    grown = forgotten(dataset, "b").extended([Event("d", "1", 5, 200), Event("b", "1", 5, 200)])
    after = forgotten(grown, "d").schema()
    assert (after.user_field_sizes, after.user_field_widths) == (before.user_field_sizes, before.user_field_widths)
    assert torch.equal(after.user_fields_UF[[0, 2]], before.user_fields_UF[[0, 2]])
    assert after.user_fields_UF[1].tolist() == [0, 0]
    assert dataset.schema().user_fields_UF.tolist() == before.user_fields_UF.tolist()
