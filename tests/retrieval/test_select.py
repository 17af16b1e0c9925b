import resource

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lifelora.data.dataset import Targets
from lifelora.data.extend import Event
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.errors import ConfigError, LeakError
from lifelora.retrieval import select, similar, similarity
from lifelora.retrieval.select import AnySelector, MostRecent, SameField, Selector
from lifelora.retrieval.similar import MostSimilar
from log_world import log_of


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    rng = np.random.default_rng(1)
    return log_of([rng.choice(40, size=n) for n in (1, 3, 7, 30, 60, 12)], 40, tmp_path_factory.mktemp("log"))


def units(n_items, width=8, seed=0, copies=1):
    """Unit vectors; with ``copies`` > 1, items share theirs, so that similarities tie."""
    vectors = torch.randn(-(-n_items // copies), width, generator=torch.Generator().manual_seed(seed))
    vectors = torch.nn.functional.normalize(vectors, dim=1).repeat_interleave(copies, dim=0)[:n_items]
    vectors[5] = 0  # an item without words
    return vectors


def dot(a, b):
    """Rounded, so that the oracle's own sums do not tell equal ones apart."""
    return round(float((a * b).sum()), 6)


def brute_force(dataset, row, vectors, k, order="time"):
    """The definition: sort the past by (similarity, time), take the last k, show them in the order asked."""
    start = int(dataset.log.offsets[dataset.user_N[row]])
    past = list(range(start, row))
    similarity = {r: dot(vectors[dataset.item_N[r]], vectors[dataset.item_N[row]]) for r in past}
    best = sorted(past, key=lambda r: (similarity[r], r))[-k:]
    return {"time": sorted(best), "low": best, "high": best[::-1]}[order]


@pytest.mark.parametrize("order", ["time", "high", "low"])
@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_most_similar_is_what_its_definition_says(log, k, copies, order):
    vectors = units(log.n_items, copies=copies)
    rows = np.random.default_rng(2).permutation(len(log))  # every event as a target, in no order
    chosen, mask = MostSimilar(MostSimilar.Config(k=k, order=order), vectors).select(log, log.targets(rows))
    assert chosen.shape == mask.shape == (len(log), k)
    for place, row in enumerate(rows):
        assert chosen[place, mask[place]].tolist() == brute_force(log, row, vectors, k, order)
        past = int(row - log.log.offsets[log.user_N[row]])
        assert mask[place].tolist() == [False] * (k - min(k, past)) + [True] * min(k, past)


@pytest.mark.parametrize(("similar", "recent"), [(3, 4), (1, 1), (40, 2), (2, 100)])
def test_similar_and_recent_is_the_last_ones_and_the_most_alike_of_those_before(log, similar, recent):
    vectors = units(log.n_items, copies=4)
    rows = np.random.default_rng(2).permutation(len(log))
    config = TypeAdapter(AnySelector).validate_python({"kind": "similar-and-recent", "similar": similar, "recent": recent})
    chosen, mask = config.build(vectors).select(log, log.targets(rows))
    assert chosen.shape == mask.shape == (len(log), similar + recent)
    for place, row in enumerate(rows):
        start = int(log.log.offsets[log.user_N[row]])
        border = max(start, row - recent)
        alike = {r: dot(vectors[log.item_N[r]], vectors[log.item_N[row]]) for r in range(start, border)}
        best = sorted(sorted(alike, key=lambda r: (alike[r], r))[-similar:])
        assert chosen[place, mask[place]].tolist() == best + list(range(border, row))
        assert mask[place].tolist() == sorted(mask[place].tolist())  # what is empty is at the left


def by_formula(kind, v, t):
    """In whole numbers where it can be; rounded where roots are taken."""
    if kind == "cosine":
        return round(float(v @ t / (np.linalg.norm(v) * np.linalg.norm(t) or 1)), 6)
    if kind == "dot":
        return int(v @ t)
    if not t.any():
        return 0
    return -int(((v - t) ** 2).sum()) if v.any() else -np.inf


@pytest.fixture(scope="module")
def small_logs(tmp_path_factory):
    """Logs of few items, most of them seen again: to prepare one takes longer than all that is tried on it."""
    rng = np.random.default_rng(3)
    return [
        log_of([rng.choice(12, size=n) for n in rng.integers(1, 20, size=3)], 12, tmp_path_factory.mktemp("small"))
        for _ in range(8)
    ]


@settings(max_examples=150)
@given(
    number=st.integers(0, 7),
    seed=st.integers(0, 10_000),
    k=st.integers(1, 9),
    kind=st.sampled_from(["cosine", "dot", "l2"]),
    order=st.sampled_from(["time", "high", "low"]),
    cells=st.sampled_from([0, 1 << 20]),
    block=st.sampled_from([1, 3, 128]),
    size=st.sampled_from([1.0, 2.0**-40, 2.0**60]),
)
def test_every_similarity_and_order_with_many_ties(number, seed, k, kind, order, cells, block, size, small_logs):
    """Vectors of -1, 0 and 1: many are equal, some are zero, and their similarities tie exactly, whatever their size."""
    rng, log = np.random.default_rng(seed), small_logs[number]
    vectors = rng.integers(-1, 2, size=(12, 3))
    config = MostSimilar.Config(k=k, order=order, similarity=kind)
    chooser, rows = MostSimilar(config, torch.from_numpy(vectors * size).float()), rng.permutation(len(log))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "TABLE_CELLS", cells)
        patch.setattr(similar, "ROWS", block)
        chosen, mask = chooser.select(log, log.targets(rows))
    for place, row in enumerate(rows):
        start, target = int(log.log.offsets[log.user_N[row]]), vectors[log.item_N[row]]
        past = sorted(range(start, row), key=lambda r, t=target: (by_formula(kind, vectors[log.item_N[r]], t), r))[-k:]
        expected = {"time": sorted(past), "low": past, "high": past[::-1]}[order]
        assert chosen[place, mask[place]].tolist() == expected
        assert mask[place].tolist() == [False] * (k - len(expected)) + [True] * len(expected)


@pytest.mark.parametrize("kind", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("k", [1, 5, 80])
@pytest.mark.parametrize("order", ["time", "high", "low"])
def test_vectors_of_items_that_come_later_choose_as_if_they_had_been_there(log, kind, k, order):
    """Wide vectors of any numbers, larger ones than any before among them; some are equal to one that is there."""
    vectors = torch.randn(log.n_items, 96, generator=torch.Generator().manual_seed(7)) * torch.rand(log.n_items, 1)
    vectors[5], vectors[30:35], vectors[36], vectors[38] = 0, vectors[10:15], 1e4, vectors[37]
    config = MostSimilar.Config(k=k, similarity=kind, order=order)
    later = log.extended([], [{"item": f"z{n}"} for n in range(20)])
    users = [f"u{user:03}" for user in range(log.n_users)]
    time = int(np.asarray(log.time_N).max())
    events = [Event(user, f"z{(7 * n + 3 * at) % 20}", 4.0, time + 1 + n) for at, user in enumerate(users) for n in range(20)]
    later, both = later.extended(events), torch.cat([vectors, torch.cat([vectors[:10], 1e3 * vectors[10:20]])])
    whole, grown = MostSimilar(config, both), MostSimilar(config, vectors).extended(both[40:45]).extended(both[45:])
    for user in range(log.n_users):
        asked = later.candidates(user, np.arange(later.n_items))
        (rows, mask), (expected, expected_mask) = grown.select(later, asked), whole.select(later, asked)
        assert np.array_equal(mask, expected_mask)
        assert np.array_equal(rows, expected)


def test_an_item_without_a_vector_is_like_nothing(log):
    later = log.extended([Event("u003", "new", 4.0, 10**6)], [{"item": "new"}])
    vectors, config = units(log.n_items), MostSimilar.Config(k=3, order="high")
    asked = later.candidates(3, np.array([log.n_items, 0]))
    rows, mask = MostSimilar(config, vectors).select(later, asked)
    zeros = MostSimilar(config, torch.cat([vectors, torch.zeros(1, vectors.shape[1])])).select(later, asked)
    assert np.array_equal(rows, zeros[0])
    assert mask.all()
    with pytest.raises(ConfigError, match="vectors of new items have 3 numbers and the others"):
        MostSimilar(config, vectors).extended(torch.zeros(1, 3))


def test_some_users_at_a_time_choose_the_same(log, monkeypatch: pytest.MonkeyPatch):
    targets = log.targets(np.random.default_rng(1).permutation(len(log)))
    chooser = MostRecent(MostRecent.Config(k=4, liked=True))
    together = chooser.select(log, targets)
    monkeypatch.setattr(select, "EVENTS", 50)
    assert all(map(np.array_equal, chooser.select(log, targets), together))


def test_vectors_that_are_no_numbers_are_refused():
    vectors = torch.eye(3)
    vectors[1, 1] = torch.nan
    with pytest.raises(ConfigError, match="not finite numbers"):
        MostSimilar(MostSimilar.Config(), vectors)


def test_an_identical_item_is_the_one_retrieved(tmp_path):
    """Against looking neighbours up one row too low: each target has one twin in the past, and the twin is chosen."""
    dataset = log_of([[0, 2, 4, 6, 8, 1], [8, 0, 6, 4, 2, 7]], 10, tmp_path)
    vectors = torch.eye(10)[[0, 0, 2, 2, 4, 4, 6, 6, 8, 8]]  # items 2n and 2n + 1 are twins
    targets = dataset.targets(dataset.log.offsets[1:] - 1)
    assert dataset.items.outside(targets.item_B) == ["i001", "i007"]
    chosen, mask = MostSimilar(MostSimilar.Config(k=1), vectors).select(dataset, targets)
    assert mask.all()
    assert dataset.items.outside(dataset.item_N[chosen[:, 0]]) == ["i000", "i006"]


def test_the_future_and_the_target_itself_are_never_chosen(tmp_path):
    """The same item before, at, and after the target: only the earlier one may be shown."""
    dataset = log_of([[3, 1, 3, 2, 3]], 4, tmp_path)
    chosen, mask = MostSimilar(MostSimilar.Config(k=1), torch.eye(4)).select(dataset, dataset.targets(np.array([2])))
    assert (chosen.tolist(), mask.tolist()) == ([[0]], [[True]])


def test_of_equals_the_later_wins(tmp_path):
    dataset = log_of([[1, 1, 0, 1, 1, 0, 1]], 2, tmp_path)
    targets = dataset.targets(np.array([6]))
    chosen, _ = MostSimilar(MostSimilar.Config(k=3), torch.eye(2)).select(dataset, targets)
    assert chosen.tolist() == [[1, 3, 4]]
    nothing_alike, _ = MostSimilar(MostSimilar.Config(k=2), torch.zeros(2, 3)).select(dataset, targets)
    assert nothing_alike.tolist() == [[4, 5]]


def test_a_batch_is_its_rows_and_blocks_do_not_matter(log, monkeypatch):
    vectors, rows = units(log.n_items), np.arange(len(log))
    chooser = MostSimilar(MostSimilar.Config(k=5), vectors)
    together = chooser.select(log, log.targets(rows))
    for row in rows[::7]:
        alone = chooser.select(log, log.targets(rows[row : row + 1]))
        assert alone[0][0].tolist() == together[0][row].tolist()
        assert alone[1][0].tolist() == together[1][row].tolist()
    monkeypatch.setattr(similar, "CELLS", 70)
    monkeypatch.setattr(similar, "ROWS", 3)
    blocked = chooser.select(log, log.targets(rows))
    np.testing.assert_array_equal(blocked[0], together[0])
    np.testing.assert_array_equal(blocked[1], together[1])


def test_candidates_see_the_whole_history(log):
    vectors, items = units(log.n_items), np.arange(log.n_items)
    chosen, mask = MostSimilar(MostSimilar.Config(k=4), vectors).select(log, log.candidates(3, items))
    start, end = int(log.log.offsets[3]), int(log.log.offsets[4])
    for item in items:
        similarity = {r: dot(vectors[log.item_N[r]], vectors[item]) for r in range(start, end)}
        best = sorted(similarity, key=lambda r, s=similarity: (s[r], r))[-4:]
        assert chosen[item].tolist() == sorted(best)
    assert mask.all()


def test_most_recent(log):
    row = int(log.log.offsets[3]) + 2
    chosen, mask = MostRecent(MostRecent.Config(k=4)).select(log, log.targets(np.array([row, row + 20])))
    assert mask.tolist() == [[False, False, True, True], [True] * 4]
    assert chosen[0, 2:].tolist() == [row - 2, row - 1]
    assert chosen[1].tolist() == [row + 16, row + 17, row + 18, row + 19]


@pytest.mark.parametrize("k", [1, 3, 80])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_last_liked_ones(k, share, tmp_path):
    """Of the past, rows rated 4 or more, the last k: the definition, row by row; the target's own label has no part."""
    rng = np.random.default_rng(4)
    histories = [rng.choice(40, size=n) for n in (1, 3, 30, 60, 12)]
    n = sum(map(len, histories))
    ratings = np.where(rng.random(n) < share, rng.integers(4, 6, n), rng.integers(1, 4, n)).tolist()
    log = log_of(histories, 40, tmp_path, ratings=ratings)
    rows = rng.permutation(len(log))
    chosen, mask = MostRecent(MostRecent.Config(k=k, liked=True)).select(log, log.targets(rows))
    for place, row in enumerate(rows):
        past = [r for r in range(int(log.log.offsets[log.user_N[row]]), row) if log.rating_levels[log.rating_N[r]] > 3]
        assert chosen[place, mask[place]].tolist() == past[-k:]
        assert mask[place].tolist() == sorted(mask[place].tolist())  # what is empty is at the left


def test_nobody_asks(log):
    nothing = np.zeros(0, np.int64)
    for config in (MostRecent.Config(k=3), MostRecent.Config(k=3, liked=True), MostSimilar.Config(k=3)):
        chosen, mask = config.build(units(log.n_items)).select(log, log.targets(nothing))
        assert chosen.shape == mask.shape == (0, 3)


@pytest.mark.parametrize("shift", [0, 1, -1000])
def test_a_leak_is_an_error(log, shift):
    """A selector that shows the target's own row, a later one, or another user's is stopped."""

    class Leaking(Selector):
        def _choose(self, dataset, targets: Targets):
            rows = np.maximum(row + shift, 0)[None, None]
            return rows, np.ones_like(rows, dtype=bool)

    row = int(log.log.offsets[4]) + 10
    said = rf"chose event {max(row + shift, 0)} for target 0, which may see the first 10 events of its user only"
    with pytest.raises(LeakError, match=said):
        Leaking().select(log, log.targets(np.array([row])))


def test_vectors_of_another_data_set_and_none(log):
    with pytest.raises(ConfigError, match="vectors of 7 items and the data set has 40"):
        MostSimilar(MostSimilar.Config(), torch.eye(7)).select(log, log.targets(np.array([1])))
    with pytest.raises(ConfigError, match="needs item vectors"):
        MostSimilar.Config().build()


def test_configurations():
    adapter = TypeAdapter(AnySelector)
    assert adapter.validate_python({"kind": "most-similar", "k": 5}) == MostSimilar.Config(k=5)
    assert (MostSimilar.Config.needs_vectors, MostRecent.Config.needs_vectors) == (True, False)
    with pytest.raises(ValidationError, match="'most-recent', 'most-similar'"):
        adapter.validate_python({"kind": "similar"})


@pytest.mark.slow
@pytest.mark.realdata
def test_all_of_movielens_1m(ml_1m, tmp_path):
    """Every event of ML-1M as a target, 64 random dimensions: memory stays near its result's."""
    text = (ml_1m / "ratings.dat").read_text()
    columns = np.array(text.replace("::", " ").split(), dtype=np.int64).reshape(-1, 4)
    interactions = pa.table(
        {
            "user": columns[:, 0].astype(str),
            "item": columns[:, 1].astype(str),
            "rating": pa.array(columns[:, 2], pa.float32()),
            "time": columns[:, 3],
        }
    )
    users, films = np.unique(columns[:, 0]).astype(str), np.unique(columns[:, 1]).astype(str)
    raw = RawTables(interactions, pa.table({"item": films, "title": films}), pa.table({"user": users}), Words())
    dataset = prepare(raw, Rules(), tmp_path, "ml-1m")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chosen, mask = MostSimilar(MostSimilar.Config(), units(dataset.n_items, 64)).select(
        dataset, dataset.targets(np.arange(len(dataset)))
    )
    result = (chosen.nbytes + mask.nbytes) / 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * result
    assert mask.sum() == np.minimum(np.arange(len(dataset)) - dataset.log.offsets[dataset.user_N], 30).sum()


@pytest.mark.parametrize("values", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_same_field_is_its_definition(seed, values, tmp_path):
    """The last k earlier events of the user whose item has the target's value; "" is unknown and like nothing."""
    rng = np.random.default_rng(seed)
    histories = [rng.choice(15, size=n) for n in rng.integers(2, 14, size=4)]
    genre = ["", *"abcd"[:values]]
    genres = [genre[g] for g in rng.integers(0, len(genre), size=15)]
    made = log_of(histories, 15, tmp_path, genres)
    rows = rng.permutation(len(made))
    for k in range(1, 7):
        chosen, mask = SameField.Config(k=k).build().select(made, made.targets(rows))
        for place, row in enumerate(rows):
            past = range(int(made.log.offsets[made.user_N[row]]), row)
            wanted = genres[made.item_N[row]]
            expected = [r for r in past if wanted and genres[made.item_N[r]] == wanted][-k:]
            assert chosen[place][mask[place]].tolist() == expected
            assert mask[place].tolist() == [False] * (k - len(expected)) + [True] * len(expected)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_same_field_with_several_values_is_its_definition(k, tmp_path):
    """The last k earlier behaviours that have one of the target's values, whatever else they have."""
    rng = np.random.default_rng(k)
    kinds = [sorted(rng.choice(list("abcde"), size=rng.integers(0, 4), replace=False).tolist()) for _ in range(30)]
    made = log_of([rng.choice(30, size=n) for n in (1, 9, 60, 25)], 30, tmp_path, pa.array(kinds, pa.list_(pa.string())))
    rows = rng.permutation(len(made))
    chosen, mask = SameField.Config(k=k).build().select(made, made.targets(rows))
    assert chosen.shape == mask.shape == (len(made), k)
    for place, row in enumerate(rows):
        past = range(int(made.log.offsets[made.user_N[row]]), row)
        meets = [r for r in past if set(kinds[made.item_N[r]]) & set(kinds[made.item_N[row]])]
        assert chosen[place, mask[place]].tolist() == meets[-k:]
    assert mask.any(axis=1).mean() > 0.5


def test_same_field_names_the_fields_that_there_are(log):
    with pytest.raises(ConfigError, match="'author' is no field of this catalogue; it has none"):
        SameField.Config(field="author").build().select(log, log.targets(np.array([1])))
