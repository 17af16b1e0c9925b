"""A package outside the repository, installed as any other: a folder on ``sys.path`` with its metadata beside it."""

import importlib
import sys
from pathlib import Path

import pytest


def install(
    folder: Path, patch: pytest.MonkeyPatch, package: str, source: str, version: str | None = "1.0", **entry_points: str
) -> None:
    """``package.py`` in ``folder``, and, with a version, the distribution ``package-dist`` that it belongs to.

    ``entry_points`` are lines ("mine = module:Class") by the name of their role.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{package}.py").write_text(source)
    if version is not None:
        name = f"{package}-dist"
        for old in folder.glob(f"{package}_dist-*"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        info = folder / f"{package}_dist-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "top_level.txt").write_text(f"{package}\n")
        groups = "".join(f"[lifelora.{role}]\n{lines}\n" for role, lines in entry_points.items())
        (info / "entry_points.txt").write_text(groups)
    if str(folder) not in sys.path:
        patch.syspath_prepend(str(folder))
    patch.delitem(sys.modules, package, raising=False)
    importlib.invalidate_caches()
