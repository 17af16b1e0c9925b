"""Every file of a finished run, cut, flipped, deleted, swapped, replaced by a folder: what is said is right, or it is refused."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifelora.cli import main
from lifelora.errors import LifeloraError
from lifelora.llm.nano import Nano
from lifelora.owner import LOCK
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.recommend import recommend
from lifelora.run.work import TIMING
from lifelora.stage import CURVES, MANIFEST
from run_world import next_items, tiny

QUIET = Options(device="cpu", progress=False)
RECIPES: dict[str, Callable[[], Recipe]] = {"ctr": tiny, "next-item": next_items}
HARMS = ("cut", "flip", "delete", "swap", "folder")
EVERY = pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
"""All that can be damaged takes minutes; some of it is always tried."""


@pytest.fixture(scope="module", params=list(RECIPES))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(RECIPES[request.param](), tmp_path_factory.mktemp("damage") / request.param, QUIET)
    run.all()
    return run


def decides(path: Path) -> bool:
    """Whether anything is made of a file; nothing is of times, curves for readers and the lock."""
    return path.name not in (TIMING, LOCK) and CURVES not in path.parts


@contextmanager
def harmed(path: Path, how: str, other: Path) -> Iterator[None]:
    """The file damaged, then as it was. A bit is flipped with size and time kept, as a disk does it."""
    kept, before = path.read_bytes(), path.stat()
    theirs = other.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(kept[: len(kept) // 2])
    elif how == "flip":
        data = bytearray(kept or b"x")
        place = random.Random(f"{path.name} {len(kept)}").randrange(len(data) * 8)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "swap":
        path.write_bytes(theirs)
        other.write_bytes(kept)
    elif how == "folder":
        path.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(kept)
        other.write_bytes(theirs)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def partner(path: Path, run: Run) -> Path:
    """With which a file is swapped: another of its kind, where there is one."""
    alike = [other for other in files(run.folder) if other != path and other.read_bytes() != path.read_bytes()]
    return min(alike, key=lambda other: (other.suffix != path.suffix, other.name != path.name, str(other)))


@EVERY
def test_no_damage_is_silent(every: bool, run: Run, capsys: pytest.CaptureFixture[str]):
    """Whoever shows the run names the damaged file; `doctor` finds it, too. Never a traceback, which would come out of main.

    Every file by every harm, or by one of them in turn.
    """
    assert main(["show", str(run.folder)]) == 0
    sound = capsys.readouterr().out
    assert main(["doctor", str(run.folder)]) == 0
    assert capsys.readouterr().out.endswith("Nothing is damaged.\n")
    count = 0
    for place, path in enumerate(files(run.folder)):
        for how in HARMS if every else (HARMS[place % len(HARMS)],):
            other = partner(path, run)
            harm = [str(file) for file in ((path, other) if how == "swap" else (path,)) if decides(file)]
            with harmed(path, how, other):
                for command in ("show", "doctor") if how == "flip" else ("show",):
                    status, told = main([command, str(run.folder)]), capsys.readouterr()
                    assert status == (1 if harm else 0), (path, how, told)
                    if harm:
                        # Of a manifest or a recipe that is not there the folder is named.
                        names = [*harm, *(f"{Path(name).parent} " for name in harm), f"'{Path(harm[0]).parent}' is not a run"]
                        assert any(name in told.out + told.err for name in names), (path, how, told)
                    else:
                        assert told.err == "", (path, how, told)
                        assert command == "doctor" or told.out == sound, (path, how, told)
            count += 1
    assert count == (len(HARMS) if every else 1) * len(files(run.folder)) > 20
    assert main(["show", str(run.folder)]) == 0
    assert capsys.readouterr().out == sound


@EVERY
def test_no_damage_is_recommended_from(every: bool, run: Run):
    """The same list as from the sound run, or an error that names the damaged file."""
    name = run.stages.names[-1]

    def listed() -> str:
        return str(recommend(Run.open(run.folder, QUIET), "u00007", None, 3, name))

    sound, refused = listed(), 0
    for path in files(run.folder)[:: 1 if every else 5]:
        how = HARMS[len(path.name) % 3]
        with harmed(path, how, path):
            try:
                told = listed()
            except LifeloraError as error:
                told, refused = str(error), refused + 1
            named = str(path) in told or f"'{path.parent}' is not a run (it has no {path.name})" in told
            assert told == sound or named, (path, how, told)
    assert refused > (5 if every else 1)


@pytest.mark.parametrize("how", ["cut", "flip", "delete", "folder"])
def test_run_makes_damaged_stages_again_and_says_why(how: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One file of every stage at a time, all at once: the run ends as it was, to the last bit."""
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    draw = random.Random(how)
    damaged = []
    for manifest in sorted(copy.rglob(MANIFEST)):
        names = sorted(name for name in json.loads(manifest.read_text())["files"] if CURVES not in name)
        damaged.append(manifest.parent / draw.choice(names))
    kept = {path: path.read_bytes() for path in damaged}
    for path in damaged:
        with harmed(path, how, path):
            data = None if path.is_dir() or not path.exists() else path.read_bytes()
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif data is not None:
            path.write_bytes(data)
    assert main(["run", str(copy), "--device", "cpu"]) == 0
    told = capsys.readouterr().err
    for path in damaged:
        assert f"made again; it was damaged: {path}" in told, told
    others = ("costs.json", "report.html", "evaluation.json", "table.txt", "adapter_config.json")  # with times, or the folder
    for path, before in kept.items():
        assert path.name in others or path.read_bytes() == before, path
    assert main(["doctor", str(copy)]) == 0


def test_a_damaged_manifest_or_recipe_stops_a_run_and_nothing_is_removed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    for path in (copy / "6-report" / MANIFEST, copy / "recipe.toml"):
        text = path.read_text()
        path.write_text(text.replace("seed", "sead", 1))
        before = {file: file.read_bytes() for file in files(copy)}
        assert main(["run", str(copy), "--quiet", "--device", "cpu"]) == 1
        assert str(path) in capsys.readouterr().err
        assert {file: file.read_bytes() for file in files(copy)} == before
        path.write_text(text)
    assert main(["run", str(copy / "recipe.toml"), "--out", str(copy), "--quiet", "--device", "cpu"]) == 0


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"prepare": "long", "fit/din": Infinity, "evaluate": null}'])
def test_times_decide_nothing(content: bytes, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    (copy / TIMING).write_bytes(content)
    shutil.rmtree(copy / "6-report")
    assert main(["run", str(copy), "--quiet", "--device", "cpu"]) == 0
    assert main(["show", str(copy)]) == 0
    assert capsys.readouterr().err == ""
    assert list(json.loads((copy / TIMING).read_text())) == ["evaluate"] or b"fit" in content


def test_a_damaged_copy_in_the_cache_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The LM is made anew, and so is the copy; a cache that cannot be written in stops nothing."""
    monkeypatch.setenv("LIFELORA_CACHE", str(tmp_path / "cache"))
    first = Run(tiny(), tmp_path / "first", QUIET)
    first.prepare()
    first.embed()
    weights = (first.stages.backbone.folder / "model.safetensors").read_bytes()
    cached = tmp_path / "cache/nano" / first.stages.backbone.key / "model.safetensors"
    assert cached.read_bytes() == weights
    data = bytearray(weights)
    data[-1] ^= 1
    cached.write_bytes(data)
    made = []
    make = Nano.make
    monkeypatch.setattr(Nano, "make", lambda *words, **named: (made.append(1), make(*words, **named)))
    second = Run(tiny(), tmp_path / "second", QUIET)
    second.prepare()
    second.embed()
    assert made == [1]
    assert (second.stages.backbone.folder / "model.safetensors").read_bytes() == cached.read_bytes() == weights
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("is no folder")
    third = Run(tiny(), tmp_path / "third", QUIET)
    third.prepare()
    third.embed()
    assert third.stages.backbone.complete()
    assert "no copy is kept for other runs" in capsys.readouterr().err
