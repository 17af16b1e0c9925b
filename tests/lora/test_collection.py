"""Many adapters side by side: names that are never used twice, folders that appear whole, and only our own are removed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lifelora.errors import ArtefactError, ConfigError
from lifelora.lora.collection import INDEX, Collection, Entry, as_name
from lifelora.lora.export import CONFIG, TENSORS, packed

WEIRD = [
    "a/b",
    "..",
    ".",
    "a\0b",
    "Ann@home",
    "ann@HOME",
    "x" * 300,
    "é" * 300,
    "\x1b[31m\n",
    "%41",
    "A",
    "con",
    " ",
    "a\\b",
    "-",
    "~",
]


def files(value: float = 1.0, rank: int = 2) -> dict[str, bytes]:
    return packed({"r": rank, "peft_type": "LORA"}, {"x.lora_A.weight": torch.full((rank, 3), value)})


def collection(folder: Path) -> Collection:
    return Collection.open(folder, "personal", "some/backbone")


def test_ids_are_parts_of_names_and_can_be_read_back():
    assert [as_name(user) for user in ("u1", "..", "a/b", "é~.")] == ["u1", "%2E%2E", "a%2Fb", "%C3%A9%7E%2E"]
    assert as_name("\x1b[31m\n\0") == "%1B%5B31m%0A%00"
    assert [unquote(as_name(user)) for user in WEIRD if len(user) < 60] == [user for user in WEIRD if len(user) < 60]
    long = [as_name(user) for user in ("é" * 300, "é" * 301, "x" * 5000)]
    assert len(set(long)) == 3


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("Ann@home")
@example("../a\0b")
@example("é" * 300)
def test_any_id_makes_a_folder_on_any_file_system(user: str):
    name = Entry.of(user, files(), 2).name
    assert len(name) <= 255
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-%@")
    assert name.count("@") == 1
    assert name == name.strip(".")


def test_every_id_has_a_folder_even_where_case_does_not_count(tmp_path: Path):
    made = collection(tmp_path / "out")
    assert all(made.add(user, files(), 2) for user in WEIRD)
    made.save()
    told = json.loads((tmp_path / "out" / INDEX).read_text())
    assert [one["user"] for one in told["adapters"]] == WEIRD
    assert len({one["name"].lower() for one in told["adapters"]}) == len(WEIRD)  # all have the same weights
    for one in told["adapters"]:
        inside = {path.name: path.stat().st_size for path in (tmp_path / "out" / one["path"]).iterdir()}
        assert inside.keys() == {CONFIG, TENSORS}
        assert one["bytes"] == sum(inside.values())
        assert (one["rank"], one["hash"]) == (2, one["name"].rpartition("@")[2])
    assert (told["system"], told["base_model"], told["old"]) == ("personal", "some/backbone", [])


def test_the_hash_is_of_the_user_and_of_every_byte():
    """As the module says it: by hand."""
    weights, config = files()[TENSORS], files()[CONFIG]
    inner = f'{{"{CONFIG}":"{hashlib.sha256(config).hexdigest()}","{TENSORS}":"{hashlib.sha256(weights).hexdigest()}"}}'
    expected = hashlib.sha256(f'["u1",{inner}]'.encode()).hexdigest()[:16]
    assert Entry.of("u1", files(), 2).hash == expected
    flipped = weights[:-1] + bytes([weights[-1] ^ 1])
    others = [
        Entry.of("u2", files(), 2),
        Entry.of("u1", {TENSORS: flipped, CONFIG: config}, 2),
        Entry.of("u1", {TENSORS: weights, CONFIG: config + b" "}, 2),
    ]
    assert len({one.hash for one in others} | {expected}) == 4
    assert Entry.of("u1", files(1.0), 2) == Entry.of("u1", files(1.0), 2)


def test_the_same_is_not_written_again_and_the_changed_is_beside_it(tmp_path: Path):
    made = collection(tmp_path)
    made.add("u1", files(1.0), 2), made.add("u2", files(1.0), 2)
    made.save()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != INDEX}
    again = collection(tmp_path)
    assert not again.add("u1", files(1.0), 2)
    assert again.add("u2", files(2.0), 2)
    again.save()
    now = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != INDEX}
    assert before.items() <= now.items()
    assert len(now) == len(before) + 2
    (old,) = json.loads((tmp_path / INDEX).read_text())["old"]
    assert (old["user"], old["name"]) == ("u2", Entry.of("u2", files(1.0), 2).name)
    assert Collection.read(tmp_path).current["u2"] == Entry.of("u2", files(2.0), 2)


def test_what_was_once_comes_back_under_its_own_name(tmp_path: Path):
    made = collection(tmp_path)
    assert [made.add("u1", files(value), 2) for value in (1.0, 2.0, 1.0)] == [True, True, False]
    assert made.current["u1"] == Entry.of("u1", files(1.0), 2)
    assert list(made.old) == [Entry.of("u1", files(2.0), 2).name]


def test_prune_removes_what_newer_ones_replaced_and_nothing_else(tmp_path: Path):
    made = collection(tmp_path)
    for value in (1.0, 2.0, 3.0):
        made.add("u1", files(value), 2)
        made.add("u2", files(value), 2)
    (tmp_path / "mine").mkdir()
    note = tmp_path / Entry.of("u2", files(1.0), 2).name / "note.txt"
    note.write_text("kept")
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / Entry.of("u2", files(2.0), 2).name).rename(elsewhere)
    (tmp_path / Entry.of("u2", files(2.0), 2).name).symlink_to(elsewhere)
    removed, stay = made.prune()
    assert removed == 2
    assert {path.name for path in stay} == {Entry.of("u2", files(value), 2).name for value in (1.0, 2.0)}
    assert note.read_text() == "kept"
    assert (elsewhere / TENSORS).is_file()
    left = {Entry.of(user, files(3.0), 2).name for user in ("u1", "u2")} | {path.name for path in stay}
    assert {path.name for path in tmp_path.iterdir()} == left | {"mine", "elsewhere", INDEX}
    assert {one["name"] for one in json.loads((tmp_path / INDEX).read_text())["old"]} == {path.name for path in stay}


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_collection import collection, files
import lifelora.lora.collection as module

made, real, written = collection(Path(sys.argv[1])), module.write_atomically, []
made.add("whole", files(), 2)

def until(path, content):
    if written:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(path)
    real(path, content)

module.write_atomically = until
made.add("torn", files(), 2)
"""


def test_a_kill_between_the_two_files_leaves_no_adapter(tmp_path: Path):
    """The process ends where the weights are written and the configuration is not; the next one makes it whole."""
    words = [sys.executable, "-c", KILLED, str(tmp_path / "out"), str(Path(__file__).parent)]
    killed = subprocess.run(words, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert killed.returncode == -signal.SIGKILL
    whole, torn = (Entry.of(user, files(), 2).name for user in ("whole", "torn"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {whole, f".{torn}.0.part"}
    (tmp_path / "out" / ".mine.0.part").mkdir()
    (tmp_path / "out" / ".mine.0.part" / "thesis.txt").touch()
    made = collection(tmp_path / "out")
    made.clear_torn()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {whole, ".mine.0.part"}
    assert [made.add(user, files(), 2) for user in ("whole", "torn")] == [False, True]
    assert (tmp_path / "out" / torn / CONFIG).read_bytes() == files()[CONFIG]


def test_an_error_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    made = collection(tmp_path)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        made.add("u1", files(), 2)
    assert list(tmp_path.iterdir()) == []
    assert made.current == {}


def test_what_else_has_the_name_of_an_adapter_is_left_alone(tmp_path: Path):
    place = tmp_path / Entry.of("u1", files(), 2).name
    place.mkdir()
    (place / TENSORS).write_text("mine")
    with pytest.raises(ArtefactError, match="is not the adapter of that name; move it away"):
        collection(tmp_path).add("u1", files(), 2)
    assert [path.name for path in place.iterdir()] == [TENSORS]


SOUND = asdict(Entry.of("u1", files(), 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "its format is 2, and this lifelora knows 1"),
        ({"adapters": [{"user": "u1"}]}, "is damaged"),
        (
            {"old": [{"user": "u1", "name": "../mine", "path": "../mine", "bytes": 1, "hash": "0", "rank": 2}]},
            "'../mine' is not the",
        ),
        ({"old": [{"user": "u1", "name": "u1@/x", "path": "u1@/x", "bytes": 1, "hash": "/x", "rank": 2}]}, "'u1@/x' is not the"),
        ({"old": [7]}, "is damaged"),
        ({"adapters": [SOUND | {"bytes": "many"}]}, "is no adapter"),
        ({"adapters": [SOUND | {"user": "\ud800"}]}, "is damaged"),
        ({"adapters": None}, "is damaged"),
    ],
)
def test_an_index_that_was_changed_leads_nowhere(change: dict[str, object], message: str, tmp_path: Path):
    made = collection(tmp_path / "out")
    made.add("u1", files(), 2)
    made.save()
    (tmp_path / "mine").mkdir()
    index = tmp_path / "out" / INDEX
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(ArtefactError, match=message):
        collection(tmp_path / "out")
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("text", ["", "[]", "{", "7", "[" * 100_000])
def test_an_index_that_is_none(text: str, tmp_path: Path):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ArtefactError, match="is damaged .* export again"):
        collection(tmp_path)


def test_another_system_needs_another_folder(tmp_path: Path):
    made = collection(tmp_path / "out")
    made.add("u1", files(), 2)
    made.save()
    for system, base_model in (("other", "some/backbone"), ("personal", "another/backbone")):
        with pytest.raises(ConfigError, match="choose another folder"):
            Collection.open(tmp_path / "out", system, base_model)
    with pytest.raises(ConfigError, match="is itself an adapter; choose another folder"):
        collection(tmp_path / "out" / made.current["u1"].path)
    with pytest.raises(ConfigError, match=f"holds no {INDEX}"):
        Collection.read(tmp_path)
