"""Tables as shops have them: how files are written, packed and named, told in a TOML file; each against the same plain CSV."""

import gzip
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifelora.data.raw import RawTables
from lifelora.data.sources.tables import Tables
from lifelora.errors import ConfigError, DataError
from lifelora.types import HERE, KEY

START = 1_700_000_000
ONCE = '; or set duplicates = "first" or "last"'
LOG = "user,item,rating,time\nc1,A-1,4.5,1717173000\nc2,B,3,1717200000\n"
FIRST = {"user": "c1", "item": "A-1", "rating": 4.5, "time": 1717173000}
ROWS = [FIRST, {"user": "c2", "item": "B", "rating": 3.0, "time": 1717200000}]
OBJECTS = [{**FIRST, "note": {"a": [1]}}, {"user": "c2", "item": "B", "rating": 3, "time": 1717200000}]


def tables(folder: Path, written: str, files: Mapping[str, str | bytes] | None = None) -> RawTables:
    """The tables that a TOML text beside these files says."""
    for name, data in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    (folder / "shop.toml").write_text(written + '\n[columns]\ntime = "time"\n')
    return Tables.from_toml(folder / "shop.toml").read()


def said(folder: Path, written: str, files: Mapping[str, str | bytes] | None = None) -> list[tuple[str, int | None, str]]:
    """File, line and what is wrong, of every problem."""
    with pytest.raises(DataError) as caught:
        tables(folder, written, files)
    return [(Path(p.file).name, p.line, p.what) for p in caught.value.problems]


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # no time of today: ids of tests hold these bytes
    return packed.getvalue()


def parquet(table: pa.Table) -> bytes:
    packed = io.BytesIO()
    pq.write_table(table, packed)
    return packed.getvalue()


def zstd(data: str) -> bytes:
    return bytes(pa.Codec("zstd").compress(data.encode(), asbytes=True))


AS_LINES = "".join(json.dumps(one) + "\n" for one in OBJECTS)
FORMS: dict[str, tuple[str, str, str | bytes]] = {
    "comma": ("log.csv", "", LOG),
    "tab": ("log.tsv", "", LOG.replace(",", "\t")),
    "two bars": ("log.txt", "", LOG.replace(",", "||")),
    "two bars, said": ("log.txt", 'delimiter = "||"', LOG.replace(",", "||")),
    "three signs": ("log.txt", 'delimiter = "<->"', LOG.replace(",", "<->")),
    "quoted": ("log.txt", 'delimiter = "::"', LOG.replace(",", "::").replace("c1", '"c1"').replace("A-1", '"A-1"')),
    "headerless": (
        "log.dat",
        'header = false\nnames = ["user", "item", "rating", "time"]',
        LOG.replace(",", "::").partition("\n")[2],
    ),
    "headerless tsv": (
        "u.data",
        'header = false\nnames = ["user", "item", "rating", "time"]\nformat = "tsv"',
        LOG.replace(",", "\t").partition("\n")[2],
    ),
    "decimal comma": ("log.csv", 'decimal = ","', LOG.replace(",", ";").replace("4.5", "4,5")),
    "UTF-16": ("log.csv", 'encoding = "utf-16"', LOG.encode("utf-16")),
    "gzip": ("log.csv.gz", "", gzip.compress(LOG.encode())),
    "gzip of another name": ("log.csv", "", gzip.compress(LOG.encode())),
    "zstd": ("log.csv.zst", "", zstd(LOG)),
    "zip": ("log.zip", "", zipped({"log.csv": LOG})),
    "zip, with what a Mac adds": ("log.zip", "", zipped({"log.csv": LOG, "__MACOSX/._log.csv": "x"})),
    "zip of JSON lines": ("log.zip", "", zipped({"log.jsonl": AS_LINES})),
    "JSON lines": ("log.jsonl", "", AS_LINES),
    "JSON lines called .json": ("log.json", "", AS_LINES),
    "JSON lines, said": ("log.txt", 'format = "jsonl"', AS_LINES),
    "JSON lines in UTF-16": ("log.jsonl", 'encoding = "utf-16"', AS_LINES.encode("utf-16")),
    "JSON lines with a mark": ("log.jsonl", "", b"\xef\xbb\xbf" + AS_LINES.encode()),
    "JSON lines, zstd": ("log.jsonl.zst", "", zstd(AS_LINES)),
    "JSON": ("log.json", "", json.dumps(OBJECTS, indent=2)),
    "JSON, gzip": ("log.json.gz", "", gzip.compress(json.dumps(OBJECTS).encode())),
    "Parquet": ("log.parquet", "", parquet(pa.Table.from_pylist(OBJECTS))),
    "Parquet of another name": ("log.data", "", parquet(pa.Table.from_pylist(OBJECTS))),
    "Parquet in a zip": ("log.zip", "", zipped({"log.parquet": parquet(pa.Table.from_pylist(OBJECTS))})),
}
"""A file's name, what is said of it, and its bytes."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(form: str, tmp_path: Path):
    name, told, data = FORMS[form]
    assert tables(tmp_path, f'interactions = "{name}"\n{told}', {name: data}).interactions.to_pylist() == ROWS
    table = f'{{ path = "{name}"{"".join(", " + line for line in told.splitlines())} }}'
    assert tables(tmp_path, f"interactions = {table}").interactions.to_pylist() == ROWS


def test_quoted_fields_between_signs_of_two_characters(tmp_path: Path):
    """pandas makes the same of it, of a text with one sign in the place of the two."""
    goods = 'item||title||brand\n1||"Kettle || big, ""loud"""||"a\nb"\n2||Cup|mug||x\n3||T||""""\n'
    expected = pd.read_csv(io.StringIO(goods.replace("||", "\x02")), sep="\x02", dtype=str, keep_default_na=False)
    expected = expected.replace("\x02", "||", regex=True)
    told = 'interactions = "log.csv"\ncatalogue = { path = "goods.txt", delimiter = "||" }\nitem_fields = ["brand"]'
    raw = tables(tmp_path, told, {"log.csv": LOG.replace("A-1", "1").replace("B", "2"), "goods.txt": goods})
    found = raw.catalogue.to_pandas()
    assert found["title"].tolist() == expected["title"].tolist() == ['Kettle || big, "loud"', "Cup|mug", "T"]
    assert found["brand"].tolist() == ["a b", "x", '"']


def test_an_escape_sign_and_letters_that_are_quotes(tmp_path: Path):
    goods = 'item;title\nA-1;"12^" pan; \'big\'"\nB;Cup ^; mug\n'
    raw = tables(
        tmp_path,
        'interactions = "log.csv"\ncatalogue = { path = "goods.csv", escape = "^" }',
        {"log.csv": LOG, "goods.csv": goods},
    )
    assert raw.catalogue.column("title").to_pylist() == ["12\" pan; 'big'", "Cup ; mug"]
    raw = tables(
        tmp_path,
        'interactions = "log.csv"\ncatalogue = { path = "goods.csv", quoted = false }',
        {"goods.csv": 'item;title\nA-1;"Heroes" (12")\nB;"\n'},
    )
    assert raw.catalogue.column("title").to_pylist() == ['"Heroes" (12")', '"']


@pytest.mark.parametrize(("data", "columns"), [("1::10::5::978300760\n2::11::4::978300761\n", 4), ("u1,i9,5\nu2,i8,4\n", 3)])
def test_a_first_row_is_not_taken_for_a_header(tmp_path: Path, data: str, columns: int):
    """Else it would be lost in silence."""
    names = ["user", "item", "rating", "time"][:columns]
    listed = ", ".join(f'"{name}"' for name in names)
    (place,) = said(tmp_path, 'interactions = "u.dat"', {"u.dat": data})
    assert place[:2] == ("u.dat", 1)
    assert f"header = false, names = [{listed}]" in place[2]
    (tmp_path / "interactions.csv").write_text(data)
    with pytest.raises(DataError, match="header = false, names = "):
        Tables.of_folder(tmp_path)
    (tmp_path / "shop.toml").write_text(f'interactions = {{ path = "u.dat", header = false, names = [{listed}] }}')
    assert len(Tables.from_toml(tmp_path / "shop.toml").read().interactions) == 2


def test_numbers_that_pandas_gives_columns_are_names(tmp_path: Path):
    (tmp_path / "log.csv").write_text("0,1,2\n7,8,5\n")
    (tmp_path / "shop.toml").write_text('interactions = "log.csv"\ncolumns = { user = "0", item = "1", rating = "2" }')
    assert Tables.from_toml(tmp_path / "shop.toml").read().interactions.to_pylist() == [{"user": "7", "item": "8", "rating": 5.0}]
    (tmp_path / "shop.toml").write_text('interactions = "log.csv"\ncolumns = { user = "7", item = "8", rating = "5" }')
    (tmp_path / "log.csv").write_text("7,8,5\n9,8,5\n")
    with pytest.raises(DataError, match=r'no header; .* names = \["column1", "column2", "column3"\]'):
        Tables.from_toml(tmp_path / "shop.toml").read()


def test_a_point_where_commas_are_due_and_the_other_way_round(tmp_path: Path):
    log = "user;item;rating;time\nc1;A;4,5;1700000001\nc1;B;4.5;1700000002\n"
    assert said(tmp_path, 'interactions = "log.csv"\ndecimal = ","', {"log.csv": log})[0][:2] == ("log.csv", 3)
    (place,) = said(tmp_path, 'interactions = "log.csv"', {"log.csv": log})
    assert place[:2] == ("log.csv", 2)
    assert "decimal = ','" in place[2]


def test_months_are_one_log_and_problems_name_the_file(tmp_path: Path):
    months = {
        f"logs/2024-{month:02}.csv.gz": gzip.compress(
            f"user,item,rating,time\nc1,A,4,{START + month}\nc2,A,3,{START + month}\n".encode()
        )
        for month in (10, 2, 1)
    }
    raw = tables(tmp_path, 'interactions = "logs/2024-*.csv.gz"', months)
    assert raw.interactions.column("time").to_pylist() == [START + month for month in (1, 1, 2, 2, 10, 10)]
    source = Tables.from_toml(tmp_path / "shop.toml")
    assert [path.name for path in source.files()] == ["2024-01.csv.gz", "2024-02.csv.gz", "2024-10.csv.gz"]
    assert source.label == "2024-*"
    before = source.fingerprint()
    bad = "user,item,rating,time\n\nc9,A,bad,1700000001\nc1,A,4,1700000001\nc9,B,1,3,7\n"
    (tmp_path / "logs/2024-11.csv.gz").write_bytes(gzip.compress(bad.encode()))
    assert source.fingerprint() != before
    found = said(tmp_path, 'interactions = "logs/2024-*.csv.gz"')
    assert [place[:2] for place in found] == [("2024-11.csv.gz", 3), ("2024-11.csv.gz", 4), ("2024-11.csv.gz", 5)]
    assert found[1][2] == f"the same user, item and time as in {tmp_path}/logs/2024-01.csv.gz:2; keep one{ONCE}"


def test_a_list_of_files_each_in_its_own_form(tmp_path: Path):
    files = {
        "old.csv": "rating;item;user;time\n4,5;Käse;c1;1700000001\n".encode("cp1252"),
        "new.jsonl": json.dumps({**FIRST, "item": "Käse"}),
    }
    told = 'interactions = [{ path = "old.csv", encoding = "cp1252", decimal = "," }, "new.jsonl"]'
    raw = tables(tmp_path, told, files)
    assert raw.interactions.column("item").to_pylist() == ["Käse", "Käse"]
    assert raw.interactions.column("rating").to_pylist() == [4.5, 4.5]
    found = said(tmp_path, 'interactions = ["new.jsonl", "other.csv"]', {"other.csv": "user,item,time\nc,d,1\n"})
    assert found == [
        ("other.csv", 1, f"there is no such column, and '{tmp_path}/new.jsonl' has it; files of one table are alike")
    ]


def test_lists_and_values_of_nested_json(tmp_path: Path):
    goods = [
        {
            "item": "A-1",
            "title": "Kettle",
            "tags": [{"text": "tea"}, {"text": None}, {"text": "loud"}],
            "genres": ["x", "y"],
            "m": {"n": "Argo"},
        },
        {"item": "B", "title": "Cup", "tags": [], "genres": "z", "about": ["for tea,", "and more"]},
    ]
    told = (
        'interactions = "log.csv"\ncatalogue = { path = "goods.json", paths = { brand = "$.m.n", tags = "$.tags[*].text" } }\n'
        'item_fields = ["brand", "tags", "genres"]\ndescription = "about"'
    )
    for data in (json.dumps(goods), "".join(json.dumps(one) + "\n" for one in goods)):
        raw = tables(tmp_path, told, {"log.csv": LOG, "goods.json": data})
        assert raw.catalogue.column("brand").to_pylist() == ["Argo", ""]
        assert raw.catalogue.column("tags").to_pylist() == [["tea", "loud"], []]
        assert raw.catalogue.column("genres").to_pylist() == [["x", "y"], ["z"]]
        assert raw.catalogue.column("description").to_pylist() == ["", "for tea, and more"]
    told = 'interactions = "log.csv"\ncatalogue = "goods.json"\ntitle = "genres"\nitem_fields = ["m", "tags"]'
    assert said(tmp_path, told) == [
        ("goods.json", 1, "a list; say which value is meant: paths = { genres = '$.genres[0]' }"),
        ("goods.json", 1, "an object; say which value is meant: paths = { m = '$.m.KEY' }"),
        ("goods.json", 1, "a list of objects; say which value is meant: paths = { tags = '$.tags[*].KEY' }"),
    ]


def test_a_label_of_json_may_be_true_or_false(tmp_path: Path):
    lines = '{"user": 1, "item": 12345678901, "rating": true, "time": 1700000001}\n'
    lines += '{"user": 1, "item": 7, "rating": false, "time": 1700000002}\n'
    raw = tables(tmp_path, 'interactions = "log.jsonl"', {"log.jsonl": lines})
    assert raw.interactions.to_pydict() == {
        "user": ["1", "1"],
        "item": ["12345678901", "7"],
        "rating": [1.0, 0.0],
        "time": [1700000001, 1700000002],
    }


@pytest.mark.parametrize(
    ("name", "data", "line", "what"),
    [
        ("log.json", '[{"user": 1},\n {"user": 2,]', 2, "this is no JSON"),
        ("log.json", "[1, 2]", 1, "not a JSON object"),
        ("log.json", '{\n "user": 1\n}', 1, "not a JSON object on one line"),
        ("log.json", "[]", None, "no rows"),
        ("log.csv.gz", gzip.compress(LOG.encode(), mtime=0)[:-9], None, "this cannot be read (Compressed file ended"),
        ("log.csv.zst", zstd(LOG)[:-4], None, "this cannot be read (Truncated compressed stream)"),
        ("log.zip", zipped({"log.csv": LOG})[:60], None, "this cannot be read (File is not a zip file)"),
        (
            "log.zip",
            zipped({"a.csv": LOG, "b.csv": LOG}),
            None,
            "the zip holds 2 files (a.csv, b.csv); name one: { path = ..., member = ... }",
        ),
    ],
)
def test_damaged_files_are_problems(tmp_path: Path, name: str, data: str | bytes, line: int | None, what: str):
    found = said(tmp_path, f'interactions = "{name}"', {name: data})
    assert found[0][:2] == (name, line)
    assert what in found[0][2]


def test_one_of_several_files_in_a_zip(tmp_path: Path):
    told = 'interactions = { path = "shop.zip", member = "x/log.csv" }\ncatalogue = { path = "shop.zip", member = "goods.csv" }'
    raw = tables(tmp_path, told, {"shop.zip": zipped({"x/log.csv": LOG, "goods.csv": "item,title\nA-1,Kettle\nB,Cup\n"})})
    assert raw.catalogue.column("title").to_pylist() == ["Kettle", "Cup"]


def test_few_bytes_that_become_very_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lifelora.data.unpacked.FREE", 100_000)
    long = LOG + "\n" * 1_000_000
    for name, data in (("a.csv.gz", gzip.compress(long.encode())), ("a.csv.zst", zstd(long)), ("a.zip", zipped({"a.csv": long}))):
        (place,) = said(tmp_path, f'interactions = "{name}"', {name: data})
        assert "it unpacks to more than 1" in place[2]


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ('interactions = "logs/2025-*.csv"', "no file is like '.*logs/2025-\\*.csv'; '.*logs' holds: 2024-02.csv, 2024-01.csv"),
        ('interactions = "logs/2024-03.csv"', "there is no file .*; check the path. '.*logs' holds: 2024-0"),
        ('interactions = "logs"', "is a folder; name its files, as '.*logs/\\*.csv'"),
        ('interactions = ["logs/*.csv", "logs/2024-01.csv"]', "2024-01.csv' is named twice"),
        (
            'interactions = { path = "logs/*.csv", delimeter = ";" }',
            "interactions.delimeter: there is no such key; did you mean 'delimiter'",
        ),
        ('interactions = [{ path = "logs/*.csv", encoding = "x" }]', "interactions.0.encoding: there is no text encoding 'x'"),
        ('interactions = { format = "csv" }', "interactions.path: Field required"),
        ("interactions = 7", "interactions: Input should be a valid string"),
        ('interactions = { path = "logs/*.csv", header = false }', "header = false needs names"),
        ('interactions = { path = "logs/*.csv", names = ["a"] }', "names are for a file without a header"),
        ('interactions = "logs/*.csv"\nheader = false\nnames = ["a", "a"]', "names holds a name twice"),
        ('interactions = "logs/*.csv"\nescape = "ab"', "an escape is one ASCII character"),
        ('interactions = "logs/*.csv"\npaths = { user = "$.a[" }', "'\\$.a\\[' is no path into JSON"),
        ('interactions = "logs/*.csv"\npaths = { user = "a.b" }', "is no path into JSON.*; write '\\$.a.b'"),
    ],
)
def test_mistakes_in_what_is_said_of_files(tmp_path: Path, told: str, what: str):
    with pytest.raises(ConfigError, match=what):
        tables(tmp_path, told, {"logs/2024-01.csv": LOG, "logs/2024-02.csv": LOG})


def test_a_file_whose_name_is_a_pattern(tmp_path: Path):
    (tmp_path / "[old]").mkdir()
    assert tables(tmp_path / "[old]", 'interactions = "log[1].csv"', {"log[1].csv": LOG}).interactions.to_pylist() == ROWS
    assert tables(tmp_path / "[old]", 'interactions = "log?1*.csv"').interactions.to_pylist() == ROWS


def test_settings_of_files_survive_their_json(tmp_path: Path):
    told = (
        'interactions = [{ path = "a*.csv", decimal = "," }, "b"]\ncatalogue = { path = "c", header = false, names = ["item"] }'
    )
    (tmp_path / "shop.toml").write_text(told)
    source = Tables.from_toml(tmp_path / "shop.toml")
    assert Tables.model_validate(source.model_dump(mode="json", exclude_none=True)) == source


def test_the_files_of_the_page(tmp_path: Path):
    """docs/own-data.md says how files are written; here they are so."""
    page = (Path(__file__).parents[2] / "docs/own-data.md").read_text()
    (told,) = re.findall(r"^```toml\n(encoding = .*?)^```$", page, re.DOTALL | re.MULTILINE)
    files = {
        "logs/2024-02.csv.gz": gzip.compress("customer,sku,stars\nc2,A,3\n".encode("cp1252")),
        "logs/2024-01.csv.gz": gzip.compress("customer,sku,stars\nc1,Ä,4\n".encode("cp1252")),
        "old.txt": "customer||sku||stars\nc1||A||4,5\n",
        "goods.json": json.dumps(
            [{"sku": "A", "name": "Tee", "maker": {"name": "Argo"}, "tags": [{"text": "hot"}]}, {"sku": "Ä", "name": "Öl"}]
        ),
        "users.dat": "c1|Köln\nc2|Graz\n".encode("cp1252"),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    mapping = 'title = "name"\nitem_fields = ["brand", "kinds"]\nuser_fields = ["city"]\n'
    (tmp_path / "shop.toml").write_text(told + mapping + '[columns]\nuser = "customer"\nitem = "sku"\nrating = "stars"\n')
    raw = Tables.from_toml(tmp_path / "shop.toml").read()
    assert raw.interactions.to_pydict() == {"user": ["c1", "c2", "c1"], "item": ["Ä", "A", "A"], "rating": [4.0, 3.0, 4.5]}
    assert raw.catalogue.to_pylist() == [
        {"item": "A", "title": "Tee", "brand": "Argo", "kinds": ["hot"]},
        {"item": "Ä", "title": "Öl", "brand": "", "kinds": []},
    ]
    assert raw.profiles.to_pylist() == [{"user": "c1", "city": "Köln"}, {"user": "c2", "city": "Graz"}]


def test_patterns_of_a_recipe_count_from_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As its paths do; a pattern that nothing there is like counts from where the command is given."""
    (tmp_path / "[a]/logs").mkdir(parents=True)
    (tmp_path / "[a]/logs/1.csv").write_text(LOG)
    (tmp_path / "2.csv").write_text(LOG)
    monkeypatch.chdir(tmp_path)
    told = {"interactions": ["logs/*.csv", {"path": "*.csv"}], "columns": {"time": "time"}}
    source = Tables.model_validate(told, context={HERE: tmp_path / "[a]"})
    assert [path.name for path in source.files()] == ["1.csv", "2.csv"]
    monkeypatch.chdir("/")
    assert [path.name for path in source.files()] == ["1.csv", "2.csv"]
    kept = source.model_dump(mode="json", exclude_none=True, context={KEY: True})
    assert kept["interactions"] == ["*.csv", {"path": "*.csv"}]
