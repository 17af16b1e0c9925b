"""Faults that every log has, as a messy shop has them: refused with the key that lets them pass, or mended and counted."""

from pathlib import Path

import pytest

from lifelora.data.raw import RawTables
from lifelora.data.sources.tables import Tables
from lifelora.errors import DataError

LOG = """customer,sku,stars,at
c1,K-1,5,2024-01-05
,K-1,4,2024-01-06
c2,,4,2024-01-06
c2,K-1,,2024-01-07
c2,K-2,NULL,2024-01-08
c2,K-1,3,
c1,K-1,1,2024-01-05
c3,gone,2,2024-01-09
c3,gone,2,2024-01-10
c3,K-2,4,2024-01-11
c1,K-1,2,2024/01/05
"""
GOODS = "sku,name\nK-1,Kettle\nK-2, \nK-1,Kite\n,Nothing\n"
USERS = "customer,city\nc1,Graz\nc1,Linz\n,Wien\nc2,Rom\n"
BASE = {
    "columns": {"user": "customer", "item": "sku", "rating": "stars", "time": "at"},
    "title": "name",
    "user_fields": ["city"],
}
DROP = {f"without_{what}": "drop" for what in ("user", "item", "rating", "time", "title")} | {"unknown_items": "drop"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "goods.csv").write_text(GOODS)
    (tmp_path / "users.csv").write_text(USERS)
    return tmp_path


def read(shop: Path, **keys: str) -> RawTables:
    files = {
        key: str(shop / f"{name}.csv") for key, name in (("interactions", "log"), ("catalogue", "goods"), ("profiles", "users"))
    }
    return Tables.model_validate({**files, **BASE, **keys}).read()


def refused(shop: Path, **keys: str) -> set[tuple[str, int, str]]:
    with pytest.raises(DataError) as caught:
        read(shop, **keys)
    assert caught.value.count == len(caught.value.problems)
    return {(Path(problem.file).stem, problem.line, problem.what) for problem in caught.value.problems}


ALL = {
    ("log", 3, 'an id is missing; or set without_user = "drop"'),
    ("log", 4, 'an id is missing; or set without_item = "drop"'),
    ("log", 5, 'a rating is missing; or set without_rating = "drop"'),
    ("log", 6, "not a number; write ratings with digits and a decimal point (or of a file, say decimal = ',')"),
    ("log", 7, 'a time is missing; or set without_time = "drop"'),
    ("log", 8, 'the same user, item and time as in line 2; keep one; or set duplicates = "first" or "last"'),
    ("log", 9, 'the catalogue has no such item; or set unknown_items = "drop" or "allow"'),
    ("log", 10, 'the catalogue has no such item; or set unknown_items = "drop" or "allow"'),
    ("log", 12, 'the same user, item and time as in line 2; keep one; or set duplicates = "first" or "last"'),
    ("goods", 3, 'an item needs a title; or set without_title = "id" or "drop"'),
    ("goods", 4, 'this id has a row already; keep one; or set duplicates = "first" or "last"'),
    ("goods", 5, 'an id is missing; or set without_item = "drop"'),
    ("users", 3, 'this id has a row already; keep one; or set duplicates = "first" or "last"'),
    ("users", 4, 'an id is missing; or set without_user = "drop"'),
}


def test_by_default_everything_is_refused_and_every_refusal_names_its_key(shop: Path):
    assert refused(shop) == ALL


@pytest.mark.parametrize(
    ("keys", "passed"),
    [
        ({"without_user": "drop"}, {("log", 3), ("users", 4)}),
        ({"without_item": "drop"}, {("log", 4), ("goods", 5)}),
        ({"without_rating": "drop"}, {("log", 5), ("log", 6)}),
        ({"without_time": "drop"}, {("log", 7)}),
        ({"without_title": "id"}, {("goods", 3)}),
        ({"unknown_items": "drop"}, {("log", 9), ("log", 10)}),
        ({"unknown_items": "allow"}, {("log", 9), ("log", 10)}),
        ({"duplicates": "first"}, {("log", 8), ("log", 12), ("goods", 4), ("users", 3)}),
        ({"duplicates": "last"}, {("log", 8), ("log", 12), ("goods", 4), ("users", 3)}),
    ],
)
def test_each_key_lets_its_own_rows_pass_and_no_others(shop: Path, keys, passed):
    assert {(name, line) for name, line, _ in refused(shop, **keys)} == {(name, line) for name, line, _ in ALL} - passed


def events(raw: RawTables) -> list[tuple[str, str, float]]:
    return [(row["user"], row["item"], row["rating"]) for row in raw.interactions.to_pylist()]


def test_what_is_left_and_what_the_notes_say(shop: Path):
    raw = read(shop, **{**DROP, "duplicates": "first", "without_title": "id"})
    assert events(raw) == [("c1", "K-1", 5.0), ("c3", "K-2", 4.0)]
    assert raw.catalogue.to_pylist() == [{"item": "K-1", "title": "Kettle"}, {"item": "K-2", "title": "K-2"}]
    assert raw.profiles.to_pylist() == [{"user": "c1", "city": "Graz"}, {"user": "c2", "city": "Rom"}]
    assert raw.notes == (
        'log.csv: 1 of 11 rows are left out: they have no user (without_user = "drop").',
        'log.csv: 1 of 10 rows are left out: they have no item (without_item = "drop").',
        'log.csv: 2 of 9 rows are left out: they have no rating (without_rating = "drop").',
        'log.csv: 1 of 7 rows are left out: they have no time (without_time = "drop").',
        'log.csv: 2 of 6 rows are left out: they have the user, item and time of an earlier row (duplicates = "first").',
        'goods.csv: 1 of 4 rows are left out: they have no item (without_item = "drop").',
        'goods.csv: 1 of 3 rows are left out: they have the sku of an earlier row (duplicates = "first").',
        'goods.csv: 1 items have no title and are called by their ids (without_title = "id").',
        'users.csv: 1 of 4 rows are left out: they have no user (without_user = "drop").',
        'users.csv: 1 of 3 rows are left out: they have the customer of an earlier row (duplicates = "first").',
        '2 interactions are with 1 items that the catalogue lacks; they are left out (unknown_items = "drop").',
    )


def test_the_last_of_several_in_the_order_of_the_file(shop: Path):
    raw = read(shop, **{**DROP, "duplicates": "last"})
    assert events(raw) == [("c1", "K-1", 2.0)]  # of 5, 1 and 2; K-2 has no title, so it is not in the catalogue
    assert raw.catalogue.to_pylist() == [{"item": "K-1", "title": "Kite"}]
    assert raw.profiles.to_pylist() == [{"user": "c1", "city": "Linz"}, {"user": "c2", "city": "Rom"}]
    assert (
        'log.csv: 2 of 6 rows are left out: they have the user, item and time of a later row (duplicates = "last").' in raw.notes
    )
    assert 'goods.csv: 1 of 2 rows are left out: they have no title (without_title = "drop").' in raw.notes


@pytest.mark.parametrize("keep", ["first", "last"])
def test_repetitions_are_dropped_as_pandas_drops_them(tmp_path: Path, keep: str):
    import pandas as pd

    draws = [(n * 7919) % 101 for n in range(300)]
    frame = pd.DataFrame(
        {
            "user": [f"u{d % 4}" for d in draws],
            "item": [f"i{d % 3}" for d in draws],
            "rating": [1 + n % 5 for n in range(300)],
            "time": [1_700_000_000 + d % 5 for d in draws],
        }
    )
    frame.to_csv(tmp_path / "interactions.csv", index=False)
    found = Tables.model_validate(
        {"interactions": str(tmp_path / "interactions.csv"), "columns": {"time": "time"}, "duplicates": keep}
    ).read()
    expected = frame.drop_duplicates(["user", "item", "time"], keep=keep)
    assert found.interactions.to_pandas().to_dict("list") == expected.to_dict("list")
    assert 40 < len(expected) < 100


def test_a_log_of_which_nothing_is_left_is_refused(tmp_path: Path):
    (tmp_path / "interactions.csv").write_text("user,item,rating\na,x,\nb,y,\n")
    with pytest.raises(DataError, match=r"no row is left: every one lacks a value in one of user, item, rating"):
        Tables.model_validate({"interactions": str(tmp_path / "interactions.csv"), "without_rating": "drop"}).read()
    (tmp_path / "interactions.csv").write_text("user,item,rating\na,x,1\nb,y,2\n")
    (tmp_path / "items.csv").write_text("item,title\nz,Z\n")
    files = {"interactions": str(tmp_path / "interactions.csv"), "catalogue": str(tmp_path / "items.csv")}
    with pytest.raises(DataError, match=r"no row is left: the catalogue has none of the log's items"):
        Tables.model_validate({**files, "unknown_items": "drop"}).read()


def test_keys_of_time_need_a_column_of_times(tmp_path: Path):
    with pytest.raises(ValueError, match=r"say with columns\.time"):
        Tables.model_validate({"interactions": "log.csv", "time_unit": "milliseconds"})
    with pytest.raises(ValueError, match=r"say with columns\.time"):
        Tables.model_validate({"interactions": "log.csv", "time_format": "%d.%m.%Y"})


def folder(tmp_path: Path, log: str, items: str = "", users: str = "", **keys: str) -> RawTables:
    for name, text in (("interactions", log), ("items", items), ("users", users)):
        (tmp_path / f"{name}.csv").unlink(missing_ok=True)
        if text:
            (tmp_path / f"{name}.csv").write_text(text)
    return Tables.of_folder(tmp_path).model_copy(update=keys).read()


def test_ids_that_are_one_letter_or_two_are_the_same_and_so_are_titles(tmp_path: Path):
    raw = folder(
        tmp_path,
        "user,item,rating\nZoe\u0308,cafe\u0301,1\nZo\u00eb,x,2\n",
        "item,title\ncaf\u00e9,Cre\u0301me\nx,X\n",
        "user,city\nZo\u00eb,Ko\u0308ln\n",
    )
    assert raw.interactions.column("user").to_pylist() == ["Zo\u00eb"] * 2
    assert raw.interactions.column("item").to_pylist() == ["caf\u00e9", "x"]
    assert raw.catalogue.column("title").to_pylist() == ["Cr\u00e9me", "X"]
    assert raw.profiles.to_pylist() == [{"user": "Zo\u00eb", "city": "K\u00f6ln"}]
    assert raw.notes == ()


def test_ids_that_differ_in_form_alone_are_noted(tmp_path: Path):
    raw = folder(tmp_path, "user,item,rating\n007,A 1,1\n7,a1,2\n8,b,3\n07,B2,3\n")
    no_catalogue, items, users = raw.notes
    assert no_catalogue.startswith("there is no catalogue")
    assert items == (
        "2 ids of items differ from another in form alone (case, blanks, zeros), as 'A 1' and 'a1' do; "
        "they are 1 items if these are the same, and are taken for different ones."
    )
    assert users.startswith(
        "3 ids of users differ from another in form alone (case, blanks, zeros), as '007' and '7' do; they are 1 "
    )
    assert folder(tmp_path, "user,item,rating\n10,8,1\n1,80,2\n100,8.5,3\n0,00a,3\n").notes[1:] == ()


def test_a_catalogue_that_writes_the_log_s_items_otherwise_is_named(tmp_path: Path):
    log = "user,item,rating\na,8.0,1\na,9.0,2\na,z,3\n"
    with pytest.raises(DataError) as caught:
        folder(tmp_path, log, "item,title\n8,Eight\n9,Nine\n")
    assert [(p.line, p.value, p.what) for p in caught.value.problems] == [
        (
            line,
            value,
            "the catalogue has no such item, but '8', which is written otherwise: write ids alike in all files "
            "(a column of whole numbers turns 8 into 8.0 where one is missing; a number drops zeros)",
        )
        for line, value in ((2, "8.0"), (3, "9.0"))
    ] + [(4, "z", 'the catalogue has no such item; or set unknown_items = "drop" or "allow"')]
    allowed = folder(tmp_path, log, "item,title\n8,Eight\n9,Nine\n", unknown_items="allow")
    assert any("4 ids of items differ from another in form alone" in note for note in allowed.notes)


def test_profiles_that_write_users_otherwise_are_noted(tmp_path: Path):
    raw = folder(tmp_path, "user,item,rating\n7,x,1\n8,x,2\n9,x,2\n", users="user,city\n007,Rom\n8,Bonn\n")
    (note,) = [note for note in raw.notes if "profile" in note]
    assert note.startswith("1 users have no profile, as they are written otherwise there ('7', '007'): write ids alike")
