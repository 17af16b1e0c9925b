"""The adaptor against its formula expert by expert, the state that is read, and a world that only the knowledge explains."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from lifelora.conventional import AnyRecommender
from lifelora.conventional.base import ExtraFields
from lifelora.conventional.deepfm import DeepFM
from lifelora.conventional.din import DIN
from lifelora.data.dataset import Dataset, Samples
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.errors import ConfigError
from lifelora.knowledge.experts import KnowledgeExperts, KnowledgeFields, Known

K, E = 5, 3
SMALL = KnowledgeExperts(shared=2, specific=3, hidden=4)
# Three users with 2, 0 and 3 states, seven items; item 2 and state 4 (the third user's last) say nothing.
FIRST, STATES, EVERY = torch.tensor([0, 2, 2]), torch.tensor([2, 0, 3]), 10


def known(seed: int = 0) -> Known:
    rng = torch.Generator().manual_seed(seed)
    item_MK, state_NK = torch.randn(7, K, generator=rng), torch.randn(5, K, generator=rng)
    item_MK[2], state_NK[4] = 0, 0
    return Known(item_MK, state_NK, FIRST, STATES, EVERY)


def asked(users: list[int], items: list[int], positions: list[int]) -> Samples:
    B = len(users)
    none = torch.zeros(B, 0, dtype=torch.int64)
    return Samples(torch.tensor(users), torch.tensor(items), torch.zeros(B), none, none, none.bool(), torch.tensor(positions))


def made(config: KnowledgeExperts = SMALL) -> KnowledgeFields:
    """With all weights drawn anew, so that nothing stays at zero."""
    torch.manual_seed(1)
    fields = KnowledgeFields(config, known(), E)
    for parameter in fields.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return fields


def written_out(fields: KnowledgeFields, source: str, x: np.ndarray) -> np.ndarray:
    """KAR's a_s(x) = Σ_e softmax(W_s x + c_s)_e · ReLU(W'_e ReLU(W_e x + b_e) + b'_e), in double precision, shared ones first."""
    w = {name: p.double().numpy() for name, p in fields.state_dict().items()}
    g = np.exp(w[f"{source}.gate.weight"] @ x + w[f"{source}.gate.bias"])
    g, a, number = g / g.sum(), np.zeros(E), 0
    for stack in ("shared", f"{source}.own"):
        for e, (W_out, b_out) in enumerate(zip(w[f"{stack}.weight_NHE"], w[f"{stack}.bias_NE"], strict=True)):
            H = slice(e * len(W_out), (e + 1) * len(W_out))
            h = np.maximum(w[f"{stack}.into.weight"][H] @ x + w[f"{stack}.into.bias"][H], 0)
            a += g[number] * np.maximum(h @ W_out + b_out, 0)
            number += 1
    assert number == len(g)
    return a


@torch.no_grad()
def test_it_equals_its_formula():
    fields = made()
    item_MK, state_NK = known().item_MK.double().numpy(), known().state_NK.double().numpy()
    users, items, positions = [0, 0, 2, 1, 2, 2], [6, 0, 2, 2, 6, 6], [10, 57, 29, 40, 9, 33]
    rows = [0, 1, 3, None, None, 4]  # state 2 of two; state 2 of three; never any; not yet; the last, which says nothing
    found_BFE = fields(asked(users, items, positions)).numpy()
    for found_FE, item, row in zip(found_BFE, items, rows, strict=True):
        of_user = (
            fields.nobody_E.numpy()
            if row is None
            else fields.user.nothing_E.numpy()
            if row == 4
            else written_out(fields, "user", state_NK[row])
        )
        of_item = fields.item.nothing_E.numpy() if item == 2 else written_out(fields, "item", item_MK[item])
        assert np.abs(found_FE - [of_user, of_item]).max() < 1e-6


@torch.no_grad()
def test_dropout_comes_after_the_last_layer_too():
    """Experts that put out 1 whatever they read, and a gate for one of them alone: half of the entries go, the rest double."""
    fields = KnowledgeFields(KnowledgeExperts(shared=1, specific=1, hidden=2, dropout=0.5), known(), 1000)
    for parameter in fields.parameters():
        parameter.zero_()
    fields.shared.bias_NE.fill_(1)
    fields.item.own.bias_NE.fill_(1)
    fields.item.gate.bias[0] = 1000
    field_E = fields.train()(asked([0], [1], [5]))[0, 1]
    assert sorted(field_E.unique().tolist()) == [0, 2]
    assert (field_E == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)  # six standard deviations of a half of 1,000
    assert fields.eval()(asked([0], [1], [5]))[0, 1].tolist() == [1] * 1000


def test_fields_start_about_as_small_as_those_of_the_table():
    many = Known(torch.randn(500, 64), torch.randn(500, 64), torch.tensor([0]), torch.tensor([500]), 1)
    fields = KnowledgeFields(KnowledgeExperts(hidden=32), many, 16, init_std=0.02)
    # An entry of x is about 1, so W x + b has the variance 1/3 + 1/(3·64) (as nn.Linear starts), half of whose square a ReLU
    # keeps. With 32 hidden units the last layer's z has the variance v = 0.02² · 32 · 0.169, and its ReLU the mean sqrt(v / 2π)
    # and the variance v/2 - v/2π. The gate's logits have the variance 1/3, so Σ_e g_e² is about exp(1/3) / 7 = 0.2 over 7
    # experts, and Σ_e g_e = 1: the mean square is v/2π + 0.2 · (v/2 - v/2π) = 0.227 v, of which 0.0222 is the root.
    rms = fields(asked([0] * 500, list(range(500)), list(range(1, 501)))).square().mean().sqrt().item()
    assert rms == pytest.approx(0.0222, rel=0.1)
    assert not any(p.any() for p in (fields.nobody_E, fields.user.nothing_E, fields.item.nothing_E))


@pytest.mark.parametrize(("users", "items"), [(True, True), (True, False), (False, True)])
def test_one_source_or_both(users: bool, items: bool):
    config = SMALL.model_copy(update={"user": users, "item": items})
    fields, both = made(config), asked([0, 2, 1], [1, 2, 3], [25, 31, 4])
    assert isinstance(fields, ExtraFields)
    assert (fields.n_user_fields, fields.n_fields) == (users, users + items)
    assert fields(both).shape == (3, users + items, E)
    expert = K * 4 + 4 + 4 * E + E  # W, b, W', b'
    source = 3 * expert + 5 * K + 5 + E  # its own experts, its gate over five with a bias, ``nothing``
    assert sum(p.numel() for p in fields.parameters()) == 2 * expert + (users + items) * source + users * E


def test_no_source_is_refused():
    with pytest.raises(ValidationError, match="user = false and item = false leave no field"):
        KnowledgeExperts(user=False, item=False)


def test_a_world_without_a_state_is_refused_unless_only_items_are_read():
    empty = replace(known(), state_NK=torch.zeros(0, K), states_U=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ConfigError, match="no user has as many as 10 events"):
        KnowledgeFields(SMALL, empty, E)
    assert KnowledgeFields(KnowledgeExperts(user=False), empty, E)(asked([1], [2], [3])).shape == (1, 1, E)


@settings(max_examples=60)
@given(st.integers(1, 12), st.lists(st.integers(0, 60), min_size=1, max_size=6), st.data())
def test_a_state_knows_neither_the_target_nor_what_comes_after(every: int, events: list[int], draw: st.DataObject):
    """State s of a user is written when s·every events have happened; the rows tell user and s here."""
    told = [(user, s) for user, count in enumerate(events) for s in range(1, count // every + 1)]
    states_U = torch.tensor([count // every for count in events])
    told = told or [(-1, 0)]
    state_NK = torch.tensor(told, dtype=torch.float32)
    about = Known(torch.zeros(1, 2), state_NK, states_U.cumsum(0) - states_U, states_U, every)
    fields = KnowledgeFields(KnowledgeExperts(item=False, hidden=2), about, 1)
    users = draw.draw(st.lists(st.integers(0, len(events) - 1), min_size=1, max_size=8))
    # From the user's first event to what is asked after all of them.
    positions = [draw.draw(st.integers(0, events[user])) for user in users]
    rows_B, known_B = fields.states(asked(users, [0] * len(users), positions))
    for user, position, row, is_known in zip(users, positions, rows_B.tolist(), known_B.tolist(), strict=True):
        assert is_known == (position >= every)
        if is_known:
            of, s = told[row]
            assert of == user
            assert s * every <= position < (s + 1) * every  # nothing later, and the latest that there is


def test_a_position_beyond_what_was_written_reads_the_last_state():
    rows_B, known_B = made().states(asked([0, 2, 1], [0, 0, 0], [999, 999, 999]))
    assert rows_B.tolist() == [1, 4, 0]
    assert known_B.tolist() == [True, True, False]


@torch.no_grad()
def test_rows_of_the_same_item_are_the_same_and_half_precision_is_read_too():
    fields, batch = made(), asked([0, 2, 0], [4, 4, 4], [12, 12, 12])
    found_BFE = fields(batch)
    assert torch.equal(found_BFE[0], found_BFE[2])
    assert torch.equal(found_BFE[0, 1], found_BFE[1, 1])
    half = replace(known(), item_MK=known().item_MK.half(), state_NK=known().state_NK.half())
    other = KnowledgeFields(SMALL, half, E)
    other.load_state_dict(fields.state_dict())
    assert other(batch).dtype == torch.float32
    torch.testing.assert_close(other(batch), found_BFE, rtol=0.01, atol=0.01)


USERS, ITEMS, EACH = 40, 40, 24


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ratings that say nothing: every log is a draw of items, all rated alike."""
    rng = np.random.default_rng(3)
    user_N = np.repeat(np.arange(USERS), EACH)
    item_N = np.concatenate([rng.permutation(ITEMS)[:EACH] for _ in range(USERS)])
    raw = RawTables(
        pa.table(
            {
                "user": [f"u{u:02}" for u in user_N],
                "item": [f"i{i:02}" for i in item_N],
                "rating": pa.array(np.full(len(user_N), 5.0), pa.float32()),
                "time": np.tile(np.arange(EACH), USERS) * USERS + user_N,
            }
        ),
        pa.table({"item": [f"i{i:02}" for i in range(ITEMS)], "title": ["t"] * ITEMS}),
        pa.table({"user": [f"u{u:02}" for u in range(USERS)]}),
        Words(),
    )
    return prepare(raw, Rules(min_history=2), tmp_path_factory.mktemp("known"), "known")


@pytest.mark.parametrize(
    "config",
    [
        DeepFM.Config(history_length=5, embedding=8, hidden=16, layers=1, dropout=0.0),
        DIN.Config(history_length=5, embedding=8, hidden=16, layers=2, dropout=0.0),
    ],
    ids=lambda config: config.kind,
)
def test_what_only_the_knowledge_tells_is_learnt_with_it_alone(world: Dataset, config: AnyRecommender):
    """A user likes, from state to state another one, one of two kinds of items; who does when is told by the vectors only."""
    every, rng = 2, torch.Generator().manual_seed(0)
    states_U = torch.full((USERS,), EACH // every)
    N = int(states_U.sum())
    kind_M, kind_N = (torch.randint(2, (n,), generator=rng).float() * 2 - 1 for n in (ITEMS, N))
    direction_2K = torch.randn(2, 16, generator=rng)
    item_MK, state_NK = (
        kind[:, None] * direction_K + 0.3 * torch.randn(len(kind), 16, generator=rng)
        for kind, direction_K in zip((kind_M, kind_N), direction_2K, strict=True)
    )
    about = Known(item_MK, state_NK, states_U.cumsum(0) - states_U, states_U, every)

    def batch(rows: np.ndarray) -> Samples:
        samples = world.gather(world.targets(np.asarray(rows)), config.history_length)
        s_B = samples.position_B // every
        kind_B = kind_N[samples.user_B * (EACH // every) + s_B - 1]
        return replace(samples, label_B=(kind_B == kind_M[samples.item_B]).float())

    def auc(extra: KnowledgeFields | None) -> float:
        model = config.build(world.schema(), extra)
        optimizer, draw = torch.optim.Adam(model.parameters(), lr=1e-2), np.random.default_rng(0)
        for _ in range(150):
            optimizer.zero_grad()
            model.loss(batch(draw.choice(world.samples["train"], 128))).backward()
            optimizer.step()
        test = batch(np.concatenate([world.samples["valid"], world.samples["test"]]))
        with torch.no_grad():
            return float(roc_auc_score(test.label_B.numpy(), model.eval().score(test).numpy()))

    torch.manual_seed(0)
    assert 0.35 < auc(None) < 0.65
    assert auc(KnowledgeFields(KnowledgeExperts(hidden=16), about, config.embedding)) > 0.97
