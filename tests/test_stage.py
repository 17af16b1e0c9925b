"""Stages: complete only with a manifest and sound files, never silently reused, built beside their place; what is not ours
stays.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from lifelora.artefacts import file_hash
from lifelora.errors import ArtefactError
from lifelora.stage import ALWAYS_HASHED, FORMAT, MANIFEST, WORKING, Stage


def made(folder: Path, config: dict[str, object], text: str = "x", **inputs: Stage) -> Stage:
    stage = Stage(folder, "prepare", config, inputs)
    with stage.making() as place:
        (place / "file.txt").write_text(text)
        (place / "inner").mkdir(exist_ok=True)
        (place / "inner/more.txt").write_text("more")
    return stage


def everything(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder: bytes by name, None for folders."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_stage_is_complete_when_its_manifest_is_there(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "1-data", "prepare", {"a": 1})
    assert not stage.complete()
    with pytest.raises(ArtefactError, match="not made yet.*lifelora prepare"):
        stage.require()
    made(tmp_path / "1-data", {"a": 1})
    assert stage.complete()
    assert stage.require() == tmp_path / "1-data"
    assert {path.name for path in tmp_path.iterdir()} == {"1-data"}
    assert everything(tmp_path / "1-data").keys() == {"file.txt", "inner", "inner/more.txt", MANIFEST}


def test_another_configuration_or_input_is_another_stage(tmp_path: Path) -> None:
    data = made(tmp_path / "d", {"a": 1})
    made(tmp_path / "s", {"b": 1}, data=data)
    changed_input = Stage(tmp_path / "s", "prepare", {"b": 1}, {"data": Stage(tmp_path / "d", "prepare", {"a": 2})})
    assert Stage(tmp_path / "s", "prepare", {"b": 1}, {"data": data}).complete()
    assert not changed_input.complete()
    assert "input 'data' changed" in str(changed_input.why_not())
    assert "b: 1 → 2" in str(Stage(tmp_path / "s", "prepare", {"b": 2}, {"data": data}).why_not())


def test_files_of_an_interrupted_attempt_stay_for_the_same_key_only(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "s", "train/x", {"a": 1})
    with pytest.raises(KeyboardInterrupt), stage.making() as place:
        (place / "checkpoint").write_text("half")
        raise KeyboardInterrupt
    assert not stage.complete()
    assert stage.begun()
    with stage.making() as place:
        assert (place / "checkpoint").read_text() == "half"
    assert stage.complete()
    other = Stage(tmp_path / "s", "train/x", {"a": 2})
    with other.making() as place:
        assert not (place / "checkpoint").exists()
    assert other.complete()


def test_what_is_replaced_stays_whole_until_the_new_one_is(tmp_path: Path) -> None:
    old = made(tmp_path / "s", {"a": 1}, "old")
    new = Stage(tmp_path / "s", "prepare", {"a": 2})
    with pytest.raises(RuntimeError, match="interrupted"), new.making() as place:
        (place / "file.txt").write_text("new")
        assert old.complete()
        raise RuntimeError("interrupted")
    assert old.complete()
    with new.making() as place:
        assert (place / "file.txt").read_text() == "new"
    assert new.complete()
    assert everything(tmp_path / "s").keys() == {"file.txt", MANIFEST}
    assert {path.name for path in tmp_path.iterdir()} == {"s"}


@pytest.mark.parametrize("place", ["s", "s.working", "s.old"])
@pytest.mark.parametrize("holding", ["files", "a manifest of another program", "a marker of another program", "a file", "a link"])
def test_a_folder_that_lifelora_did_not_make_is_refused_and_left(place: str, holding: str, tmp_path: Path) -> None:
    theirs = tmp_path / "run" / place
    theirs.mkdir(parents=True)
    (theirs / "thesis.txt").write_text("three months of work")
    if holding == "a manifest of another program":
        (theirs / MANIFEST).write_text(json.dumps({"name": "an app", "files": ["thesis.txt"]}))
    if holding == "a marker of another program":
        (theirs / WORKING).write_text(json.dumps({"key": "of theirs"}))
    if holding == "a file":
        shutil.rmtree(theirs)
        theirs.write_text("three months of work")
    if holding == "a link":
        theirs.rename(tmp_path / "elsewhere")
        theirs.symlink_to(tmp_path / "elsewhere")
    before = everything(tmp_path)
    stage = Stage(tmp_path / "run/s", "prepare", {"a": 1})
    with pytest.raises(ArtefactError, match=r"run/s.* move it away, or choose another folder. It was left as"), stage.making():
        raise AssertionError("began")
    assert everything(tmp_path) == before


def test_a_file_put_into_a_finished_stage_is_refused_and_left(tmp_path: Path) -> None:
    """Also through a link in place of a folder that the manifest knows: nothing beyond it is touched."""
    made(tmp_path / "s", {"a": 1})
    (tmp_path / "s/inner/notes.txt").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(ArtefactError, match=r"inner/notes\.txt"), Stage(tmp_path / "s", "prepare", {"a": 2}).making():
        raise AssertionError("began")
    assert everything(tmp_path) == before
    shutil.move(tmp_path / "s/inner", tmp_path / "inner")
    (tmp_path / "s/inner").symlink_to(tmp_path / "inner")
    with pytest.raises(ArtefactError, match=r"did not make \(inner\)"), Stage(tmp_path / "s", "prepare", {"a": 2}).making():
        raise AssertionError("began")
    assert (tmp_path / "inner/more.txt").read_text() == "more"


def test_a_file_that_comes_while_the_stage_is_made_is_left(tmp_path: Path) -> None:
    made(tmp_path / "s", {"a": 1})
    with pytest.raises(ArtefactError, match=r"late\.txt"), Stage(tmp_path / "s", "prepare", {"a": 2}).making():
        (tmp_path / "s/late.txt").write_text("mine")
    assert (tmp_path / "s/late.txt").read_text() == "mine"


def test_a_removal_that_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    """Half of the old stage is gone, its manifest is still there."""
    made(tmp_path / "s", {"a": 1}).folder.rename(tmp_path / "s.old")
    (tmp_path / "s.old/file.txt").unlink()
    stage = made(tmp_path / "s", {"a": 2})
    assert {path.name for path in tmp_path.iterdir()} == {"s"}
    shutil.copytree(tmp_path / "s", tmp_path / "s.old")
    stage.tidy()
    assert {path.name for path in tmp_path.iterdir()} == {"s"}


def test_stages_of_the_first_format_are_made_again(tmp_path: Path) -> None:
    """Their manifests have hashes without sizes and no hash of themselves; their markers stood in the stage's folder."""
    stage = Stage(tmp_path / "s", "prepare", {"a": 1})
    for name in ("s", "t"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text("x")
    digest = file_hash(tmp_path / "s/file.txt")
    (tmp_path / "s" / MANIFEST).write_text(
        json.dumps(
            {"key": stage.key, "name": "prepare", "config": {"a": 1}, "inputs": {}, "versions": {}, "files": {"file.txt": digest}}
        )
    )
    (tmp_path / "t" / WORKING).write_text(json.dumps({"key": "0123456789abcdef"}))
    assert FORMAT == 2
    assert stage.why_not() == "made differently before: another version of lifelora"
    for name in ("s", "t"):
        assert everything(made(tmp_path / name, {"a": 1}, "y").require())["file.txt"] == b"y"


def test_half_written_files_of_a_killed_writer_are_cleared(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "s", "prepare", {"a": 1})
    with pytest.raises(KeyboardInterrupt), stage.making() as place:
        (place / ".weights.safetensors.123.part").write_text("ha")
        raise KeyboardInterrupt
    with stage.making() as place:
        assert not list(place.glob(".*"))
        (place / ".hidden").write_text("is no half-written file")
    assert everything(tmp_path / "s").keys() == {".hidden", MANIFEST}
    # A kill before the marker was whole leaves a folder with nothing but the half-written marker.
    (tmp_path / "t.working").mkdir()
    (tmp_path / f"t.working/.{WORKING}.123.part").write_text("{")
    assert made(tmp_path / "t", {"a": 1}).complete()


def flip(path: Path) -> None:
    """One bit, size and time kept."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_damage_is_found_and_said_and_made_again(tmp_path: Path) -> None:
    stage = made(tmp_path / "s", {"a": 1})
    file = tmp_path / "s/file.txt"
    for harm, said in (
        (lambda: flip(file), "is not what was written"),
        (lambda: file.write_text("xy"), "has 2 bytes, not 1"),
        (file.unlink, "is missing"),
        (lambda: (file.unlink(), file.mkdir()), "is no file"),
    ):
        harm()
        assert str(stage.why_not()).startswith("damaged: ")
        with pytest.raises(ArtefactError, match=rf"{file} {said}.*`lifelora prepare` or `lifelora run`"):
            stage.require()
        file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
        file.write_text("x")  # with a time of its own, as a copy may have
        assert stage.complete()
    flip(file)
    assert everything(made(tmp_path / "s", {"a": 1}).require())["file.txt"] == b"x"


def test_large_files_are_hashed_when_their_time_differs_or_on_demand(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "s", "prepare", {"a": 1})
    with stage.making() as place, (place / "large").open("wb") as stream:
        stream.truncate(ALWAYS_HASHED + 1)  # sparse
    before = (tmp_path / "s/large").stat()
    with (tmp_path / "s/large").open("r+b") as stream:
        stream.write(b"1")
    assert "hash differs" in str(stage.why_not())
    os.utime(tmp_path / "s/large", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stage.complete()
    assert ["large is not what was written" in line for line in stage.damage(thorough=True)] == [True]


@pytest.mark.parametrize("harm", ["cut", "flip", "shape", "folder"])
def test_a_damaged_manifest_is_an_error_with_its_place_and_nothing_is_removed(harm: str, tmp_path: Path) -> None:
    stage = made(tmp_path / "s", {"a": "some words"})
    manifest = tmp_path / "s" / MANIFEST
    text = manifest.read_text()
    manifest.unlink()
    if harm == "folder":
        manifest.mkdir()
    else:
        manifest.write_text({"cut": text[:20], "flip": text.replace("some words", "some cords"), "shape": "[1, 2]"}[harm])
    before = everything(tmp_path)
    with pytest.raises(ArtefactError, match=rf"{manifest} is damaged"):
        stage.complete()
    with pytest.raises(ArtefactError, match=r"its manifest\.json is damaged.* move it away"), stage.making():
        raise AssertionError("began")
    assert everything(tmp_path) == before


def test_the_manifest_says_threads_versions_and_every_file(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "s", "prepare", {"a": 1})
    with stage.making({"threads": 2}) as place:
        (place / "file.txt").write_text("x")
    manifest = json.loads((tmp_path / "s" / MANIFEST).read_text())
    assert manifest["threads"] == 2
    assert stage.key == Stage(tmp_path / "s", "prepare", {"a": 1}).key == manifest["key"]  # threads have no part in it
    now = (tmp_path / "s/file.txt").stat()
    # SHA-256 of "x", as sha256sum says.
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert manifest["files"] == {"file.txt": {"size": 1, "mtime_ns": now.st_mtime_ns, "sha256": digest}}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what a descriptor is of is read from /proc")
def test_all_is_on_disk_before_the_manifest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order: every file, every folder, the manifest, then the folder of the stage's new name."""
    flushed: list[str] = []
    flush, rename = os.fsync, os.rename

    def noted(descriptor: int) -> None:
        flushed.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        flush(descriptor)

    def renamed(here: Path, there: Path) -> None:
        flushed.append(f"{Path(here).name} is {Path(there).name}")
        rename(here, there)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "rename", renamed)
    made(tmp_path / "s", {"a": 1})
    begins = flushed.index("s.working/file.txt")
    assert set(flushed[begins : begins + 4]) == {"s.working/file.txt", "s.working", "s.working/inner/more.txt", "s.working/inner"}
    assert flushed[begins + 4].startswith(f"s.working/.{MANIFEST}.")
    assert flushed[begins + 5 :] == ["s.working", "s.working is s", "."]
