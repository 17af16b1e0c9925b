"""The command line: small, quick to answer, and a wrong word gets the right ones. Also the public names."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lifelora
from lifelora.cli import main

COMMANDS = ("demo", "data", "prepare", "fit", "embed", "train", "evaluate", "run", "recommend", "show", "models", "doctor")


def test_threads_sleep_while_they_wait():
    """OpenMP reads how when torch is imported, so it must have been said by then."""
    code = (
        "import os, sys, lifelora.cli\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': print('waits', os.environ.get('OMP_WAIT_POLICY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "lifelora.cli.main(['doctor'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["PYTHONPATH"] = str(Path(lifelora.__path__[0]).parent)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.startswith("waits PASSIVE\n")


def test_help_needs_nothing_heavy():
    """In a process of its own: here torch is loaded already, and an import hook with it."""
    code = (
        "import sys, lifelora, lifelora.cli\n"
        "try: lifelora.cli.main(['--help'])\n"
        "except SystemExit as stop: print('status', stop.code)\n"
        "print('loaded', sorted(m for m in ('torch', 'transformers', 'pydantic', 'pyarrow', 'numpy') if m in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(lifelora.__path__[0]).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert "status 0" in done.stdout
    assert "loaded []" in done.stdout
    for command in COMMANDS:
        assert f"\n    {command}" in done.stdout


def test_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    told = capsys.readouterr().out
    assert "  next-item " in told
    assert main(["recipe"]) == 0
    assert capsys.readouterr().out.strip() in told
    assert main(["recipe", "rella"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# ReLLa")
    assert tomllib.loads(text)["name"] == "rella"
    assert main(["recipe", "rela"]) == 1
    assert "there is no built-in recipe 'rela'; choose one of baselines, collm, " in capsys.readouterr().err


def test_the_public_names_are_those_of_the_readme():
    """What ``import *`` brings, what completion offers, and what lies open in the module, in a process of its own."""
    code = (
        "import lifelora\n"
        "print(*(name for name in vars(lifelora) if not name.startswith('_')))\n"
        "print(*(name for name in dir(lifelora) if not name.startswith('_')))\n"
        "from lifelora import *\n"
        "print(*(name for name in globals() if not name.startswith('_') and name not in ('lifelora', 'code')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(lifelora.__path__[0]).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=True)
    opened, offered, starred = map(str.split, done.stdout.splitlines())
    section = (Path(__file__).parents[1] / "README.md").read_text().partition("## As a library")[2].partition("\n## ")[0]
    told = re.findall(r"`(\w+)`", section.partition("public names are ")[2].partition(".")[0])
    assert set(opened) <= set(told)
    assert sorted(offered) == sorted(starred) == sorted(told)


def test_public_names_are_ours_and_a_wrong_one_is_answered():
    for name in lifelora.__all__:
        assert getattr(lifelora, name).__module__.startswith("lifelora.")
    with pytest.raises(AttributeError, match=r"no attribute 'Runn'; it has .*Run"):
        lifelora.Runn  # noqa: B018


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lifelora {lifelora.__version__}\n"


def test_without_a_command_it_prints_the_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    assert "usage: lifelora" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: lifelora {command}" in capsys.readouterr().out


def test_an_unknown_command_is_answered_with_the_near_one(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["evalute", "demo"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "unknown word 'evalute'. Did you mean 'evaluate'? Allowed: " in said
    for command in COMMANDS:
        assert command in said


def test_a_command_by_its_old_name_is_answered_with_the_new_one(capsys):
    old = "import"
    with pytest.raises(SystemExit):
        main([old, "adapters"])
    assert "unknown word 'import'. It is called 'inspect' now. Allowed: " in capsys.readouterr().err


def test_a_missing_argument_names_itself(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["recommend", "runs/demo"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "--user" in said
    assert "Try: lifelora recommend --help" in said


def test_data_says_what_is_in_a_set(capsys: pytest.CaptureFixture[str]):
    assert main(["data", "simulated"]) == 0
    said = capsys.readouterr().out
    first = said.splitlines()[0]
    assert first.startswith("the simulated world: ")
    assert "500 users" in first
    assert "800 in the catalogue" in first
    for word in ("history", "ratings", "times", "genre (8 values), description", "gender (2 values), age", "simulated: users"):
        assert word in said


def test_data_without_times_or_profiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "interactions.csv").write_text("user,item,rating\na,x,1\na,y,0\nb,x,1\n")
    assert main(["data", f"tables:{tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("interactions: 3 interactions, 2 users, 2 items with interactions, 2 in the catalogue\n")
    assert "mean 1.5, median 1.5, min 1, max 2" in said  # a has two, b has one
    assert "ratings    0: 1, 1: 2" in said
    assert "a split by time is refused" in said
    assert "users      no fields" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nowhere"], "'nowhere' is not a run (it has no recipe.toml)"),
        (["recommend", "nowhere", "--user", "u"], "'nowhere' is not a run"),
        (["run", "demmo"], "there is no recipe 'demmo'"),
        (["data", "simulatd"], "did you mean 'simulated'?"),
        (["prepare", "demo", "--data", "movielens:ml-1k"], "'ml-1k' is no folder or zip here"),
        (["prepare", "demo", "--set", "sed=1"], "sed: there is no such key"),
        (["demo", "--set", "seed"], "is not KEY=VALUE"),
        (["fit", "demo", "--device", "toaster"], "--device toaster"),
        (["fit", "demo", "--out", "new"], "run `lifelora prepare` with the same recipe and --out first"),
    ],
)
def test_an_error_is_one_message_and_no_traceback(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("lifelora: ")
    assert said in streams.err
    assert "Traceback" not in streams.err


def test_an_interrupted_command_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import lifelora.doctor

    def interrupted() -> tuple[str, bool]:
        raise KeyboardInterrupt

    monkeypatch.setattr(lifelora.doctor, "report", interrupted)
    assert main(["doctor"]) == 130
    assert "run the same command again to go on" in capsys.readouterr().err


def test_doctor_lists_versions(capsys: pytest.CaptureFixture[str]):
    import torch

    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"torch         {torch.__version__.split('+')[0]}" in said
    assert "lifelora" in said
    assert "GiB free" in said
    assert "Nothing needed is missing." in said


def test_doctor_misses_what_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import lifelora.doctor

    monkeypatch.setattr(lifelora.doctor, "NEEDED", ("torch", "no-such-package"))
    assert main(["doctor"]) == 1
    assert "Missing: no-such-package. Mend: pip install lifelora" in capsys.readouterr().out
