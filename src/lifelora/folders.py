"""Folders of stages: what in one is lifelora's own, by its manifest or its marker. Nothing else is removed."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lifelora.artefacts import TORN, canonical, flush_folder, read_json
from lifelora.errors import ArtefactError

MANIFEST = "manifest.json"
WORKING = "working.json"
"""The marker of a folder in which a stage is being made."""
KEY = re.compile("[0-9a-f]{16}")


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """What a finished stage's manifest says, None where there is none; ArtefactError when it is damaged.

    One of an earlier version has no hash of itself; its key is no key of today.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    manifest = read_json(path)
    told = manifest.pop("sha256", None)
    if (told is not None and told != sealed(manifest)) or not all(
        isinstance(manifest.get(part), dict) for part in ("config", "inputs", "files")
    ):
        raise ArtefactError(f"{path} is damaged (its hash is wrong); move {folder} away, and `lifelora run` makes it again.")
    return manifest if told is not None else manifest | {"key": "of an earlier version"}


def sealed(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(manifest).encode()).hexdigest()


def some_of(lines: list[str], between: str) -> str:
    return between.join(lines[:4]) + (f"{between}and {len(lines) - 4:,} more" if len(lines) > 4 else "")


def marked(folder: Path) -> str | None:
    """The key in a folder's marker; None where there is no marker of ours."""
    if not (folder / WORKING).is_file():
        return None
    try:
        key = read_json(folder / WORKING).get("key")
    except ArtefactError:
        return None
    return key if isinstance(key, str) and KEY.fullmatch(key) else None


def being_made(folder: Path) -> str | None:
    """The key that is being made in a folder, or was, just before it would have been moved to its place."""
    key = marked(folder)
    manifest = manifest_of(folder) if key is None else None
    return key if manifest is None else str(manifest["key"])


def own(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and subfolders of a stage's folder, deepest first; ArtefactError where lifelora did not make all of them.

    A marker speaks for all that is in the folder, a manifest for the files that it lists. Links are never followed.
    """
    if not folder.exists() and not folder.is_symlink():
        return [], []
    files: list[Path] = []
    folders: list[Path] = []
    if folder.is_symlink() or not folder.is_dir():
        raise _foreign(folder, "is not a folder that lifelora made")
    for root, inner, names in os.walk(folder, topdown=False):
        files += [Path(root, name) for name in names]
        for path in (Path(root, name) for name in inner):
            (files if path.is_symlink() else folders).append(path)
    just_begun = not folders and all(TORN.fullmatch(path.name) for path in files)
    if just_begun or marked(folder):
        return files, folders
    try:
        manifest = manifest_of(folder)
    except ArtefactError as error:
        raise _foreign(folder, f"may be a folder that lifelora did not make, for its {MANIFEST} is damaged") from error
    ours = {folder / name for name in (MANIFEST, *manifest["files"])} if manifest else set[Path]()
    around = {parent for path in ours for parent in path.parents}
    strange = [path for path in files if path not in ours]
    strange += [path for path in folders if path not in ours and path not in around]
    if strange:
        listed = some_of([str(path.relative_to(folder)) for path in strange], ", ")
        lost = f", or has lost its {MANIFEST}" if manifest is None else ""
        raise _foreign(folder, f"holds what lifelora did not make ({listed}){lost}")
    return files, folders


def _foreign(folder: Path, what: str) -> ArtefactError:
    return ArtefactError(
        f"{folder} {what}, and a stage belongs there; move it away, or choose another folder. It was left as it is."
    )


def remove(folder: Path) -> None:
    """Remove a folder of ours. What proves that it is ours goes last, so a removal that was killed can be gone on with."""
    files, folders = own(folder)
    if not folder.exists():
        return
    proofs = [path for path in files if path in (folder / MANIFEST, folder / WORKING)]
    for path in files:
        if path not in proofs:
            path.unlink()
    for path in folders:
        path.rmdir()
    flush_folder(folder)
    for path in proofs:
        path.unlink()
    folder.rmdir()
