"""The papers' test samples: MovieLens-25M's are drawn from the test period, BookCrossing's users are each in one part."""

from pathlib import Path

import numpy as np

from lifelora.recipe.files import parse
from lifelora.run import Options, Run


def prepared(folder: Path, source: dict[str, object], rules: dict[str, object], **more: object) -> Run:
    """A run whose data are ready, with a model that costs nothing."""
    recipe = parse(
        {
            "name": "protocol",
            "conventional": {"popular": {"model": {"kind": "popularity"}}},
            "data": {"source": source, "rules": rules},
            **more,
        },
        "the tests' recipe",
    )
    run = Run(recipe, folder, Options(device="cpu", progress=False))
    run.prepare()
    return run


def movielens_25m(place: Path) -> dict[str, object]:
    """The layout of MovieLens-25M: half stars, quoted titles; 20 users who rate 20 films, one each second."""
    place.mkdir()
    ratings = [
        f"{u},{1 + (u * 3 + k) % 40},{(u + k) % 10 / 2 + 0.5},{1_000_000_000 + 20 * k + u}" for u in range(20) for k in range(20)
    ]
    (place / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]))
    films = [f'{i},"Film, The {i} (1990)",Drama|War' for i in range(1, 41)]
    (place / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    return {"kind": "movielens", "path": str(place)}


def test_the_test_rows_of_movielens_25m_are_drawn_from_the_test_period(tmp_path: Path):
    source = movielens_25m(tmp_path / "ml-25m")
    drawn = []
    for seed in (42, 42, 7):
        run = prepared(tmp_path / str(len(drawn)), source, {}, seed=seed, evaluation={"test_samples": 12})
        dataset, rows = run.context.dataset, run.context.test_samples
        test = np.asarray(dataset.samples["test"])
        assert len(test) == 30  # 20 users with 15 samples each, 8:1:1
        assert len(np.unique(rows)) == 12
        assert np.isin(rows, test).all()
        before = np.concatenate([dataset.samples["train"], dataset.samples["valid"]])
        assert dataset.time_N[rows].min() >= dataset.time_N[before].max()
        drawn.append(rows.tolist())
    assert dataset.rating_levels == tuple(step / 2 for step in range(1, 11))
    assert np.array_equal(dataset.label_N, dataset.rating_N >= 6)  # 3.5 stars and more: above 3
    assert drawn[0] == drawn[1] != drawn[2]


def test_every_user_of_bookcrossing_is_in_one_part_with_one_sample(tmp_path: Path):
    place = tmp_path / "bx"
    place.mkdir()
    ratings = [f'"{u}";"{b:010d}";"{(u * b) % 11}"' for u in range(30) for b in range(1, 5 + u % 4)]  # 4 to 7 books
    (place / "BX-Book-Ratings.csv").write_text("\r\n".join(['"User-ID";"ISBN";"Book-Rating"', *ratings]) + "\r\n")
    books = [f'"{b:010d}";"Book {b}";"A";"1999";"P"' for b in range(1, 8)]
    header = '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher"'
    (place / "BX-Books.csv").write_text("\r\n".join([header, *books]) + "\r\n")
    dataset = prepared(
        tmp_path / "run",
        {"kind": "bookcrossing", "path": str(place)},
        {
            "label_above": 2,
            "split": {"kind": "one-per-user", "test": 0.3, "valid": 0.3},
        },
    ).context.dataset
    rows = np.concatenate([np.asarray(dataset.samples[part]) for part in ("train", "valid", "test")])
    users = dataset.users.outside(dataset.user_N[rows])
    assert sorted(map(int, users)) == [u for u in range(30) if u % 4 >= 2]  # more than 5 ratings
    assert {part: len(chosen) for part, chosen in dataset.samples.items()} == {"train": 7, "valid": 2, "test": 5}  # 14: 9 + 5
    assert np.array_equal(rows + 1, dataset.log.offsets[dataset.user_N[rows] + 1])  # all users' last
    assert any("there are no times" in note for note in dataset.notes)
