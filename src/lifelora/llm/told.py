"""What ``lifelora models`` says: the known models, the converted ones, and the lines of a recipe for each. Fetches nothing."""

import os
import shutil
from pathlib import Path

import tomli_w

from lifelora.errors import ConfigError
from lifelora.llm import gguf
from lifelora.llm.known import KNOWN


def table() -> str:
    """Both lists, as text."""
    lines = ["known:"]
    for name, model in KNOWN.items():
        folder = gguf.kept(model.sha256)
        lines += [
            f"  {name}",
            f"    what     {model.what}",
            f"    licence  {model.licence}; by {model.by}",
            f"    source   package {model.package} ({model.size / 1e6:.0f} MB), or {model.hub} on the hub",
            f"    here     {f'no; `lifelora models get {name}` brings it' if folder is None else f'yes, in {folder}'}",
        ]
    lines.append("converted .gguf files:")
    by_hash = {model.sha256: name for name, model in KNOWN.items()}
    every = gguf.all_kept()
    for folder, about in every:
        size = sum(path.stat().st_size for path in folder.iterdir())
        path = by_hash.get(about["sha256"]) or (about["file"] if Path(about["file"]).is_file() else str(folder))
        lines += [
            f"  {about['name']}",
            f"    folder   {folder} ({size / 1e6:,.0f} MB)",
            f"    checked  a plain text has {about['nats']:.2f} nats a token (q and k in the other order: "
            f"{about['nats_other_order']:.2f})",
            f'    recipe   [backbone] kind = "pretrained", {lines_of(path).splitlines()[-1]}',
        ]
    return "\n".join(lines if every else [*lines, "  none"])


def lines_of(path: str) -> str:
    """The section of a recipe that names this model."""
    return tomli_w.dumps({"backbone": {"kind": "pretrained", "path": path}}).strip()


def new(to: Path) -> Path:
    """A folder that ``copied`` can make; ConfigError where something is there already."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"--out {to} is there already; give a new folder.")
    return to


def copied(folder: Path, to: Path) -> Path:
    """The files of a converted model in a folder that is ``new``, whole or not at all."""
    new(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    beside = to.with_name(f".{to.name}.{os.getpid()}.part")
    try:
        shutil.copytree(folder, beside, ignore=shutil.ignore_patterns("manifest.json"))
        beside.replace(to)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return to.absolute()
