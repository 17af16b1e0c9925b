"""C(u) of some tokens: what each part gets is what it gets alone, and no other token gets anything."""

import pytest
import torch
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.lora.placed import Parts, Placed
from lifelora.lora.structure import Column, Dense, Diagonal, Gated, RankOne, Structure

LAYERS, N, P, I = 2, 3, 4, 5  # noqa: E741


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def gate(seen_TX: Tensor) -> Tensor:
    return seen_TX @ draw(I + 6, 2)


STRUCTURES: dict[str, Structure] = {
    "dense": Dense(draw(LAYERS, N, 3, P)),
    "diagonal": Diagonal(draw(LAYERS, N, 2), 2),
    "rank one": RankOne(draw(LAYERS, N, 2), 2),
    "column": Column(draw(LAYERS, N, 3), P),
    "gated, weights": Gated(draw(LAYERS, N, 6), (gate, gate), 2, 2, 0.5, "weights"),
    "gated, outputs": Gated(draw(LAYERS, N, 6), (gate, gate), 2, 2, 0.5, "outputs"),
}
PARTS = {  # by token: the part that it is in; 3 is none
    "packed": [0, 0, 0, 1, 1, 2, 2, 2, 1, 0, 0, 2],
    "questions": [3, 3, 3, 3, 0, 0, 1, 1, 1, 1, 2, 2],
    "a stretch": [3, 3, 3, 0, 0, 0, 1, 1, 1, 2, 2, 2],
    "all": [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
    "one of none": [0, 3, 0, 3, 2, 2, 3, 0, 3, 2, 2, 3],
}


def parts(of_T: Tensor) -> Parts:
    tokens = [(of_T == part).nonzero()[:, 0] for part in range(N)]
    width = max(map(len, tokens))
    index_NX = torch.stack([torch.cat([t, torch.zeros(width - len(t), dtype=torch.int64)]) for t in tokens])
    return Parts(index_NX, torch.arange(width) < torch.tensor(list(map(len, tokens)))[:, None])


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("case", PARTS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_each_part_gets_what_it_gets_alone(name: str, case: str, rows: int):
    inner, of_T = STRUCTURES[name], torch.tensor(PARTS[case])
    T = len(of_T)
    h_PT, x_TI = draw(inner.rows, T).requires_grad_(), draw(T, I)
    placed = Placed.of(inner, {T: parts(of_T)}, rows)
    h_BPL = h_PT.view(-1, rows, T // rows).transpose(0, 1)
    found_QT = placed.couple(1, h_BPL, x_TI.view(rows, T // rows, I)).transpose(0, 1).reshape(inner.columns, T)
    columns = []
    for token, part in enumerate(of_T.tolist()):  # one token and one C at a time
        if part == N:
            columns.append(torch.zeros(inner.columns, dtype=torch.float64))
            continue
        alone = inner.at(torch.tensor([part]))
        columns.append(alone.couple(1, h_PT[None, :, token : token + 1], x_TI[None, token : token + 1])[0, :, 0])
    expected_QT = torch.stack(columns, dim=1)
    assert (found_QT - expected_QT).abs().max() < 1e-12
    weights_QT = draw(inner.columns, T)
    ours, theirs = (torch.autograd.grad((y * weights_QT).sum(), h_PT)[0] for y in (found_QT, expected_QT))
    assert (ours - theirs).abs().max() < 1e-12


def test_what_comes_into_a_layer_is_gathered_where_it_is_looked_at():
    """x of a wide model costs more than all else here."""
    of_T = torch.tensor(PARTS["packed"])
    T = len(of_T)
    nowhere = torch.empty(1, T, I, device="meta", dtype=torch.float64)  # whoever reads it gives no numbers
    for name, inner in STRUCTURES.items():
        placed = Placed.of(inner, {T: parts(of_T)})
        if name.startswith("gated"):
            with pytest.raises(Exception, match="meta|device"):
                placed.couple(0, draw(1, inner.rows, T), nowhere)
        else:
            assert placed.couple(0, draw(1, inner.rows, T), nowhere).device.type == "cpu"


def test_one_tree_is_coupled_without_a_copy():
    seen: list[Tensor] = []

    def spy(layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        seen.append(h_BPL)
        return h_BPL

    inner = Dense(draw(LAYERS, 1, P, P))
    object.__setattr__(inner, "couple", spy)
    h_1PL = draw(1, P, 7)
    whole = Parts(torch.arange(7)[None], torch.ones(1, 7, dtype=torch.bool))
    out = Placed.of(inner, {7: whole}).couple(0, h_1PL, draw(1, 7, I))
    assert seen[0].data_ptr() == h_1PL.data_ptr() == out.data_ptr()


def test_it_is_not_one_matrix_each_row():
    of_T = torch.tensor(PARTS["all"])
    with pytest.raises(ConfigError, match="couplings of a batch's parts are not one matrix each row"):
        Placed.of(STRUCTURES["dense"], {len(of_T): parts(of_T)}).dense(0)
