"""Stages: complete only with a manifest, never silently reused, damage found, interrupted work kept only for the same key."""

import json
from pathlib import Path

import pytest

from lifelora.artefacts import MANIFEST, WORKING, Stage, canonical, key_of, read_json, write_atomically
from lifelora.errors import ArtefactError


def made(folder: Path, config: dict[str, object], text: str = "x", **inputs: Stage) -> Stage:
    stage = Stage(folder, "prepare", config, inputs)
    with stage.making() as place:
        (place / "file.txt").write_text(text)
    return stage


def test_a_stage_is_complete_when_its_manifest_is_there(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "1-data", "prepare", {"a": 1})
    assert not stage.complete()
    with pytest.raises(ArtefactError, match="not made yet.*lifelora prepare"):
        stage.require()
    made(tmp_path / "1-data", {"a": 1})
    assert stage.complete()
    assert stage.require() == tmp_path / "1-data"
    assert not (tmp_path / "1-data" / WORKING).exists()


def test_another_configuration_or_input_is_another_stage(tmp_path: Path) -> None:
    data = made(tmp_path / "d", {"a": 1})
    made(tmp_path / "s", {"b": 1}, data=data)
    changed_input = Stage(tmp_path / "s", "prepare", {"b": 1}, {"data": Stage(tmp_path / "d", "prepare", {"a": 2})})
    assert Stage(tmp_path / "s", "prepare", {"b": 1}, {"data": data}).complete()
    assert not changed_input.complete()
    assert "input 'data' changed" in changed_input.why_not()
    assert "b: 1 → 2" in Stage(tmp_path / "s", "prepare", {"b": 2}, {"data": data}).why_not()


def test_files_of_an_interrupted_attempt_stay_for_the_same_key_only(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "s", "train/x", {"a": 1})
    with pytest.raises(KeyboardInterrupt), stage.making() as place:
        (place / "checkpoint").write_text("half")
        raise KeyboardInterrupt
    assert not stage.complete()
    with stage.making() as place:
        assert (place / "checkpoint").read_text() == "half"
    assert stage.complete()
    with Stage(tmp_path / "s", "train/x", {"a": 2}).making() as place:
        assert not (place / "checkpoint").exists()


def test_a_changed_or_missing_file_is_found(tmp_path: Path) -> None:
    stage = made(tmp_path / "s", {"a": 1})
    stage.verify()
    (tmp_path / "s" / "file.txt").write_text("y")
    with pytest.raises(ArtefactError, match=r"file\.txt"):
        stage.verify()


def test_a_damaged_manifest_is_an_error_with_its_place(tmp_path: Path) -> None:
    stage = made(tmp_path / "s", {"a": 1})
    (tmp_path / "s" / MANIFEST).write_text('{"key": ')
    with pytest.raises(ArtefactError, match="damaged"):
        stage.complete()


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
