"""AutoInt against its formula, field by field and head by head."""

import numpy as np
import pytest
from pydantic import ValidationError

from lifelora.conventional.autoint import AutoInt

from .contract import RecommenderContract
from .written import ROWS, Written, relu, softmax


class TestAutoInt(RecommenderContract):
    config = AutoInt.Config(history_length=10, embedding=16, attention_hidden=16, attention_layers=2, init_std=0.3)
    golden = 0.6892949


class TestAutoIntBesideADNN(RecommenderContract):
    config = AutoInt.Config(
        history_length=10,
        embedding=8,
        attention_hidden=8,
        attention_layers=1,
        heads=2,
        user_id=True,
        structure="parallel",
        hidden=16,
        layers=1,
        init_std=0.3,
    )
    golden = 0.6923416


def attended(written: Written, name: str, x: list[np.ndarray], heads: int) -> list[np.ndarray]:
    """x'_m = ReLU([… ; Σ_k a_mk V x_k ; …] + R x_m), a_m = softmax_k <Q x_m, K x_k>."""
    Q, K, V, R = np.split(written.w[f"{name}.project.weight"], 4)
    states = []
    for x_m in x:
        read = []
        for Q_h, K_h, V_h in zip(np.split(Q, heads), np.split(K, heads), np.split(V, heads), strict=True):
            a = softmax(np.array([(Q_h @ x_m) @ (K_h @ x_k) for x_k in x]))
            read.append(sum(a_k * (V_h @ x_k) for a_k, x_k in zip(a, x, strict=True)))
        states.append(relu(np.concatenate(read) + R @ x_m))
    return states


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("structure", ["attention", "parallel"])
def test_it_equals_its_formula(data, structure, heads):
    config = AutoInt.Config(
        structure=structure,
        history_length=8,
        embedding=4,
        attention_hidden=6,
        attention_layers=2,
        heads=heads,
        hidden=5,
        layers=2,
        user_id=True,
        min_users=1,
    )
    written = Written(config, data)
    assert written.model.width == (5 * 6 if structure == "attention" else 5)  # five fields: id, age, item, genre, past
    for b in range(ROWS):
        x = written.fields_and_past(b)
        u = np.concatenate(attended(written, "attention.1", attended(written, "attention.0", x, heads), heads))
        logit = written.layer("out", u)[0]
        if structure == "parallel":
            u = written.mlp("dnn", np.concatenate(x))
            logit += written.layer("out_of_dnn", u)[0]
        written.check(b, u, logit)


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="attention_hidden = 10 is not a multiple of heads = 4"):
        AutoInt.Config(attention_hidden=10, heads=4)
