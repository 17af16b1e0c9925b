"""EASE, ItemKNN, ALS and BPR: against the same problem solved otherwise, implicit's own answers, and worlds that tell."""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from lifelora.conventional.als import ALS
from lifelora.conventional.base import Recommender
from lifelora.conventional.bpr import BPR
from lifelora.conventional.collaborative import Likes, Next, platt, sharpness
from lifelora.conventional.ease import EASE
from lifelora.conventional.itemknn import ItemKNN
from lifelora.data.dataset import Dataset, Samples
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ConfigError, MissingExtraError

from .contract import RecommenderContract, extra_fields


class TestEASE(RecommenderContract):
    config = EASE.Config(history_length=30, regularization=5.0)
    golden = 0.1200719


class TestItemKNN(RecommenderContract):
    config = ItemKNN.Config(history_length=30, neighbours=10)
    golden = 0.0789984


class TestALS(RecommenderContract):
    config = ALS.Config(history_length=30, factors=4)
    golden = 0.0927990


class TestBPR(RecommenderContract):
    config = BPR.Config(factors=4)
    golden = 0.0273387


CONFIGS = [
    EASE.Config(history_length=100, regularization=3.0),
    *(ItemKNN.Config(history_length=100, neighbours=8, similarity=how) for how in ("cosine", "tf-idf", "bm25")),
    ALS.Config(history_length=100, factors=5, alpha=3.0, regularization=0.1),
    BPR.Config(factors=5, iterations=20, learning_rate=0.05),
]


def prepared(folder: Path, log: dict[str, list[object]], **rules: object) -> Dataset:
    catalogue = pa.table({"item": sorted({*log["item"]}), "title": sorted({*log["item"]})})
    profiles = pa.table({"user": sorted({*log["user"]})})
    table = pa.table({**log, "rating": pa.array(log["rating"], pa.float32())})
    return prepare(RawTables(table, catalogue, profiles, Words()), Rules(split=LeaveOneOut(), **rules), folder, "small")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 users, 30 items, events in three groups of items; some items come twice, and a third are not liked."""
    rng = np.random.default_rng(5)
    log: dict[str, list[object]] = {"user": [], "item": [], "rating": [], "time": []}
    for user in range(60):
        for time in range(rng.integers(8, 20)):
            item = 10 * (user % 3) + rng.integers(10) if rng.random() < 0.8 else rng.integers(30)
            for name, value in zip(log, (f"u{user:02}", f"i{item:02}", float(rng.choice([1, 4, 5])), time), strict=True):
                log[name].append(value)
    return prepared(tmp_path_factory.mktemp("shop"), log, min_history=3)


def fitted(config: Recommender.Config, data: Dataset) -> tuple[Likes, Next]:
    torch.manual_seed(0)
    likes = config.build(data.schema())
    torch.manual_seed(0)
    after = config.build(data.schema()).ranker()
    for model in (likes, after):
        model.fit(data)
    return likes, after


def asked(data: Dataset, length: int, part: str = "test") -> Samples:
    return data.gather(data.targets(np.asarray(data.samples[part])), length)


def choices(data: Dataset, *, likes: bool, rows: np.ndarray | None = None) -> csr_matrix:
    """Users by items by hand: of training events, or of what a target may see."""
    matrix = np.zeros((data.n_users, data.n_items), np.float32)
    for row in data.training_events() if rows is None else rows:
        if data.label_N[row] or not likes:
            matrix[data.user_N[row], data.item_N[row]] = 1
    return csr_matrix(matrix)


def visible(data: Dataset, *, likes: bool) -> csr_matrix:
    """Of each test target, a row."""
    rows = np.asarray(data.samples["test"])
    seen = [choices(data, likes=likes, rows=np.arange(data.log.offsets[data.user_N[row]], row))[data.user_N[row]] for row in rows]
    return csr_matrix(np.vstack([one.toarray() for one in seen]))


@pytest.mark.parametrize("likes", [True, False])
def test_ease_is_a_ridge_regression_of_each_item_on_the_others(shop: Dataset, likes: bool):
    likes_model, next_model = fitted(CONFIGS[0], shop)
    x_UM = choices(shop, likes=likes).toarray().astype(np.float64)
    B_MM = np.zeros((shop.n_items, shop.n_items))
    for item in range(shop.n_items):
        others = np.delete(np.arange(shop.n_items), item)
        ridge = Ridge(alpha=3.0, fit_intercept=False).fit(x_UM[:, others], x_UM[:, item])
        B_MM[others, item] = ridge.coef_
    model = likes_model.scores if likes else next_model.of
    np.testing.assert_allclose(model.B_MM.numpy(), B_MM, atol=1e-6)
    batch = asked(shop, 100)
    np.testing.assert_allclose(model.of_all(model.chosen(batch)).numpy(), visible(shop, likes=likes) @ B_MM, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS[1:], ids=lambda config: f"{config.kind} {getattr(config, 'similarity', '')}")
def test_scores_are_those_of_implicits_own_recommend(shop: Dataset, config: Recommender.Config):
    """Its order of all items and its scores, for the visible history of each target."""
    from implicit import nearest_neighbours
    from implicit.cpu.als import AlternatingLeastSquares
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    _, ours = fitted(config, shop)
    names = {"cosine": "CosineRecommender", "tf-idf": "TFIDFRecommender", "bm25": "BM25Recommender"}
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(config, ItemKNN.Config):
            theirs = getattr(nearest_neighbours, names[config.similarity])(K=8, num_threads=1)
        elif isinstance(config, ALS.Config):
            theirs = AlternatingLeastSquares(
                factors=5, alpha=3.0, regularization=0.1, num_threads=1, random_state=ours.of.seed, iterations=15
            )
        else:
            theirs = BayesianPersonalizedRanking(
                factors=5, learning_rate=0.05, iterations=20, num_threads=1, random_state=ours.of.seed
            )
        theirs.fit(choices(shop, likes=False), show_progress=False)
        batch, seen_BM = asked(shop, config.build(shop.schema()).history_length), visible(shop, likes=False)
        score_BM = ours.scores(batch).numpy()
        options = {"recalculate_user": True} if isinstance(config, ALS.Config) else {}
        for row, user in enumerate(batch.user_B.tolist()):
            items, scores = theirs.recommend(user, seen_BM[row], N=shop.n_items, filter_already_liked_items=False, **options)
            items, scores = items[scores > -1e30], scores[scores > -1e30]
            np.testing.assert_allclose(score_BM[row, items], scores, rtol=1e-3, atol=1e-4)
            if not isinstance(config, ItemKNN.Config):  # it leaves out what no neighbour votes for
                assert len(items) == shop.n_items
            else:
                assert not np.delete(score_BM[row], items).any()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind} {getattr(config, 'similarity', '')}")
def test_the_score_of_one_item_is_that_of_all_and_an_item_that_came_later_has_none(shop: Dataset, config: Recommender.Config):
    likes, _ = fitted(config, shop)
    batch = asked(shop, likes.history_length)
    chosen = likes.scores.chosen(batch)
    one_B = likes.scores.of_one(chosen, batch.item_B)
    torch.testing.assert_close(one_B, likes.scores.of_all(chosen)[torch.arange(len(one_B)), batch.item_B], rtol=1e-4, atol=1e-5)
    assert not likes.scores.of_one(chosen, torch.full_like(batch.item_B, shop.n_items)).any()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind} {getattr(config, 'similarity', '')}")
def test_many_items_are_put_to_one_past(shop: Dataset, config: Recommender.Config):
    """More than are folded in together, to one row of history."""
    likes, _ = fitted(config, shop)
    item_B = torch.arange(300) % (shop.n_items + 1)
    batch = asked(shop, likes.history_length)
    one = replace(
        batch,
        **{name: getattr(batch, name)[:1] for name in ("history_BH", "rating_BH", "mask_BH")},
        **{name: getattr(batch, name)[:1].expand(300) for name in ("user_B", "label_B", "position_B")},
        item_B=item_B,
    )
    many = replace(one, **{name: getattr(one, name).expand(300, -1) for name in ("history_BH", "rating_BH", "mask_BH")})
    torch.testing.assert_close(likes.logits(one), likes.logits(many))


def test_what_was_chosen_is_read_once_and_only_if_liked(tmp_path: Path):
    """By hand: i1 twice, i2 not liked, i0 liked; the target may not be seen, nor what comes after."""
    user = ["a"] * 6 + ["b"] * 5
    item = ["i1", "i2", "i1", "i0", "i3", "i2", "i0", "i1", "i2", "i3", "i0"]
    log = {"user": user, "item": item, "rating": [5, 1, 5, 5, 5, 5, 5, 5, 5, 5, 1], "time": [*range(6), *range(5)]}
    data = prepared(tmp_path, log, min_history=1)
    likes, after = fitted(EASE.Config(history_length=10), data)
    batch = data.gather(data.targets(np.array([4])), 10)
    for model, expected in ((likes.scores, [0, 1]), (after.of, [0, 1, 2])):
        chosen = model.chosen(batch)
        assert chosen.items_BH[chosen.mask_BH].tolist() == expected


def test_a_planted_world_is_solved_by_ease_and_by_nothing_that_counts_alone(tmp_path: Path):
    """Item 2k comes with 2k + 1, in any order, and all items equally often: the partner of the last item is what is missing."""
    rng = np.random.default_rng(0)
    log: dict[str, list[object]] = {"user": [], "item": [], "rating": [], "time": []}
    for user in range(400):
        pairs = rng.choice(10, size=3, replace=False)
        items = [2 * pair + flip for pair in pairs for flip in rng.permutation(2)]
        for time, item in enumerate(items):
            for name, value in zip(log, (f"u{user:03}", f"i{item:02}", 5.0, time), strict=True):
                log[name].append(value)
    data = prepared(tmp_path, log, min_history=1)
    _, after = fitted(EASE.Config(regularization=1.0), data)
    batch = asked(data, after.history_length)
    score_BX = torch.nn.functional.pad(after.scores(batch), (0, 1)).scatter(1, batch.history_BH, -torch.inf)
    assert (score_BX[:, :-1].argmax(dim=1) == batch.item_B).all()
    popular = np.bincount(data.item_N[data.training_events()], minlength=data.n_items)
    assert popular.std() < 0.25 * popular.mean()


class ScoreItself(ClassifierMixin, BaseEstimator):
    """What scikit-learn takes for a classifier whose decision is its one feature."""

    classes_ = np.array([0, 1])

    def fit(self, x: np.ndarray, y: np.ndarray) -> "ScoreItself":
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] > 0).astype(int)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def test_p_like_is_a_logistic_regression_on_validation_samples(shop: Dataset):
    """Of scikit-learn, on the same scores; the labels of test play no part (that is in the contract)."""
    likes, _ = fitted(CONFIGS[0], shop)
    batch = asked(shop, 100, "valid")
    score_N = likes.scores.of_one(likes.scores.chosen(batch), batch.item_B).double().numpy()

    label_N = batch.label_B.numpy()
    a, b = platt(score_N, label_N)
    assert [a, b] == pytest.approx(likes.line_2.tolist(), rel=1e-4)
    expected = CalibratedClassifierCV(FrozenEstimator(ScoreItself()), method="sigmoid", ensemble=False)
    expected.fit(score_N[:, None], label_N.astype(int))
    p_N = expected.predict_proba(score_N[:, None])[:, 1]
    np.testing.assert_allclose(likes.score(batch).numpy(), p_N, atol=1e-4)


def test_calibration_of_perfect_and_of_equal_scores_is_finite():
    a, b = platt(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert np.isfinite([a, b]).all()
    assert b > 0
    a, b = platt(np.zeros(4), np.array([1.0, 1.0, 1.0, 0.0]))
    # Platt's targets: three of (3 + 1) / (3 + 2), one of 1 / (1 + 2).
    assert 1 / (1 + np.exp(-a)) == pytest.approx((3 * 4 / 5 + 1 / 3) / 4, abs=1e-4)


def test_the_softmax_fits_best_at_the_sharpness():
    """Two items, scores 1 and 0, and the first comes three times of four: σ(s) = 3/4."""
    score_NM, item_N = np.tile([[1.0, 0.0]], (4, 1)), np.array([0, 0, 0, 1])
    assert sharpness(score_NM, item_N) == pytest.approx(np.log(3), rel=1e-3)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_probabilities_of_what_comes_next_beat_those_of_guessing(shop: Dataset, config: Recommender.Config):
    _, after = fitted(config, shop)
    batch = asked(shop, after.history_length)
    p_B = after.probabilities(batch)[torch.arange(len(batch.item_B)), batch.item_B]
    assert p_B.log().mean() > np.log(1 / shop.n_items)


def test_ease_refuses_a_catalogue_that_is_too_large_with_what_it_would_take(shop: Dataset):
    with pytest.raises(ConfigError, match=r"of 30 items it would take .* raise it, leave rare items out .* or choose 'itemknn'"):
        EASE.Config(max_items=29).build(shop.schema())


@pytest.mark.parametrize("config", CONFIGS[1::3], ids=lambda config: config.kind)
def test_without_the_library_the_extra_is_named_before_anything_is_learnt(
    shop: Dataset, config: Recommender.Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(MissingExtraError, match=rf"'{config.kind}' needs 'implicit'.*pip install 'lifelora\[baselines\]'"):
        config.check(shop.schema())
    EASE.Config().check(shop.schema())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.kind} {getattr(config, 'similarity', '')}")
def test_it_refuses_extra_fields_and_has_no_vectors(shop: Dataset, data: Dataset, config: Recommender.Config):
    with pytest.raises(ConfigError, match=f"{config.kind} counts and reads no fields"):
        config.build(data.schema(), extra_fields(data, 4))
    with pytest.raises(ConfigError, match=f"{config.kind} has no vectors of items"):
        config.build(shop.schema()).item_embeddings()


def test_nothing_liked_is_said(tmp_path: Path):
    log = {"user": ["a"] * 6, "item": [f"i{i}" for i in range(6)], "rating": [1, 1, 1, 1, 5, 5], "time": [*range(6)]}
    data = prepared(tmp_path, log, min_history=1)
    with pytest.raises(ConfigError, match=r"no training event is a like.*data\.rules\.label_above"):
        EASE.Config().build(data.schema()).fit(data)


def test_no_warning_of_the_library_reaches_the_user(shop: Dataset):
    """Of two threads of OpenBLAS, and of a matrix that is not CSR."""
    import implicit.utils

    implicit.utils._checked_blas_config = False
    with threadpool_limits(2, "blas"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for config in CONFIGS:
            fitted(config, shop)
