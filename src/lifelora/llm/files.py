"""The files of a pretrained model: found by a folder or a hub name, checked, read and hashed. Knows no recipe.

Safetensors only, never remote code, and no network unless the user asks for a download.
"""

import hashlib
from pathlib import Path
from typing import Any

from lifelora.artefacts import kept_hash
from lifelora.errors import ArtefactError, ConfigError

WHOLE_FILE = 1 << 31
"Weights up to this many bytes are hashed whole; of larger files, 64 blocks."


def read(auto: Any, path: str, key: str, download: bool, **options: Any) -> tuple[Any, Any]:
    """Model and tokenizer from a folder or of a hub name by one of transformers' Auto classes.

    ``key`` is where the recipe says ``path``, for the ConfigError and ArtefactError that ``load`` tells of.
    """
    from transformers.utils import logging as transformers_logging

    _, tokenizer = described(path, key, download)
    transformers_logging.disable_progress_bar()
    try:
        model: Any = auto.from_pretrained(path, use_safetensors=True, **_local(download), **options)
    except (OSError, ValueError) as error:
        raise _not_loaded(path, key, error) from error
    return model, tokenizer


def described(path: str, key: str, download: bool) -> tuple[Any, Any]:
    """Configuration and tokenizer of a folder or a hub name, as ``read`` has them."""
    from transformers import AutoConfig, AutoTokenizer

    folder = Path(path)
    if folder.exists():
        _check_folder(folder, key)
    elif not download and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise ConfigError(f"{key} = {path!r}: no such folder.")
    try:
        config: Any = AutoConfig.from_pretrained(path, **_local(download))
        tokenizer: Any = None if config.is_encoder_decoder else AutoTokenizer.from_pretrained(path, **_local(download))
    except (OSError, ValueError) as error:
        raise _not_loaded(path, key, error) from error
    if config.is_encoder_decoder:
        raise ConfigError(
            f"{key} = '{path}' is an encoder-decoder; lifelora needs a causal LM (or, for an encoder's towers, an encoder alone)."
        )
    # Where the files are missing, transformers makes a tokenizer that knows the special tokens alone.
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ConfigError(f"{key} = {path!r} has no fast tokenizer (tokenizer.json); convert it first.")
    return config, tokenizer


def _local(download: bool) -> dict[str, bool]:
    return {"local_files_only": not download, "trust_remote_code": False}


def _not_loaded(path: str, key: str, error: Exception) -> ConfigError:
    mend = " Set backbone.attention = 'eager'." if "attention implementation" in str(error) else ""
    return ConfigError(
        f"{key} = {path!r} could not be loaded: {str(error).splitlines()[0]} {mend} "
        "Give a folder with config.json, *.safetensors and tokenizer.json, or the name of a model on the hub "
        "(add --download to fetch it)."
    )


def fingerprint(path: str) -> str:
    """SHA-256 over the files of a local model (blocks of very large ones); of the name for a model on the hub."""
    digest = hashlib.sha256(path.encode() if not Path(path).exists() else b"")
    for file in sorted(Path(path).glob("*")) if Path(path).is_dir() else []:
        if file.suffix in (".json", ".safetensors", ".model"):
            digest.update(f"{file.name}:{file.stat().st_size}\n".encode())
            _add(digest, file)
    return digest.hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 of one file, whatever its name; of a very large one, of its size and blocks."""
    if (size := path.stat().st_size) <= WHOLE_FILE:
        return kept_hash(path)
    digest = hashlib.sha256(f"{size}\n".encode())
    _add(digest, path)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE_FILE:
            while block := stream.read(1 << 20):
                digest.update(block)
        else:
            for part in range(64):
                stream.seek(size // 64 * part)
                digest.update(stream.read(1 << 20))


def _check_folder(folder: Path, key: str) -> None:
    if not (folder / "config.json").exists():
        packed = next(iter(sorted(folder.glob("*.gguf"))), None)
        mend = "it must hold a model in Hugging Face's layout" if packed is None else f"give the file itself: {key} = '{packed}'"
        raise ConfigError(f"{key} = '{folder}' has no config.json; {mend}.")
    if not list(folder.glob("*.safetensors")):
        others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        raise ArtefactError(
            f"'{folder}' holds no *.safetensors{f' (only {others[0]}, a pickle, which is never read)' if others else ''}; "
            "convert the weights with save_pretrained(safe_serialization=True)."
        )
