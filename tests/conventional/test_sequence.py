"""What comes next, where it is known: every item has one successor, which some steps teach each sequence model."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from lifelora.conventional.caser import Caser
from lifelora.conventional.din import DIN
from lifelora.conventional.gru4rec import GRU4Rec
from lifelora.conventional.popularity import MostPopular
from lifelora.conventional.sasrec import SASRec
from lifelora.conventional.sequence import NextItem
from lifelora.data.candidates import Candidates
from lifelora.data.dataset import Dataset, Samples
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import UsersByTime
from lifelora.errors import ConfigError
from lifelora.evaluation.ranks import Ranks
from lifelora.types import Part

ITEMS, USERS, EACH = 24, 200, 9
SIZES = {"history_length": 8, "embedding": 16, "hidden": 8, "layers": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Users go round a ring of items, each from a place of their own; the last users are for test."""
    rng = np.random.default_rng(0)
    user_N = np.repeat(np.arange(USERS), EACH)
    item_N = (rng.integers(0, ITEMS, USERS)[:, None] + np.arange(EACH)).ravel() % ITEMS
    raw = RawTables(
        pa.table(
            {
                "user": [f"u{u:03}" for u in user_N],
                "item": [f"i{i:02}" for i in item_N],
                "rating": pa.array(np.full(len(user_N), 5.0), pa.float32()),
                "time": np.arange(len(user_N)),
            }
        ),
        pa.table({"item": [f"i{i:02}" for i in range(ITEMS)], "title": ["t"] * ITEMS}),
        pa.table({"user": [f"u{u:03}" for u in range(USERS)]}),
        Words(),
    )
    rules = Rules(min_history=2, split=UsersByTime(), candidates=Candidates(count=8))
    return prepare(raw, rules, tmp_path_factory.mktemp("ring"), "ring")


def batch(dataset: Dataset, part: Part, length: int, some: np.ndarray | None = None) -> Samples:
    rows = np.asarray(dataset.samples[part])
    return dataset.gather(dataset.targets(rows if some is None else rows[some]), length)


@pytest.mark.parametrize(
    "config", [SASRec.Config(**SIZES), GRU4Rec.Config(**SIZES), Caser.Config(**SIZES, heights=3)], ids=lambda config: config.kind
)
def test_the_successor_is_learnt(ring: Dataset, config: SASRec.Config | GRU4Rec.Config | Caser.Config):
    torch.manual_seed(0)
    module = NextItem(config.build(ring.schema()))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(120):
        optimizer.zero_grad()
        module.loss(batch(ring, "train", module.history_length, rng.integers(len(ring.samples["train"]), size=64))).backward()
        optimizer.step()
    module.eval()
    test = batch(ring, "test", module.history_length)
    with torch.no_grad():
        score_NM = module.scores(test).double().numpy()
        assert module.loss(test).item() == pytest.approx(
            -np.mean([s[t] - np.log(np.exp(s - s.max()).sum()) - s.max() for s, t in zip(score_NM, test.item_B, strict=True)]),
            rel=1e-4,
            abs=1e-6,
        )
    assert Ranks.of(score_NM, test.item_B.numpy()).hit(1).mean() > 0.9
    lists_NC = np.asarray(ring.lists["test"])
    column_N = (lists_NC == test.item_B.numpy()[:, None]).argmax(axis=1)
    listed = Ranks.of(np.take_along_axis(score_NM, lists_NC.astype(np.int64), axis=1), column_N)
    assert listed.hit(1).mean() >= Ranks.of(score_NM, test.item_B.numpy()).hit(1).mean()


def test_the_most_popular_are_counted_in_training_only(ring: Dataset):
    popular = MostPopular(ITEMS)
    popular.fit(ring)
    allowed = ring.training_events()
    assert popular.count_M.tolist() == np.bincount(ring.item_N[allowed], minlength=ITEMS).tolist()
    assert set(ring.user_N[allowed].tolist()) == set(range(160))  # of 200 users the first 160 in time
    assert torch.equal(*popular.scores(batch(ring, "test", 1)).unbind(0)[:2])


def test_a_model_that_knows_the_target_cannot_be_asked(ring: Dataset):
    with pytest.raises(ConfigError, match="DIN cannot rank what comes next"):
        NextItem(DIN.Config(embedding=4, hidden=4, layers=1).build(ring.schema()))


def test_new_items_are_no_candidates_in_training(ring: Dataset):
    torch.manual_seed(0)
    model = SASRec.Config(**SIZES).build(ring.schema()).eval()
    new = np.array([3, 7, 20])
    some = np.flatnonzero(~np.isin(ring.targets(np.asarray(ring.samples["train"])).item_B, new))[:32]
    module, samples = NextItem(model, new), batch(ring, "train", model.history_length, some)
    score_NM = module.scores(samples).detach().double().numpy()
    left = np.delete(np.arange(ITEMS), new)
    expected = -np.mean([s[t] - np.log(np.exp(s[left]).sum()) for s, t in zip(score_NM, samples.item_B, strict=True)])
    assert module.loss(samples).item() == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(score_NM).all()  # when it is asked, all items are candidates
    assert NextItem(model).loss(samples).item() != pytest.approx(expected, rel=1e-3)
