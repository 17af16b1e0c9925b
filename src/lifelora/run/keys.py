"""What a part of a recipe says in the key of a stage: its values, the hashes of its files, its plug-ins. Knows no stage."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lifelora.artefacts import file_hash, kept_hash
from lifelora.folders import manifest_of
from lifelora.kinds import plugins
from lifelora.types import KEY


def told(config: BaseModel, **options: Any) -> dict[str, Any]:
    """A part of a recipe, and, where it has plug-ins, their versions."""
    found, values = plugins(config), config.model_dump(mode="json", context={KEY: True}, **options)
    return _without_later(config, values) | ({"plugins": found} if found else {})


def _without_later(config: BaseModel, told: dict[str, Any]) -> dict[str, Any]:
    """Without the defaults of keys that came later: a stage without them is what it was before there were any."""
    kept: dict[str, Any] = {}
    for key, value in told.items():
        part, field = getattr(config, key, None), type(config).model_fields.get(key)
        if field is not None and key in getattr(config, "later", ()) and part == field.get_default(call_default_factory=True):
            continue
        kept[key] = _without_later(part, value) if isinstance(part, BaseModel) and isinstance(value, dict) else value
    return kept


def hashes(folder: Path, paths: Sequence[str]) -> dict[str, list[str | None]]:
    """Of the files that a recipe names, if it names any; a finished stage goes on without them, by those in its manifest."""
    kept = dict(zip(paths, kept_value(folder, "files") or (), strict=False))
    found = {path: kept_hash(place) if (place := Path(path).expanduser()).is_file() else kept.get(path) for path in paths}
    return {"files": list(found.values())} if found else {}


def kept_value(folder: Path, key: str) -> Any:
    """A value of a finished stage's configuration."""
    manifest = manifest_of(folder)
    return None if manifest is None else manifest["config"].get(key)


def folder_hash(folder: Path, pattern: str = "adapter_*") -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return digest.hexdigest()
