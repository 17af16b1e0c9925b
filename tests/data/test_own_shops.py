"""Thirteen data sets as shops, libraries and papers have them: each is read, checked, and becomes samples.

All tell of the same 96 events, so that what is right of one is right of all; the modules' own tests look at each knob alone.
"""

import gzip
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources import parse_source
from lifelora.errors import ConfigError, DataError
from lifelora.recipe.files import load
from lifelora.run import Options, Run

DAY, START = 86_400, 1_714_521_600  # 2024-05-01 00:00 UTC
USERS, EVENTS, ITEMS = 12, 8, 20
LOG = [(u, (3 * u + e) % ITEMS, 1 + (u + e) % 5, START + DAY * e + 60 * u) for u in range(USERS) for e in range(EVENTS)]
"""(user, item, stars, time): each user has eight different items on eight days."""
TITLES = [f"Kettle {i}" for i in range(ITEMS)]
KINDS = [("kitchen", "steel") if i % 2 else ("kites",) for i in range(ITEMS)]
Made = tuple[str, dict[str, Any]]
"""The words of the command line, and rules."""


def stamp(time: int, form: str) -> str:
    return datetime.fromtimestamp(time, UTC).strftime(form)


def layout(folder: Path, text: str) -> str:
    (folder / "shop.toml").write_text(text)
    return f"tables:{folder / 'shop.toml'}"


def lines(rows: list[str]) -> str:
    return "\n".join(rows) + "\n"


def ratings_and_texts(folder: Path) -> Made:
    """A CSV of ratings with a catalogue that has a brand and several kinds an item."""
    (folder / "log.csv").write_text(
        lines(["customer,sku,stars,bought_at", *(f"c{u},A-{i},{s},{stamp(t, '%Y-%m-%dT%H:%M:%SZ')}" for u, i, s, t in LOG)])
    )
    goods = [f'A-{i},{TITLES[i]},"for tea, loud",Argo,{"|".join(KINDS[i])}' for i in range(ITEMS)]
    (folder / "goods.csv").write_text(lines(["sku,name,text,brand,kinds", *goods]))
    return layout(
        folder,
        'interactions = "log.csv"\ncatalogue = "goods.csv"\ntitle = "name"\ndescription = "text"\n'
        'item_fields = ["brand", "kinds"]\nlists = { kinds = "|" }\n'
        '[columns]\nuser = "customer"\nitem = "sku"\nrating = "stars"\ntime = "bought_at"\n',
    ), {}


def old_spreadsheet(folder: Path) -> Made:
    """Semicolons, decimal commas, days first, cp1252."""
    rows = [f"Käufer {u};{i};{s},0;{stamp(t, '%d.%m.%Y %H:%M')}" for u, i, s, t in LOG]
    (folder / "log.csv").write_bytes(lines(["Kunde;Artikel;Note;Datum", *rows]).encode("cp1252"))
    return layout(
        folder,
        'interactions = "log.csv"\nencoding = "cp1252"\ndelimiter = ";"\ndecimal = ","\ntime_format = "%d.%m.%Y %H:%M"\n'
        '[columns]\nuser = "Kunde"\nitem = "Artikel"\nrating = "Note"\ntime = "Datum"\n',
    ), {}


def exported_by_pandas(folder: Path) -> Made:
    """Parquet with ids that became floats, times as timestamps, a nested column that nobody mapped, and lists of kinds."""
    user, item, stars, time = zip(*LOG, strict=True)
    table = {
        "user": pa.array(user, pa.float64()),
        "item": pa.array(item, pa.int64()),
        "rating": pa.array(stars, pa.float32()),
        "time": pa.array([1_000_000_000 * t for t in time], pa.timestamp("ns", "UTC")),
        "context": pa.array([{"page": 1, "tags": ["a"]}] * len(LOG)),
    }
    pq.write_table(pa.table(table), folder / "interactions.parquet")
    items = {"item": pa.array(range(ITEMS), pa.float64()), "title": TITLES, "kinds": [list(kinds) for kinds in KINDS]}
    pq.write_table(pa.table(items), folder / "items.parquet")
    return f"tables:{folder}", {}


def published_columns(folder: Path) -> Made:
    """A folder with the names of MovieLens' newer files."""
    (folder / "ratings.csv").write_text(lines(["userId,movieId,rating,timestamp", *(f"{u},{i},{s},{t}" for u, i, s, t in LOG)]))
    (folder / "movies.csv").write_text(lines(["movieId,title", *(f"{i},{TITLES[i]}" for i in range(ITEMS))]))
    return f"tables:{folder}", {}


def without_a_header(folder: Path) -> Made:
    """Two colons, no header, ISO-8859-1, as older sets are."""
    (folder / "ratings.dat").write_text(lines([f"{u}::{i}::{s}::{t}" for u, i, s, t in LOG]))
    (folder / "items.dat").write_bytes(lines([f"{i}::Café {i}" for i in range(ITEMS)]).encode("iso-8859-1"))
    return layout(
        folder,
        'delimiter = "::"\nheader = false\n'
        'interactions = { path = "ratings.dat", names = ["user", "item", "rating", "time"] }\n'
        'catalogue = { path = "items.dat", names = ["item", "title"], encoding = "iso-8859-1" }\n[columns]\ntime = "time"\n',
    ), {}


def monthly_exports(folder: Path) -> Made:
    """A packed file for each day."""
    for e in range(EVENTS):
        rows = [f"{u},{i},{s},{t}" for u, i, s, t in LOG if (t - START) // DAY == e]
        (folder / f"log-2024-05-{e + 1:02}.csv.gz").write_bytes(gzip.compress(lines(["user,item,rating,time", *rows]).encode()))
    return layout(folder, 'interactions = "log-2024-*.csv.gz"\n[columns]\ntime = "time"\n'), {}


def json_lines(folder: Path) -> Made:
    """Reviews, one object a line, packed, with milliseconds; the catalogue is an array of objects with lists."""
    rows = [json.dumps({"reviewer": {"id": f"r{u}"}, "asin": f"B{i}", "overall": float(s), "at": 1000 * t}) for u, i, s, t in LOG]
    (folder / "reviews.jsonl.gz").write_bytes(gzip.compress(lines(rows).encode()))
    (folder / "meta.json").write_text(
        json.dumps([{"asin": f"B{i}", "title": TITLES[i], "categories": KINDS[i]} for i in range(ITEMS)])
    )
    return layout(
        folder,
        'interactions = { path = "reviews.jsonl.gz", paths = { reviewer = "$.reviewer.id" } }\ncatalogue = "meta.json"\n'
        'item_fields = ["categories"]\ntime_unit = "milliseconds"\n'
        '[columns]\nuser = "reviewer"\nitem = "asin"\nrating = "overall"\ntime = "at"\n',
    ), {}


def dumped_by_mysql(folder: Path) -> Made:
    """A zip of a file in which quotes stand behind backslashes."""
    rows = [f'"{u}","{i}","{s}","{stamp(t, "%Y-%m-%d %H:%M:%S")} UTC"' for u, i, s, t in LOG]
    goods = [f'"{i}","The \\"{TITLES[i]}\\", new"' for i in range(ITEMS)]
    with zipfile.ZipFile(folder / "dump.zip", "w") as archive:
        archive.writestr("log.csv", lines(["user,item,rating,time", *rows]))
        archive.writestr("goods.csv", lines(["item,title", *goods]))
    return layout(
        folder,
        'escape = "\\\\"\ninteractions = { path = "dump.zip", member = "log.csv" }\n'
        'catalogue = { path = "dump.zip", member = "goods.csv" }\n[columns]\ntime = "time"\n',
    ), {}


def messy(folder: Path) -> Made:
    """Rows twice, rows without a user or a rating, an item that the catalogue lacks, an empty title."""
    rows = [f"{u},{i},{s},{t}" for u, i, s, t in LOG]
    rows += [rows[0], f",1,2,{START}", f"1,1,,{START}", f"1,999,2,{START + 9}"]
    (folder / "log.csv").write_text(lines(["user,item,rating,time", *rows]))
    goods = [f"{i},{TITLES[i] if i else ''}" for i in range(ITEMS)]
    (folder / "goods.csv").write_text(lines(["item,title", *goods]))
    return layout(
        folder,
        'interactions = "log.csv"\ncatalogue = "goods.csv"\nduplicates = "first"\nwithout_user = "drop"\n'
        'without_rating = "drop"\nunknown_items = "drop"\nwithout_title = "id"\n[columns]\ntime = "time"\n',
    ), {}


def clicks(folder: Path) -> Made:
    """Clicks alone."""
    (folder / "interactions.csv").write_text(lines(["user,item,time", *(f"{u},{i},{t}" for u, i, _, t in LOG)]))
    return f"tables:{folder}", {"negatives": {"count": 1}}


def kinds_of_events(folder: Path) -> Made:
    """Views, carts and purchases; searches are none of a user's choices."""
    kind = ("view", "cart", "purchase")
    rows = [f"{u},{i},{kind[s % 3]},{t}" for u, i, s, t in LOG] + [f"1,{i},search,{START}" for i in range(3)]
    (folder / "log.csv").write_text(lines(["user,item,what,time", *rows]))
    return layout(
        folder,
        'interactions = "log.csv"\nevents = { view = 1, cart = 2, purchase = 3 }\nother_events = "drop"\n'
        '[columns]\nevent = "what"\ntime = "time"\n',
    ), {"label_above": 2}


def plays(folder: Path) -> Made:
    """How often each user played what, without times."""
    (folder / "log.tsv").write_text(lines(["user\tartist\tplays", *(f"{u}\t{i}\t{10**s - 1}" for u, i, s, _ in LOG)]))
    return layout(
        folder,
        'interactions = "log.tsv"\ncounts = { rule = "log", base = 10, levels = 5, unit = "plays" }\n'
        '[columns]\nitem = "artist"\ncount = "plays"\n',
    ), {"split": {"kind": "leave-one-out"}, "label_above": 2}


def published_split(folder: Path) -> Made:
    """A column says which part a row belongs to, and ratings are likes."""
    part = ("train",) * 6 + ("valid", "test")
    rows = [f"{u},{i},{int(s > 3)},{t},{part[(t - START) // DAY]}" for u, i, s, t in LOG]
    (folder / "log.csv").write_text(lines(["uid,iid,label,timestamp,part", *rows]))
    return layout(
        folder,
        'interactions = "log.csv"\n[columns]\nuser = "uid"\nitem = "iid"\nrating = "label"\ntime = "timestamp"\npart = "part"\n',
    ), {"split": {"kind": "given"}, "label_above": 0.5, "min_history": 0}


SHOPS: list[Callable[[Path], Made]] = [
    ratings_and_texts,
    old_spreadsheet,
    exported_by_pandas,
    published_columns,
    without_a_header,
    monthly_exports,
    json_lines,
    dumped_by_mysql,
    messy,
    clicks,
    kinds_of_events,
    plays,
    published_split,
]


def prepared(shop: Callable[[Path], Made], folder: Path) -> Dataset:
    told, rules = shop(folder)
    source = parse_source(told)
    return prepare(source.read(), Rules(**{"min_history": 3} | rules), folder / "1-data", source.label)


@pytest.mark.parametrize("shop", SHOPS)
def test_the_same_events_come_out_of_every_shop(shop: Callable[[Path], Made], tmp_path: Path):
    """The users' items in the order of their times, whatever form they came in."""
    dataset = prepared(shop, tmp_path)
    assert (len(dataset), dataset.n_users) == (len(LOG), USERS)
    number = [int("".join(filter(str.isdigit, one))) for one in dataset.users.outside(np.arange(USERS))]
    items = [int("".join(filter(str.isdigit, one))) for one in dataset.items.outside(np.arange(dataset.n_items))]
    for user in range(USERS):
        own = np.asarray(dataset.item_N[dataset.log.rows_of(user)])
        assert [items[item] for item in own] == [i for u, i, _, _ in LOG if u == number[user]]
    assert all(len(dataset.samples[part]) for part in ("train", "valid", "test"))


@pytest.mark.parametrize("shop", [shop for shop in SHOPS if shop not in (clicks, kinds_of_events, plays, published_split)])
def test_ratings_and_times_are_those_of_the_files(shop: Callable[[Path], Made], tmp_path: Path):
    dataset = prepared(shop, tmp_path)
    assert dataset.rating_levels == (1, 2, 3, 4, 5)
    of_user = {int("".join(filter(str.isdigit, one))): u for u, one in enumerate(dataset.users.outside(np.arange(USERS)))}
    right = sorted((of_user[u], t // 60, s - 1) for u, _, s, t in LOG)  # some forms have no seconds
    rows = zip(dataset.user_N.tolist(), (dataset.time_N // 60).tolist(), dataset.rating_N.tolist(), strict=True)
    assert sorted(rows) == right


def test_several_kinds_of_an_item_are_several(tmp_path: Path):
    for number, (shop, field) in enumerate(
        [(ratings_and_texts, "kinds"), (exported_by_pandas, "kinds"), (json_lines, "categories")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        dataset = prepared(shop, folder)
        items = dataset.items.outside(np.arange(dataset.n_items))
        values = dict(zip(items, dataset.catalogue.column(field).to_pylist(), strict=True))
        found = {int("".join(filter(str.isdigit, item))): tuple(kinds) for item, kinds in values.items()}
        assert found == dict(enumerate(KINDS))


def test_a_messy_log_says_what_went(tmp_path: Path):
    """Each knob by its count; without the knobs all of it is refused at once."""
    notes = " ".join(prepared(messy, tmp_path).notes)
    for word in ("duplicates", "without_user", "without_rating", "unknown_items", "without_title"):
        assert word in notes
    text = (tmp_path / "shop.toml").read_text().splitlines()
    knobs = ("duplicates", "without", "unknown")
    (tmp_path / "strict.toml").write_text(lines([line for line in text if not line.startswith(knobs)]))
    with pytest.raises(DataError) as refused:
        parse_source(f"tables:{tmp_path / 'strict.toml'}").read()
    assert refused.value.count == 5
    for word in ("duplicates", "without_user", "without_rating", "unknown_items", "without_title"):
        assert word in str(refused.value)


def test_clicks_have_drawn_negatives_and_without_them_no_two_answers(tmp_path: Path):
    dataset = prepared(clicks, tmp_path)
    targets = dataset.targets(dataset.samples["train"])
    assert targets.label_B.mean() == 0.5
    recipe = load("demo", parse_source(f"tables:{tmp_path}"))
    with pytest.raises(ConfigError, match=r"data\.rules\.negatives"):
        Run(recipe, tmp_path / "run", Options(progress=False)).prepare()
