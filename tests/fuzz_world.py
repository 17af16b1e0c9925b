"""Small sound inputs of every reader of foreign files, seeded damage to them, and what must hold of whatever is read.

An input is a few files by name and a function that reads the folder that they are in. What it gives is judged by its ``judge``,
which asks for what an independent reader (``csv``, ``json``, counting lines) makes of the same bytes.
"""

import csv
import gzip
import io
import json
import math
import re
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from torch import nn

from lifelora.data.idmap import IdMap
from lifelora.data.raw import RawTables
from lifelora.data.sources import parse_source
from lifelora.data.sources.codes import GENRES_100K
from lifelora.data.sources.llara import Llara
from lifelora.door import cut
from lifelora.errors import UNSAFE, LifeloraError
from lifelora.knowledge.read import EVENTS
from lifelora.lora.adapters import Adaptation
from lifelora.lora.collection import INDEX, Collection, Entry
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise
from lifelora.lora.saved import load as load_adapter
from lifelora.lora.saved import read_peft, save
from lifelora.recipe.files import dump, load, parse
from lifelora.recipe.shipped import built_in
from lifelora.run.cohort import read_cohort
from lifelora.vectors.precomputed import VectorFile, by_item

Judge = Callable[[Any, Mapping[str, bytes]], list[str]]
"""What was read and the files it was read from to what is wrong with it."""

SPICE = [
    b"",
    b'"',
    b'""',
    b"'",
    b"\\",
    b'\\"',
    b"\n",
    b"\r",
    b"\r\n",
    b"\x00",
    b"\x1b[31m",
    b"\x1f",
    b"\xff",
    b"\xc3\xa9",
    b"\xe9",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b",",
    b";",
    b"\t",
    b"|",
    b"::",
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"-1",
    b"0",
    b"1e39",
    b"9" * 400,
    b"9" * 5000,
    b"0x" + b"f" * 5000,
    b"[" * 3000,
    b"{" * 3000,
    b"\\ud83d",
    b"\\x41",
    b"\\u0000",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"[[]]",
    b"2024-02-30",
    b"1e11",
    b"::" * 2000,
    b"|" * 2000,
    b"x" * 70_000,
    b" " * 3000,
    b"=",
    b"#",
    b"-",
    b".",
    b"../../x",
    b"PAR1",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x00\x00\xc0\x7f",
    b"\x00\x00\x80\x7f",
]
"""Pieces that formats trip over."""
VALUE = re.compile(rb"[:=]\s*([^,\n}]+)")
ODD = [
    b'"x"',
    b'""',
    b"-1",
    b"0",
    b"1.5",
    b"1e308",
    b"-1e308",
    b"1e30",
    b"1e999",
    b"NaN",
    b"nan",
    b"inf",
    b"Infinity",
    b"[]",
    b"[[]]",
    b'["x"]',
    b"{}",
    b"null",
    b"true",
    b"false",
    b'"null"',
    b'"\\u0000"',
    b'"re:("',
    b'"/etc/passwd"',
    b"10000000000000000000000",
    b"0x" + b"f" * 5000,
    b"9" * 5000,
    b"[" * 3000,
    b'"LORA"',
    b'"LIFELORA"',
    b'"\\ud800"',
    b'"simulated"',
    b"1979-05-27",
]
"""Values of another kind than the one that is due."""


@dataclass(frozen=True)
class Input:
    """Sound files of one kind, how a folder with them is read, and what must hold of what is read."""

    files: Mapping[str, bytes]
    read: Callable[[Path], Any]
    judge: Judge
    texts: tuple[str, ...] = ()
    "Names of the files that are texts (or JSON), to which pieces are done; to others bytes are."


def damage(files: Mapping[str, bytes], random: np.random.Generator, texts: tuple[str, ...]) -> dict[str, bytes]:
    """One to three files' or pieces' damage: bytes changed, cut, doubled, moved, spiced; a file emptied or in another's place."""
    made = dict(files)
    for _ in range(int(random.choice([1, 1, 1, 2, 3]))):
        name = str(random.choice(list(made)))
        data, other = made[name], made[str(random.choice(list(made)))]
        at, to = sorted(random.integers(0, len(data) + 1, 2).tolist())
        to = min(to, at + 40) if random.random() < 0.7 else to
        spice = SPICE[int(random.integers(len(SPICE)))]
        how = int(random.integers(0, 12))
        if how <= 2 and data:
            changed = bytearray(data)
            for place in random.integers(0, len(data), int(random.integers(1, 4))).tolist():
                changed[place] = int(random.integers(0, 256)) if how else changed[place] ^ (1 << int(random.integers(8)))
            data = bytes(changed)
        elif how == 3:
            data = data[:at] + data[to:]
        elif how == 4:
            data = data[:to] + data[at:to] + data[to:]
        elif how == 5:
            data = data[:at]
        elif how == 6:
            data = data[:at] + spice + data[at:]
        elif how == 7:
            data = data[:at] + spice + data[at + len(spice) :]
        elif how == 8 and name in texts:  # a whole field, value or line
            parts = data.replace(b"::", b"\x00::\x00").replace(b",", b"\x00,\x00").replace(b"\n", b"\x00\n\x00").split(b"\x00")
            parts[int(random.integers(len(parts)))] = spice
            data = b"".join(parts)
        elif how == 9:
            data = [b"", other, data + other, data * 2][int(random.integers(4))]
        elif name in texts and (values := list(VALUE.finditer(data))):  # another kind of value, in JSON or TOML
            value = values[int(random.integers(len(values)))]
            data = data[: value.start(1)] + ODD[int(random.integers(len(ODD)))] + data[value.end(1) :]
        made[name] = data
    return made


def judged(one: Input, files: Mapping[str, bytes], folder: Path) -> tuple[str, list[str]]:
    """``refused`` or ``read``, and what is wrong with how; a traceback is one of the faults."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    try:
        found = one.read(folder)
    except LifeloraError as error:
        said = str(error)
        faults = [f"an order to a terminal in an error: {said!r:.200}"] if UNSAFE.search(said) else []
        return "refused", faults + ([f"an error of {len(said):,} characters"] if not 10 < len(cut(said)) <= 20_000 else [])
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the fault that is looked for
        return "traceback", [f"{type(error).__name__}: {error!s:.200}"]
    return "read", one.judge(found, files)


def _tables(raw: RawTables, files: Mapping[str, bytes]) -> list[str]:
    """What holds of every data set: sound texts, finite ratings, known items; no letter was lost without a word."""
    faults = []
    for table in (raw.interactions, raw.catalogue, raw.profiles):
        table.validate(full=True)
        faults += [f"{name} has nulls" for name in table.column_names if table.column(name).null_count and name != "part"]
    log = raw.interactions.to_pydict()
    faults += ["an id is empty"] * (not all(log["user"]) or not all(log["item"]))
    faults += ["a rating is not finite"] * (not all(map(math.isfinite, log.get("rating", []))))
    titles = raw.catalogue.column("title").to_pylist()
    faults += ["a title holds a control character"] * any(c < " " or "\x7f" <= c < "\xa0" for title in titles for c in title)
    whole = b"".join(_unpacked(data) for data in files.values())
    lost = "\ufffd" in "".join([*titles, *log["user"], *log["item"]])
    faults += ["a letter was lost without a word"] * (
        lost and "\ufffd".encode() not in whole and b"\\ufffd" not in whole.lower() and not any("U+FFFD" in n for n in raw.notes)
    )
    return faults


def _unpacked(data: bytes) -> bytes:
    try:
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, ValueError):
        return data


def _lines(data: bytes) -> list[bytes]:
    """Lines that say something, however they end."""
    data = data if b"\r\n" in data or b"\n" in data else data.replace(b"\r", b"\n")
    return [line for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line.strip(b"\xef\xbb\xbf \t")]


def _by_lines(log: str) -> Judge:
    """One event for each line of the log."""

    def judge(raw: RawTables, files: Mapping[str, bytes]) -> list[str]:
        due = len(_lines(files[log]))
        return _tables(raw, files) + ([f"{len(raw.interactions)} events of {due} lines"] if len(raw.interactions) != due else [])

    return judge


def _by_csv(log: str, delimiter: str) -> Judge:
    """One event for each record that Python's own reader finds, with the same user."""

    def judge(raw: RawTables, files: Mapping[str, bytes]) -> list[str]:
        faults = _tables(raw, files)
        if any("behind backslashes" in note for note in raw.notes):
            return faults
        text = files[log].decode("utf-8-sig")
        text = text if "\n" in text else text.replace("\r", "\n")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
        place = [name.strip() for name in rows[0]].index("userId" if "userId" in rows[0] else "user")
        due = [row[place].strip() for row in rows[1:]]
        came = raw.interactions.column("user").to_pylist()
        return faults + ([f"users {came!r:.200} where csv reads {due!r:.200}"] if came != due else [])

    return judge


def _by_json(log: str, omitted: bool) -> Judge:
    """One event for each line that Python's own reader calls an object, where none is omitted; else no more than those."""

    def judge(raw: RawTables, files: Mapping[str, bytes]) -> list[str]:
        lines = _lines(_unpacked(files[log]).replace(b"\r", b" "))
        n = len(raw.interactions)
        wrong = n > len(lines) or (n < len(lines) and not (omitted and any("left out" in note for note in raw.notes)))
        return _tables(raw, files) + ([f"{n} events of {len(lines)} lines"] if wrong else [])

    return judge


def _only_tables(raw: RawTables, files: Mapping[str, bytes]) -> list[str]:
    return _tables(raw, files)


def source(files: Mapping[str, bytes], spec: str, judge: Judge, binary: bool = False) -> Input:
    """A data set that is read as the command line says it; ``{}`` is its folder."""
    return Input(files, lambda folder: parse_source(spec.format(folder)).read(), judge, () if binary else tuple(files))


def _llara(files: Mapping[str, bytes], domain: Literal["movielens", "steam"]) -> Input:
    return Input(files, lambda folder: Llara(path=str(folder), domain=domain).read(), _only_tables, tuple(files))


def _flags(*numbers: int) -> str:
    return "|".join("1" if place in numbers else "0" for place in range(len(GENRES_100K)))


def _parquet(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, compression="zstd")
    return stream.getvalue()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"ml/{name}", data)
    return stream.getvalue()


def _json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


USERS, ITEMS = range(1, 5), range(1, 7)
ML_1M = {
    "ratings.dat": "".join(f"{u}::{i}::{(u * i) % 5 + 1}::{978300000 + 60 * u + i}\n" for u in USERS for i in ITEMS).encode(),
    "movies.dat": "".join(f"{i}::Misérables {i}, Les (199{i})::Drama|War\n" for i in ITEMS).encode("iso-8859-1"),
    "users.dat": "".join(f"{u}::F::25::{u}::55105\n" for u in USERS).encode(),
}
ML_10M = {
    "ratings.dat": ML_1M["ratings.dat"].replace(b"::5::97", b"::4.5::97"),
    "movies.dat": ML_1M["movies.dat"].decode("iso-8859-1").encode(),
}
ML_100K = {
    "u.data": ML_1M["ratings.dat"].replace(b"::", b"\t"),
    "u.item": "".join(f"{i}|Café {i} (1995)|01-Jan-1995||http://x|{_flags(i)}\n" for i in ITEMS).encode("iso-8859-1"),
    "u.user": "".join(f"{u}|{20 + u}|M|writer|55105\n" for u in USERS).encode(),
}
ML_CSV = {
    "ratings.csv": (
        "userId,movieId,rating,timestamp\r\n"
        + "".join(f"{u},{i},{(u * i) % 5 + 0.5},{978300000 + u}\r\n" for u in USERS for i in ITEMS)
    ).encode(),
    "movies.csv": ("movieId,title,genres\r\n" + "".join(f'{i},"Café, ""{i}"" (1995)",Drama|War\r\n' for i in ITEMS)).encode(),
}
BX = {
    "BX-Book-Ratings.csv": (
        '"User-ID";"ISBN";"Book-Rating"\r\n' + "".join(f'"{u}";"X{i}";"{(u * i) % 11}"\r\n' for u in USERS for i in ITEMS)
    ).encode(),
    "BX-Books.csv": (
        '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher"\r\n'
        + "".join(f'"X{i}";"The \\"Élan\\" {i}; a play";"Victor Hugo";"199{i}";"Simon &amp; Co"\r\n' for i in ITEMS)
    ).encode("iso-8859-1"),
    "BX-Users.csv": ('"User-ID";"Location";"Age"\r\n' + "".join(f'"{u}";"tyler, texas, usa";"{u}9"\r\n' for u in USERS)).encode(),
}
GOODREADS = {
    "goodreads_interactions.json": _json_lines(
        [
            {"user_id": f"u{u}", "book_id": str(i), "rating": (u * i) % 6, "date_added": f"Mon Sep 18 15:0{i}:44 -0700 2017"}
            for u in USERS
            for i in ITEMS
        ]
    ),
    "goodreads_books.json": _json_lines(
        [{"book_id": str(i), "title": f"Café {i}", "authors": [{"author_id": str(i)}], "publication_year": "1999"} for i in ITEMS]
    ),
    "goodreads_book_authors.json": _json_lines([{"author_id": str(i), "name": f"Ã {i}"} for i in ITEMS]),
}
AMAZON_2018 = {
    "reviews.json": _json_lines(
        [
            {"reviewerID": f"u{u}", "asin": f"B{i}", "overall": (u * i) % 5 + 1.0, "unixReviewTime": 10**9 + i}
            for u in USERS
            for i in ITEMS
        ]
    ),
    "meta_x.json": _json_lines(
        [{"asin": f"B{i}", "title": f'Pan {i}"', "brand": "Argo", "category": ["Home", "Pans"]} for i in ITEMS]
    ),
}
AMAZON_2023 = {
    "reviews.jsonl.gz": gzip.compress(
        _json_lines(
            [
                {"user_id": f"u{u}", "parent_asin": f"B{i}", "rating": 4.0, "timestamp": 1_600_000_000_000 + i, "text": "x"}
                for u in USERS
                for i in ITEMS
            ]
        )
    ),
    "meta_x.jsonl": _json_lines(
        [{"parent_asin": f"B{i}", "title": f"Pan {i}", "store": "Argo", "categories": ["A", "B"]} for i in ITEMS]
    ),
}
LLARA = {
    f"{stem}_data.jsonl": _json_lines([{"seq": [i % 6, 1, 2, 6, 6], "len_seq": 3, "next": (i + 3) % 6} for i in range(n)])
    for stem, n in (("train", 6), ("Val", 3), ("Test", 3))
}
NAMES = "".join(f"{i}::Café :: {i}\n" for i in range(6)).encode()
LOG_CSV = (
    "user,item,rating,time\n"
    + "".join(f'u{u},"i, {i}",{(u * i) % 5 + 1},2024-05-{10 + i}T18:30:00Z\n' for u in USERS for i in ITEMS)
).encode()
ITEMS_CSV = ("item,title,brand\n" + "".join(f'"i, {i}","Café ""{i}""",Argo\n' for i in ITEMS)).encode()
USERS_CSV = ("user,city\n" + "".join(f"u{u},Århus\n" for u in USERS)).encode()
JSON = {
    "interactions.jsonl": "".join(
        json.dumps({"user": f"u{u}", "item": i, "rating": (u * i) % 5 + 1, "at": {"x": [u]}}) + "\n" for u in USERS for i in ITEMS
    ).encode(),
    "items.json": json.dumps([{"item": i, "title": f"Café {i}", "kinds": ["a", "b"][: i % 3]} for i in ITEMS], indent=1).encode(),
}
SIGNS = {
    "t.toml": b"""interactions = { path = "log.*", header = false, names = ["user", "item", "rating"] }
catalogue = { path = "goods.txt", delimiter = "||" }
""",
    "log.dat": "".join(f"u{u}::{i}::{(u * i) % 5 + 1}\n" for u in USERS for i in ITEMS).encode(),
    "goods.txt": ("item||title\n" + "".join(f'{i}||"Café || ""{i}"""\n' for i in ITEMS)).encode(),
}
MAPPING = b"""interactions = "log.tsv"
catalogue = "goods.txt"
rating_range = [1, 5]
title = "name"
item_fields = ["brand"]
delimiter = "\\t"
encoding = "utf-8"

[columns]
user = "who"
item = "what"
rating = "stars"
time = "when"

[words]
item = "pan"
"""
MAPPED = {
    "t.toml": MAPPING,
    "log.tsv": (
        "who\twhat\tstars\twhen\n" + "".join(f"u{u}\ti{i}\t{(u * i) % 5 + 1}\t{10**9 + i}\n" for u in USERS for i in ITEMS)
    ).encode(),
    "goods.txt": ("what\tname\tbrand\n" + "".join(f"i{i}\tCafé {i}\tArgo\n" for i in ITEMS)).encode(),
}
PARQUET = {
    "interactions.parquet": _parquet(
        user=[f"é{u}" for u in USERS for _ in ITEMS],
        item=[i for _ in USERS for i in ITEMS],
        rating=[float((u * i) % 5) for u in USERS for i in ITEMS],
        time=[10**9 + i for _ in USERS for i in ITEMS],
    ),
    "items.parquet": _parquet(item=list(ITEMS), title=[f"Café {i}" for i in ITEMS]),
}


CONFIG = ("adapter_config.json",)


class Tiny(nn.Module):
    """Two linears that adapters can be on."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(8, 8), nn.Linear(8, 8)


def _peft() -> dict[str, bytes]:
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "lora_dropout": 0.1,
        "bias": "none",
        "task_type": "CAUSAL_LM",
        "target_modules": ["q_proj", "v_proj"],
        "use_rslora": False,
        "base_model_name_or_path": "x",
    }
    tensors = {
        f"base_model.model.{name}.lora_{part}.weight": torch.full((2, 8) if part == "A" else (8, 2), 0.1)
        for name in ("q_proj", "v_proj")
        for part in "AB"
    }
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": safetensors.torch.save(tensors)}


def _own(folder: Path) -> dict[str, bytes]:
    save(personalise(Tiny(), Adaptation(coupling=Full.Config(rank=2)), user_width=4), folder)
    return {name: (folder / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}


def _adapters(found: Any, _: Mapping[str, bytes]) -> list[str]:
    adapters, plain = found
    faults = ["a weight is no finite number"] * (not all(t.isfinite().all() for t in adapters.state().values()))
    if plain is not None:
        faults += ["a scaling that is none"] * (not 0 < plain.scaling < math.inf)
        faults += ["a dropout that is none"] * (not 0 <= plain.dropout < 1)
    return faults


def _recipe(found: Any, _: Mapping[str, bytes]) -> list[str]:
    return [] if parse(tomllib.loads(dump(found)), "again") == found else ["its dump is another recipe"]


def _vectors(found: Any, _: Mapping[str, bytes]) -> list[str]:
    vectors_MD, _ = found
    return ["a vector is not finite"] * (not np.isfinite(np.asarray(vectors_MD)).all())


def _cohort(users: list[str], files: Mapping[str, bytes]) -> list[str]:
    due = [line.strip() for line in files["cohort.txt"].decode("utf-8-sig").replace("\r", "\n").split("\n") if line.strip()]
    return [] if users == due and len(set(users)) == len(users) else ["other users than the file has"]


def _index() -> dict[str, bytes]:
    made = [asdict(Entry.of(user, {"adapter_config.json": b"{}"}, 2)) for user in ("u1", "é/..", "x" * 300, "u2")]
    told = {"format": 1, "system": "personal", "base_model": "x", "adapters": made[:3], "old": made[3:]}
    return {INDEX: json.dumps(told).encode()}


def _collection(found: Collection, _: Mapping[str, bytes]) -> list[str]:
    entries = [*found.current.values(), *found.old.values()]
    return [f"{one.path!r} leads out of its folder" for one in entries if one.path in ("", ".", "..") or "/" in one.path]


def inputs(folder: Path) -> dict[str, Input]:
    """Every kind of foreign file, by name; ``folder`` is for what has to be written first."""
    item_map = IdMap.of([str(i) for i in ITEMS])
    small = {name: text for name, text in built_in().items() if name in ("demo", "rella", "ilora", "kar", "laser", "ctr-bert")}
    made = {
        "movielens 1m": source(ML_1M, "movielens:{}", _by_lines("ratings.dat")),
        "movielens 10m": source(ML_10M, "movielens:{}", _by_lines("ratings.dat")),
        "movielens 100k": source(ML_100K, "movielens:{}", _by_lines("u.data")),
        "movielens csv": source(ML_CSV, "movielens:{}", _by_csv("ratings.csv", ",")),
        "movielens zip": source({"ml.zip": _zipped(ML_1M)}, "movielens:{}/ml.zip", _only_tables, binary=True),
        "bookcrossing": source(BX, "bookcrossing:{}", _only_tables),
        "goodreads": source(GOODREADS, "goodreads:{}", _by_json("goodreads_interactions.json", omitted=True)),
        "amazon 2018": source(AMAZON_2018, "amazon:{}", _by_json("reviews.json", omitted=True)),
        "amazon 2023": source(AMAZON_2023, "amazon:{}", _only_tables, binary=True),
        "llara names": _llara({**LLARA, "id2name.txt": NAMES}, "steam"),
        "llara films": _llara({**LLARA, "u.item": ML_100K["u.item"]}, "movielens"),
        "tables csv": source(
            {"interactions.csv": LOG_CSV, "items.csv": ITEMS_CSV, "users.csv": USERS_CSV},
            "tables:{}",
            _by_csv("interactions.csv", ","),
        ),
        "tables toml": source(MAPPED, "tables:{}/t.toml", _only_tables),
        "tables json": source(JSON, "tables:{}", _by_json("interactions.jsonl", omitted=False)),
        "tables signs": source(SIGNS, "tables:{}/t.toml", _by_lines("log.dat")),
        "tables packed": source(
            {
                "interactions.csv.zst": bytes(pa.Codec("zstd").compress(LOG_CSV, asbytes=True)),
                "items.csv.gz": gzip.compress(ITEMS_CSV, mtime=0),
                "users.zip": _zipped({"users.csv": USERS_CSV}),
            },
            "tables:{}",
            _only_tables,
            binary=True,
        ),
        "tables parquet": source(PARQUET, "tables:{}", _only_tables, binary=True),
        "precomputed": Input(
            {"v.parquet": _parquet(item=list(ITEMS), vector=[[0.5, float(i)] for i in ITEMS])},
            lambda at: by_item(str(at / "v.parquet"), "vectors.path", item_map),
            _vectors,
        ),
        "users' vectors": Input(
            {"v.parquet": _parquet(user=["a", "b"], events=[1, 2], vector=[[0.5, 1.0], [1.0, 2.0]])},
            lambda at: (VectorFile(str(at / "v.parquet"), "vectors.users", "user", EVENTS).vectors_ND, None),
            _vectors,
        ),
        "cohort": Input(
            {"cohort.txt": "".join(f"u{u}é\n" for u in range(20)).encode()},
            lambda at: read_cohort(at / "cohort.txt"),
            _cohort,
            ("cohort.txt",),
        ),
        "index of adapters": Input(_index(), Collection.read, _collection, (INDEX,)),
        "adapter of peft": Input(_peft(), lambda at: (load_adapter(Tiny(), at), read_peft(at)), _adapters, CONFIG),
        "adapter of ours": Input(_own(folder), lambda at: (load_adapter(Tiny(), at), None), _adapters, CONFIG),
    }
    for name, text in small.items():
        made[f"recipe {name}"] = Input({"r.toml": text.encode()}, lambda at: load(str(at / "r.toml")), _recipe, ("r.toml",))
    return made
