"""The simulated world: deterministic, honest about its own truth, and worth learning from."""

import re

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import minimize

from lifelora.data.raw import RawTables
from lifelora.data.sources import oracle
from lifelora.data.sources.oracle import Ablations
from lifelora.data.sources.simulated import VOCABULARY, Simulated
from lifelora.data.sources.world import BIAS, BOUNDS, CARES, REDRAW, rating_probability, sigmoid
from lifelora.errors import DataError

SMALL = Simulated(users=200, items=400, events_per_user=90, seed=3)


@pytest.fixture(scope="module")
def raw() -> RawTables:
    return SMALL.read()


@pytest.fixture(scope="module")
def ablations() -> Ablations:
    return SMALL.ablations(rows=1200, shown=(10,), whole_past=False)


def auc(label_N: np.ndarray, score_N: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order; scores are continuous, so ties do not matter."""
    return float((score_N[label_N][:, None] > score_N[~label_N]).mean())


def columns(raw: RawTables) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    user, item, rating, time = (raw.interactions.column(c) for c in ("user", "item", "rating", "time"))
    return user.to_pylist(), item.to_pylist(), rating.to_numpy(), time.to_numpy()


def test_same_seed_same_tables_and_another_seed_others(raw):
    again = Simulated(users=200, items=400, events_per_user=90, seed=3).read()
    other = Simulated(users=200, items=400, events_per_user=90, seed=4).read()
    for name in ("interactions", "catalogue", "profiles"):
        assert getattr(raw, name).equals(getattr(again, name))
        assert not getattr(raw, name).equals(getattr(other, name))


def test_a_world_without_the_field_is_the_same_world(raw):
    """Its books lack the genre as a field; titles tell it, and nothing else differs."""
    other = Simulated(users=200, items=400, events_per_user=90, seed=3, genre="words").read()
    assert other.interactions.equals(raw.interactions)
    assert other.profiles.equals(raw.profiles)
    assert other.catalogue.equals(raw.catalogue.drop_columns("genre"))


def test_of_a_book_that_nobody_rated_ids_tell_little_and_words_as_much_as_of_others(ablations: Ablations):
    """And the truth is as good on both: the ceiling is as high where models of ids must guess."""

    def of(name: str, keep_B: np.ndarray) -> float:
        return auc(ablations.label_B[keep_B], ablations.scores[name][keep_B])

    new_B, old_B = ~ablations.rated_B, ablations.rated_B
    assert new_B.sum() > 250
    assert of("no words, no genre", old_B) - of("no words, no genre", new_B) > 0.1
    assert of("no words", old_B) - of("no words", new_B) > 0.05
    for name in ("truth", "similar 10"):
        assert abs(of(name, old_B) - of(name, new_B)) < 0.05


def test_ordered_logit_worked():
    # η = 0: P(rating > 3) = σ(0) = 1/2, and P(5) = 1 - σ(1.7) = 1 / (1 + e^1.7) = 0.15447.
    chance = rating_probability(np.arange(1, 6), np.zeros(1))
    assert chance[3] + chance[4] == pytest.approx(0.5)
    assert chance[4] == pytest.approx(1 / (1 + np.exp(1.7)))
    eta_N = np.linspace(-9, 9, 37)
    probability_N5 = rating_probability(np.arange(1, 6), eta_N[:, None])
    np.testing.assert_allclose(probability_N5.sum(1), 1)
    np.testing.assert_allclose(probability_N5[:, 3:].sum(1), 1 / (1 + np.exp(-eta_N)), rtol=1e-12)
    assert (probability_N5 > 0).all()


def test_ratings_come_out_as_often_as_their_probability_says():
    log, world = SMALL.log, SMALL.world
    eta_N = world.eta(log.user_N, log.item_N, log.time_N)
    for decile in np.array_split(np.argsort(eta_N), 10):
        probability_N5 = rating_probability(np.arange(1, 6), eta_N[decile, None])
        seen_5 = (log.rating_N[decile, None] == np.arange(1, 6)).sum(0)
        # A sum of independent yes/no draws: 4.5 standard deviations leave 1 in 3,000 for 50 such checks.
        bound_5 = 4.5 * np.sqrt((probability_N5 * (1 - probability_N5)).sum(0)) + 1
        assert (np.abs(seen_5 - probability_N5.sum(0)) <= bound_5).all()


def test_eta_is_the_formula_and_tastes_change_when_a_regime_begins():
    world = SMALL.world
    begins = int(world.change_UW[7, 0])
    for time, regime in ((begins - 1, 0), (begins, 1)):
        genre, mood, place = world.attribute_MA[11]
        taste = world.taste_UWAV[7, regime]
        expected = (
            world.bias_U[7]
            + world.quality_M[11]
            + world.blend_VV[genre, mood]
            + taste[0, genre]
            + taste[1, mood]
            + taste[2, place]
        )
        assert world.eta(np.array([7]), np.array([11]), np.array([time]))[0] == pytest.approx(expected)
    assert (world.taste_UWAV[:, 0] != world.taste_UWAV[:, -1]).any((1, 2)).mean() > 0.9


def test_probability_answers_for_outside_ids(raw):
    users, items, _, times = columns(raw)
    log = SMALL.log
    expected = 1 / (1 + np.exp(-SMALL.world.eta(log.user_N, log.item_N, log.time_N)))
    shuffled = np.random.default_rng(0).permutation(len(users))[:500]
    given = SMALL.probability([users[n] for n in shuffled], [items[n] for n in shuffled], times[shuffled])
    np.testing.assert_allclose(given, expected[shuffled])
    with pytest.raises(DataError, match=r"column 'user', value 'u00200': not in this world.*u00199"):
        SMALL.probability(["u00200"], ["b00000"], np.array([0]))


def test_tables_fit_together(raw):
    users, items, rating, time = columns(raw)
    assert set(items) <= set(raw.catalogue.column("item").to_pylist())
    assert set(users) == set(raw.profiles.column("user").to_pylist())
    assert set(rating.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert 0.4 < (rating > 3).mean() < 0.65
    assert len(set(zip(users, items, strict=True))) == len(users), "somebody met a book twice"
    same_user = np.array(users[1:]) == np.array(users[:-1])
    assert (np.diff(time)[same_user] > 0).all(), "histories are in time order, without ties"
    assert np.median(np.unique(users, return_counts=True)[1]) > 70


def test_nobody_meets_an_item_before_its_release_and_the_last_tenth_has_new_items_and_few_new_users():
    log, world = SMALL.log, SMALL.world
    assert (log.time_N >= world.release_M[log.item_N]).all()
    by_time = np.argsort(log.time_N, kind="stable")
    train, last = by_time[: int(0.8 * len(by_time))], by_time[int(0.9 * len(by_time)) :]
    assert 0.2 < (~np.isin(log.item_N[last], log.item_N[train])).mean() < 0.6
    assert 0.0 < (~np.isin(log.user_N[last], log.user_N[train])).mean() < 0.3


def test_titles_are_unique_and_carry_a_word_of_each_attribute_and_the_vocabulary_is_small(raw):
    titles, texts = raw.catalogue.column("title").to_pylist(), raw.catalogue.column("description").to_pylist()
    assert len(set(titles)) == len(titles)
    for title, text, value_A in zip(titles, texts, SMALL.world.attribute_MA, strict=True):
        assert len(title.split()) == 4
        for a, value in enumerate(value_A):
            words = list(VOCABULARY[a].values())[value]
            assert sum(word in title.split() for word in words) == 1
            assert sum(word.lower() in re.findall("[a-z]+", text) for word in words) == 2
    genres = [list(VOCABULARY[0])[genre] for genre in SMALL.world.attribute_MA[:, 0]]
    assert raw.catalogue.column("genre").to_pylist() == genres
    assert len({word for text in titles + texts for word in re.findall("[a-z]+", text.lower())}) < 150
    every = [word.lower() for values in VOCABULARY for words in values.values() for word in words]
    assert len(every) == len(set(every)) == 120, "a word stands for one value only"


def test_user_words_and_retrieval_each_carry_signal(ablations):
    value = {name: auc(ablations.label_B, score_B) for name, score_B in ablations.scores.items()}
    assert value["truth"] == max(value.values())
    assert 0.80 < value["truth"] < 0.90
    assert value["truth"] - value["no user"] > 0.10
    assert value["profile only"] > value["no user"]
    assert value["truth"] - value["no words, no genre"] > 0.05
    assert value["no words"] > value["no words, no genre"]
    assert value["similar 10"] - value["recent 10"] > 0.03
    assert value["recent 10"] > value["no user"]


def test_without_tastes_only_severity_and_profile_make_users_differ():
    alike = Simulated(users=200, items=400, events_per_user=90, tastes=0.0)
    scores = alike.ablations(rows=1200, shown=(), whole_past=False)
    value = {name: auc(scores.label_B, score_B) for name, score_B in scores.scores.items()}
    assert value["truth"] - value["no user"] < 0.10
    assert (alike.world.taste_UWAV == alike.world.mean_UAV[:, None]).all()


def test_similar_behaviours_share_most_attributes_and_come_before_the_target():
    log, world = SMALL.log, SMALL.world
    rows_B = np.flatnonzero(log.user_N == 5)[[3, 40]]
    first = int(np.flatnonzero(log.user_N == 5)[0])
    chosen_BK, mask_BK = oracle.behaviours(world, log, rows_B, "similar", 10)
    assert mask_BK.sum(1).tolist() == [3, 10]
    assert sorted(chosen_BK[0, mask_BK[0]]) == [first, first + 1, first + 2]
    past = np.arange(first, first + 40)
    shared = (world.attribute_MA[log.item_N[past]] == world.attribute_MA[log.item_N[rows_B[1]]]).sum(1)
    best = sorted(zip(shared, past, strict=True))[-10:]  # most shared, then most recent
    assert sorted(chosen_BK[1]) == sorted(row for _, row in best)
    recent_BK, _ = oracle.behaviours(world, log, rows_B, "recent", 10)
    assert recent_BK[1].tolist() == list(range(first + 30, first + 40))


def test_laplace_is_the_mode_that_a_general_optimiser_finds():
    """One row, four behaviours: MAP of the five η by BFGS on the joint density, then the same normal approximation."""
    log, world = SMALL.log, SMALL.world
    row = np.flatnonzero(log.user_N == 9)[4]
    rows_J = np.array([row, row - 4, row - 3, row - 2, row - 1])
    item_J, regime_J = log.item_N[rows_J], world.regime(log.user_N[rows_J], log.time_N[rows_J])
    attribute_JA = world.attribute_MA[item_J]
    mean_J = world.common(item_J) + np.array([sum(world.mean_UAV[9, a, v[a]] for a in range(3)) for v in attribute_JA])
    cov_JJ = np.array(
        [
            [
                BIAS**2
                + world.strength**2
                * CARES
                * (1 - REDRAW) ** abs(int(regime_J[i] - regime_J[j]))
                * (attribute_JA[i] == attribute_JA[j]).sum()
                for j in range(5)
            ]
            for i in range(5)
        ]
    )
    rating_K, precision_JJ = log.rating_N[rows_J[1:]], np.linalg.inv(cov_JJ)

    def negative_log_joint(eta_J: np.ndarray) -> float:
        d_J = eta_J - mean_J
        return float(d_J @ precision_JJ @ d_J / 2 - np.log(rating_probability(rating_K, eta_J[1:])).sum())

    mode_J = minimize(negative_log_joint, mean_J, method="BFGS", options={"gtol": 1e-7}).x
    hi, lo = sigmoid(BOUNDS[rating_K] - mode_J[1:]), sigmoid(BOUNDS[rating_K - 1] - mode_J[1:])
    curvature_J = np.concatenate([[0], hi * (1 - hi) + lo * (1 - lo)])
    variance = np.linalg.inv(precision_JJ + np.diag(curvature_J))[0, 0]
    expected = 1 / (1 + np.exp(-mode_J[0] / np.sqrt(1 + np.pi * variance / 8)))
    got = oracle.from_behaviours(world, log, np.array([row]), "recent", 4)
    assert got[0] == pytest.approx(expected, abs=1e-5)


def test_without_words_an_unrated_item_is_averaged_over_all_combinations():
    log, world = SMALL.log, SMALL.world
    row = len(log.user_N) - 1
    nothing = oracle.evidence(world, log, np.zeros(len(log.user_N), np.bool_))
    user, item, time = log.user_N[[row]], log.item_N[[row]], log.time_N[[row]]
    taste_AV = world.taste_UWAV[user[0], world.regime(user, time)[0]]
    base = world.bias_U[user[0]] + world.quality_M[item[0]]
    probabilities = [
        1 / (1 + np.exp(-(base + world.blend_VV[g, m] + taste_AV[0, g] + taste_AV[1, m] + taste_AV[2, p])))
        for g in range(8)
        for m in range(8)
        for p in range(8)
    ]
    got = oracle.without_words(world, log, np.array([row]), nothing, genre_known=False)
    assert got[0] == pytest.approx(np.mean(probabilities))
    genre = world.attribute_MA[item[0], 0]
    got = oracle.without_words(world, log, np.array([row]), nothing, genre_known=True)
    assert got[0] == pytest.approx(np.mean(probabilities[genre * 64 : genre * 64 + 64]))


def test_ratings_give_away_the_attributes_of_an_item_that_many_rated():
    log, world = SMALL.log, SMALL.world
    evidence_MC = oracle.evidence(world, log, np.ones(len(log.user_N), np.bool_))
    often = np.argsort(np.bincount(log.item_N, minlength=SMALL.items))[-50:]
    guessed_A = oracle.COMBINATION_CA[evidence_MC[often].argmax(1)]
    assert (guessed_A == world.attribute_MA[often]).all(1).mean() > 0.9


def test_too_few_items_are_refused_with_the_mend():
    with pytest.raises(ValidationError, match=r"items = 100 are too few for events_per_user = 50.*items >= 200"):
        Simulated(items=100, events_per_user=50)
