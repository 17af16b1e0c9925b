"""Where the model of a recipe's path lies: a folder, a hub name, a .gguf file or a known name. Reads no weights.

A .gguf file stands for the folder that it is converted into, and a known name for its .gguf file: both have the fingerprint of
the file's bytes, wherever it lies. A folder or file that is there goes before a known name.
"""

from pathlib import Path

from lifelora.errors import ConfigError
from lifelora.llm import files, gguf
from lifelora.llm.fetch import get
from lifelora.llm.known import KNOWN


def located(path: str, key: str, download: bool = False) -> str:
    """The folder or hub name that has a model's files. What is not here is converted or, with ``download``, fetched.

    Raises ConfigError for a known model that is not here, and what ``gguf.converted`` raises.
    """
    if gguf.is_gguf(path):
        return str(gguf.converted(Path(path), key))
    if not _known(path):
        return path
    folder = get(path) if download else gguf.kept(KNOWN[path].sha256)
    if folder is None:
        raise ConfigError(
            f"{key} = '{path}' is a model that lifelora knows and this machine does not have; get it with "
            f"`lifelora models get {path}` ({KNOWN[path].size / 1e6:.0f} MB)."
        )
    return str(folder)


def here(path: str) -> str:
    """The same as far as it can be said at once: nothing is made, and what is not here keeps its name."""
    try:
        folder = gguf.kept(fingerprint(path)) if _known(path) or (gguf.is_gguf(path) and Path(path).is_file()) else None
    except OSError:
        return path
    return path if folder is None else str(folder)


def fingerprint(path: str) -> str:
    """SHA-256 of what decides the model: of a folder's files, of a .gguf file, or of the name on the hub."""
    if _known(path):
        return KNOWN[path].sha256
    return files.content_hash(Path(path)) if gguf.is_gguf(path) and Path(path).is_file() else files.fingerprint(path)


def name(path: str) -> str:
    """What a stage's key calls it: the last part of a path, and for a known name that of its .gguf file."""
    return KNOWN[path].file if _known(path) else Path(path).name


def _known(path: str) -> bool:
    return path in KNOWN and not Path(path).exists()
