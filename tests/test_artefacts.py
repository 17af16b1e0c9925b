"""Files: written whole or not at all, read with the place of what is wrong; keys of values."""

import errno
import json
import os
from pathlib import Path

import pytest

from lifelora.artefacts import canonical, clear_torn, key_of, read_json, reserve, write_atomically
from lifelora.errors import ArtefactError


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, json.dumps({"n": 1}))
    write_atomically(path, json.dumps({"n": 2}).encode())
    assert read_json(path) == {"n": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_keys_depend_on_values_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": [2.5, None]}) == key_of({"b": [2.5, None], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 1.5})
    assert canonical({"b": 1, "a": "é"}) == '{"a":"é","b":1}'


@pytest.mark.parametrize(
    "content", [b'{"key": ', b"[1]", b"7", b"\xff\xfe", b"[" * 100_000, b'{"n": ' + b"9" * 5_000 + b"}", b""]
)
def test_json_that_is_damaged_or_of_another_shape_is_an_error_with_its_place(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_a_write_that_fails_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_atomically(tmp_path / "a.json", "{}")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a.json", "[1, 2]")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json") == {}


def test_only_half_written_files_of_ours_are_cleared(tmp_path: Path) -> None:
    for name in (".recipe.toml.12.part", ".other.toml.12.part", ".recipe.toml.part", "recipe.toml.12.part"):
        (tmp_path / name).write_text("")
    clear_torn(tmp_path, "recipe.toml")
    assert {p.name for p in tmp_path.iterdir()} == {".other.toml.12.part", ".recipe.toml.part", "recipe.toml.12.part"}


def test_disk_is_reserved_for_the_whole_of_a_sparse_file(tmp_path: Path) -> None:
    with (tmp_path / "map").open("wb") as stream:
        stream.truncate(1 << 20)
    assert (tmp_path / "map").stat().st_blocks * 512 < 1 << 20
    reserve(tmp_path / "map")
    assert (tmp_path / "map").stat().st_blocks * 512 >= 1 << 20
