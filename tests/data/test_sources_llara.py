"""LLaRA's next-item sets on rows we wrote in the authors' layout, with its quirks; and on the authors' rows where they are."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources import parse_source
from lifelora.data.sources.llara import Llara
from lifelora.data.sources.movielens import Movielens
from lifelora.data.sources.titles import spoken
from lifelora.data.split import Given, UsersByTime
from lifelora.errors import ConfigError, DataError

RULES = Rules(min_history=3, split=Given())
NOTHING = 6
"""Also the number of items, 0 to 5."""


def write(folder: Path, **files: list[dict[str, object]]) -> Path:
    """Six artists; three training samples (one without a past, one too short), one row each to validate and to test."""
    folder.mkdir()
    names = ["Enigma", "Air", "Simon &amp; Garfunkel", "Sigur Rós", "De::Vision", "Air"]
    (folder / "id2name.txt").write_text("".join(f"{i}::{name}\n" for i, name in enumerate(names)), encoding="utf-8")
    rows: dict[str, list[dict[str, object]]] = {
        "train_data": [
            {"seq": [NOTHING] * 4, "len_seq": 1, "next": 0},  # the authors count 1 where there is nothing
            {"seq": [0, NOTHING, NOTHING, NOTHING], "len_seq": 1, "next": 1},
            {"seq": [0, 1, 2, NOTHING], "len_seq": 3, "next": 3},
        ],
        "Val_data": [{"seq": [5, 4, 3, 2], "len_seq": 4, "next": 1}],
        "Test_data": [{"seq": [2, 3, 4, NOTHING], "next": 5, "len_seq": 3}],
    }
    for stem, lines in (rows | files).items():
        (folder / f"{stem}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_rows_are_read_as_they_are(tmp_path: Path):
    source = parse_source(f"llara:{write(tmp_path / 'lastfm')}")
    raw = source.read()
    dataset = prepare(raw, RULES, tmp_path / "data", source.label)
    assert {part: len(rows) for part, rows in dataset.samples.items()} == {"train": 1, "valid": 1, "test": 1}
    target = dataset.targets(np.asarray(dataset.samples["test"]))
    rows_1H, mask_1H = dataset.history(target, 10)
    assert dataset.items.outside(dataset.item_N[rows_1H[mask_1H]]) == ["2", "3", "4"]
    assert dataset.items.outside(target.item_B) == ["5"]
    assert [dataset.titles[i] for i in dataset.item_N[rows_1H[mask_1H]]] == ["Simon & Garfunkel", "Sigur Rós", "De::Vision"]
    assert dataset.words.item == "artist"
    assert raw.notes[0] == "train_data.jsonl: 1 of 3 rows have no history."


def test_films_have_ratings_and_spoken_titles(tmp_path: Path):
    folder = write(
        tmp_path / "movielens",
        train_data=[{"seq": [[0, 5], [1, 3], [2, 4]], "len_seq": 3, "next": [2, 4]}],
        Val_data=[{"seq": [[1, 3], [0, 4], [1, 5]], "len_seq": 3, "next": [2, 3]}],
        Test_data=[{"seq": [[2, 3], [1, 4], [0, 5]], "len_seq": 3, "next": [1, 3]}],
    )
    (folder / "id2name.txt").unlink()
    films = ["1|Usual Suspects, The (1995)|14-Aug-1995|||0", "2|Amélie (2001)||||1", "3|Heat (1995)||||1"]
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="iso-8859-1")
    dataset = prepare(Llara(path=str(folder)).read(), RULES, tmp_path / "data", "films")
    assert sorted(dataset.titles) == ["Amélie", "Heat", "The Usual Suspects"]
    assert dataset.rating_levels == (3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("Usual Suspects, The (1995)", "The Usual Suspects"),
        ("L'Atalante (1934)", "L'Atalante"),
        ("Eau Froide, L' (1994)", "L'Eau Froide"),
        ("Unbearable Lightness, Being", "Unbearable Lightness, Being"),
    ],
)
def test_titles_as_one_says_them(title: str, said: str):
    assert spoken(title) == said


def test_what_is_wrong_is_shown_with_its_line(tmp_path: Path):
    bad = [
        {"seq": [0, 1, 2, 7], "next": 3},
        {"seq": [0, 1, 2, 3], "next": NOTHING},
        {"seq": [0, 1], "next": 2},
        {"seq": [0, 1, 2, 3], "next": 5},
        {"seq": "no list", "next": 5},
    ]
    with pytest.raises(DataError) as caught:
        Llara(path=str(write(tmp_path / "lastfm", Val_data=bad))).read()
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 5]


def test_pickles_are_never_read(tmp_path: Path):
    folder = write(tmp_path / "lastfm")
    (folder / "Val_data.jsonl").rename(folder / "Val_data.df")
    with pytest.raises(ConfigError, match=r"Val_data.df, a pickle, which is never read.*to_json"):
        Llara(path=str(folder)).read()


def test_several_training_files_are_asked_about(tmp_path: Path):
    folder = write(tmp_path / "lastfm")
    for name in ("train_data.a.jsonl", "train_data.b.jsonl"):
        (folder / name).write_bytes((folder / "train_data.jsonl").read_bytes())
    (folder / "train_data.jsonl").unlink()
    with pytest.raises(ConfigError, match="data.source.train can name one"):
        Llara(path=str(folder)).read()
    assert Llara(path=str(folder), train="train_data.b.jsonl").read().interactions.num_rows > 0


def test_a_folder_that_does_not_say_what_it_is_of(tmp_path: Path):
    with pytest.raises(ConfigError, match="choose one of movielens, lastfm, steam"):
        Llara(path=str(write(tmp_path / "things"))).read()


@pytest.mark.parametrize(
    ("folder", "train", "counts"),
    [
        ("lastfm", None, (47_872, 122, 122)),
        ("movielens", "train_data.reconstructed.jsonl", (66_127, 94, 95)),
        ("steam", None, (1_000, 1_184, 1_186)),
    ],
)
def test_the_authors_rows(folder: str, train: str | None, counts: tuple[int, int, int], tmp_path: Path):
    place = Path(os.environ.get("LIFELORA_DATA", "")) / "llara" / folder
    if "LIFELORA_DATA" not in os.environ or not place.is_dir():
        pytest.skip("the set is not here (LIFELORA_DATA)")
    dataset = prepare(Llara(path=str(place), train=train).read(), RULES, tmp_path / "data", folder)
    assert tuple(len(dataset.samples[part]) for part in ("train", "valid", "test")) == counts


def test_the_rule_makes_the_authors_films_from_movielens_100k(tmp_path: Path, ml_100k: Path):
    place = Path(os.environ["LIFELORA_DATA"]) / "llara/movielens"
    if not place.is_dir():
        pytest.skip("the set is not here (LIFELORA_DATA)")
    rules = Rules(min_history=3, keep_from=3, split=UsersByTime())
    made = prepare(Movielens(path=str(ml_100k)).read(), rules, tmp_path / "made", "made")
    assert [len(made.samples[part]) for part in ("train", "valid", "test")] == [66_127, 94, 95]
    for part, name in (("valid", "Val_data"), ("test", "Test_data")):
        targets = made.targets(np.asarray(made.samples[part]))
        rows_NH, mask_NH = made.history(targets, 10)
        # Events of one second stand in another order here than in theirs: the last eleven are among all as late as ours.
        late = []
        for n, user in enumerate(targets.user_B):
            first = rows_NH[n, mask_NH[n]][0]
            of_user = np.arange(made.log.offsets[user], made.log.offsets[user + 1])
            late.append(set(made.items.outside(made.item_N[of_user[made.time_N[of_user] >= made.time_N[first]]])))
        theirs = [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]
        for row in theirs:
            shown = {str(item + 1) for item, _ in [*row["seq"], row["next"]] if item != 1682}
            assert any(shown <= items for items in late), row


GOOD = [{"seq": [0, 1, 2], "next": 1}, {"seq": [1, 2, 2], "next": 0}]


@pytest.mark.parametrize(
    "row",
    [
        {"seq": [0, 1.5, 2], "next": 1},
        {"seq": [0, True, 2], "next": 1},
        {"seq": [0, "1", 2], "next": 1},
        {"seq": 5, "next": 1},
        {"seq": [0, 1e300, 2], "next": 1},
        {"seq": [0, -1, 2], "next": 1},
        {"seq": [0, [1], 2], "next": 1},
        {"seq": [0, 1, 2], "next": 2},
        {"seq": [0, [1, float("nan")], 2], "next": 1},
        {"seq": [0] * 100_000, "next": 1},
        {"seq": {"a": 1}, "next": 1},
    ],
)
def test_rows_of_another_form_are_shown_with_their_line(tmp_path: Path, row: dict[str, object]):
    """Also one that is 100,000 long among short ones: it may not make all of them as wide."""
    place = write(tmp_path / "lastfm", train_data=[*GOOD, row], Val_data=GOOD, Test_data=GOOD)
    (place / "id2name.txt").write_text("0::A\n1::B\n")
    with pytest.raises(DataError) as caught:
        Llara(path=str(place)).read()
    assert [p.line for p in caught.value.problems] == [3]


def test_names_in_another_encoding_are_refused_and_films_read_in_theirs(tmp_path: Path):
    place = write(tmp_path / "lastfm", train_data=GOOD, Val_data=GOOD, Test_data=GOOD)
    (place / "id2name.txt").write_bytes("0::Café\x85x\n1::B".encode())
    assert Llara(path=str(place)).read().catalogue.column("title").to_pylist() == ["Café x", "B"]  # one line, whatever is in it
    (place / "id2name.txt").write_bytes("0::Café\n1::B".encode("iso-8859-1"))
    with pytest.raises(DataError, match="id2name.txt:1.*not utf-8: byte.s. e9"):
        Llara(path=str(place)).read()
    (place / "id2name.txt").unlink()
    for encoding in ("iso-8859-1", "utf-8"):
        (place / "u.item").write_bytes("1|Café (1995)|x\n2|B (1996)|y\n".encode(encoding))
        assert Llara(path=str(place)).read().catalogue.column("title").to_pylist() == ["Café", "B"]
    for wrong in (b"one|A|x\n2|B|y\n", b"|" * 3_000_000):
        (place / "u.item").write_bytes(wrong)
        with pytest.raises(DataError, match="u.item:1"):
            Llara(path=str(place)).read()
