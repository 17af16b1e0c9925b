"""MovieLens: each published layout in small, its quirks, damaged archives, and the real sets where they are at hand."""

import os
import resource
import sys
import zipfile
from pathlib import Path

import pyarrow.compute as pc
import pytest

from lifelora.data.describe import describe
from lifelora.data.sources import movielens
from lifelora.data.sources.movielens import Movielens
from lifelora.errors import ConfigError, DataError

FLAGS = {name: position for position, name in enumerate(movielens.GENRES_100K)}


def flags(*genres: str) -> str:
    set_ = {FLAGS[genre] for genre in genres}
    return "|".join("1" if position in set_ else "0" for position in range(19))


def files_100k() -> dict[str, bytes]:
    return {
        "u.data": b"196\t242\t3\t881250949\n186\t267\t5\t891717742\n",
        "u.item": (
            f"242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya%20(1996)|{flags('Comedy')}\n"
            f"267|unknown||||{flags('unknown')}\n"
            f"1|Misérables, Les (1995)|01-Jan-1995|||{flags('Drama', 'Musical')}\n"
        ).encode("iso-8859-1"),
        "u.user": b"196|49|M|writer|55105\n186|7|F|executive|T8H1N\n",
        "u.genre": b"unknown|0\nAction|1\n\n",
    }


def files_1m() -> dict[str, bytes]:
    return {
        "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978300760\n",
        "movies.dat": (
            "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
            '1193::Misérables, Les: the "film" (1975)::Drama\n'
        ).encode("iso-8859-1"),
        "users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    }


def files_csv() -> dict[str, bytes]:
    return {
        "ratings.csv": b"userId,movieId,rating,timestamp\r\n1,1,4.0,964982703\r\n1,11,0.5,964981247\r\n",
        "movies.csv": (
            "movieId,title,genres\r\n1,Toy Story (1995),Adventure|Animation\r\n"
            '11,"American President, The (1995)",(no genres listed)\r\n12,"""Amélie"" (2001)",Comedy\r\n'
        ).encode(),
    }


def folder(place: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        (place / name).write_bytes(data)
    return str(place)


def zipped(path: Path, files: dict[str, bytes], inner: str = "ml/") -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(inner + name, data)
    return str(path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (files_100k, ["Kolya", "unknown", "Les Misérables"]),
        (files_csv, ["Toy Story", "The American President", '"Amélie"']),
    ],
)
def test_titles_as_one_says_them(files, said, tmp_path: Path):
    """Without the year and with the article in front: LLaRA's titles of ML-100K, which are what its LM has to answer."""
    published = Movielens(path=folder(tmp_path, files())).read()
    spoken = Movielens(path=str(tmp_path), titles="spoken").read()
    assert spoken.catalogue.column("title").to_pylist() == said
    assert spoken.catalogue.drop_columns("title") == published.catalogue.drop_columns("title")
    assert spoken.interactions == published.interactions


def test_100k(tmp_path: Path):
    raw = Movielens(path=folder(tmp_path, files_100k())).read()
    assert raw.interactions.to_pylist() == [
        {"user": "196", "item": "242", "rating": 3.0, "time": 881250949},
        {"user": "186", "item": "267", "rating": 5.0, "time": 891717742},
    ]
    assert raw.catalogue.to_pylist() == [
        {"item": "242", "title": "Kolya (1996)", "genre": "Comedy"},
        {"item": "267", "title": "unknown", "genre": ""},
        {"item": "1", "title": "Misérables, Les (1995)", "genre": "Drama"},
    ]
    assert raw.profiles.to_pylist() == [
        {"user": "196", "gender": "male", "age": "40-49", "occupation": "writer", "zip": "55105"},
        {"user": "186", "gender": "female", "age": "0-9", "occupation": "executive", "zip": "T8H1N"},
    ]
    assert (raw.words.item, raw.words.items, raw.words.did, raw.words.stars) == ("film", "films", "watched", "stars")
    assert raw.notes == ("u.item: read as ISO-8859-1, as it was published.",)


def test_1m(tmp_path: Path):
    raw = Movielens(path=folder(tmp_path, files_1m())).read()
    assert raw.interactions.to_pydict() == {
        "user": ["1", "1", "2"],
        "item": ["1193", "661", "1193"],
        "rating": [5.0, 3.0, 4.0],
        "time": [978300760, 978302109, 978300760],
    }
    assert raw.catalogue.to_pydict() == {
        "item": ["661", "1193"],
        "title": ["James and the Giant Peach (1996)", 'Misérables, Les: the "film" (1975)'],
        "genre": ["Animation", "Drama"],
    }
    assert raw.profiles.to_pylist() == [
        {"user": "1", "gender": "female", "age": "under 18", "occupation": "K-12 student", "zip": "48067"},
        {"user": "2", "gender": "male", "age": "56 or older", "occupation": "self-employed", "zip": "70072-1234"},
    ]


ACCENTED = "185::Cité des enfants perdus, La (1995)::Adventure|Drama\n186::Plain (1995)::Drama\n"


RATED = b"1::185::4::838983525\n"


def films(place: Path, data: bytes, ratings: bytes = RATED, **more: bytes) -> tuple[list[str], tuple[str, ...]]:
    """Titles and notes of a set in the layout of 1M and 10M."""
    place.mkdir(exist_ok=True)
    folder(place, {"movies.dat": data, "ratings.dat": ratings, **more})
    raw = Movielens(path=str(place)).read()
    return raw.catalogue.column("title").to_pylist(), raw.notes


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("iso-8859-1", "movies.dat: read as ISO-8859-1, as it was published."),
        ("utf-8", "movies.dat: read as UTF-8, which the whole file is (it was first published in ISO-8859-1)."),
        ("utf-8-sig", "movies.dat: read as UTF-8, which the whole file is (it was first published in ISO-8859-1)."),
    ],
)
def test_old_layouts_are_read_in_either_encoding(tmp_path: Path, encoding: str, said: str):
    """What stands in the file is what was written: the same letters, whichever bytes they became."""
    titles, notes = films(tmp_path, ACCENTED.encode(encoding))
    assert titles == ["Cité des enfants perdus, La (1995)", "Plain (1995)"]
    assert said in notes
    assert said in describe(Movielens(path=str(tmp_path)).read(), "x")


def test_a_file_in_two_encodings_is_refused_with_the_line(tmp_path: Path):
    data = "1::Café (1990)::Drama\n".encode() + "2::Élan (1991)::Drama\n".encode("iso-8859-1")
    with pytest.raises(DataError, match=r"movies.dat:1, value '1::Café.*1 lines are UTF-8 and others are not.*save it as UTF-8"):
        films(tmp_path, data)


def test_10m_has_half_stars_and_no_users(tmp_path: Path):
    ratings = b"1::185::4::838983525\n2::185::0.5::838983526\n2::186::3.5::838983527\n"
    titles, _ = films(tmp_path / "10m", ACCENTED.encode(), ratings, **{"tags.dat": b"1::185::funny::1\n"})
    assert titles[0].startswith("Cité")
    raw = Movielens(path=str(tmp_path / "10m")).read()
    assert raw.interactions.column("rating").to_pylist() == [4, 0.5, 3.5]
    with pytest.raises(DataError, match=r"'0.5': ratings go from 1 to 5"):  # beside its users' file it is 1M
        films(tmp_path / "1m", ACCENTED.encode(), ratings, **{"users.dat": b"1::F::1::10::48067\n"})


def test_estimated_times_are_never_passed_over_in_silence(tmp_path: Path):
    listed = b"line,user,item,rating,estimated_ts,lower_bound,upper_bound\n2,1,661,3,978302109,978302100,978302110\n"
    raw = Movielens(path=folder(tmp_path, files_1m() | {movielens.ESTIMATES: listed})).read()
    assert len(raw.notes) == 2
    assert raw.notes[0].startswith("1 of the 3 times (33.3%) are estimates")


@pytest.mark.parametrize(
    ("files", "genres"),
    [
        (files_100k, [["Comedy"], [], ["Drama", "Musical"]]),
        (files_1m, [["Animation", "Children's", "Musical"], ["Drama"]]),
        (files_csv, [["Adventure", "Animation"], [], ["Comedy"]]),
    ],
)
def test_all_genres_of_a_film(files, genres: list[list[str]], tmp_path: Path):
    """By an option: the first one alone is what figures were made with."""
    place = folder(tmp_path, files())
    raw = Movielens(path=place, genres="all").read()
    assert raw.catalogue.column("genre").to_pylist() == genres
    first = Movielens(path=place).read()
    assert first.catalogue.column("genre").to_pylist() == [row[0] if row else "" for row in genres]
    assert raw.interactions.equals(first.interactions)


def test_25m_and_latest_small(tmp_path: Path):
    raw = Movielens(path=folder(tmp_path, files_csv())).read()
    assert raw.interactions.column("rating").to_pylist() == [4.0, 0.5]
    assert raw.catalogue.to_pydict() == {
        "item": ["1", "11", "12"],
        "title": ["Toy Story (1995)", "American President, The (1995)", '"Amélie" (2001)'],
        "genre": ["Adventure", "", "Comedy"],
    }
    assert raw.profiles.to_pydict() == {"user": ["1"]}


@pytest.mark.parametrize("files", [files_100k, files_1m, files_csv])
def test_a_zip_reads_as_its_folder_does(tmp_path: Path, files):
    extra = {"../evil": b"x", "deeper/u.data": b"x", "deeper/ratings.dat": b"x", "deeper/ratings.csv": b"x"}
    packed = Movielens(path=zipped(tmp_path / "set.zip", files() | extra)).read()
    (tmp_path / "set").mkdir()
    assert packed == Movielens(path=folder(tmp_path / "set", files())).read()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "set.zip"]  # nothing was unpacked anywhere


def test_faults_name_the_member_of_the_zip(tmp_path: Path):
    files = files_1m() | {"ratings.dat": b"1::1193::6::978300760\n1::9999::3::978302109\n2:1193:4:978300760\n"}
    with pytest.raises(DataError) as caught:
        Movielens(path=zipped(tmp_path / "m.zip", files)).read()
    assert {(p.file, p.line, p.column, p.value) for p in caught.value.problems} == {
        (str(tmp_path / "m.zip" / "ml" / "ratings.dat"), line, column, value)
        for line, column, value in [(1, "rating", "6"), (2, "item", "9999"), (3, None, "2:1193:4:978300760")]
    }


def test_codes_without_a_meaning_are_faults(tmp_path: Path):
    files = files_1m() | {"users.dat": b"1::X::1::10::48067\n2::M::57::21::70072\n"}
    with pytest.raises(DataError) as caught:
        Movielens(path=folder(tmp_path, files)).read()
    assert [(p.line, p.column, p.value) for p in caught.value.problems] == [
        (1, "gender", "X"),
        (2, "age", "57"),
        (2, "occupation", "21"),
    ]
    assert caught.value.problems[0].what == "no such code; the codes are F, M"
    files = files_100k()
    files["u.item"] = files["u.item"].replace(b"|1|", b"|2|", 1)
    files["u.user"] = files["u.user"].replace(b"|7|", b"|seven|")
    (tmp_path / "100k").mkdir()
    with pytest.raises(DataError) as caught:
        Movielens(path=folder(tmp_path / "100k", files)).read()
    assert [(p.line, p.column, p.value) for p in caught.value.problems] == [(1, "Comedy", "2"), (2, "age", "seven")]


def test_empty_files_are_faults_all_at_once(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        Movielens(path=folder(tmp_path, dict.fromkeys(files_1m(), b""))).read()
    assert [(Path(p.file).name, p.what) for p in caught.value.problems] == [
        (name, "the file is empty") for name in ("movies.dat", "ratings.dat", "users.dat")
    ]


def test_places_that_hold_no_set(tmp_path: Path):
    with pytest.raises(ConfigError, match="there is no folder or zip"):
        Movielens(path=str(tmp_path / "nowhere")).read()
    (tmp_path / "other.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"movies.dat, ratings.dat; .*It has: other.txt"):
        Movielens(path=str(tmp_path)).read()
    with pytest.raises(DataError, match="neither a folder nor a sound zip"):
        Movielens(path=str(tmp_path / "other.txt")).read()


def test_damaged_and_swollen_zips(tmp_path: Path, monkeypatch):
    path = Path(zipped(tmp_path / "m.zip", files_1m()))
    data = bytearray(path.read_bytes())
    data[60:64] = b"\0\0\0\0"  # inside the first member
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be unpacked"):
        Movielens(path=str(path)).read()
    monkeypatch.setattr("lifelora.data.sources.files.MAX_MEMBER", 50)
    with pytest.raises(DataError, match="unpacks to more than 50 bytes"):
        Movielens(path=zipped(tmp_path / "big.zip", files_1m())).read()


def real(name: str) -> Movielens:
    place = Path(os.environ.get("LIFELORA_DATA", "")) / name
    if "LIFELORA_DATA" not in os.environ or not place.is_dir():
        pytest.skip(f"{name} is not in $LIFELORA_DATA")
    return Movielens(path=str(place))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "n", "users", "items", "rated"),
    [
        ("ml-100k", 100_000, 943, 1_682, 1_682),
        ("ml-latest-small", 100_836, 610, 9_742, 9_724),
        ("ml-1m", 1_000_209, 6_040, 3_883, 3_706),
    ],
)
def test_published_counts(name, n, users, items, rated):
    raw = real(name).read()
    assert (len(raw.interactions), len(raw.profiles), len(raw.catalogue)) == (n, users, items)
    assert pc.count_distinct(raw.interactions.column("item")).as_py() == rated
    assert "?" not in "".join(raw.catalogue.column("genre").unique().to_pylist())
    if name == "ml-1m":
        assert pc.count_distinct(raw.catalogue.column("genre")).as_py() == 18
        assert raw.notes[0].startswith("12,031 of the 1,000,209 times (1.2%)")
        counts = {v["values"]: v["counts"] for v in pc.value_counts(raw.interactions.column("rating")).to_pylist()}
        assert counts == {1.0: 56_174, 2.0: 107_557, 3.0: 261_197, 4.0: 348_971, 5.0: 226_310}


@pytest.mark.realdata
@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_a_million_rows_take_little_memory():
    real("ml-1m").read()
    scale = 1 if sys.platform == "darwin" else 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale < 2 << 30  # of the whole test process
