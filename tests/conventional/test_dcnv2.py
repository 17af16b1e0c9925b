"""DCNv2 against its formula, both ways to put cross layers and DNN together."""

import numpy as np
import pytest

from lifelora.conventional.dcnv2 import DCNv2

from .contract import RecommenderContract
from .written import ROWS, Written


class TestParallel(RecommenderContract):
    config = DCNv2.Config(history_length=10, embedding=8, hidden=16, layers=2, cross_layers=2, init_std=0.3)
    golden = 0.6920323


class TestStacked(RecommenderContract):
    config = DCNv2.Config(
        structure="stacked", history_length=10, embedding=8, hidden=16, layers=1, cross_layers=1, user_id=True, init_std=0.3
    )
    golden = 0.6982821


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_it_equals_its_formula(data, structure):
    config = DCNv2.Config(
        structure=structure, history_length=8, embedding=4, hidden=6, layers=2, cross_layers=3, user_id=True, min_users=1
    )
    written = Written(config, data)
    for b in range(ROWS):
        start = crossed = np.concatenate(written.fields_and_past(b))
        for layer in range(3):
            crossed = start * written.layer(f"cross.{layer}", crossed) + crossed
        u = written.mlp("dnn", start if structure == "parallel" else crossed)
        last = np.concatenate([crossed, u]) if structure == "parallel" else u
        written.check(b, u, written.layer("out", last)[0])
