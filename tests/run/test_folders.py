"""The folder of a run and what else befalls it: a user's own files, two processes, a full or a read-only disk, signals."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import lifelora
from lifelora.cli import main
from lifelora.errors import ArtefactError, ConfigError
from lifelora.owner import LOCK
from lifelora.recipe.files import dump, parse
from lifelora.run import Options, Run
from lifelora.stage import MANIFEST, Stage
from lifelora.tensors import read_tensors, write_tensors
from run_world import next_items, tiny

QUIET = Options(device="cpu", progress=False)
COUNTED = '[conventional.popularity]\nmodel = { kind = "popularity" }\n'


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, where every user of this machine may read it."""
    folder = tmp_path_factory.mktemp("finished") / "next"
    Run(next_items(), folder, QUIET).all()
    return folder


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """`lifelora` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lifelora.__path__[0]).parent), "LIFELORA_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "lifelora.cli", *words, "--device", "cpu"],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def in_a_child(work: Callable[[], int]) -> int:
    """The exit status of what ``work`` gives in a forked child, which may change its user or limits."""
    child = os.fork()
    if child == 0:
        status = 99
        torch.set_num_threads(1)  # those of the parent are not in the child, which would wait for them
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


@pytest.mark.parametrize("command", ["prepare", "run"])
def test_a_users_own_folders_are_refused_and_left(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As when a log lies in a folder that is called as a stage is, and is the very data source."""
    rows = [f"u{u},i{(u * 7 + e) % 30},{(u + e) % 5 + 1},{1_700_000_000 + e * 10 + u}" for u in range(8) for e in range(12)]
    (tmp_path / "proj/1-data").mkdir(parents=True)
    (tmp_path / "proj/1-data/interactions.csv").write_text("\n".join(["user,item,rating,time", *rows]))
    (tmp_path / "proj/6-report").mkdir()
    (tmp_path / "proj/6-report/my-thesis.txt").write_text("three months of work")
    (tmp_path / "r.toml").write_text(f'name = "mine"\n{COUNTED}')
    before = contents(tmp_path)
    source, out = f"tables:{tmp_path}/proj/1-data", str(tmp_path / "proj")
    words = [command, str(tmp_path / "r.toml"), "--data", source, "--out", out, "--quiet"]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "proj/1-data holds what lifelora did not make (interactions.csv)" in told
    assert contents(tmp_path).items() >= before.items()
    assert not (tmp_path / "proj/recipe.toml").exists()
    (tmp_path / "proj/1-data").rename(tmp_path / "log")
    words[3] = f"tables:{tmp_path}/log"
    assert main(words) == (1 if command == "run" else 0)
    assert (tmp_path / "proj/6-report/my-thesis.txt").read_text() == "three months of work"
    assert command == "prepare" or "6-report holds what lifelora did not make (my-thesis.txt)" in capsys.readouterr().err


def test_a_users_own_recipe_and_times_in_the_folder_of_the_run_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """`lifelora run proj/recipe.toml --out proj`: the expanded recipe takes that name."""
    rows = [f"u{u},i{(u * 7 + e) % 30},{(u + e) % 5 + 1},{1_700_000_000 + e * 10 + u}" for u in range(8) for e in range(12)]
    (tmp_path / "log").mkdir()
    (tmp_path / "log/interactions.csv").write_text("\n".join(["user,item,rating,time", *rows]))
    proj = tmp_path / "proj"
    proj.mkdir()
    mine = f'# what I think of it\nname = "mine"\n{COUNTED}'
    (proj / "recipe.toml").write_text(mine)
    (proj / "timing.json").write_text('{"lap": 61.5}')
    words = ["prepare", str(proj / "recipe.toml"), "--data", f"tables:{tmp_path}/log", "--out", str(proj), "--quiet"]
    assert main(words) == 0
    assert f"it is kept as {proj}/recipe.before-1.toml" in capsys.readouterr().err
    assert (proj / "recipe.before-1.toml").read_text() == mine
    assert (proj / "timing.json").read_text() == '{"lap": 61.5}'
    with (proj / "recipe.toml").open("a") as stream:
        stream.write("# edited\n")
    edited = (proj / "recipe.toml").read_text()
    assert main(words) == 0  # the same command again
    assert (proj / "recipe.before-2.toml").read_text() == edited
    assert main(words) == 0
    assert not (proj / "recipe.before-3.toml").exists()  # what lifelora wrote is replaced
    assert main(["show", str(proj)]) == 0


@pytest.mark.parametrize(
    "name", ["../../ESCAPED", "/tmp/escaped", "..", "a/b", "", "a\\b", "a\0b", "x" * 101, "a b", "a.working"]
)
def test_names_that_are_paths_are_refused_everywhere(name: str):
    counted = {"model": {"kind": "popularity"}}
    for values in (
        {"name": name, "conventional": {"popular": counted}},
        {"name": "x", "conventional": {name: counted}},
        {"name": "x", "conventional": {"popular": counted}, "knowledge": {name: {}}},
        {"name": "x", "two_towers": {name: {"path": "x"}}},
        {"name": "x", "systems": {name: {}}},
    ):
        with pytest.raises(ConfigError, match="cannot be the name of a folder; use letters, digits, '-' and '_'"):
            parse(values, "it")


def test_names_that_differ_in_capitals_are_refused():
    with pytest.raises(ConfigError, match="'din' and 'DIN' are one folder"):
        parse({"name": "x", "conventional": {"din": {}, "DIN": {}}}, "it")


def test_two_processes_on_one_folder_are_one(tmp_path: Path):
    """The second is told who the first is, and the first ends as if alone."""
    (tmp_path / "next.toml").write_text(dump(next_items()))
    pair = [start(tmp_path, "run", "next.toml", "--out", "run", "--quiet") for _ in range(2)]
    ends = [(process, *process.communicate(timeout=500)) for process in pair]
    refused = [(process, told) for process, _, told in ends if process.returncode]
    assert all("Traceback" not in told for _, _, told in ends), ends
    assert len(refused) <= 1, ends  # none, where the machine let one begin only after the other had ended
    for process, told in refused:
        other = next(each for each in pair if each is not process)
        assert process.returncode == 1
        assert f"run is in use by process {other.pid} on " in told
        assert "lifelora/cli.py run next.toml --out run" in told
    assert main(["doctor", str(tmp_path / "run")]) == 0
    Run(next_items(), tmp_path / "alone", QUIET).all()
    for name in ("3-conventional/sasrec/model.safetensors", "5-scores/sasrec/ranks.npy"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_readers_wait_for_nobody_but_refuse_beside_a_writer(finished: Path, capsys: pytest.CaptureFixture[str]):
    run = Run.open(finished, QUIET)
    words = ["recommend", str(finished), "--user", "u00007", "-k", "2", "--quiet", "--device", "cpu"]
    with run.work.owned():
        assert main(words) == 1
        assert f"{finished} is being made by process {os.getpid()} on " in capsys.readouterr().err
        assert main(["run", str(finished), "--quiet", "--device", "cpu"]) == 1
        assert "one process at a time works on a run" in capsys.readouterr().err
        assert main(["show", str(finished)]) == 0
        assert f"working on it: process {os.getpid()} on " in capsys.readouterr().out
    assert main(words) == 0


def test_a_stopped_run_says_so_and_goes_on(tmp_path: Path):
    (tmp_path / "next.toml").write_text(dump(next_items()))
    with start(tmp_path, "run", "next.toml", "--out", "run", "--quiet") as process:
        until = time.monotonic() + 150
        while not (tmp_path / "run/3-conventional/sasrec.working").exists() and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=100)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert told == "\nlifelora: stopped; run the same command again to go on from here.\n"
    assert Run(next_items(), tmp_path / "run", QUIET).stages.data.complete()
    assert main(["run", str(tmp_path / "next.toml"), "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]) == 0


@pytest.fixture
def open_to_all(finished: Path) -> Iterator[Path]:
    """A copy of the finished run that every user may read and this process's child, as another user, may not write in."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    copy = Path(shutil.copytree(finished, top / "next"))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield copy
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(top)


def as_one_who_may_not_write(folder: Path, words: list[str], said: Path) -> int:
    """The status of a command that root gives as nobody, and any other user after giving up the right to write."""

    def work() -> int:
        with said.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            else:
                for path in [*folder.rglob("*"), folder]:
                    path.chmod(0o555 if path.is_dir() else 0o444)
            os.environ["LIFELORA_CACHE"] = str(folder / "no-cache")
            status = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
            return status

    return in_a_child(work)


def test_a_finished_run_opens_where_nothing_can_be_written(open_to_all: Path, tmp_path: Path):
    said = tmp_path / "said"
    common = ["--quiet", "--device", "cpu"]
    for words, told in (
        (["show", str(open_to_all)], "  ready "),
        (["run", str(open_to_all), *common], "Report: "),
        (["recommend", str(open_to_all), "--user", "u00007", *common], "For user u00007"),
        (["doctor", str(open_to_all)], "Nothing is damaged."),
    ):
        assert as_one_who_may_not_write(open_to_all, words, said) == 0, said.read_text()
        assert told in said.read_text()
    shutil.rmtree(open_to_all / "6-report")
    assert as_one_who_may_not_write(open_to_all, ["run", str(open_to_all), *common], said) == 1
    assert said.read_text().startswith("lifelora: '")
    assert "Permission denied. Mend: you have no permission; change the permissions" in said.read_text()


@pytest.mark.parametrize(
    "name", ["recipe.toml", f"1-data/{MANIFEST}", "1-data/users.parquet", "3-conventional/sasrec/model.safetensors"]
)
def test_files_that_may_not_be_read_are_named(name: str, open_to_all: Path, tmp_path: Path):
    (open_to_all / name).chmod(0)
    said = tmp_path / "said"
    words = ["recommend", str(open_to_all), "--user", "u00007", "--system", "sasrec", "--quiet", "--device", "cpu"]
    assert as_one_who_may_not_write(open_to_all, words, said) == 1, said.read_text()
    assert f"{name}'" in said.read_text()
    assert "Permission denied" in said.read_text()


LIMITS = (0, 100, 2_000, 20_000)


@pytest.mark.parametrize("limit", LIMITS)
def test_files_that_may_not_grow_end_in_a_message_and_the_run_goes_on(limit: int, tmp_path: Path):
    """Every write beyond the limit fails, as on a full disk; without the limit the same command ends."""
    recipe, (reading, writing) = tmp_path / "next.toml", os.pipe()
    recipe.write_text(dump(next_items()))
    words = ["run", str(recipe), "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu"]
    Run(next_items(), tmp_path / "whole", QUIET).all()

    def work() -> int:
        os.dup2(writing, 2)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        status = main(words)
        sys.stderr.flush()
        return status

    assert in_a_child(work) == 1
    os.close(writing)
    with open(reading) as stream:
        told = stream.read()
    assert told.startswith("lifelora: "), told
    assert "File too large" in told, told
    assert "goes on from where it was" in told or "cannot be read or written" in told
    assert main(words) == 0
    same = "5-scores/sasrec/ranks.npy"
    assert (tmp_path / "run" / same).read_bytes() == (tmp_path / "whole" / same).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_ends_in_a_message_and_the_run_goes_on(tmp_path: Path):
    """A disk of 100 KB to 2 MB, on which nothing of a run, or some of it, has room; then it grows."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be made only by root with the right to mount")
    try:
        (tmp_path / "tiny.toml").write_text(dump(tiny()))
        sizes = (64, 160, 320, 640, 1280)
        statuses = []
        for size in sizes:
            subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True, capture_output=True)
            with start(tmp_path, "run", "tiny.toml", "--out", str(disk / "run"), "--quiet") as process:
                told = process.communicate(timeout=500)[1]
            statuses.append(process.returncode)
            assert process.returncode in (0, 1), told
            assert "Traceback" not in told, told
            assert process.returncode == 0 or "No space left" in told or "os error 28" in told, told
        assert statuses[0] == 1
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, capture_output=True)
        with start(tmp_path, "run", "tiny.toml", "--out", str(disk / "run"), "--quiet") as process:
            told = process.communicate(timeout=500)[1]
        assert process.returncode == 0, told
        with start(tmp_path, "run", "tiny.toml", "--out", str(tmp_path / "whole"), "--quiet") as process:
            process.communicate(timeout=500)
        for name in ("4-systems/personal/model.safetensors", "5-scores/personal/score.npy", "2-backbone/model.safetensors"):
            assert (disk / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("word", ["meta", "toaster", "", "cuda:99", "cpu:x"])
def test_devices_that_hold_no_numbers_are_refused(word: str, finished: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["recommend", str(finished), "--user", "u00007", "--device", word]) == 1
    assert f"--device {word}: " in capsys.readouterr().err


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float, finished: Path, tmp_path: Path):
    """Also where the manifest is of those very weights."""
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    stage = Run.open(copy, QUIET).stages.conventional("sasrec")
    rewrite(
        stage,
        lambda tensors: (
            tensors
            | {"model.items.weight" if "model.items.weight" in tensors else min(tensors): tensors[min(tensors)].float() * bad}
        ),
    )
    with pytest.raises(ArtefactError, match=r"model\.safetensors holds (numbers that are not finite|\[)"):
        _ = Run.open(copy, QUIET).scorers["sasrec"].model


def rewrite(stage: Stage, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Make a stage again with other weights."""
    with stage.making() as folder:
        shutil.copytree(stage.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        write_tensors(folder / "model.safetensors", change(read_tensors(stage.folder / "model.safetensors")[0]))


def test_a_stage_that_is_made_again_says_why(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    kept = copy / "recipe.toml"
    words = ["run", str(kept), "--out", str(copy), "--device", "cpu", "--set", "conventional.sasrec.training.learning_rate=0.1"]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "fit/sasrec: made again; it was made differently before: training.learning_rate: 0.002 → 0.1\n" in told
    assert "evaluate: made again; it was made differently before: its input 'sasrec' changed" in told
    assert "prepare" not in told
    assert json.loads((copy / "3-conventional/sasrec" / MANIFEST).read_text())["threads"] == torch.get_num_threads()
