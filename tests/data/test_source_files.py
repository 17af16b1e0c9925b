"""A source names the files that it reads: those that Python opens while it reads, and no other."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, final

import pytest

import fuzz_world as small
from lifelora.data.raw import RawTables
from lifelora.data.sources import parse_source
from lifelora.data.sources.base import Source
from lifelora.data.sources.llara import Llara
from lifelora.data.sources.movielens import PUBLISHED, Movielens
from lifelora.data.sources.simulated import Simulated
from lifelora.errors import ConfigError, DataError
from lifelora.run.stages import Stages

OPENED: list[set[str] | None] = [None]


def _note(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and OPENED[0] is not None and isinstance(args[0], str | os.PathLike):
        OPENED[0].add(os.fspath(args[0]))


sys.addaudithook(_note)  # it cannot be taken off again, so it looks away unless a test watches


@contextmanager
def watched() -> Iterator[set[str]]:
    """The paths that are opened meanwhile."""
    opened = OPENED[0] = set()
    try:
        yield opened
    finally:
        OPENED[0] = None


STRAY = b"nobody reads this"
ZIP = {"ml.zip": small._zipped(small.ML_1M)}
CASES: dict[str, tuple[dict[str, bytes], str]] = {
    "ml-100k": (small.ML_100K, "movielens:{}"),
    "ml-1m": (small.ML_1M | {"ratings.estimated_timestamps.csv": b"row\n1\n"}, "movielens:{}"),
    "ml-10m": (small.ML_10M, "movielens:{}"),
    "ml-csv": (small.ML_CSV, "movielens:{}"),
    "ml-zip": (ZIP, "movielens:{}/ml.zip"),
    "bookcrossing": (small.BX, "bookcrossing:{}"),
    "goodreads": (small.GOODREADS, "goodreads:{}"),
    "amazon-2018": (small.AMAZON_2018, "amazon:{}"),
    "amazon-2023": (small.AMAZON_2023, "amazon:{}"),
    "tables": ({"interactions.csv": small.LOG_CSV, "items.csv": small.ITEMS_CSV, "users.csv": small.USERS_CSV}, "tables:{}"),
    "tables-toml": ({name: data for name, data in small.MAPPED.items() if name != "t.toml"}, "tables:{}/../t.toml"),
    "parquet": (small.PARQUET, "tables:{}"),
    "llara": (small.LLARA | {"id2name.txt": small.NAMES}, "llara:{}"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Source, Path, list[str]]:
    """A source, the folder of its files, and their names; a file that it does not read lies beside them."""
    files, spec = CASES[request.param]
    folder = tmp_path / "steam"
    folder.mkdir()
    for name, data in (files | {"README.md": STRAY}).items():
        (folder / name).write_bytes(data)
    mapping = small.MAPPING.replace(b'"log.tsv"', b'"steam/log.tsv"').replace(b'"goods.txt"', b'"steam/goods.txt"')
    (tmp_path / "t.toml").write_bytes(mapping)
    return parse_source(spec.format(folder)), folder, sorted(files)


def test_it_names_what_it_opens(case: tuple[Source, Path, list[str]]):
    source, folder, names = case
    with watched() as opened:
        source.read()
    below = {Path(path).resolve() for path in opened if Path(path).resolve().is_relative_to(folder)}
    assert {path.resolve() for path in source.files()} == below
    assert sorted(path.name for path in below) == names


def test_a_changed_byte_of_a_file_changes_the_hash_and_one_of_another_file_does_not(case: tuple[Source, Path, list[str]]):
    source, folder, names = case
    found = {source.fingerprint()}
    (folder / "README.md").write_bytes(STRAY.swapcase())
    (folder / "notes.txt").write_bytes(STRAY)
    assert source.fingerprint() in found
    for name in names:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        found.add(source.fingerprint())
        (folder / name).write_bytes(data)
    assert len(found) == 1 + len(names)


def test_the_name_of_a_file_counts_and_the_folder_that_holds_all_does_not(tmp_path: Path):
    for folder, log in (("a", "interactions.csv"), ("b", "interactions.csv"), ("c", "interactions.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / log).write_bytes(small.LOG_CSV)
    a, b, c = (parse_source(f"tables:{tmp_path / folder}").fingerprint() for folder in "abc")
    assert a == b != c


def test_which_of_two_spellings_is_read_is_in_the_hash(tmp_path: Path):
    """The names of films are in u.item, and in id2name.txt only where there is no u.item."""
    for name, data in (small.LLARA | {"id2name.txt": small.NAMES}).items():
        (tmp_path / name).write_bytes(data)
    source = Llara(path=str(tmp_path), domain="movielens")
    before = source.fingerprint()
    (tmp_path / "u.item").write_bytes(small.ML_100K["u.item"])
    assert source.fingerprint() != before
    assert "id2name.txt" not in {path.name for path in source.files()}


def test_the_simulated_world_has_no_files():
    assert Simulated().files() == []
    assert Simulated().fingerprint() == Simulated(seed=1).fingerprint() == hashlib.sha256().hexdigest()


def test_a_named_set_is_known_by_its_published_sum_before_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LIFELORA_CACHE", str(tmp_path))
    source, data = Movielens(path="1m"), ZIP["ml.zip"]
    assert source.files() == [tmp_path / "ml-1m.zip"]
    before = source.fingerprint()
    (tmp_path / "ml-1m.zip").write_bytes(data)
    assert source.fingerprint() != before  # this zip is not what is published
    monkeypatch.setitem(PUBLISHED, "ml-1m.zip", hashlib.md5(data).hexdigest())  # type: ignore[arg-type]
    fetched = source.fingerprint()
    (tmp_path / "ml-1m.zip").unlink()
    assert source.fingerprint() == fetched
    (tmp_path / "ml-1m.zip").write_bytes(data[:-2] + b"xx")
    assert source.fingerprint() != fetched


def test_a_set_that_its_publisher_changes_has_no_hash_before_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LIFELORA_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="lifelora data movielens:latest-small --download"):
        Movielens(path="latest-small").fingerprint()
    (tmp_path / "ml-latest-small.zip").write_bytes(small._zipped(small.ML_CSV))
    assert len(Movielens(path="latest-small").fingerprint()) == 64


def test_a_missing_file_and_one_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "interactions.csv").write_bytes(small.LOG_CSV)
    source = parse_source(f"tables:{tmp_path}")
    (tmp_path / "interactions.csv").unlink()
    with pytest.raises(ConfigError, match=r"there is no file '.*interactions.csv'; check the path"):
        source.fingerprint()
    (tmp_path / "interactions.csv").mkdir()
    with pytest.raises(ConfigError, match=r"interactions.csv' is a folder; name its files, as '.*interactions.csv/\*\.csv'"):
        source.fingerprint()
    (tmp_path / "interactions.csv").rmdir()
    (tmp_path / "interactions.csv").write_bytes(small.LOG_CSV)

    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("lifelora.data.sources.base.file_hash", denied)
    with pytest.raises(DataError, match=r"interactions\.csv: cannot be read \(Permission denied\)"):
        source.fingerprint()
    with pytest.raises(ConfigError, match="there is no folder or zip"):
        parse_source(f"amazon:{tmp_path / 'nowhere'}").fingerprint()


@final
class Folder(Source):
    """A stranger's source: every CSV file below a folder, and a key that is not called path."""

    kind: Literal["folder"] = "folder"
    below: str

    @classmethod
    def at(cls, place: str) -> "Folder":
        return cls(below=place)

    @property
    def label(self) -> str:
        return self.below

    def files(self) -> list[Path]:
        return sorted(Path(self.below).rglob("*.csv"))

    def read(self, download: bool = False) -> RawTables:
        return Simulated(users=10, items=60, events_per_user=10).read()


def test_a_strangers_files_make_the_key_of_the_stage(tmp_path: Path):
    from lifelora.recipe.files import load

    (tmp_path / "2026").mkdir()
    (tmp_path / "2026" / "july.csv").write_text("1\n")
    source = Folder.at(str(tmp_path))
    recipe = load("demo")
    data = recipe.data.model_copy(update={"source": source})

    def key() -> str:
        return Stages(recipe.model_copy(update={"data": data}), tmp_path / "run").data.key

    before = key()
    assert key() == before
    (tmp_path / "2026" / "july.csv").write_text("2\n")
    assert key() != before
    (tmp_path / "2026" / "july.csv").rename(tmp_path / "july.csv")
    (tmp_path / "2026" / "june.csv").write_text("1\n")
    assert len({before, key()}) == 2


def test_a_source_that_does_not_name_its_files_cannot_be_made():
    class Careless(Source):
        kind: Literal["careless"] = "careless"

        @classmethod
        def at(cls, place: str) -> "Careless":
            return cls()

        @property
        def label(self) -> str:
            return "careless"

        def read(self, download: bool = False) -> RawTables:
            raise AssertionError

    with pytest.raises(TypeError, match="files"):
        Careless()
